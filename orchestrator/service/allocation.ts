import { randomUUID } from 'node:crypto';
import type { AllocationServiceService } from '../../proto/gen/foreshade/v1/allocation.ts';
import type { AllocationEngine } from '../core/engine.ts';
import { withinHorizon } from '../core/forecast.ts';
import type { Lease } from '../core/lease.ts';
import { wireDecision, wireEntitlement, wireForecast, wireLease } from './answers.ts';
import {
  allocationRequest,
  forecastReach,
  forecastRequest,
  leaseListing,
  type PageCursor,
  pageToken,
  type RequestDefaults,
  renewal,
  soleName,
  workReport,
} from './requests.ts';
import type { Handlers } from './route.ts';

/** AllocationService over the engine. `ttlMs` is given to leases whose request names none. */
export function allocationHandlers(
  engine: AllocationEngine,
  ttlMs: number,
): Handlers<typeof AllocationServiceService> {
  const defaults = (): RequestDefaults => ({ nowMs: Date.now(), ttlMs, newRequestId: randomUUID });
  return {
    async allocate(request, caller) {
      return wireLease(await engine.allocate(allocationRequest(request, defaults()), caller));
    },
    async renewLease(request) {
      const { leaseId, ttlMs, need } = renewal(request);
      return wireLease(await engine.renew(leaseId, ttlMs ?? engine.getLease(leaseId).ttlMs, need));
    },
    async releaseLease(request, caller) {
      const { leaseId, report } = workReport(request);
      return wireLease(await engine.release(leaseId, report, caller));
    },
    getLease(request) {
      return wireLease(engine.getLease(soleName(request.leaseId, 'lease_id')));
    },
    listLeases(request) {
      const { filter, pageSize, after } = leaseListing(request);
      const leases = engine.listLeases(filter);
      const start = after ? startAfter(leases, after) : 0;
      const page = leases.slice(start, start + pageSize);
      const last = page.at(-1);
      const isLastPage = last === undefined || start + page.length >= leases.length;
      return {
        leases: page.map(wireLease),
        nextPageToken: isLastPage ? '' : pageToken({ requestedAtMs: last.requestedAtMs, leaseId: last.id }),
      };
    },
    async *watchLease(request, caller) {
      for await (const lease of engine.watchLease(soleName(request.leaseId, 'lease_id'), caller)) {
        yield wireLease(lease);
      }
    },
    async forecast(request) {
      const query = forecastRequest(request, defaults());
      const { horizon, ...scale } = forecastReach(request);
      const { forecast, requested } = await engine.forecast(query, scale);
      return {
        forecast: wireForecast(horizon === 0 ? forecast : withinHorizon(forecast, horizon)),
        requested: query.workload === '' ? undefined : wireEntitlement(requested),
      };
    },
    explainDecision(request) {
      const decisions = engine.explain(soleName(request.leaseId, 'lease_id'));
      return { decisions: decisions.map(wireDecision) };
    },
  };
}

/** Index after the cursor's lease; when that lease is gone, of the first lease older than it was. */
function startAfter(leases: readonly Lease[], { requestedAtMs, leaseId }: PageCursor): number {
  const index = leases.findIndex((lease) => lease.id === leaseId);
  if (index >= 0) return index + 1;
  const older = leases.findIndex((lease) => lease.requestedAtMs < requestedAtMs);
  return older >= 0 ? older : leases.length;
}
