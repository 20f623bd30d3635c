import type {
  DemandSums,
  KnownHost,
  RankedHost,
  RankHostsResponse,
} from '../../proto/gen/foreshade/v1/placement.ts';
import { VERDICT_OF } from '../service/enums.ts';
import { profileDocument } from './documents.ts';

/** JSON documents of `foreshade host --json`, in the manner of the others. */

export function knownHostDocument({ report, reportedAtMs, silent }: KnownHost) {
  return {
    host: report?.host,
    reported_at_ms: reportedAtMs,
    silent: silent ?? false,
    draining: report?.draining ?? false,
    guests: report?.guests ?? 0,
    physical: profileDocument(report?.physical),
    capacity: profileDocument(report?.capacity),
    committed: profileDocument(report?.committed),
    cpu: sumsDocument(report?.cpu),
    memory: sumsDocument(report?.memory),
    cpu_by_hour: report?.cpuByHour,
    tenant_guests: report?.tenantGuests,
  };
}

export function rankingDocument({ hosts, demand }: RankHostsResponse) {
  return {
    demand: demand && {
      mean: profileDocument(demand.mean),
      peak: profileDocument(demand.peak),
      reason: demand.reason,
      runs: demand.runs ?? 0,
      cpu_by_hour: demand.cpuByHour,
    },
    hosts: hosts.map(rankedDocument),
  };
}

function rankedDocument({ host, verdict, score, reasons, outlook }: RankedHost) {
  return {
    host,
    verdict: VERDICT_OF.get(verdict ?? 0),
    score: score ?? 0,
    reasons,
    outlook: outlook && {
      tail: profileDocument(outlook.tail),
      physical: profileDocument(outlook.physical),
      slack: outlook.slack ?? 0,
      stranding: outlook.stranding ?? 0,
      complement: outlook.complement,
      tenant_spread: outlook.tenantSpread,
      report_age_ms: outlook.reportAgeMs ?? 0,
      placed_since: outlook.placedSince ?? 0,
    },
  };
}

function sumsDocument(sums: DemandSums | undefined) {
  return {
    mean: sums?.mean ?? 0,
    rise: sums?.rise ?? 0,
    rise_squares: sums?.riseSquares ?? 0,
    size: sums?.size ?? 0,
    widest: sums?.widest ?? 0,
  };
}
