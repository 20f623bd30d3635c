import assert from 'node:assert';
import { type Admission, admit, capacityOf, type Room } from '../core/admit.ts';
import type {
  AllocationEngine,
  CallContext,
  Decision,
  GuestStatus,
  HostStatus,
  WorkReport,
} from '../core/engine.ts';
import { differing, explainedBy, satisfies, withResource } from '../core/entitlement.ts';
import { AllocatorError } from '../core/errors.ts';
import type { Forecast, Outcome } from '../core/forecast.ts';
import type { GuestFacts, GuestId, HostFacts, Mode } from '../core/guest.ts';
import { hasEnded, type Lease, type LeaseState } from '../core/lease.ts';
import { predictedNeed } from '../core/needs.ts';
import { type Plan, planOf } from '../core/plan.ts';
import type {
  Actuated,
  Clock,
  Forecaster,
  GuestEvent,
  GuestWindow,
  Hypervisor,
  LeaseLedger,
  LedgerWrite,
  Telemetry,
} from '../core/ports.ts';
import {
  type Entitlement,
  PROFILE_FIELDS,
  type ProfileField,
  type ResourceProfile,
} from '../core/profile.ts';
import { type AllocationRequest, PRIORITIES, type Priority } from '../core/request.ts';
import type { GuestSample } from '../core/sample.ts';
import { Cadences } from './cadences.ts';
import { Commitments } from './commitments.ts';
import { type Correction, correct } from './correct.ts';
import { GuestBook } from './guest-book.ts';
import { decided, LeaseBook, type LeaseRecord, leaseWrite } from './lease-book.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';
import { type Actuators, type MoveResult, Mover } from './mover.ts';
import { bodyHash, OutcomeJournal } from './outcomes.ts';
import type { EnginePolicy } from './policy.ts';
import { recoverGuest } from './recover.ts';

/** Everything the engine reaches the world through. */
export interface EngineParts {
  readonly clock: Clock;
  readonly forecaster: Forecaster;
  readonly ledger: LeaseLedger;
  readonly hypervisor: Hypervisor;
  readonly actuators: Actuators;
  readonly window: GuestWindow;
  readonly telemetry: Telemetry;
  readonly log: Log;
  /** Unique ids that grow with time. */
  readonly newId: () => string;
  /** Resolves after so many ms of `clock`'s time. */
  readonly pause: (ms: number) => Promise<void>;
}

/** A start nearer than this is now: one tick could not tell it from now. */
const SCHEDULE_AHEAD_MS = 1_000;
/** How long to wait for a guest's agent to say what it sees. Its answer is for the record; work may start without it. */
const SEE_TIMEOUT_MS = 1_000;
/** Facts of guests we do not manage are read anew this often: they count against the host's room. */
const CENSUS_MS = 15_000;
/** First and longest pause before a move that failed is tried again. */
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 60_000;
/** Guests recovered at once: a few calls each, within any lane's queue. */
const RECOVER_AT_ONCE = 16;
/** A guest's driver brings the balloon to its size within this time of the start. */
const BOOT_MS = 60_000;
/** A usage at or above this share of the entitlement may have been cut off by it. */
const CENSORED_FRACTION = 0.97;

/** The allocation engine of one host. `start` recovers what the ledger knows; `tick` is called once a period. */
export class Engine implements AllocationEngine {
  readonly #parts: EngineParts;
  readonly #policy: EnginePolicy;
  readonly #guests: GuestBook;
  readonly #mover: Mover;
  readonly #commitments = new Commitments((id) => this.#promiseOf(id));
  readonly #leases = new LeaseBook();
  readonly #cadences: Cadences;
  #outcomes: OutcomeJournal | undefined;
  #host: HostFacts | undefined;
  #draining = false;
  #censusAtMs = Number.NEGATIVE_INFINITY;
  readonly #settling = new Map<string, Promise<void>>();
  readonly #background = new Set<Promise<unknown>>();
  readonly #unsubscribe: (() => void)[] = [];
  readonly #sampleListeners = new Map<GuestId, Set<(sample: GuestSample) => void>>();

  constructor(parts: EngineParts, policy: EnginePolicy) {
    this.#parts = parts;
    this.#policy = policy;
    this.#guests = new GuestBook(parts.hypervisor);
    this.#cadences = new Cadences(parts.telemetry, this.#guests, this.#leases);
    this.#mover = new Mover({
      actuators: parts.actuators,
      ledger: parts.ledger,
      clock: parts.clock,
      log: parts.log,
      timeoutMs: policy.actuationTimeoutMs,
    });
  }

  /** Read the ledger, teach the forecaster, put adopted guests back to what their leases or baselines explain, and listen. */
  async start(): Promise<void> {
    const { ledger, forecaster, hypervisor, telemetry, log } = this.#parts;
    this.#outcomes = OutcomeJournal.replay(ledger, forecaster);
    this.#leases.load(ledger.range(LeaseBook.prefix));
    this.#unsubscribe.push(
      hypervisor.onAvailability((available) => this.#inBackground(this.#onAvailability(available))),
      hypervisor.onGuestEvent((event) => this.#inBackground(this.#onGuestEvent(event))),
      telemetry.onSample((sample) => this.#onSample(sample)),
    );
    log.info({ outcomes: this.#outcomes.size, openLeases: this.#leases.open().length }, 'ledger read');
    if (hypervisor.available) await this.#recover();
  }

  /** Stop listening. What is in flight is awaited; guests keep what they have. */
  async stop(): Promise<void> {
    await this.drain();
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
  }

  // --- leases -------------------------------------------------------------------------------------------------------

  async allocate(request: AllocationRequest, context: CallContext): Promise<Lease> {
    const hash = bodyHash(request);
    const known = this.#leases.byRequest(request.tenant, request.requestId);
    if (known !== undefined) return this.#repeat(known, hash, context);
    if (this.#draining)
      throw new AllocatorError('DRAINING', 'The service is shutting down and takes no new work');
    const guest = this.#guests.running(request.guest);
    const nowMs = this.#parts.clock.nowMs();
    const plan = this.#plan(guest, request, nowMs);
    const admission = this.#admit(guest, plan);
    const record = this.#draft(request, hash, guest, plan, admission, nowMs);
    if (request.validateOnly) return record.lease;
    this.#put(record);
    if (record.lease.state === 'PREPARING') {
      // The journal entry rides with the move's own, so that one flush covers both.
      this.#prepare(guest, record.lease.id, [leaseWrite(record)], () => this.#withdraw(record));
    } else {
      await this.#parts.ledger.commit([leaseWrite(record)]).catch((cause) => {
        this.#withdraw(record);
        throw cause;
      });
    }
    return this.#settled(record.lease.id, context);
  }

  /** Take back a lease that never became durable: nobody was promised anything, and its request may come again. */
  #withdraw({ lease }: LeaseRecord): void {
    this.#leases.remove(lease.id);
    this.#commitments.touch(lease.guest);
    this.#cadences.refresh(lease.guest);
  }

  async #repeat(known: LeaseRecord, hash: string, context: CallContext): Promise<Lease> {
    if (known.bodyHash !== hash) {
      throw new AllocatorError(
        'REQUEST_ID_REUSED',
        `request_id ${known.lease.requestId} was used for another request; a retry must repeat it unchanged`,
        { requestId: known.lease.requestId, leaseId: known.lease.id },
      );
    }
    return this.#settled(known.lease.id, context);
  }

  /** The lease once it is no longer PREPARING, or as it stands when the caller gives up. */
  async #settled(id: string, { signal }: CallContext): Promise<Lease> {
    const settling = this.#settling.get(id);
    if (settling !== undefined) await Promise.race([settling, aborted(signal)]);
    return this.#leases.get(id).lease;
  }

  #plan(guest: ManagedGuest, request: AllocationRequest, nowMs: number): Plan {
    const forecast = this.#forecast(guest, request, nowMs);
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

  #forecast(guest: ManagedGuest, request: AllocationRequest, nowMs: number): Forecast {
    const { ceiling } = guest.facts;
    return this.#parts.forecaster.forecast({
      guest: guest.record.id,
      axis: 'seconds',
      track: 'short',
      originMs: nowMs,
      ...(request.workload === ''
        ? {}
        : { workload: { tenant: request.tenant, name: request.workload, params: request.params } }),
      ...(request.durationMs === undefined ? {} : { durationS: request.durationMs / 1000 }),
      before: guest.usageBefore(nowMs),
      ceiling: { cpuMillicores: ceiling.cpuMillicores, memoryBytes: ceiling.memoryBytes },
    });
  }

  /** In shadow and advise nothing is touched, so nothing need fit. */
  #admit(guest: ManagedGuest, plan: Plan): Admission {
    if (guest.record.mode !== 'enforce') {
      return {
        kind: 'grant',
        entitlement: plan.requested,
        reason: `mode ${guest.record.mode}: a recommendation, nothing is changed`,
      };
    }
    const others = this.#requestsOf(guest);
    const before = guest.combined(others);
    return admit(
      this.#capacity(),
      this.#committed(),
      before,
      guest.combined([...others, plan.requested]),
      guest.combined([...others, plan.least]),
    );
  }

  #draft(
    request: AllocationRequest,
    hash: string,
    guest: ManagedGuest,
    plan: Plan,
    admission: Admission,
    nowMs: number,
  ): LeaseRecord {
    const startMs = Math.max(request.startMs ?? nowMs, nowMs);
    const state = this.#entryState(request, plan, admission, startMs, nowMs);
    const id = this.#parts.newId();
    const queue = state === 'QUEUED' ? { queue: this.#placeInQueue(request.priority) } : {};
    const lease: Lease = {
      id,
      requestId: request.requestId,
      tenant: request.tenant,
      workload: request.workload,
      guest: guest.record.id,
      guestName: guest.record.name,
      params: request.params,
      priority: request.priority,
      state,
      reason:
        plan.ceilingShort === undefined
          ? admission.reason
          : `${admission.reason}; the guest's ceiling is short of ${plan.ceilingShort}`,
      requestedAtMs: nowMs,
      startMs,
      ttlMs: request.ttlMs,
      expiresAtMs: startMs + request.ttlMs,
      predicted: predictedNeed(plan.forecast),
      requested: plan.requested,
      before: guest.usageBefore(nowMs),
      used: {},
      adjustments: [],
      ...queue,
    };
    const admitted =
      admission.kind === 'no-room'
        ? plan.requested
        : this.#admittedShare(guest, plan.requested, admission.entitlement);
    const decision = this.#decision(lease, 'admit', admission.kind, admission.reason, {
      requestedMillicores: plan.requested.cpuMillicores,
      requestedMemoryBytes: plan.requested.memoryBytes,
      committedMillicores: Math.round(this.#committed().cpuMillicores),
      forecast: plan.forecast.reason,
    });
    return { lease, admitted, least: plan.least, bodyHash: hash, censored: [], decisions: [decision] };
  }

  /** Admission speaks of the guest's total; a lease keeps its own share of it, never more than it asked. */
  #admittedShare(guest: ManagedGuest, requested: Entitlement, total: Entitlement): Entitlement {
    const before = guest.combined(this.#requestsOf(guest));
    const { entitlement: baseline } = guest.record.baseline;
    const share = (field: 'cpuMillicores' | 'memoryBytes'): number =>
      Math.min(requested[field], Math.max(baseline[field], baseline[field] + total[field] - before[field]));
    return { ...requested, cpuMillicores: share('cpuMillicores'), memoryBytes: share('memoryBytes') };
  }

  #entryState(
    request: AllocationRequest,
    plan: Plan,
    admission: Admission,
    startMs: number,
    nowMs: number,
  ): LeaseState {
    if (admission.kind !== 'no-room') return startMs - nowMs > SCHEDULE_AHEAD_MS ? 'SCHEDULED' : 'PREPARING';
    if (request.noQueue) {
      throw new AllocatorError('CAPACITY_EXHAUSTED', admission.reason, {
        retryAfterMs: this.#expectedWaitMs(),
      });
    }
    if (
      plan.least.cpuMillicores > this.#capacity().cpuMillicores ||
      plan.least.memoryBytes > this.#capacity().memoryBytes
    ) {
      throw new AllocatorError(
        'CAPACITY_EXHAUSTED',
        'The median need is larger than the whole host: waiting would not help',
        {
          leastMillicores: plan.least.cpuMillicores,
          leastMemoryBytes: plan.least.memoryBytes,
        },
      );
    }
    const waiting = this.#leases.queued().length;
    if (waiting >= this.#policy.queueMax) {
      throw new AllocatorError(
        'QUEUE_FULL',
        `${waiting} leases already wait, and no more than ${this.#policy.queueMax} may`,
        {
          queueMax: this.#policy.queueMax,
          retryAfterMs: this.#expectedWaitMs(),
        },
      );
    }
    return 'QUEUED';
  }

  /**
   * Move the guest to what its leases need with this one in force, then say what it got.
   * @param onNotDurable called when the journal could not be written: nothing was touched
   */
  #prepare(guest: ManagedGuest, id: string, journal: readonly LedgerWrite[], onNotDurable = () => {}): void {
    const settling = guest
      .serialize(async () => {
        if (this.#leases.get(id).lease.state !== 'PREPARING') return;
        const result = await this.#reach(guest, journal).catch((cause) => {
          onNotDurable();
          throw cause;
        });
        await this.#putInPlace(guest, id, result);
      })
      .finally(() => this.#settling.delete(id));
    this.#settling.set(id, settling);
    this.#inBackground(settling);
  }

  async #putInPlace(guest: ManagedGuest, id: string, result: MoveResult): Promise<void> {
    const inPlaceAtMs = this.#parts.clock.nowMs();
    const enforced = guest.record.mode === 'enforce';
    const guestSeen = enforced
      ? await this.#parts.window.see(guest.record.id, AbortSignal.timeout(SEE_TIMEOUT_MS))
      : undefined;
    const record = this.#leases.get(id);
    if (record.lease.state !== 'PREPARING') return;
    const whole = satisfies(guest.held, guest.asked(this.#inForceRequests(guest, true)));
    const state = whole ? 'ACTIVE' : 'DEGRADED';
    const reason = [record.lease.reason, ...result.shortfalls].join('; ');
    const lease: Lease = {
      ...record.lease,
      state,
      reason,
      granted: guest.held,
      inPlaceAtMs,
      ...(guestSeen === undefined ? {} : { guestSeen }),
      answeredAtMs: this.#parts.clock.nowMs(),
    };
    const decision = this.#decision(
      lease,
      'actuate',
      state,
      result.shortfalls.join('; ') || 'everything asked for is in place',
      {
        grantedMillicores: guest.held.cpuMillicores,
        grantedMemoryBytes: guest.held.memoryBytes,
        tookMs: inPlaceAtMs - lease.requestedAtMs,
      },
    );
    await this.#save(decided({ ...record, lease }, decision), [guest.write()]);
    this.#parts.log.info(
      { guest: lease.guestName, leaseId: id, state, decision: 'grant', reason },
      'lease in place',
    );
  }

  async renew(leaseId: string, ttlMs: number): Promise<Lease> {
    const record = this.#leases.get(leaseId);
    this.#assertOpen(record.lease);
    const nowMs = this.#parts.clock.nowMs();
    const lease = { ...record.lease, ttlMs, expiresAtMs: Math.max(nowMs, record.lease.startMs) + ttlMs };
    await this.#save({ ...record, lease });
    return lease;
  }

  async release(leaseId: string, report: WorkReport, { signal }: CallContext): Promise<Lease> {
    const { lease } = this.#leases.get(leaseId);
    if (hasEnded(lease.state)) return lease;
    const ended =
      lease.state === 'RELEASING'
        ? this.#settling.get(leaseId)
        : this.#end(leaseId, 'RELEASED', 'released by the client', report);
    if (ended !== undefined) await Promise.race([ended, aborted(signal)]);
    return this.#leases.get(leaseId).lease;
  }

  /** End a lease: learn from it if its work is reported, give back what no other lease needs, and record the end. */
  #end(id: string, state: 'RELEASED' | 'EXPIRED', reason: string, report?: WorkReport): Promise<void> {
    const record = this.#leases.get(id);
    const guest = this.#guests.find(record.lease.guest);
    if (record.lease.state === 'QUEUED' || record.lease.state === 'SCHEDULED' || guest === undefined) {
      return this.#close(id, state, reason);
    }
    const ending = guest
      .serialize(async () => {
        const journal = await this.#beginRelease(id, state, reason, report);
        guest.adjusted.clear();
        await this.#reach(guest, journal);
        guest.quietSinceMs = this.#parts.clock.nowMs();
        await this.#close(id, state, reason, [guest.write()]);
      })
      .finally(() => this.#settling.delete(id));
    this.#settling.set(
      id,
      ending.catch(() => {}),
    );
    this.#inBackground(ending);
    return ending;
  }

  async #beginRelease(
    id: string,
    state: 'RELEASED' | 'EXPIRED',
    reason: string,
    report?: WorkReport,
  ): Promise<LedgerWrite[]> {
    const record = this.#leases.get(id);
    if (hasEnded(record.lease.state)) return [];
    const nowMs = this.#parts.clock.nowMs();
    const lease: Lease = {
      ...record.lease,
      state: 'RELEASING',
      reason: state === 'EXPIRED' ? 'its time to live has passed' : reason,
      ...(report === undefined
        ? {}
        : {
            workStartedAtMs: report.startedAtMs ?? record.lease.inPlaceAtMs ?? record.lease.requestedAtMs,
            workFinishedAtMs: report.finishedAtMs ?? nowMs,
          }),
    };
    const next = { ...record, lease };
    this.#put(next);
    if (report === undefined || record.lease.inPlaceAtMs === undefined) return [leaseWrite(next)];
    const outcome = outcomeOf(next, report);
    this.#parts.forecaster.learn(outcome);
    return [leaseWrite(next), ...this.#learned().record(outcome, nowMs)];
  }

  async #close(
    id: string,
    state: 'RELEASED' | 'EXPIRED',
    reason: string,
    writes: readonly LedgerWrite[] = [],
  ): Promise<void> {
    const record = this.#leases.get(id);
    if (hasEnded(record.lease.state)) return;
    const { queue: _, ...rest } = record.lease;
    const lease: Lease = { ...rest, state, reason, releasedAtMs: this.#parts.clock.nowMs() };
    const decision = this.#decision(lease, 'release', state, reason, {});
    await this.#save(decided({ ...record, lease }, decision), [...writes, ...this.#leases.prune()]);
    this.#parts.log.info({ guest: lease.guestName, leaseId: id, decision: 'release', reason }, 'lease ended');
    this.#serveQueue();
  }

  getLease(leaseId: string): Lease {
    return this.#leases.get(leaseId).lease;
  }

  listLeases(filter: { guest?: string; states?: readonly LeaseState[]; tenant?: string }): Lease[] {
    return this.#leases
      .all()
      .map(({ lease }) => lease)
      .filter(
        (lease) =>
          (filter.guest === undefined || lease.guest === filter.guest || lease.guestName === filter.guest) &&
          (filter.tenant === undefined || lease.tenant === filter.tenant) &&
          (filter.states === undefined || filter.states.includes(lease.state)),
      );
  }

  async *watchLease(leaseId: string, { signal }: CallContext): AsyncIterable<Lease> {
    let wake = () => {};
    let lease = this.#leases.get(leaseId).lease;
    const gone = aborted(signal);
    const unsubscribe = this.#leases.watch(leaseId, () => wake());
    try {
      while (!signal.aborted) {
        yield lease;
        if (hasEnded(lease.state)) return;
        while (this.#leases.get(leaseId).lease === lease && !signal.aborted) {
          const changed = new Promise<void>((resolve) => {
            wake = resolve;
          });
          await Promise.race([changed, gone]);
        }
        lease = this.#leases.get(leaseId).lease;
      }
    } finally {
      unsubscribe();
    }
  }

  async forecast(request: AllocationRequest): Promise<{ forecast: Forecast; requested: Entitlement }> {
    const guest = this.#guests.running(request.guest);
    const { forecast, requested } = this.#plan(guest, request, this.#parts.clock.nowMs());
    return { forecast, requested };
  }

  explain(leaseId: string): readonly Decision[] {
    return this.#leases.get(leaseId).decisions;
  }

  // --- guests -------------------------------------------------------------------------------------------------------

  async status(): Promise<HostStatus> {
    const host = this.#host ?? (await this.#parts.hypervisor.host());
    return {
      host,
      capacity: capacityOf(host, this.#policy.capacity),
      committed: this.#committed(),
      mode: this.#policy.mode,
      hypervisorAvailable: this.#parts.hypervisor.available,
      draining: this.#draining,
      guests: this.#guests.known,
      adopted: this.#guests.managed.size,
      leases: this.#leases.counts(),
    };
  }

  async listGuests(): Promise<GuestStatus[]> {
    const all = await this.#guests.census();
    return all.map((facts) => this.#guestStatus(facts));
  }

  async getGuest(name: string): Promise<GuestStatus> {
    return this.#guestStatus(await this.#guests.lookUp(name));
  }

  async adopt(name: string, mode: Mode = this.#policy.mode): Promise<GuestStatus> {
    const facts = await this.#guests.lookUp(name);
    if (facts.state !== 'running') {
      throw new AllocatorError(
        'GUEST_NOT_RUNNING',
        `Guest ${facts.name} is ${facts.state}: its baseline can only be read while it runs`,
        { guest: facts.name },
      );
    }
    if (this.#guests.find(facts.id) !== undefined) return this.setMode(name, mode);
    const { entitlement, cpuLimited } = facts;
    const guest = this.#guests.manage(
      {
        id: facts.id,
        name: facts.name,
        mode,
        adoptedAtMs: this.#parts.clock.nowMs(),
        baseline: { entitlement, cpuLimited },
        relinquished: [],
        known: [entitlement],
        moving: false,
      },
      facts,
    );
    try {
      await this.#parts.ledger.commit([guest.write()]);
    } catch (cause) {
      this.#guests.drop(facts.id);
      throw cause;
    }
    this.#commitments.touch(facts.id);
    this.#cadences.refresh(facts.id);
    this.#parts.log.info({ guest: facts.name, mode, baseline: entitlement }, 'guest adopted');
    return this.#guestStatus(facts);
  }

  async disown(name: string, context: CallContext): Promise<GuestStatus> {
    const guest = this.#guests.adopted(name);
    await this.#endAll(guest, 'the guest is no longer managed');
    await this.#restore(guest);
    await this.#parts.ledger.commit([{ key: guest.write().key, value: undefined }]);
    this.#guests.drop(guest.record.id);
    this.#commitments.touch(guest.record.id);
    this.#parts.forecaster.forget(guest.record.id);
    this.#cadences.refresh(guest.record.id);
    context.signal.throwIfAborted();
    return this.#guestStatus(await this.#guests.lookUp(guest.record.id));
  }

  async restore(name: string, context: CallContext): Promise<GuestStatus> {
    const guest = this.#guests.adopted(name);
    await this.#endAll(guest, 'the baseline was restored');
    await this.#restore(guest);
    context.signal.throwIfAborted();
    return this.#guestStatus(await this.#guests.lookUp(guest.record.id));
  }

  async setMode(name: string, mode: Mode): Promise<GuestStatus> {
    const guest = this.#guests.adopted(name);
    await guest.serialize(async () => {
      const leaving = guest.record.mode === 'enforce' && mode !== 'enforce';
      if (leaving) await this.#mover.move(guest, guest.record.baseline.entitlement);
      guest.record = { ...guest.record, mode };
      this.#commitments.touch(guest.record.id);
      if (mode === 'enforce') await this.#reach(guest, []);
      await this.#parts.ledger.commit([guest.write()]);
    });
    this.#parts.log.info({ guest: guest.record.name, mode }, 'mode changed');
    return this.#guestStatus(await this.#guests.lookUp(guest.record.id));
  }

  async *watchGuest(name: string, { signal }: CallContext): AsyncIterable<GuestSample> {
    const { id } = this.#guests.adopted(name).record;
    const pending: GuestSample[] = [];
    const gone = aborted(signal);
    let wake = () => {};
    const listener = (sample: GuestSample) => {
      pending.push(sample);
      if (pending.length > WATCH_QUEUE_MAX) pending.shift();
      wake();
    };
    const listeners = this.#sampleListeners.get(id) ?? new Set();
    this.#sampleListeners.set(id, listeners.add(listener));
    try {
      while (!signal.aborted) {
        const sample = pending.shift();
        if (sample !== undefined) yield sample;
        else {
          const arrived = new Promise<void>((resolve) => {
            wake = resolve;
          });
          await Promise.race([arrived, gone]);
        }
      }
    } finally {
      listeners.delete(listener);
    }
  }

  async drain(): Promise<void> {
    this.#draining = true;
    while (this.#background.size > 0) await Promise.allSettled([...this.#background]);
  }

  // --- the tick -----------------------------------------------------------------------------------------------------

  /** One period's housekeeping: ends, starts, retries, the queue, the census. Returns when it has been set going. */
  tick(): void {
    if (this.#draining || !this.#parts.hypervisor.available) return;
    const nowMs = this.#parts.clock.nowMs();
    for (const { lease } of this.#leases.open()) {
      if (lease.state === 'RELEASING') continue;
      if (nowMs >= lease.expiresAtMs)
        this.#inBackground(this.#end(lease.id, 'EXPIRED', 'its time to live has passed'));
      else if (lease.state === 'SCHEDULED' && nowMs >= lease.startMs) this.#begin(lease.id);
      else if (lease.state === 'PREPARING' && !this.#settling.has(lease.id)) this.#begin(lease.id);
    }
    for (const guest of this.#guests.managed.values()) {
      if (guest.retryAtMs !== undefined && nowMs >= guest.retryAtMs) {
        guest.retryAtMs = undefined;
        this.#inBackground(guest.serialize(() => this.#tryAgain(guest)));
      }
    }
    if (nowMs - this.#censusAtMs >= CENSUS_MS) {
      this.#censusAtMs = nowMs;
      this.#inBackground(this.#guests.census());
    }
    this.#serveQueue();
  }

  /** A move fell short: once more, and leases that now have everything become ACTIVE. */
  async #tryAgain(guest: ManagedGuest): Promise<void> {
    await this.#reach(guest, []);
    if (!satisfies(guest.held, guest.asked(this.#inForceRequests(guest, true)))) return;
    for (const record of this.#leases.inForce(guest.record.id)) {
      if (record.lease.state !== 'DEGRADED') continue;
      const lease: Lease = {
        ...record.lease,
        state: 'ACTIVE',
        reason: 'everything asked for is in place after another try',
        granted: guest.held,
      };
      await this.#save({ ...record, lease }, [guest.write()]);
    }
  }

  /** A scheduled or queued lease whose moment has come, or one whose preparation failed before. */
  #begin(id: string): void {
    const record = this.#leases.get(id);
    const guest = this.#guests.find(record.lease.guest);
    if (guest === undefined || guest.facts.state !== 'running') {
      this.#inBackground(this.#close(id, 'RELEASED', 'the guest is not running'));
      return;
    }
    const { queue: _, ...lease } = record.lease;
    const next = { ...record, lease: { ...lease, state: 'PREPARING' as const } };
    this.#put(next);
    this.#prepare(guest, id, [leaseWrite(next)]);
  }

  /** Start what now fits, first come first served within a priority: nobody overtakes, so nobody starves. */
  #serveQueue(): void {
    if (this.#draining) return;
    for (const record of this.#leases.queued()) {
      const guest = this.#guests.find(record.lease.guest);
      if (guest === undefined) continue;
      const others = this.#requestsOf(guest);
      const admission = admit(
        this.#capacity(),
        this.#committed(),
        guest.combined(others),
        guest.combined([...others, record.lease.requested]),
        guest.combined([...others, record.least]),
      );
      if (admission.kind === 'no-room') return;
      const startMs = this.#parts.clock.nowMs();
      const lease = {
        ...record.lease,
        startMs,
        expiresAtMs: startMs + record.lease.ttlMs,
        reason: `${admission.reason}, after waiting`,
      };
      this.#put({
        ...record,
        lease,
        admitted: this.#admittedShare(guest, record.lease.requested, admission.entitlement),
      });
      this.#begin(lease.id);
    }
  }

  #placeInQueue(priority: Priority): { position: number; expectedWaitMs: number } {
    const mine = PRIORITIES.indexOf(priority);
    const ahead = this.#leases
      .queued()
      .filter(({ lease }) => PRIORITIES.indexOf(lease.priority) >= mine).length;
    return { position: ahead + 1, expectedWaitMs: this.#expectedWaitMs() * (ahead + 1) };
  }

  /** When the next lease should end: its predicted length, or its time to live where that is shorter or unknown. */
  #expectedWaitMs(): number {
    const nowMs = this.#parts.clock.nowMs();
    const ends = this.#leases
      .open()
      .filter(({ lease }) => lease.inPlaceAtMs !== undefined)
      .map(({ lease }) => {
        const predicted = lease.predicted.durationS?.q50;
        const end =
          predicted === undefined ? lease.expiresAtMs : (lease.inPlaceAtMs as number) + predicted * 1000;
        return Math.max(0, Math.min(end, lease.expiresAtMs) - nowMs);
      });
    return Math.max(this.#policy.tickMs, Math.min(...ends, this.#policy.tickMs * 60));
  }

  // --- samples ------------------------------------------------------------------------------------------------------

  #onSample(sample: GuestSample): void {
    this.#parts.forecaster.observe(sample);
    for (const listener of this.#sampleListeners.get(sample.guest) ?? []) listener(sample);
    const guest = this.#guests.find(sample.guest);
    if (guest === undefined) return;
    guest.note(sample);
    const leases = this.#leases.inForce(sample.guest).filter(({ lease }) => lease.inPlaceAtMs !== undefined);
    if (leases.length === 0) return;
    for (const record of leases) this.#leases.put(withUsage(record, sample, guest.held));
    if (guest.record.mode === 'enforce' && !guest.busy && !this.#draining) this.#correct(guest, sample);
  }

  #correct(guest: ManagedGuest, sample: GuestSample): void {
    const leases = this.#leases.inForce(sample.guest).filter(({ lease }) => lease.inPlaceAtMs !== undefined);
    const newest = leases.at(-1);
    if (newest === undefined) return;
    const corrections = correct({
      guest,
      sample,
      leases: leases.map(({ lease }) => lease),
      promised: guest.combined(this.#inForceRequests(guest, false)),
      room: this.#roomFor(guest),
      policy: this.#policy.adjust,
      nowMs: this.#parts.clock.nowMs(),
    });
    if (corrections.length === 0) return;
    for (const { field, target } of corrections) guest.adjusted.set(field, target);
    this.#commitments.touch(guest.record.id);
    this.#inBackground(guest.serialize(() => this.#applyCorrections(guest, newest.lease.id, corrections)));
  }

  async #applyCorrections(
    guest: ManagedGuest,
    id: string,
    corrections: readonly Correction[],
  ): Promise<void> {
    const result = await this.#reach(guest, []);
    let record = this.#leases.get(id);
    if (hasEnded(record.lease.state)) return;
    for (const { adjustment } of corrections) {
      const adjustments = [...record.lease.adjustments, adjustment].slice(-ADJUSTMENTS_KEPT);
      record = decided(
        { ...record, lease: { ...record.lease, adjustments } },
        this.#decision(
          record.lease,
          'adjust',
          adjustment.resource,
          result.shortfalls.join('; ') || 'in force',
          {
            from: adjustment.from,
            to: adjustment.to,
            residual: Math.round(adjustment.residual),
            reason: adjustment.reason,
          },
        ),
      );
      this.#parts.log.info(
        { guest: guest.record.name, leaseId: id, decision: 'adjust', ...adjustment },
        'entitlement adjusted',
      );
    }
    await this.#save(record, [guest.write()]);
  }

  // --- the hypervisor -----------------------------------------------------------------------------------------------

  async #onAvailability(available: boolean): Promise<void> {
    this.#parts.log.warn(
      { available },
      available ? 'hypervisor is back' : 'hypervisor is gone; guests keep what they have',
    );
    if (available) await this.#recover();
  }

  async #onGuestEvent(event: GuestEvent): Promise<void> {
    const guest = this.#guests.find(event.guest);
    if (guest === undefined) {
      // Not ours, but its size counts against the host's room: read it at the next tick.
      this.#censusAtMs = Number.NEGATIVE_INFINITY;
      return;
    }
    switch (event.kind) {
      case 'stopped':
      case 'removed':
        await this.#onGone(guest);
        break;
      case 'tuned':
        if (!guest.busy) await guest.serialize(() => this.#checkForeign(guest, event.resource));
        break;
      case 'started':
        guest.startedAtMs = this.#parts.clock.nowMs();
        await this.#refresh(guest);
        break;
      default:
        await this.#refresh(guest);
    }
  }

  /** A stopped guest holds nothing; its live settings are gone with it. */
  async #onGone(guest: ManagedGuest): Promise<void> {
    guest.facts = { ...guest.facts, state: 'shut-off' };
    guest.adjusted.clear();
    guest.held = guest.record.baseline.entitlement;
    guest.aim = guest.held;
    for (const { lease } of this.#leases.ofGuest(guest.record.id)) {
      await this.#close(lease.id, 'RELEASED', 'the guest stopped');
    }
    const { intended: _, ...record } = guest.record;
    guest.record = { ...record, known: [record.baseline.entitlement], moving: false };
    this.#commitments.touch(guest.record.id);
    this.#cadences.refresh(guest.record.id);
    await this.#parts.ledger.commit([guest.write()]);
  }

  async #refresh(guest: ManagedGuest): Promise<void> {
    await guest.serialize(async () => {
      guest.facts = await this.#parts.hypervisor.inspect(guest.record.id);
      guest.held = guest.facts.entitlement;
      guest.aim = guest.held;
    });
    this.#commitments.touch(guest.record.id);
    this.#cadences.refresh(guest.record.id);
  }

  /** Somebody changed a setting. If it was not us, the resource is theirs from now on. */
  async #checkForeign(guest: ManagedGuest, resource: Actuated): Promise<void> {
    if (guest.record.relinquished.includes(resource)) return;
    const nowMs = this.#parts.clock.nowMs();
    const read = withResource(
      guest.held,
      resource,
      await this.#parts.actuators[resource].read(guest.record.id),
    );
    const arriving = differing(guest.held, guest.aim).includes(resource);
    const booting = resource === 'memory' && nowMs - guest.startedAtMs < BOOT_MS;
    if (booting || explainedBy(resource, read, arriving ? [guest.held, guest.aim] : [guest.held], arriving)) {
      guest.held = read;
      return;
    }
    await this.#relinquish(guest, [resource], read);
  }

  async #relinquish(guest: ManagedGuest, resources: readonly Actuated[], read: Entitlement): Promise<void> {
    guest.held = read;
    guest.aim = read;
    this.#commitments.touch(guest.record.id);
    guest.record = { ...guest.record, relinquished: [...guest.record.relinquished, ...resources] };
    this.#parts.log.warn(
      { guest: guest.record.name, resources, read, decision: 'relinquish' },
      'somebody else changed this guest: left alone until it is adopted anew',
    );
    await this.#parts.ledger.commit([guest.write()]);
  }

  /** Bring ledger, hypervisor and reality together: after a start, and after every return of the hypervisor. */
  async #recover(): Promise<void> {
    const { hypervisor, ledger, log } = this.#parts;
    this.#host = await hypervisor.host();
    const facts = await this.#guests.census();
    await this.#guests.load(ledger, facts);
    for (const id of this.#guests.managed.keys()) this.#commitments.touch(id);
    // Every guest's queue is taken at once, so that no event or request is judged by what we knew before; a few go at a time.
    const lanes = Array.from({ length: RECOVER_AT_ONCE }, () => Promise.resolve());
    const recoveries = [...this.#guests.managed.values()].map((guest, i) => {
      const found = facts.find(({ id }) => id === guest.record.id);
      return guest.serialize(() => {
        const lane = i % RECOVER_AT_ONCE;
        const turn = (lanes[lane] as Promise<void>).then(() => this.#recoverGuest(guest, found));
        lanes[lane] = turn;
        return turn;
      });
    });
    await Promise.all(recoveries);
    for (const id of this.#guests.managed.keys()) this.#cadences.refresh(id);
    log.info({ adopted: this.#guests.managed.size, openLeases: this.#leases.open().length }, 'recovered');
    this.#serveQueue();
  }

  /** Call inside `guest.serialize`. */
  async #recoverGuest(guest: ManagedGuest, found: GuestFacts | undefined): Promise<void> {
    try {
      if (found === undefined || found.state !== 'running') {
        await this.#onGone(guest);
        return;
      }
      const foreign = await recoverGuest(guest, found, this.#parts.actuators, this.#parts.pause);
      if (foreign.length > 0) await this.#relinquish(guest, foreign, guest.held);
      await this.#resume(guest);
    } catch (cause) {
      if (!(cause instanceof AllocatorError)) throw cause;
      this.#parts.log.error(
        { guest: guest.record.name, code: cause.code, err: cause },
        'guest could not be recovered yet',
      );
      this.#retryLater(guest);
    }
  }

  /** Finish what a crash cut short:leases being prepared are put in place, leases being released are ended. */
  async #resume(guest: ManagedGuest): Promise<void> {
    const nowMs = this.#parts.clock.nowMs();
    const open = this.#leases.ofGuest(guest.record.id);
    const result = await this.#reach(guest, []);
    for (const { lease } of open) {
      if (lease.state === 'PREPARING') await this.#putInPlace(guest, lease.id, result);
      else if (lease.state === 'RELEASING')
        await this.#close(lease.id, 'RELEASED', lease.reason, [guest.write()]);
      else if (nowMs >= lease.expiresAtMs)
        this.#inBackground(
          this.#end(lease.id, 'EXPIRED', 'its time to live passed while the service was down'),
        );
    }
    await this.#parts.ledger.commit([guest.write()]);
  }

  // --- shared -------------------------------------------------------------------------------------------------------

  /** Bring a guest to what its leases, or its baseline, say. Nothing happens outside enforce. */
  async #reach(guest: ManagedGuest, journal: readonly LedgerWrite[]): Promise<MoveResult> {
    if (guest.record.mode !== 'enforce') {
      if (journal.length > 0) await this.#parts.ledger.commit(journal);
      return { reached: false, shortfalls: [`mode ${guest.record.mode}: nothing was changed`] };
    }
    const target = guest.target(this.#inForceRequests(guest, false));
    const result = await this.#mover.move(guest, target, journal);
    this.#commitments.touch(guest.record.id);
    if (result.reached) guest.failures = 0;
    else this.#retryLater(guest);
    return result;
  }

  async #restore(guest: ManagedGuest): Promise<void> {
    await guest.serialize(async () => {
      guest.adjusted.clear();
      if (guest.record.mode === 'enforce') {
        await this.#mover.move(guest, guest.target([]));
        await this.#parts.ledger.commit([guest.write()]);
      }
    });
  }

  async #endAll(guest: ManagedGuest, reason: string): Promise<void> {
    const open = this.#leases.ofGuest(guest.record.id);
    await Promise.all(open.map(({ lease }) => this.#end(lease.id, 'RELEASED', reason)));
  }

  #retryLater(guest: ManagedGuest | undefined): void {
    if (guest === undefined) return;
    guest.failures += 1;
    const pauseMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** (guest.failures - 1));
    guest.retryAtMs = this.#parts.clock.nowMs() + pauseMs;
  }

  /** Entitlements of the leases in force: what admission let each have, or (for judging the grant) what each asked. */
  #inForceRequests(guest: ManagedGuest, asked: boolean): Entitlement[] {
    return this.#leases
      .inForce(guest.record.id)
      .map(({ lease, admitted }) => (asked ? lease.requested : admitted));
  }

  /** As above, with what is promised for later: what admission must count. */
  #requestsOf(guest: ManagedGuest): Entitlement[] {
    return this.#leases
      .ofGuest(guest.record.id)
      .filter(({ lease }) => lease.state !== 'QUEUED' && lease.state !== 'RELEASING')
      .map(({ admitted }) => admitted);
  }

  #capacity(): Room {
    if (this.#host === undefined)
      throw new AllocatorError('HYPERVISOR_UNAVAILABLE', 'The hypervisor has not been reached yet');
    return capacityOf(this.#host, this.#policy.capacity);
  }

  /** Sum of what guests may use now or were promised: ours by their leases, the others by their settings. */
  #committed(): Room {
    const ours = this.#commitments.total();
    const theirs = this.#guests.unmanagedCommitted();
    return {
      cpuMillicores: ours.cpuMillicores + theirs.cpuMillicores,
      memoryBytes: ours.memoryBytes + theirs.memoryBytes,
    };
  }

  #promiseOf(id: GuestId): Room {
    const guest = this.#guests.find(id);
    if (guest === undefined || guest.facts.state !== 'running') return { cpuMillicores: 0, memoryBytes: 0 };
    return guest.record.mode === 'enforce' ? guest.target(this.#requestsOf(guest)) : guest.held;
  }

  /** How far one guest may grow at once, given everybody's promises. */
  #roomFor(guest: ManagedGuest): Room {
    const capacity = this.#capacity();
    const committed = this.#committed();
    return {
      cpuMillicores: guest.held.cpuMillicores + Math.max(0, capacity.cpuMillicores - committed.cpuMillicores),
      memoryBytes: guest.held.memoryBytes + Math.max(0, capacity.memoryBytes - committed.memoryBytes),
    };
  }

  #guestStatus(facts: GuestFacts): GuestStatus {
    const guest = this.#guests.find(facts.id);
    const leases = this.#leases.ofGuest(facts.id).map(({ lease }) => lease.id);
    if (guest === undefined) return { facts, leases };
    const { known: _, moving: __, ...adopted } = guest.record;
    return {
      facts,
      adopted,
      leases,
      ...(guest.lastSample === undefined ? {} : { lastSample: guest.lastSample }),
    };
  }

  #decision(
    lease: Lease,
    action: Decision['action'],
    rule: string,
    outcome: string,
    inputs: Decision['inputs'],
  ): Decision {
    return {
      atMs: this.#parts.clock.nowMs(),
      leaseId: lease.id,
      guest: lease.guestName,
      action,
      rule,
      inputs,
      outcome,
    };
  }

  #put(record: LeaseRecord): void {
    this.#leases.put(record);
    this.#commitments.touch(record.lease.guest);
    this.#cadences.refresh(record.lease.guest);
  }

  async #save(record: LeaseRecord, writes: readonly LedgerWrite[] = []): Promise<void> {
    this.#put(record);
    await this.#parts.ledger.commit([leaseWrite(record), ...writes]);
  }

  #assertOpen(lease: Lease): void {
    if (!hasEnded(lease.state) && lease.state !== 'RELEASING') return;
    throw new AllocatorError('LEASE_ENDED', `Lease ${lease.id} is ${lease.state} and cannot be renewed`, {
      leaseId: lease.id,
      state: lease.state,
    });
  }

  #learned(): OutcomeJournal {
    assert(this.#outcomes !== undefined, 'start comes first');
    return this.#outcomes;
  }

  /**
   * Keep hold of work nobody awaits, so that a drain can. An expected failure is logged and the tick tries again;
   * anything else is a broken assumption and stops the process.
   */
  #inBackground(work: Promise<unknown>): void {
    const kept = work
      .catch((cause) => {
        if (!(cause instanceof AllocatorError)) throw cause;
        this.#parts.log.error(
          { code: cause.code, detail: cause.detail, err: cause },
          'background work failed',
        );
      })
      .finally(() => this.#background.delete(kept));
    this.#background.add(kept);
  }
}

/** Samples waiting for one slow watcher; older ones are dropped. */
const WATCH_QUEUE_MAX = 256;
const ADJUSTMENTS_KEPT = 64;

/** The record with a sample's usage taken into its peaks. */
function withUsage(record: LeaseRecord, sample: GuestSample, held: Entitlement): LeaseRecord {
  const used: { -readonly [F in ProfileField]?: number } = { ...record.lease.used };
  let censored = record.censored;
  for (const field of PROFILE_FIELDS) {
    const usage = sample.usage[field];
    if (usage === undefined || usage <= (used[field] ?? Number.NEGATIVE_INFINITY)) continue;
    used[field] = usage;
    const limit = field === 'instructionsPerS' ? undefined : held[field];
    const cutOff = limit !== undefined && usage >= limit * CENSORED_FRACTION;
    if (cutOff !== censored.includes(field)) {
      censored = cutOff ? [...censored, field] : censored.filter((other) => other !== field);
    }
  }
  return { ...record, censored, lease: { ...record.lease, used } };
}

function outcomeOf({ lease, censored }: LeaseRecord, report: WorkReport): Outcome {
  const startedAtMs = lease.workStartedAtMs ?? lease.requestedAtMs;
  return {
    leaseId: lease.id,
    guest: lease.guest,
    tenant: lease.tenant,
    workload: lease.workload,
    params: lease.params,
    startedAtMs,
    finishedAtMs: Math.max(lease.workFinishedAtMs ?? startedAtMs, startedAtMs),
    before: lease.before as ResourceProfile,
    peak: lease.used,
    censored,
    completed: report.succeeded,
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
