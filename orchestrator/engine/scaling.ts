import { AllocatorError } from '../core/errors.ts';
import { hasEnded, type Lease } from '../core/lease.ts';
import type { Clock, Hypervisor, ScaleOut } from '../core/ports.ts';
import type { AllocationRequest } from '../core/request.ts';
import type { GuestGroup, MemberState, ScaleRequest, ScaleStatus, Shortage } from '../core/scale.ts';
import type { AdmissionDesk } from './admission.ts';
import type { Background } from './background.ts';
import type { Cadences } from './cadences.ts';
import type { Fitting } from './fitting.ts';
import type { GuestGroups } from './guest-groups.ts';
import type { HostRoom } from './host-room.ts';
import { decided, decisionOf, type LeaseBook, type LeaseRecord } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';
import type { QueueOutlook } from './queue-outlook.ts';
import type { StandingCapacity } from './standing-capacity.ts';
import { within } from './within.ts';

/** Longest that whoever is asked for room may take, all attempts together, ms. */
const ASK_MS_MAX = 60_000;
/** Subjects of which it is remembered when they were asked about: past it the oldest may be asked about anew. */
const ASKED_MAX = 1024;

/** Which shortage a refusal tells of. */
const SHORTAGE_OF: Readonly<Record<string, Shortage>> = {
  CAPACITY_EXHAUSTED: 'host',
  CEILING_TOO_LOW: 'ceiling',
};

export interface ScalingParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly hypervisor: Hypervisor;
  readonly scaleOut?: ScaleOut;
  readonly newId: () => string;
  readonly leases: LeaseBook;
  readonly room: HostRoom;
  readonly journal: LeaseJournal;
  readonly cadences: Cadences;
  readonly groups: GuestGroups;
  readonly fitting: Fitting;
  readonly outlook: QueueOutlook;
  readonly admission: AdmissionDesk;
  readonly standing: StandingCapacity;
  readonly background: Background;
  readonly policy: Pick<EnginePolicy, 'scale'>;
}

/**
 * Makes room: starts guests that stand by for requests that wait or are foreseen, asks them to shut down when nothing is left for
 * them, and asks outside for what this host cannot do. Only guests of groups, adopted and in enforce, are ever touched.
 */
export class Scaling {
  readonly #parts: ScalingParts;
  readonly #counts = { started: 0, startsFailed: 0, stopped: 0, asked: 0, declined: 0 };
  /** When each group last gained or lost a guest by our hand. */
  readonly #changedAtMs = new Map<string, number>();
  readonly #askedAtMs = new Map<string, number>();
  readonly #sinceMs: number;

  constructor(parts: ScalingParts) {
    this.#parts = parts;
    this.#sinceMs = parts.clock.nowMs();
  }

  /** One period: those that leases wait for are started first, then those to be kept running; then one too many may go. */
  tend(): void {
    const { groups, standing, fitting } = this.#parts;
    const all = [...groups.all()];
    if (all.length === 0) return;
    for (const group of all) standing.note(group);
    const isHostShort = this.#startAwaited();
    for (const group of all) {
      const members = groups.members(group);
      const wanted = standing.wanted(group);
      const running = members.filter((guest) => ['ready', 'coming'].includes(groups.stateOf(guest))).length;
      const standBys = members.filter((guest) => groups.stateOf(guest) === 'stand-by');
      for (const guest of isHostShort ? [] : standBys.slice(0, Math.max(0, wanted - running)))
        if (fitting.canStart(guest, new Set())) this.#start(guest, group);
      if (running > wanted) this.#stopOne(group, members);
    }
  }

  status(): ScaleStatus {
    const { groups, standing } = this.#parts;
    const statuses = [...groups.all()].map((group) => {
      const guests: Record<MemberState, number> = { ready: 0, coming: 0, 'stand-by': 0, away: 0 };
      for (const guest of groups.members(group)) guests[groups.stateOf(guest)] += 1;
      return { name: group.name, guests, wanted: standing.wanted(group) };
    });
    return { groups: statuses, ...this.#counts };
  }

  /** Ask outside for what a new lease is short of. Its answer goes on without that. */
  askFor(lease: Lease, short: Shortage): void {
    const { cpuMillicores, memoryBytes } = lease.requested;
    this.#ask(lease.guestName, short, lease, { needed: { cpuMillicores, memoryBytes }, leaseId: lease.id });
  }

  /** As `askFor`, for a request that was refused. */
  askForRefused(request: AllocationRequest, { code }: AllocatorError): void {
    const short = SHORTAGE_OF[code];
    if (short === undefined || !this.#parts.groups.isEnforced(request.guest)) return;
    this.#ask(request.guest, short, request, {});
  }

  // --- guests that stand by -------------------------------------------------------------------------------------------

  /** In their turn, as far as nobody whose turn comes before waits for the host's room. @returns whether somebody does */
  #startAwaited(): boolean {
    const { clock, groups, outlook, admission } = this.#parts;
    for (const record of outlook.inTurn(clock.nowMs())) {
      const { lease } = record;
      if (admission.waitsForHost(record)) return true;
      const group = groups.groupOf(record);
      const choice = group && groups.choose(group, lease.requested, lease.id);
      if (group !== undefined && choice?.kind === 'await' && groups.stateOf(choice.guest) === 'stand-by')
        this.#start(choice.guest, group);
    }
    return false;
  }

  #start(guest: ManagedGuest, group: GuestGroup): void {
    const { room, clock, background, policy } = this.#parts;
    if (policy.scale === undefined || this.#starting() >= policy.scale.startingMax) return;
    guest.starting = true;
    guest.startNotBeforeMs = clock.nowMs() + policy.scale.cooldownMs;
    this.#changedAtMs.set(group.name, clock.nowMs());
    room.touch(guest.record.id);
    background.keep(guest.serialize(() => this.#startNow(guest)));
  }

  #starting(): number {
    const { groups } = this.#parts;
    const members = new Set([...groups.all()].flatMap((group) => groups.members(group)));
    return [...members].filter((guest) => groups.stateOf(guest) === 'coming').length;
  }

  /** That it was us is durable before it is done: else nobody would ever shut it down. */
  async #startNow(guest: ManagedGuest): Promise<void> {
    const { hypervisor, journal, room, cadences, clock, log } = this.#parts;
    const { id, name } = guest.record;
    try {
      guest.record = { ...guest.record, startedByUs: true };
      await journal.commit([guest.write()]);
      await hypervisor.start(id);
      guest.facts = await hypervisor.inspect(id);
      guest.held = guest.facts.entitlement;
      guest.startedAtMs = clock.nowMs();
      this.#counts.started += 1;
      this.#tell(guest, 'it was started, and boots');
      log.info({ guest: name, decision: 'start' }, 'stand-by guest started');
    } catch (cause) {
      if (!(cause instanceof AllocatorError)) throw cause;
      this.#counts.startsFailed += 1;
      this.#tell(guest, `it could not be started: ${cause.message}`);
      log.warn({ guest: name, code: cause.code, err: cause }, 'stand-by guest could not be started');
      // One that did not answer may come up all the same.
      if (cause.code === 'HYPERVISOR_UNAVAILABLE') return;
      guest.record = { ...guest.record, startedByUs: false };
      await journal.commit([guest.write()]);
    } finally {
      guest.starting = false;
      room.touch(id);
      cadences.refresh(id);
    }
  }

  /** Growth is at once, this one by one: the last guest that we started, has had no lease for long and is not to be kept. */
  #stopOne({ name, idleStopMs }: GuestGroup, members: readonly ManagedGuest[]): void {
    const { clock, leases, groups, background, policy } = this.#parts;
    const nowMs = clock.nowMs();
    if (idleStopMs === undefined || policy.scale === undefined) return;
    if (leases.queued().some(({ group }) => group === name)) return;
    if (nowMs - (this.#changedAtMs.get(name) ?? this.#sinceMs) < policy.scale.cooldownMs) return;
    const isIdle = (guest: ManagedGuest): boolean => {
      const sinceMs = Math.max(guest.quietSinceMs, guest.startedAtMs, this.#sinceMs);
      return !groups.isAtWork(guest) && !guest.busy && nowMs - sinceMs >= idleStopMs;
    };
    const idle = members.findLast(
      (guest) =>
        groups.stateOf(guest) === 'ready' &&
        guest.record.mode === 'enforce' &&
        guest.record.startedByUs === true &&
        isIdle(guest),
    );
    if (idle === undefined) return;
    this.#changedAtMs.set(name, nowMs);
    // One that does not listen is taken for ready again after a cooldown, and may be asked anew.
    idle.goneUntilMs = nowMs + policy.scale.cooldownMs;
    background.keep(this.#stop(idle));
  }

  async #stop(guest: ManagedGuest): Promise<void> {
    const { hypervisor, log } = this.#parts;
    try {
      await hypervisor.shutDown(guest.record.id);
    } catch (cause) {
      guest.goneUntilMs = Number.NEGATIVE_INFINITY;
      throw cause;
    }
    this.#counts.stopped += 1;
    log.info({ guest: guest.record.name, decision: 'stop' }, 'idle stand-by guest asked to shut down');
  }

  /** Write down with the leases that wait for a guest what came of starting it. */
  #tell({ record: { id, name } }: ManagedGuest, outcome: string): void {
    for (const record of this.#parts.leases.ofGuest(id))
      if (record.lease.state === 'QUEUED')
        this.#note(record, 'start', outcome, `scaled: it waits for guest ${name}: ${outcome}`);
  }

  // --- room elsewhere -------------------------------------------------------------------------------------------------

  /** Not about the same more often than once a cooldown: who is asked needs time to act. */
  #ask(
    guest: string,
    short: Shortage,
    { tenant, workload, priority }: Pick<AllocationRequest, 'tenant' | 'workload' | 'priority'>,
    more: Pick<ScaleRequest, 'needed' | 'leaseId'>,
  ): void {
    const { scaleOut, clock, newId, room, background, policy } = this.#parts;
    if (scaleOut === undefined || policy.scale === undefined) return;
    const subject = `${short} ${short === 'host' ? '' : guest}`;
    const atMs = clock.nowMs();
    if (Math.abs(atMs - (this.#askedAtMs.get(subject) ?? Number.NEGATIVE_INFINITY)) < policy.scale.cooldownMs)
      return;
    this.#askedAtMs.delete(subject);
    this.#askedAtMs.set(subject, atMs);
    const [oldest] = this.#askedAtMs.keys();
    if (this.#askedAtMs.size > ASKED_MAX && oldest !== undefined) this.#askedAtMs.delete(oldest);
    this.#counts.asked += 1;
    const host = room.host?.name ?? '';
    const request: ScaleRequest = {
      id: newId(),
      atMs,
      host,
      short,
      tenant,
      workload,
      priority,
      guest,
      ...more,
    };
    background.keep(this.#asked(scaleOut, request));
  }

  async #asked(scaleOut: ScaleOut, request: ScaleRequest): Promise<void> {
    const { log, leases } = this.#parts;
    const { accepted, text } = await within(ASK_MS_MAX, (signal) => scaleOut.ask(request, signal));
    if (!accepted) this.#counts.declined += 1;
    const { short, guest, leaseId } = request;
    log[accepted ? 'info' : 'warn'](
      { guest, short, leaseId, accepted, answer: text },
      'asked outside for room',
    );
    if (leaseId === undefined || !leases.has(leaseId)) return;
    const record = leases.get(leaseId);
    this.#note(record, short, text, `${record.lease.reason}; ${text}`);
  }

  #note(record: LeaseRecord, rule: string, outcome: string, reason: string): void {
    if (hasEnded(record.lease.state)) return;
    const lease: Lease = { ...record.lease, reason };
    const decision = decisionOf(lease, {
      atMs: this.#parts.clock.nowMs(),
      action: 'scale',
      rule,
      inputs: {},
      outcome,
    });
    this.#parts.journal.owe(decided({ ...record, lease }, decision));
  }
}
