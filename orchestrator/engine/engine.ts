import { capacityOf } from '../core/admit.ts';
import type { Anomaly } from '../core/anomaly.ts';
import type {
  AllocationEngine,
  CallContext,
  Decision,
  GuestStatus,
  HostStatus,
  WatchedSample,
  WorkReport,
} from '../core/engine.ts';
import type { Forecast, ForecastScale, Track } from '../core/forecast.ts';
import type { GuestId, Mode } from '../core/guest.ts';
import type { GuestStarts } from '../core/guest-start.ts';
import type { Lease, LeaseState } from '../core/lease.ts';
import type { Need } from '../core/needs.ts';
import type {
  Clock,
  Forecaster,
  GuestWindow,
  HostReporter,
  Hypervisor,
  LeaseLedger,
  ScaleOut,
  Telemetry,
} from '../core/ports.ts';
import type { Entitlement } from '../core/profile.ts';
import type { GuestDemand, Newcomer } from '../core/rank-hosts.ts';
import type { AllocationRequest } from '../core/request.ts';
import type { GuestSample, Sampling } from '../core/sample.ts';
import { AdmissionDesk } from './admission.ts';
import { Anomalies } from './anomalies.ts';
import { Background } from './background.ts';
import { Cadences } from './cadences.ts';
import { Endings } from './endings.ts';
import { Fitting } from './fitting.ts';
import { Grants } from './grants.ts';
import { GuestBook } from './guest-book.ts';
import { GuestDesk } from './guest-desk.ts';
import { GuestGroups } from './guest-groups.ts';
import { GuestMoves } from './guest-moves.ts';
import { GuestStartDesk } from './guest-starts.ts';
import { HostAgent } from './host-agent.ts';
import { HostRoom } from './host-room.ts';
import { LatestTime } from './latest-time.ts';
import { LeaseBook, type LeaseRecord } from './lease-book.ts';
import { LeaseJournal } from './lease-journal.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';
import { type Actuators, Mover } from './mover.ts';
import { Neighbours } from './neighbours.ts';
import { Newcomers } from './newcomers.ts';
import { OutcomeJournal } from './outcomes.ts';
import type { EnginePolicy } from './policy.ts';
import { QueueOutlook } from './queue-outlook.ts';
import { Reclaimer } from './reclaimer.ts';
import { Reconciler } from './reconcile.ts';
import { Recorder, type Shadow } from './recorder.ts';
import { Renewals } from './renewals.ts';
import { Residual } from './residual.ts';
import { Restraints } from './restraints.ts';
import { Scaling } from './scaling.ts';
import { Settling } from './settling.ts';
import { StandingCapacity } from './standing-capacity.ts';
import { Tenancy } from './tenancy.ts';
import { SampleFeed, watchLease } from './watching.ts';
import { WorkloadPasts } from './workload-pasts.ts';

/** Watchers are told what is foreseen at most so often: once a second, less what a sample may come early. */
const FORESEEN_EVERY_MS = 950;

/** Everything the engine reaches the world through. */
export interface EngineParts {
  readonly clock: Clock;
  readonly forecaster: Forecaster;
  readonly ledger: LeaseLedger;
  readonly hypervisor: Hypervisor;
  readonly actuators: Actuators;
  readonly window: GuestWindow;
  readonly telemetry: Telemetry;
  /** Where this host is reported; absent: nowhere. */
  readonly reportTo?: readonly HostReporter[];
  /** Who is asked for room that this host does not have; absent: nobody. */
  readonly scaleOut?: ScaleOut;
  /** Where samples and requests are recorded; absent: nowhere. */
  readonly shadow?: Shadow;
  /** This host in the record and in reports; absent: the hypervisor's name. */
  readonly hostName?: string;
  readonly log: Log;
  /** Unique ids that grow with time. */
  readonly newId: () => string;
  /** Resolves after so many ms of `clock`'s time. */
  readonly pause: (ms: number) => Promise<void>;
}

/** The allocation engine of one host. `start` recovers what the ledger knows; `tick` is called once a period. */
export class Engine implements AllocationEngine {
  readonly #parts: EngineParts;
  /** The one object that all parts read; its contents may be replaced. */
  readonly #policy: { -readonly [K in keyof EnginePolicy]: EnginePolicy[K] };
  readonly #guests: GuestBook;
  readonly #leases = new LeaseBook();
  readonly #outcomes = new OutcomeJournal();
  readonly #pasts = new WorkloadPasts();
  readonly #settling = new Settling();
  readonly #samples = new SampleFeed();
  readonly #background: Background;
  readonly #room: HostRoom;
  readonly #journal: LeaseJournal;
  readonly #tenancy: Tenancy;
  readonly #admission: AdmissionDesk;
  readonly #endings: Endings;
  readonly #grants: Grants;
  readonly #renewals: Renewals;
  readonly #scaling: Scaling;
  readonly #reclaimer: Reclaimer;
  readonly #latest: LatestTime;
  readonly #residual: Residual;
  readonly #anomalies: Anomalies;
  readonly #restraints: Restraints;
  readonly #neighbours: Neighbours;
  readonly #reconciler: Reconciler;
  readonly #desk: GuestDesk;
  readonly #starts: GuestStartDesk;
  readonly #recorder: Recorder | undefined;
  readonly #newcomers: Newcomers;
  readonly #agent: HostAgent;
  readonly #unsubscribe: (() => void)[] = [];
  #draining = false;
  #stopped = false;

  constructor(parts: EngineParts, initialPolicy: EnginePolicy) {
    const { clock, ledger, log, actuators } = parts;
    const policy = { ...initialPolicy };
    this.#parts = parts;
    this.#policy = policy;
    const guests = new GuestBook(parts.hypervisor);
    const leases = this.#leases;
    const background = new Background(log);
    const room = new HostRoom(guests, leases, policy);
    const cadences = new Cadences(parts.telemetry, guests, leases);
    const journal = new LeaseJournal({ leases, room, cadences, ledger });
    const mover = new Mover({ actuators, journal, clock, log, policy });
    const moves = new GuestMoves({ mover, leases, room, journal, clock });
    const tenancy = new Tenancy(room, policy);
    const latest = new LatestTime(clock);
    const reclaimer = new Reclaimer({ clock, latest, room, guests, leases, journal, tenancy, policy });
    const fitting = new Fitting({ guests, leases, room, tenancy, reclaimer });
    const groups = new GuestGroups({ guests, leases, clock, policy });
    const outlook = new QueueOutlook({ guests, leases, room, tenancy, groups, policy });
    const admission = new AdmissionDesk({
      ...parts,
      leases,
      room,
      tenancy,
      fitting,
      outlook,
      groups,
      policy,
    });
    const standing = new StandingCapacity({ ...parts, groups, policy });
    const hostName = (): string | undefined => parts.hostName ?? room.host?.name;
    const recorder =
      parts.shadow &&
      new Recorder({
        shadow: parts.shadow,
        leases,
        hostName: () => hostName() ?? '',
        log,
      });
    // What most of them share; each names in its own parts what it takes of it.
    const shared = {
      ...parts,
      guests,
      leases,
      background,
      room,
      cadences,
      journal,
      mover,
      moves,
      tenancy,
      outlook,
      groups,
      reclaimer,
      settling: this.#settling,
      latest,
    };
    const onRaised = (anomaly: Anomaly): void => {
      if (policy.anomaly[anomaly.kind] === 'quarantine') this.#restraints.quarantine(anomaly);
    };
    const anomalies = new Anomalies({ ...shared, policy, onRaised });
    const onEnded = () => {
      if (parts.hypervisor.available) this.#grants.serveQueue();
    };
    const endings = new Endings({
      ...shared,
      outcomes: this.#outcomes,
      pasts: this.#pasts,
      anomalies,
      onEnded,
    });
    const scaling = new Scaling({ ...shared, fitting, admission, standing, policy });
    const grants = new Grants({ ...shared, admission, scaling, endings, ...(recorder && { recorder }) });
    this.#guests = guests;
    this.#background = background;
    this.#room = room;
    this.#journal = journal;
    this.#tenancy = tenancy;
    this.#admission = admission;
    this.#endings = endings;
    this.#grants = grants;
    this.#renewals = new Renewals(shared);
    this.#scaling = scaling;
    this.#reclaimer = reclaimer;
    this.#latest = latest;
    this.#residual = new Residual({ ...shared, policy });
    this.#anomalies = anomalies;
    this.#reconciler = new Reconciler({ ...shared, grants, endings });
    this.#recorder = recorder;
    this.#desk = new GuestDesk({ ...shared, grants, endings });
    this.#restraints = new Restraints({ ...shared, endings, desk: this.#desk });
    this.#neighbours = new Neighbours({ ...shared, restraints: this.#restraints, policy });
    this.#newcomers = new Newcomers({ ...shared, pasts: this.#pasts });
    const isDraining = (): boolean => this.#draining;
    const { reportTo = [] } = parts;
    this.#agent = new HostAgent({ ...shared, reportTo, name: hostName, isDraining });
    this.#starts = new GuestStartDesk({ ...shared, grants, reconciler: this.#reconciler, policy });
  }

  /** Read the ledger, teach the forecaster, put adopted guests back to what their leases or baselines explain, and listen. */
  async start(): Promise<void> {
    const { ledger, forecaster, hypervisor, telemetry, log } = this.#parts;
    const reconciler = this.#reconciler;
    const background = this.#background;
    this.#outcomes.replay(ledger, forecaster, this.#pasts);
    this.#leases.load(ledger.range(LeaseBook.prefix));
    for (const { lease, decisions } of this.#leases.all()) {
      // Whatever was taken because work was over is on record with its time.
      for (const { atMs } of [...decisions.slice(-1), ...lease.adjustments.slice(-1)])
        this.#latest.note(atMs);
    }
    this.#anomalies.load(ledger.range(Anomalies.prefix));
    this.#unsubscribe.push(
      hypervisor.onAvailability((available) => background.keep(reconciler.onAvailability(available))),
      hypervisor.onGuestEvent((event) => background.keep(reconciler.onGuestEvent(event))),
      telemetry.onSample((sample) => this.#onSample(sample)),
    );
    log.info({ outcomes: this.#outcomes.size, openLeases: this.#leases.open().length }, 'ledger read');
    if (hypervisor.available) await reconciler.recover();
    await this.#agent.tend();
  }

  /**
   * Decide by another policy from now on. Leases keep what they were given; what no longer fits is given to nobody anew.
   * @throws {AllocatorError} CAPACITY_EXHAUSTED when guaranteed parts do not fit the host; nothing has changed then
   */
  adoptPolicy(policy: EnginePolicy): void {
    this.#tenancy.assertKeepable(policy);
    Object.assign(this.#policy, policy);
    this.#grants.serveQueue();
  }

  /** Begin nothing more and stop listening. What is in flight is awaited; guests keep what they have. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.drain();
    await this.#background.drained();
    this.#background.keep(this.#journal.commit());
    await this.#background.drained();
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
  }

  /** Take no new work. What is in flight is awaited; what was promised is kept: leases begin, are corrected and end. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#grants.close();
    await this.#background.settled();
  }

  /** One period's housekeeping: ends, starts, retries, the queue, the census. Returns when it has been set going. */
  tick(): void {
    if (this.#stopped) return;
    this.#background.keep(this.#journal.commit());
    if (!this.#parts.hypervisor.available) return;
    const [nowMs, monotonicMs] = [this.#parts.clock.nowMs(), this.#parts.clock.monotonicMs()];
    this.#background.keep(this.#reconciler.catchUp());
    if (!this.#guests.isLoaded) return;
    this.#starts.tend();
    for (const record of this.#leases.open()) this.#tend(record, nowMs);
    for (const guest of this.#guests.managed.values()) this.#retry(guest, monotonicMs);
    this.#background.keep(this.#reconciler.census());
    this.#reclaimer.tend();
    this.#neighbours.tend();
    this.#anomalies.tend();
    this.#restraints.tend(this.#anomalies.capped());
    if (!this.#draining) this.#scaling.tend();
    this.#grants.serveQueue();
    this.#background.keep(this.#agent.tend());
  }

  /** Nothing can be moved on a guest that does not run; its turn comes when it runs again. */
  #retry(guest: ManagedGuest, monotonicMs: number): void {
    const { retryAtMonotonicMs } = guest;
    if (retryAtMonotonicMs === undefined || monotonicMs < retryAtMonotonicMs) return;
    if (guest.facts.state !== 'running' && !guest.unread) return;
    guest.retryAtMonotonicMs = undefined;
    const again = guest.unread
      ? this.#reconciler.readAgain(guest)
      : guest.serialize(() => this.#grants.tryAgain(guest));
    this.#background.keep(again);
  }

  #tend({ lease, start }: LeaseRecord, nowMs: number): void {
    const { id, guest, state, startMs, latestStartMs, expiresAtMs } = lease;
    const settling = this.#settling.of(id) !== undefined;
    if (start !== undefined && state !== 'RELEASING' && this.#starts.tendLease(lease, start)) return;
    if (state === 'RELEASING') {
      if (!settling) this.#endings.finish(id);
    } else if (nowMs >= expiresAtMs) this.#endings.expire(id, 'its time to live has passed');
    else if (state === 'QUEUED' && latestStartMs !== undefined && nowMs > latestStartMs)
      this.#endings.reject(id, 'its latest start has passed while it waited');
    else if (state === 'SCHEDULED' && this.#nextTickIsLate(guest, startMs, nowMs)) this.#grants.begin(id);
    else if (state === 'PREPARING' && !settling) this.#grants.begin(id);
  }

  /** Whether the guest, begun at the next tick, would not be in place by `startMs`. */
  #nextTickIsLate(id: GuestId, startMs: number, nowMs: number): boolean {
    const leadMs = this.#guests.find(id)?.leadMs ?? 0;
    return nowMs + this.#policy.tickMs + leadMs > startMs;
  }

  #onSample(sample: GuestSample): void {
    this.#samples.emit(sample);
    const guest = this.#guests.find(sample.guest);
    if (guest !== undefined) this.#recorder?.sample(sample, guest);
    // What is forecast and corrected are levels over time.
    if (sample.cadence === 'cut') return;
    this.#parts.forecaster.observe(sample);
    this.#residual.note(sample);
    if (sample.cadence === 'full') this.#reclaimer.note(sample.guest);
    this.#anomalies.note(sample);
    if (!this.#stopped) this.#residual.correct(sample);
  }

  // --- leases -------------------------------------------------------------------------------------------------------

  allocate(request: AllocationRequest, context: CallContext): Promise<Lease> {
    return this.#grants.allocate(request, context);
  }

  renew(leaseId: string, ttlMs: number, need?: Need): Promise<Lease> {
    return this.#renewals.renew(leaseId, ttlMs, need);
  }

  release(leaseId: string, report: WorkReport, context: CallContext): Promise<Lease> {
    return this.#endings.release(leaseId, report, context);
  }

  getLease(leaseId: string): Lease {
    return this.#leases.get(leaseId).lease;
  }

  listLeases({
    guest,
    states,
    tenant,
  }: {
    guest?: string;
    states?: readonly LeaseState[];
    tenant?: string;
  }): Lease[] {
    const matches = (lease: Lease): boolean =>
      (guest === undefined || lease.guest === guest || lease.guestName === guest) &&
      (tenant === undefined || lease.tenant === tenant) &&
      (states === undefined || states.includes(lease.state));
    return this.#leases
      .all()
      .map(({ lease }) => lease)
      .filter(matches);
  }

  watchLease(leaseId: string, { signal }: CallContext): AsyncIterable<Lease> {
    return watchLease(this.#leases, leaseId, signal);
  }

  async forecast(
    request: AllocationRequest,
    scale: ForecastScale,
  ): Promise<{ forecast: Forecast; requested: Entitlement }> {
    const guest = this.#guests.running(request.guest);
    const nowMs = this.#parts.clock.nowMs();
    const { requested } = this.#admission.plan(guest, request, nowMs);
    return { forecast: this.#admission.outlook(guest, request, nowMs, scale), requested };
  }

  foresee(newcomer: Newcomer): GuestDemand {
    return this.#newcomers.foresee(newcomer);
  }

  explain(leaseId: string): readonly Decision[] {
    return this.#leases.get(leaseId).decisions;
  }

  // --- guests' starts -------------------------------------------------------------------------------------------------

  get starts(): GuestStarts {
    return this.#starts;
  }

  // --- host and guests ----------------------------------------------------------------------------------------------

  async status(): Promise<HostStatus> {
    const { hypervisor } = this.#parts;
    const host = this.#room.host ?? (await hypervisor.host());
    return {
      host,
      capacity: capacityOf(host, this.#policy.capacity),
      committed: this.#room.committed(),
      mode: this.#policy.mode,
      hypervisorAvailable: hypervisor.available,
      draining: this.#draining,
      guests: this.#guests.known,
      adopted: this.#guests.managed.size,
      leases: this.#leases.counts(),
      tenants: this.#tenancy.statuses(this.#leases),
      anomaliesRaised: this.#anomalies.raised,
      scale: this.#scaling.status(),
    };
  }

  listGuests(): Promise<GuestStatus[]> {
    return this.#desk.list();
  }

  getGuest(name: string): Promise<GuestStatus> {
    return this.#desk.get(name);
  }

  adopt(name: string, mode: Mode = this.#policy.mode): Promise<GuestStatus> {
    return this.#desk.adopt(name, mode);
  }

  disown(name: string, context: CallContext): Promise<GuestStatus> {
    return this.#desk.disown(name, context);
  }

  restore(name: string, context: CallContext): Promise<GuestStatus> {
    return this.#desk.restore(name, context);
  }

  setMode(name: string, mode: Mode): Promise<GuestStatus> {
    return this.#desk.setMode(name, mode);
  }

  setSampling(name: string, sampling: Partial<Sampling>): Promise<GuestStatus> {
    return this.#desk.setSampling(name, sampling);
  }

  listAnomalies(guest?: string): readonly Anomaly[] {
    return this.#anomalies.list(guest);
  }

  async *watchGuest(name: string, track: Track, { signal }: CallContext): AsyncIterable<WatchedSample> {
    const guest = this.#guests.adopted(name);
    let foreseenAtMs = Number.NEGATIVE_INFINITY;
    for await (const sample of this.#samples.watch(guest.record.id, signal)) {
      const isDue = sample.cadence === 'full' && Math.abs(sample.atMs - foreseenAtMs) >= FORESEEN_EVERY_MS;
      if (isDue) foreseenAtMs = sample.atMs;
      yield isDue ? { ...sample, forecast: this.#foresee(guest, track) } : sample;
    }
  }

  /** A guest's own course, from now on. */
  #foresee({ record, facts }: ManagedGuest, track: Track): Forecast {
    const { clock, forecaster } = this.#parts;
    const { cpuMillicores, memoryBytes } = facts.ceiling;
    return forecaster.forecast({
      guest: record.id,
      axis: 'seconds',
      track,
      originMs: clock.nowMs(),
      ceiling: { cpuMillicores, memoryBytes },
    });
  }
}
