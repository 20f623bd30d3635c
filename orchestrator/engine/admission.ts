import { AllocatorError } from '../core/errors.ts';
import type { Forecast, ForecastQuery, ForecastScale } from '../core/forecast.ts';
import { type Lease, workBeganAtMs } from '../core/lease.ts';
import { predictedNeed } from '../core/needs.ts';
import { type Plan, planOf } from '../core/plan.ts';
import type { Forecaster } from '../core/ports.ts';
import type { Take } from '../core/reclaim.ts';
import type { AllocationRequest } from '../core/request.ts';
import { roomText } from '../core/room.ts';
import type { Choice, GuestGroup, Shortage } from '../core/scale.ts';
import type { Fit, Fitting, Wish } from './fitting.ts';
import type { GuestGroups } from './guest-groups.ts';
import type { HostRoom } from './host-room.ts';
import { decided, decisionOf, type LeaseBook, type LeaseRecord } from './lease-book.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';
import type { Aspirant, QueueOutlook } from './queue-outlook.ts';
import type { Tenancy } from './tenancy.ts';

/** A start nearer than this is now: one tick could not tell it from now. */
const SCHEDULE_AHEAD_MS = 1_000;

/** What leases are planned by. */
const PLANNED: ForecastScale = { axis: 'seconds', track: 'short' };

/** A lease about to be entered or begun. */
export interface Draft {
  readonly guest: ManagedGuest;
  readonly record: LeaseRecord;
  /** What other leases give up for it. */
  readonly takes: readonly Take[];
  /** What more room would mend. */
  readonly short?: Shortage;
}

/** The guest of a group that a request goes to. */
interface Placed {
  readonly group: GuestGroup;
  readonly choice: Choice<ManagedGuest>;
}

/** How a lease enters: as it fits, or to wait for a guest of its group. */
type Entry =
  | Fit
  | { readonly kind: 'no-room'; readonly waitsFor: 'start' | 'group'; readonly reason: string };

/** Turns requests into leases: what a request needs, whether the host holds it, and in which state it enters. Changes nothing. */
export class AdmissionDesk {
  readonly #forecaster: Forecaster;
  readonly #leases: LeaseBook;
  readonly #room: HostRoom;
  readonly #tenancy: Tenancy;
  readonly #fitting: Fitting;
  readonly #outlook: QueueOutlook;
  readonly #groups: GuestGroups;
  readonly #policy: EnginePolicy;
  readonly #newId: () => string;

  constructor(parts: {
    forecaster: Forecaster;
    leases: LeaseBook;
    room: HostRoom;
    tenancy: Tenancy;
    fitting: Fitting;
    outlook: QueueOutlook;
    groups: GuestGroups;
    policy: EnginePolicy;
    newId: () => string;
  }) {
    this.#forecaster = parts.forecaster;
    this.#leases = parts.leases;
    this.#room = parts.room;
    this.#tenancy = parts.tenancy;
    this.#fitting = parts.fitting;
    this.#outlook = parts.outlook;
    this.#groups = parts.groups;
    this.#policy = parts.policy;
    this.#newId = parts.newId;
  }

  /** @throws {AllocatorError} CEILING_TOO_LOW */
  plan(guest: ManagedGuest, request: AllocationRequest, nowMs: number): Plan {
    const [first] = this.#leases.inPlace(guest.record.id);
    // Leases add up: each is to ask for its own use over that of the guest by itself, which is what was before all of them.
    const before = first?.lease.before ?? guest.usageBefore(nowMs);
    const forecast = this.#forecaster.forecast({ ...queryOf(guest, request, nowMs, PLANNED), before });
    const { baseline } = guest.record;
    const { needs } = this.#tenancy.policy(request.tenant);
    const plan = planOf(forecast, request.priority, baseline.entitlement, guest.facts, needs);
    const short = plan.ceilingShort?.resource;
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
   * The lease a request would get now, QUEUED, SCHEDULED or PREPARING, and what others are to give up for it.
   * @throws {AllocatorError} CEILING_TOO_LOW, CAPACITY_EXHAUSTED, QUOTA_EXHAUSTED, QUEUE_FULL, HYPERVISOR_UNAVAILABLE
   */
  draft(
    guest: ManagedGuest,
    request: AllocationRequest,
    bodyHash: string,
    nowMs: number,
    placed?: Placed,
  ): Draft {
    const plan = this.plan(guest, request, nowMs);
    const { requested, least } = plan;
    const startMs = Math.max(request.startMs ?? nowMs, nowMs);
    const newcomer = { lease: this.#lease(request, guest, plan, { startMs, nowMs }), least };
    const fit: Entry =
      waitingIn(placed) ??
      this.#inTurn(guest, newcomer, nowMs, this.#fit(guest, { ...request, requested, least }));
    const lease = this.#entered(newcomer, fit, request.noQueue, nowMs, plan);
    const decision = decisionOf(lease, {
      atMs: nowMs,
      action: 'admit',
      rule: fit.kind === 'no-room' && fit.waitsFor === 'start' ? 'scaled' : fit.kind,
      inputs: {
        requestedMillicores: requested.cpuMillicores,
        requestedMemoryBytes: requested.memoryBytes,
        committedMillicores: Math.round(this.#room.committed().cpuMillicores),
        tenantShare: Math.round(this.#tenancy.share(lease.tenant) * 1000) / 1000,
        forecast: plan.forecast.reason,
      },
      outcome: fit.reason,
    });
    const admitted = fit.kind === 'no-room' ? requested : fit.admitted;
    const group = placed && { group: placed.group.name };
    const record = { lease, admitted, least, bodyHash, censored: [], decisions: [decision], ...group };
    const short = this.#shortage(guest, record, fit, plan);
    return {
      guest,
      record,
      takes: fit.kind === 'no-room' ? [] : fit.takes,
      ...(short === undefined ? {} : { short }),
    };
  }

  /**
   * As `draft`, on whichever guest of a group has room or will have it soonest.
   * @throws {AllocatorError} also GUEST_NOT_RUNNING when none runs nor may be started, GUEST_NOT_ADOPTED
   */
  draftIn(group: GuestGroup, request: AllocationRequest, bodyHash: string, nowMs: number): Draft {
    const members = this.#groups.members(group);
    const [first] = members;
    if (first === undefined) {
      throw new AllocatorError(
        'GUEST_NOT_ADOPTED',
        `No guest of group ${group.name} is managed: adopt them first`,
        {
          group: group.name,
        },
      );
    }
    const isShadow = this.#tenancy.policy(request.tenant).shadow;
    const ready = isShadow ? members.find((guest) => this.#groups.stateOf(guest) === 'ready') : undefined;
    const choice: Choice<ManagedGuest> | undefined = isShadow
      ? ready && { kind: 'serve', guest: ready }
      : this.#groups.choose(group, this.plan(first, request, nowMs).requested);
    if (choice === undefined) {
      throw new AllocatorError(
        'GUEST_NOT_RUNNING',
        `No guest of group ${group.name} runs, and none may be started now`,
        { group: group.name },
      );
    }
    return this.draft(choice.guest, request, bodyHash, nowMs, { group, choice });
  }

  /** A lease that waited, as it goes on: it begins now, or is SCHEDULED; or what it still waits for. */
  afterWaiting(record: LeaseRecord, guest: ManagedGuest, nowMs: number): Draft | 'quota' | 'host' {
    const { queue: _, ...waiting } = record.lease;
    const fit = this.#fit(guest, { ...waiting, least: record.least });
    if (fit.kind === 'no-room') return fit.waitsFor;
    const startMs = Math.max(waiting.startMs, nowMs);
    const isAwaited = record.start?.isAwaited === true;
    const state = isAwaited ? 'SCHEDULED' : stateBefore(startMs, nowMs);
    const expiresAtMs = isAwaited ? waiting.expiresAtMs : startMs + waiting.ttlMs;
    const reason = `${fit.reason}, after waiting`;
    const lease: Lease = { ...waiting, state, startMs, expiresAtMs, reason };
    const decision = decisionOf(lease, {
      atMs: nowMs,
      action: 'admit',
      rule: fit.kind,
      inputs: { waitedMs: nowMs - lease.requestedAtMs },
      outcome: reason,
    });
    return {
      guest,
      record: decided({ ...record, lease, admitted: fit.admitted }, decision),
      takes: fit.takes,
    };
  }

  /** True when a lease that waits is owed its room whoever else waits: it is within what is guaranteed to its tenant. */
  isGuaranteed({ lease, least }: LeaseRecord, guest: ManagedGuest): boolean {
    return this.#fitting.isGuaranteed(guest, { ...lease, least });
  }

  /** What the guest will use with the request, or without one when its workload is empty, and with those that run on it. */
  outlook(guest: ManagedGuest, request: AllocationRequest, nowMs: number, scale: ForecastScale): Forecast {
    const running = this.#leases.inPlace(guest.record.id).map(({ lease }) => ({
      workload: { tenant: lease.tenant, name: lease.workload, params: lease.params },
      startedAtMs: workBeganAtMs(lease, nowMs),
      before: lease.before,
    }));
    const before = guest.usageBefore(nowMs);
    return this.#forecaster.forecast({ ...queryOf(guest, request, nowMs, scale), before, running });
  }

  /** Where nothing is moved, nothing need fit. */
  #fit(guest: ManagedGuest, wish: Wish): Fit {
    const { mode, baseline } = guest.record;
    const still = { kind: 'grant', takes: [] } as const;
    if (mode !== 'enforce') {
      const reason = `mode ${mode}: a recommendation, nothing is changed`;
      return { ...still, admitted: wish.requested, reason };
    }
    if (this.#tenancy.policy(wish.tenant).shadow) {
      const reason = 'the tenant is in shadow: recorded, nothing is changed';
      return { ...still, admitted: baseline.entitlement, reason };
    }
    return this.#fitting.fit(guest, wish);
  }

  /** A newcomer that fits takes its place behind those that wait for the host and whose turn comes before. */
  #inTurn(guest: ManagedGuest, newcomer: Aspirant, nowMs: number, fit: Fit): Fit {
    if (fit.kind === 'no-room' || guest.record.mode !== 'enforce' || this.#leases.queued().length === 0)
      return fit;
    const { lease, least } = newcomer;
    if (this.#fitting.isGuaranteed(guest, { ...lease, least })) return fit;
    const first = this.#outlook.next(nowMs, newcomer, (one) => this.waitsForHost(one));
    if (first.lease.id === lease.id) return fit;
    return {
      kind: 'no-room',
      waitsFor: 'host',
      reason: 'there is room, and others wait whose turn comes before',
    };
  }

  /** True when a lease that waits does so for room on the host: its own, or that of the guest which is to start for it. */
  waitsForHost(record: LeaseRecord): boolean {
    const { lease, least } = record;
    const group = this.#groups.groupOf(record);
    const choice = group && this.#groups.choose(group, lease.requested, lease.id);
    if (group === undefined || choice?.kind === 'serve') return this.#fitting.isWithinQuota(lease, least);
    if (choice?.kind !== 'await' || this.#groups.stateOf(choice.guest) !== 'stand-by') return false;
    return !this.#fitting.canStart(choice.guest, new Set([lease.tenant]));
  }

  /** What more room elsewhere, or on the guest, would mend; nothing where nothing is to be moved. */
  #shortage(
    guest: ManagedGuest,
    record: LeaseRecord,
    entry: Entry,
    { ceilingShort }: Plan,
  ): Shortage | undefined {
    if (guest.record.mode !== 'enforce' || this.#tenancy.policy(record.lease.tenant).shadow) return undefined;
    if (entry.kind === 'no-room' && entry.waitsFor === 'group') return 'group';
    if (entry.kind === 'no-room' && entry.waitsFor !== 'quota' && this.waitsForHost(record)) return 'host';
    return ceilingShort === undefined ? undefined : 'ceiling';
  }

  #lease(
    request: AllocationRequest,
    guest: ManagedGuest,
    plan: Plan,
    { startMs, nowMs }: { startMs: number; nowMs: number },
  ): Lease {
    const { requestId, tenant, workload, params, priority, ttlMs, latestStartMs } = request;
    return {
      id: this.#newId(),
      requestId,
      tenant,
      workload,
      guest: guest.record.id,
      guestName: guest.record.name,
      params,
      priority,
      state: 'QUEUED',
      reason: '',
      requestedAtMs: nowMs,
      startMs,
      ...(latestStartMs === undefined ? {} : { latestStartMs }),
      ttlMs,
      expiresAtMs: startMs + ttlMs,
      predicted: predictedNeed(plan.forecast),
      requested: plan.requested,
      before: guest.usageBefore(nowMs),
      used: {},
      adjustments: [],
    };
  }

  /** The lease in the state in which it enters. */
  #entered(
    { lease, least }: Aspirant,
    fit: Entry,
    noQueue: boolean,
    nowMs: number,
    { ceilingShort }: Plan,
  ): Lease {
    const reason =
      ceilingShort === undefined
        ? fit.reason
        : `${fit.reason}; the guest's ceiling is short of ${ceilingShort.resource}: ${roomText(ceilingShort.wished)} at its next boot would hold it`;
    if (fit.kind !== 'no-room') return { ...lease, reason, state: stateBefore(lease.startMs, nowMs) };
    const queue = this.#outlook.places(nowMs, { lease, least }).get(lease.id);
    const retryAfterMs = queue?.expectedWaitMs ?? this.#policy.tickMs;
    if (noQueue) throw noRoomFor(lease, fit, { retryAfterMs });
    this.#fitting.assertEverFits(lease, least);
    const waiting = this.#leases.queued().length;
    const { queueMax } = this.#policy;
    if (waiting >= queueMax) {
      throw new AllocatorError(
        'QUEUE_FULL',
        `${waiting} leases already wait, and no more than ${queueMax} may`,
        { queueMax, retryAfterMs },
      );
    }
    return { ...lease, reason, ...(queue === undefined ? {} : { queue }) };
  }
}

/** Refusal of a request that would not wait. */
function noRoomFor(
  { tenant }: Lease,
  { waitsFor, reason }: Extract<Entry, { kind: 'no-room' }>,
  detail: Record<string, number>,
): AllocatorError {
  return waitsFor === 'quota'
    ? new AllocatorError('QUOTA_EXHAUSTED', reason, { ...detail, tenant })
    : new AllocatorError('CAPACITY_EXHAUSTED', reason, detail);
}

/** What a lease of a group waits for before its guest can be asked; undefined when it can be now. */
function waitingIn(placed: Placed | undefined): Entry | undefined {
  if (placed === undefined || placed.choice.kind === 'serve') return undefined;
  const { group, choice } = placed;
  return choice.kind === 'await'
    ? {
        kind: 'no-room',
        waitsFor: 'start',
        reason: `scaled: guest ${choice.guest.record.name} of group ${group.name} is to start first`,
      }
    : { kind: 'no-room', waitsFor: 'group', reason: `every guest of group ${group.name} is full` };
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
