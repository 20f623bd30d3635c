import type { CallContext } from '../core/engine.ts';
import { satisfies } from '../core/entitlement.ts';
import { AllocatorError } from '../core/errors.ts';
import { type GuestSeen, hasEnded, type Lease } from '../core/lease.ts';
import type { Clock, GuestWindow, LedgerWrite, Telemetry } from '../core/ports.ts';
import type { AllocationRequest } from '../core/request.ts';
import type { AdmissionDesk, Draft } from './admission.ts';
import type { Background } from './background.ts';
import type { Endings } from './endings.ts';
import type { GuestBook } from './guest-book.ts';
import type { GuestGroups } from './guest-groups.ts';
import type { GuestMoves } from './guest-moves.ts';
import { decided, decisionOf, type LeaseBook, type LeaseRecord, leaseWrite } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { MoveResult } from './mover.ts';
import { bodyHash } from './outcomes.ts';
import type { QueueOutlook } from './queue-outlook.ts';
import type { Reclaimer } from './reclaimer.ts';
import type { Recorder } from './recorder.ts';
import type { Scaling } from './scaling.ts';
import type { Settling } from './settling.ts';
import { unlessAborted } from './unless-aborted.ts';
import { within } from './within.ts';

/** How long to wait for a guest's agent to say what it sees. Its answer is for the record; work may start without it. */
const SEE_TIMEOUT_MS = 1_000;

/** Longest from a hook's word until the guest runs: one that pins all of a large memory first takes minutes. */
export const START_MS_MAX = 600_000;

export interface GrantsParts {
  readonly clock: Clock;
  readonly window: GuestWindow;
  readonly telemetry: Telemetry;
  readonly log: Log;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly journal: LeaseJournal;
  readonly admission: AdmissionDesk;
  readonly outlook: QueueOutlook;
  readonly reclaimer: Reclaimer;
  readonly moves: GuestMoves;
  readonly endings: Endings;
  readonly settling: Settling;
  readonly groups: GuestGroups;
  readonly scaling: Scaling;
  readonly background: Background;
  readonly recorder?: Recorder;
}

/** Gives leases: from a request, from the queue, or at their hour; then puts them in place and says what the guest got. */
export class Grants {
  readonly #parts: GrantsParts;
  #closed = false;

  constructor(parts: GrantsParts) {
    this.#parts = parts;
  }

  /** Give nothing new from now on; requests known already are still answered. */
  close(): void {
    this.#closed = true;
  }

  /** The lease of a request, new or known: once it is settled, or as it stands when the caller gives up. */
  async allocate(request: AllocationRequest, context: CallContext): Promise<Lease> {
    const { leases, journal, scaling, recorder } = this.#parts;
    const hash = bodyHash(request);
    const known = leases.byRequest(request.tenant, request.requestId);
    if (known !== undefined) {
      assertRepeat(known, hash);
      return this.#settled(known.lease.id, context);
    }
    if (this.#closed) throw draining();
    const draft = this.#draft(request, hash);
    const { guest, record, short } = draft;
    if (request.validateOnly) return record.lease;
    const givers = this.#take(draft);
    journal.put(record);
    recorder?.request(record.lease);
    if (short !== undefined) scaling.askFor(record.lease, short);
    await this.#enter(guest, record, givers);
    return this.#settled(record.lease.id, context);
  }

  /**
   * Hold room for a guest that is about to start: the lease begins when it runs. Touches nothing and asks the hypervisor nothing
   * before it resolves.
   */
  async reserve(guest: ManagedGuest, request: AllocationRequest, lastsAsRun: boolean): Promise<Lease> {
    const { admission, journal, scaling, recorder, clock } = this.#parts;
    if (this.#closed) throw draining();
    const nowMs = clock.nowMs();
    const draft = admission.draft(guest, request, bodyHash(request), nowMs);
    const { lease } = draft.record;
    const expiresAtMs = nowMs + START_MS_MAX;
    const record: LeaseRecord = {
      ...draft.record,
      lease: { ...lease, expiresAtMs, ...(lease.state === 'PREPARING' && { state: 'SCHEDULED' }) },
      start: { isAwaited: true, lastsAsRun },
    };
    const givers = this.#take({ ...draft, record });
    journal.put(record);
    recorder?.request(record.lease);
    if (draft.short !== undefined) scaling.askFor(record.lease, draft.short);
    await this.#enter(guest, record, givers);
    return record.lease;
  }

  /** The guest runs: what its definition asked for begins, or waits on for room. */
  beginStarted(guest: ManagedGuest): void {
    const { leases, journal, clock } = this.#parts;
    if (guest.facts.state !== 'running' || guest.unread) return;
    const awaited = leases.ofGuest(guest.record.id).filter(({ start }) => start?.isAwaited === true);
    if (awaited.length > 0) guest.takeStart();
    for (const record of awaited) {
      const { ttlMs, state } = record.lease;
      const startMs = clock.nowMs();
      journal.owe({
        ...record,
        lease: { ...record.lease, startMs, expiresAtMs: startMs + ttlMs },
        start: { isAwaited: false, lastsAsRun: record.start?.lastsAsRun === true },
      });
      if (state === 'SCHEDULED') this.begin(record.lease.id);
    }
  }

  /** The lease of a new request. Who could have been served with more room is told of outside, also when it is refused. */
  #draft(request: AllocationRequest, hash: string): Draft {
    const { guests, admission, groups, scaling, clock } = this.#parts;
    const nowMs = clock.nowMs();
    const group = groups.find(request.guest);
    try {
      return group === undefined
        ? admission.draft(guests.running(request.guest), request, hash, nowMs)
        : admission.draftIn(group, request, hash, nowMs);
    } catch (cause) {
      if (cause instanceof AllocatorError && !request.validateOnly) scaling.askForRefused(request, cause);
      throw cause;
    }
  }

  /** Begin a lease whose moment has come, or one whose preparation failed before. */
  begin(id: string, givers: readonly ManagedGuest[] = []): void {
    const { guests, leases, journal, endings, background } = this.#parts;
    const record = leases.get(id);
    const guest = guests.find(record.lease.guest);
    if (guest?.unread) return;
    if (guest === undefined || guest.facts.state !== 'running') {
      background.keep(endings.close(id, 'RELEASED', 'the guest is not running'));
      return;
    }
    const next: LeaseRecord = { ...record, lease: { ...record.lease, state: 'PREPARING' } };
    journal.put(next);
    this.#prepare(guest, id, [leaseWrite(next)], givers);
  }

  /**
   * Begin what now fits, each in its turn. Nobody overtakes one that waits for the host, so nobody starves; one that waits for
   * its own tenant's quota holds up nobody, and what is guaranteed is held up by nobody. Then tell the rest where they stand.
   */
  serveQueue(): void {
    if (this.#closed || this.#parts.leases.queued().length === 0) return;
    while (this.#serveNext()) {
      // Each grant changes its tenant's share, and so the order.
    }
    this.#foretell();
  }

  /** Begin the first in turn that can be; false when none can. */
  #serveNext(): boolean {
    const { guests, journal, admission, outlook, clock, background } = this.#parts;
    const nowMs = clock.nowMs();
    let isHeldUp = false;
    for (const queued of outlook.inTurn(nowMs)) {
      const waiting = this.#placed(queued);
      if (waiting === undefined) {
        isHeldUp ||= admission.waitsForHost(queued);
        continue;
      }
      const guest = guests.find(waiting.lease.guest);
      if (guest === undefined || (isHeldUp && !admission.isGuaranteed(waiting, guest))) continue;
      const draft = admission.afterWaiting(waiting, guest, nowMs);
      if (typeof draft === 'string') {
        isHeldUp ||= draft === 'host';
        continue;
      }
      const givers = this.#take(draft);
      const { record } = draft;
      if (record.lease.state === 'SCHEDULED') {
        background.keep(journal.save(record));
        this.#bring(givers);
      } else {
        journal.put(record);
        this.begin(record.lease.id, givers);
      }
      return true;
    }
    return false;
  }

  /** A lease of a group goes to whoever of it can serve it now; undefined while it waits for one that cannot work yet. */
  #placed(record: LeaseRecord): LeaseRecord | undefined {
    const { journal, groups } = this.#parts;
    const group = groups.groupOf(record);
    if (group === undefined) return record;
    const choice = groups.choose(group, record.lease.requested, record.lease.id);
    if (choice === undefined) return undefined;
    const { id, name } = choice.guest.record;
    const placed = { ...record, lease: { ...record.lease, guest: id, guestName: name } };
    if (choice.kind === 'serve') return placed;
    // Who is to start for it is told by where it waits.
    if (choice.kind === 'await' && id !== record.lease.guest) journal.owe(placed);
    return undefined;
  }

  /** Who waits is told when its place or its wait has changed. In memory only: after a restart it is told anew. */
  #foretell(): void {
    const { leases, journal, outlook, clock } = this.#parts;
    const places = outlook.places(clock.nowMs());
    for (const record of leases.queued()) {
      const { queue: before, ...lease } = record.lease;
      const queue = places.get(lease.id);
      if (queue === undefined || isSamePlace(before, queue)) continue;
      journal.put({ ...record, lease: { ...lease, queue } });
    }
  }

  /** Take from others what a draft's lease gets of theirs. Returns the guests that are to move first. */
  #take({ record, takes }: Draft): ManagedGuest[] {
    return takes.length === 0 ? [] : this.#parts.reclaimer.take(takes, record.lease);
  }

  /** Move guests to what is left to them; a move that fails is tried again by the tick. */
  #bring(guests: readonly ManagedGuest[]): Promise<unknown> {
    const { moves, background } = this.#parts;
    const moved = guests.map((guest) => {
      const move = guest.serialize(() => moves.reach(guest));
      background.keep(move.then(() => {}));
      return move.catch(() => {});
    });
    return Promise.all(moved);
  }

  /** A move fell short: once more. Call inside `guest.serialize`. */
  async tryAgain(guest: ManagedGuest): Promise<void> {
    const { guests, moves } = this.#parts;
    if (guests.find(guest.record.id) !== guest) return;
    await moves.reach(guest);
    await this.promote(guest);
  }

  /** If the guest has everything, its DEGRADED leases become ACTIVE. Call inside `guest.serialize`. */
  async promote(guest: ManagedGuest): Promise<void> {
    const reason = 'everything asked for is in place after another try';
    if (this.#isWhole(guest)) await this.#restate(guest, 'DEGRADED', 'ACTIVE', reason);
  }

  /** If the guest was left with less than was asked, its ACTIVE leases become DEGRADED. Call inside `guest.serialize`. */
  async demote(guest: ManagedGuest): Promise<void> {
    const reason = `mode ${guest.record.mode}: the baseline was put back`;
    if (!this.#isWhole(guest)) await this.#restate(guest, 'ACTIVE', 'DEGRADED', reason);
  }

  async #restate(
    guest: ManagedGuest,
    from: 'ACTIVE' | 'DEGRADED',
    to: 'ACTIVE' | 'DEGRADED',
    reason: string,
  ): Promise<void> {
    const { leases, journal } = this.#parts;
    for (const { lease } of leases.inForce(guest.record.id)) {
      // Read anew for each: saving the one before took a while.
      const record = leases.get(lease.id);
      if (record.lease.state !== from) continue;
      const next: Lease = { ...record.lease, state: to, reason, granted: guest.held };
      await journal.save({ ...record, lease: next }, [guest.write()]);
    }
  }

  /** Say what a lease got, after the move that was made for it. Call inside `guest.serialize`. */
  async putInPlace(guest: ManagedGuest, id: string, { shortfalls }: MoveResult): Promise<void> {
    const { clock, leases, journal, log, telemetry } = this.#parts;
    const inPlaceAtMs = clock.nowMs();
    const executedFrom = telemetry.instructions(guest.record.id);
    const guestSeen = await this.#see(guest);
    const record = leases.get(id);
    if (record.lease.state !== 'PREPARING') return;
    const state = this.#isWhole(guest) ? 'ACTIVE' : 'DEGRADED';
    const reason = [record.lease.reason, ...shortfalls].join('; ');
    const lease: Lease = {
      ...record.lease,
      state,
      reason,
      granted: guest.held,
      inPlaceAtMs,
      ...(guestSeen === undefined ? {} : { guestSeen }),
      answeredAtMs: clock.nowMs(),
    };
    const decision = decisionOf(lease, {
      atMs: clock.nowMs(),
      action: 'actuate',
      rule: state,
      inputs: {
        grantedMillicores: guest.held.cpuMillicores,
        grantedMemoryBytes: guest.held.memoryBytes,
        tookMs: inPlaceAtMs - lease.requestedAtMs,
      },
      outcome: shortfalls.join('; ') || 'everything asked for is in place',
    });
    const next = { ...record, lease, ...(executedFrom === undefined ? {} : { executedFrom }) };
    journal.owe(decided(next, decision), [guest.write()]);
    log.info({ guest: lease.guestName, leaseId: id, state, decision: 'grant', reason }, 'lease in place');
  }

  /** Make a new lease durable. The entry of one that begins at once rides with its move's own: one flush covers both. */
  async #enter(guest: ManagedGuest, record: LeaseRecord, givers: readonly ManagedGuest[]): Promise<void> {
    const { leases, journal, settling } = this.#parts;
    const withdraw = (cause: unknown): never => {
      // One that has moved on meanwhile has an entry of its own under way.
      if (leases.get(record.lease.id).lease.state === record.lease.state) journal.withdraw(record);
      throw cause;
    };
    if (record.lease.state === 'PREPARING') {
      this.#prepare(guest, record.lease.id, [leaseWrite(record)], givers, withdraw);
    } else {
      const entering = journal.commit([leaseWrite(record)]).catch(withdraw);
      settling.hold(record.lease.id, entering);
      await entering;
      this.#bring(givers);
    }
  }

  /** The lease once it is no longer PREPARING, or as it stands when the caller gives up. */
  async #settled(id: string, { signal }: CallContext): Promise<Lease> {
    const { leases, settling, journal } = this.#parts;
    const change = settling.of(id);
    if (change !== undefined) await unlessAborted(change, signal);
    // An end that the ledger could not take yet is not told: after a crash the lease would live on.
    if (hasEnded(leases.get(id).lease.state)) await journal.commit();
    return leases.get(id).lease;
  }

  /**
   * Move the guest to what its leases need with this one in force, then say what it got.
   * @param givers what is reclaimed from these guests for it is taken first
   * @param onNotDurable what to do when the journal could not be written: nothing was touched
   */
  #prepare(
    guest: ManagedGuest,
    id: string,
    writes: readonly LedgerWrite[],
    givers: readonly ManagedGuest[] = [],
    onNotDurable: (cause: unknown) => never = rethrow,
  ): void {
    const { leases, journal, moves, settling, background } = this.#parts;
    const prepare = () =>
      guest.serialize(async () => {
        if (!leases.has(id)) return;
        // Put in place meanwhile, by a recovery: the client may be told once that is durable.
        if (leases.get(id).lease.state !== 'PREPARING') return journal.commit();
        await this.putInPlace(guest, id, await moves.reach(guest, writes).catch(onNotDurable));
      });
    // Not inside the guest's own queue: two guests that wait for each other there would wait for ever.
    const preparing = givers.length === 0 ? prepare() : this.#bring(givers).then(prepare);
    settling.hold(id, preparing);
    background.keep(preparing);
  }

  #isWhole(guest: ManagedGuest): boolean {
    return satisfies(guest.held, guest.asked(this.#parts.leases.asked(guest.record.id)));
  }

  async #see(guest: ManagedGuest): Promise<GuestSeen | undefined> {
    if (guest.record.mode !== 'enforce') return undefined;
    return within(SEE_TIMEOUT_MS, (signal) => this.#parts.window.see(guest.record.id, signal));
  }
}

function draining(): AllocatorError {
  return new AllocatorError('DRAINING', 'The service is shutting down and takes no new work');
}

function assertRepeat({ lease, bodyHash }: LeaseRecord, hash: string): void {
  if (bodyHash === hash) return;
  throw new AllocatorError(
    'REQUEST_ID_REUSED',
    `request_id ${lease.requestId} was used for another request; a retry must repeat it unchanged`,
    { requestId: lease.requestId, leaseId: lease.id },
  );
}

function isSamePlace(a: Lease['queue'], b: NonNullable<Lease['queue']>): boolean {
  return a?.position === b.position && a.expectedWaitMs === b.expectedWaitMs;
}

function rethrow(cause: unknown): never {
  throw cause;
}
