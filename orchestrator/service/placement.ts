import type { PlacementServiceService } from '../../proto/gen/foreshade/v1/placement.ts';
import type { AllocationEngine } from '../core/engine.ts';
import { REPORT_EVERY_MS, REPORT_LIFE_MS } from '../core/host-report.ts';
import type { HostDirectory } from '../core/ports.ts';
import { CANDIDATES_MAX, type Candidate, rankHosts } from '../core/rank-hosts.ts';
import { wireDemand, wireKnownHost, wireRankedHost } from './placement-answers.ts';
import { hostReportOf, type Ranking, rankingOf } from './placement-requests.ts';
import type { Handlers } from './route.ts';

/** PlacementService over the engine's forecasts and the directory's hosts. */
export function placementHandlers(
  engine: AllocationEngine,
  hosts: HostDirectory,
): Handlers<typeof PlacementServiceService> {
  return {
    rankHosts(request) {
      const nowMs = Date.now();
      const ranking = rankingOf(request, nowMs);
      const demand = engine.foresee(ranking.newcomer);
      const ranked = rankHosts(demand, candidatesOf(ranking, hosts), ranking.goal);
      return { hosts: ranked.map((host) => wireRankedHost(host, nowMs)), demand: wireDemand(demand) };
    },
    async reportHost({ report }) {
      await hosts.report(hostReportOf(report));
      return { reportAgainMs: REPORT_EVERY_MS, expiresAfterMs: REPORT_LIFE_MS };
    },
    listHosts() {
      return { hosts: hosts.list().map(wireKnownHost) };
    },
  };
}

function candidatesOf(
  { hosts: asked, newcomer, tenantGuests, guests }: Ranking,
  hosts: HostDirectory,
): Candidate[] {
  const names =
    asked.length > 0
      ? asked
      : hosts
          .list()
          .filter(({ silent }) => !silent)
          .slice(0, CANDIDATES_MAX)
          .map(({ report }) => report.host);
  return names.map((host) => {
    const known = hosts.find(host);
    const reported = known?.report.tenantGuests.get(newcomer.tenant) ?? 0;
    // Who names no tenant shares it with nobody.
    const there = tenantGuests.get(host) ?? (newcomer.tenant === '' ? 0 : reported);
    const placedSince = Math.max(0, (guests.get(host) ?? 0) - (known?.report.guests ?? 0));
    return { host, ...(known === undefined ? {} : { known }), tenantGuests: there, placedSince };
  });
}
