import { type Admission, admit } from '../core/admit.ts';
import { AllocatorError } from '../core/errors.ts';
import type { Forecast, ForecastQuery, ForecastScale } from '../core/forecast.ts';
import type { Lease, LeaseState } from '../core/lease.ts';
import { predictedNeed } from '../core/needs.ts';
import { type Plan, planOf } from '../core/plan.ts';
import type { Forecaster } from '../core/ports.ts';
import type { Entitlement } from '../core/profile.ts';
import type { AllocationRequest } from '../core/request.ts';
import type { HostRoom } from './host-room.ts';
import { decisionOf, type LeaseBook, type LeaseRecord } from './lease-book.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';
import { expectedWaitMs, placeInQueue } from './queue-outlook.ts';

/** A start nearer than this is now: one tick could not tell it from now. */
const SCHEDULE_AHEAD_MS = 1_000;

/** What leases are planned by. */
const PLANNED: ForecastScale = { axis: 'seconds', track: 'short' };

/** Turns requests into leases: what a request needs, whether the host holds it, and in which state it enters. Changes nothing. */
export class AdmissionDesk {
  readonly #forecaster: Forecaster;
  readonly #leases: LeaseBook;
  readonly #room: HostRoom;
  readonly #policy: EnginePolicy;
  readonly #newId: () => string;

  constructor(parts: {
    forecaster: Forecaster;
    leases: LeaseBook;
    room: HostRoom;
    policy: EnginePolicy;
    newId: () => string;
  }) {
    this.#forecaster = parts.forecaster;
    this.#leases = parts.leases;
    this.#room = parts.room;
    this.#policy = parts.policy;
    this.#newId = parts.newId;
  }

  /** @throws {AllocatorError} CEILING_TOO_LOW */
  plan(guest: ManagedGuest, request: AllocationRequest, nowMs: number): Plan {
    const [first] = this.#running(guest);
    // Leases add up: each is to ask for its own use over that of the guest by itself, which is what was before all of them.
    const before = first?.lease.before ?? guest.usageBefore(nowMs);
    const forecast = this.#forecaster.forecast({ ...queryOf(guest, request, nowMs, PLANNED), before });
    const { baseline } = guest.record;
    const plan = planOf(forecast, request.priority, baseline.entitlement, guest.facts, this.#policy.needs);
    const short = plan.ceilingShort;
    const field = short === 'memory' ? 'memoryBytes' : 'cpuMillicores';
    if (short !== undefined && guest.facts.ceiling[field] <= baseline.entitlement[field]) {
      throw new AllocatorError(
        'CEILING_TOO_LOW',
        `Guest ${guest.record.name} has no ${short} to grow into: its ceiling equals its baseline and the median need is above it`,
        { guest: guest.record.name, resource: short, ceiling: guest.facts.ceiling[field] },
      );
    }
    return plan;
  }

  /**
   * The lease a request would get now, QUEUED, SCHEDULED or PREPARING.
   * @throws {AllocatorError} CEILING_TOO_LOW, CAPACITY_EXHAUSTED, QUEUE_FULL, HYPERVISOR_UNAVAILABLE
   */
  draft(guest: ManagedGuest, request: AllocationRequest, bodyHash: string, nowMs: number): LeaseRecord {
    const plan = this.plan(guest, request, nowMs);
    const admission = this.#admit(guest, plan.requested, plan.least);
    const startMs = Math.max(request.startMs ?? nowMs, nowMs);
    const state = this.#entryState(request, plan, admission, startMs, nowMs);
    const lease = this.#lease(request, guest, plan, admission.reason, { state, startMs, nowMs });
    const admitted =
      admission.kind === 'no-room'
        ? plan.requested
        : this.#share(guest, plan.requested, admission.entitlement);
    const decision = decisionOf(lease, {
      atMs: nowMs,
      action: 'admit',
      rule: admission.kind,
      inputs: {
        requestedMillicores: plan.requested.cpuMillicores,
        requestedMemoryBytes: plan.requested.memoryBytes,
        committedMillicores: Math.round(this.#room.committed().cpuMillicores),
        forecast: plan.forecast.reason,
      },
      outcome: admission.reason,
    });
    return { lease, admitted, least: plan.least, bodyHash, censored: [], decisions: [decision] };
  }

  /** A lease that waited, as it goes on: it begins now, or is SCHEDULED; undefined while there is no room for it. */
  afterWaiting(record: LeaseRecord, guest: ManagedGuest, nowMs: number): LeaseRecord | undefined {
    const { queue: _, ...waiting } = record.lease;
    const { requested, ttlMs } = waiting;
    const admission = this.#fit(guest, requested, record.least);
    if (admission.kind === 'no-room') return undefined;
    const startMs = Math.max(waiting.startMs, nowMs);
    const state = stateBefore(startMs, nowMs);
    const reason = `${admission.reason}, after waiting`;
    return {
      ...record,
      lease: { ...waiting, state, startMs, expiresAtMs: startMs + ttlMs, reason },
      admitted: this.#share(guest, requested, admission.entitlement),
    };
  }

  /** What the guest will use with the request, or without one when its workload is empty, and with those that run on it. */
  outlook(guest: ManagedGuest, request: AllocationRequest, nowMs: number, scale: ForecastScale): Forecast {
    const running = this.#running(guest).map(({ lease }) => ({
      workload: { tenant: lease.tenant, name: lease.workload, params: lease.params },
      startedAtMs: Math.max(lease.inPlaceAtMs ?? 0, lease.startMs),
      before: lease.before,
    }));
    const before = guest.usageBefore(nowMs);
    return this.#forecaster.forecast({ ...queryOf(guest, request, nowMs, scale), before, running });
  }

  /** Leases whose work has begun, oldest first. */
  #running(guest: ManagedGuest): LeaseRecord[] {
    const inPlace = this.#leases
      .inForce(guest.record.id)
      .filter(({ lease }) => lease.inPlaceAtMs !== undefined);
    return inPlace.sort((a, b) => (a.lease.inPlaceAtMs ?? 0) - (b.lease.inPlaceAtMs ?? 0));
  }

  /** In shadow and advise nothing is touched, so nothing need fit. */
  #admit(guest: ManagedGuest, requested: Entitlement, least: Entitlement): Admission {
    const { mode } = guest.record;
    if (mode === 'enforce') return this.#fit(guest, requested, least);
    const reason = `mode ${mode}: a recommendation, nothing is changed`;
    return { kind: 'grant', entitlement: requested, reason };
  }

  #fit(guest: ManagedGuest, requested: Entitlement, least: Entitlement): Admission {
    const { id } = guest.record;
    const others = this.#leases.promised(id);
    const median = guest.target([...this.#leases.promisedLeast(id), least]);
    return admit(
      this.#room.capacity(),
      this.#room.committed(),
      guest.target(others),
      guest.target([...others, requested]),
      guest.target([...others, least]),
      this.#room.demandBound(id, median),
    );
  }

  /** Admission speaks of the guest's total; a lease keeps its own share of it, never more than it asked. */
  #share(guest: ManagedGuest, requested: Entitlement, total: Entitlement): Entitlement {
    const before = guest.target(this.#leases.promised(guest.record.id));
    const { entitlement: baseline } = guest.record.baseline;
    const share = (field: 'cpuMillicores' | 'memoryBytes'): number =>
      Math.min(requested[field], Math.max(baseline[field], baseline[field] + total[field] - before[field]));
    return { ...requested, cpuMillicores: share('cpuMillicores'), memoryBytes: share('memoryBytes') };
  }

  #lease(
    request: AllocationRequest,
    guest: ManagedGuest,
    plan: Plan,
    admitted: string,
    { state, startMs, nowMs }: { state: LeaseState; startMs: number; nowMs: number },
  ): Lease {
    const { requestId, tenant, workload, params, priority, ttlMs } = request;
    const short = plan.ceilingShort;
    const queued = (): Pick<Lease, 'queue'> => ({
      queue: placeInQueue(this.#leases, priority, nowMs, this.#policy.tickMs),
    });
    return {
      id: this.#newId(),
      requestId,
      tenant,
      workload,
      guest: guest.record.id,
      guestName: guest.record.name,
      params,
      priority,
      state,
      reason: short === undefined ? admitted : `${admitted}; the guest's ceiling is short of ${short}`,
      requestedAtMs: nowMs,
      startMs,
      ttlMs,
      expiresAtMs: startMs + ttlMs,
      predicted: predictedNeed(plan.forecast),
      requested: plan.requested,
      before: guest.usageBefore(nowMs),
      used: {},
      adjustments: [],
      ...(state === 'QUEUED' ? queued() : {}),
    };
  }

  #entryState(
    request: AllocationRequest,
    plan: Plan,
    admission: Admission,
    startMs: number,
    nowMs: number,
  ): LeaseState {
    if (admission.kind !== 'no-room') return stateBefore(startMs, nowMs);
    const retryAfterMs = expectedWaitMs(this.#leases, nowMs, this.#policy.tickMs);
    if (request.noQueue) throw new AllocatorError('CAPACITY_EXHAUSTED', admission.reason, { retryAfterMs });
    this.#assertFitsEmptyHost(plan.least);
    const waiting = this.#leases.queued().length;
    const { queueMax } = this.#policy;
    if (waiting >= queueMax) {
      throw new AllocatorError(
        'QUEUE_FULL',
        `${waiting} leases already wait, and no more than ${queueMax} may`,
        { queueMax, retryAfterMs },
      );
    }
    return 'QUEUED';
  }

  #assertFitsEmptyHost(least: Entitlement): void {
    const capacity = this.#room.capacity();
    if (least.cpuMillicores <= capacity.cpuMillicores && least.memoryBytes <= capacity.memoryBytes) return;
    throw new AllocatorError(
      'CAPACITY_EXHAUSTED',
      'The median need is larger than the whole host: waiting would not help',
      { leastMillicores: least.cpuMillicores, leastMemoryBytes: least.memoryBytes },
    );
  }
}

function queryOf(
  { record, facts }: ManagedGuest,
  { workload: name, tenant, params, durationMs }: AllocationRequest,
  nowMs: number,
  scale: ForecastScale,
): ForecastQuery {
  const { cpuMillicores, memoryBytes } = facts.ceiling;
  return {
    guest: record.id,
    ...scale,
    originMs: nowMs,
    ...(name === '' ? {} : { workload: { tenant, name, params } }),
    ...(durationMs === undefined ? {} : { durationS: durationMs / 1000 }),
    ceiling: { cpuMillicores, memoryBytes },
  };
}

/** State of a lease that has room, before its start. */
function stateBefore(startMs: number, nowMs: number): 'SCHEDULED' | 'PREPARING' {
  return startMs - nowMs > SCHEDULE_AHEAD_MS ? 'SCHEDULED' : 'PREPARING';
}
