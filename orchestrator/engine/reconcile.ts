import { differing, explainedBy, withResource } from '../core/entitlement.ts';
import { AllocatorError } from '../core/errors.ts';
import type { GuestFacts, GuestId } from '../core/guest.ts';
import { hasEnded } from '../core/lease.ts';
import type { Actuated, Clock, Forecaster, GuestEvent, Hypervisor, LeaseLedger } from '../core/ports.ts';
import type { Entitlement } from '../core/profile.ts';
import type { Cadences } from './cadences.ts';
import type { Endings } from './endings.ts';
import type { Grants } from './grants.ts';
import type { GuestBook } from './guest-book.ts';
import type { GuestGroups } from './guest-groups.ts';
import type { GuestMoves } from './guest-moves.ts';
import type { HostRoom } from './host-room.ts';
import { type LeaseBook, leaseWrite } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { Log } from './log.ts';
import { type ManagedGuest, remembered } from './managed-guest.ts';
import type { Actuators } from './mover.ts';
import { recoverGuest } from './recover.ts';
import type { Tenancy } from './tenancy.ts';
import { within } from './within.ts';

/** Facts of guests we do not manage are read anew this often: they count against the host's room. */
const CENSUS_MS = 15_000;
/** Guests recovered at once: a few calls each, within any lane's queue. */
const RECOVER_AT_ONCE = 16;
/** A guest's driver brings the balloon to its size within this time of the start. */
const BOOT_MS = 60_000;
/** Longest wait for a stopped guest's settings to be put back: nothing but a file is changed. */
const PUT_BACK_MS = 30_000;

export interface ReconcilerParts {
  readonly clock: Clock;
  readonly pause: (ms: number) => Promise<void>;
  readonly ledger: LeaseLedger;
  readonly hypervisor: Hypervisor;
  readonly forecaster: Forecaster;
  readonly actuators: Actuators;
  readonly log: Log;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly journal: LeaseJournal;
  readonly groups: GuestGroups;
  readonly room: HostRoom;
  readonly tenancy: Tenancy;
  readonly cadences: Cadences;
  readonly moves: GuestMoves;
  readonly grants: Grants;
  readonly endings: Endings;
}

/** Brings ledger, hypervisor and reality together: after a start, after the hypervisor's return, and when guests change. */
export class Reconciler {
  readonly #parts: ReconcilerParts;
  #censusAtMonotonicMs = Number.NEGATIVE_INFINITY;
  #isDue = true;
  #underWay = 0;

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
  }

  async onAvailability(available: boolean): Promise<void> {
    const message = available ? 'hypervisor is back' : 'hypervisor is gone; guests keep what they have';
    this.#parts.log.warn({ available }, message);
    if (available) await this.recover();
  }

  async onGuestEvent(event: GuestEvent): Promise<void> {
    const guest = this.#parts.guests.find(event.guest);
    if (guest === undefined) {
      // Not ours, but its size counts against the host's room: read it at the next tick.
      this.#censusAtMonotonicMs = Number.NEGATIVE_INFINITY;
      return;
    }
    switch (event.kind) {
      case 'stopped':
        await this.stopped(guest);
        break;
      case 'removed':
        await this.gone(guest);
        break;
      case 'tuned':
        // What a move of ours is changing, it reads back itself.
        if (!guest.underWay.has(event.resource) && !guest.unread)
          await guest.serialize(() => this.#checkForeign(guest, event.resource));
        break;
      case 'started':
        guest.startedAtMs = this.#parts.clock.nowMs();
        guest.bootsUntilMonotonicMs = this.#parts.clock.monotonicMs() + BOOT_MS;
        await this.#refresh(guest);
        this.#parts.grants.beginStarted(guest);
        break;
      case 'answers':
        await this.#hear(guest);
        break;
      default:
        await this.#refresh(guest);
        this.#parts.grants.beginStarted(guest);
    }
  }

  /** Read all guests anew when it is time to. */
  async census(): Promise<void> {
    const { clock, guests } = this.#parts;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#censusAtMonotonicMs < CENSUS_MS) return;
    this.#censusAtMonotonicMs = nowMs;
    const found = await guests.census((guest) => this.#follow(guest));
    await this.#forgetRemoved(new Set(found.map(({ id }) => id)));
  }

  /** A guest that its definition had us manage is ours no longer when there is no definition: the next one says so anew. */
  async #forgetRemoved(found: ReadonlySet<GuestId>): Promise<void> {
    const { guests, leases, ledger, forecaster, log } = this.#parts;
    for (const guest of [...guests.managed.values()]) {
      const { id, name, byDefinition } = guest.record;
      const isIdle = !guest.usesRoom && !guest.busy && leases.ofGuest(id).length === 0;
      if (byDefinition !== true || found.has(id) || !isIdle) continue;
      guests.drop(id);
      forecaster.forget(id);
      this.#follow(guest);
      await ledger.commit([{ key: guest.write().key, value: undefined }]);
      log.info({ guest: name }, 'guest forgotten: its definition is gone');
    }
  }

  /** Recover once more if the last attempt failed. */
  async catchUp(): Promise<void> {
    if (this.#isDue && this.#underWay === 0) await this.recover();
  }

  /** Read the host and every guest, and bring each adopted guest to what its leases or its baseline explain. */
  async recover(): Promise<void> {
    this.#isDue = true;
    this.#underWay += 1;
    try {
      await this.#readEverything();
    } finally {
      this.#underWay -= 1;
    }
  }

  /** Recover a guest that could not be read with the others. */
  readAgain(guest: ManagedGuest): Promise<void> {
    return guest.serialize(() => this.#recoverGuest(guest, () => this.#look(guest)));
  }

  async #readEverything(): Promise<void> {
    const { hypervisor, ledger, log, guests, leases, room, tenancy, grants } = this.#parts;
    await room.read(hypervisor);
    tenancy.assertKeepable();
    const facts = await guests.census();
    await guests.load(ledger, facts);
    this.#isDue = false;
    this.#recount();
    await Promise.all(this.#recoveries(facts));
    this.#recount();
    log.info({ adopted: guests.managed.size, openLeases: leases.open().length }, 'recovered');
    grants.serveQueue();
  }

  /** Every guest's queue is taken at once, so that no event or request is judged by what we knew before; a few go at a time. */
  #recoveries(facts: readonly GuestFacts[]): Promise<void>[] {
    const found = new Map(facts.map((one) => [one.id, one]));
    const lanes = Array.from({ length: RECOVER_AT_ONCE }, () => Promise.resolve());
    return [...this.#parts.guests.managed.values()].map((guest, i) =>
      guest.serialize(() => {
        const lane = i % RECOVER_AT_ONCE;
        const before = lanes[lane] as Promise<void>;
        const turn = before.then(() =>
          this.#recoverGuest(guest, () => found.get(guest.record.id) ?? this.#look(guest)),
        );
        lanes[lane] = turn;
        return turn;
      }),
    );
  }

  /** A guest that is missing from a listing may only have been unreadable. Undefined: the hypervisor knows no such guest. */
  async #look(guest: ManagedGuest): Promise<GuestFacts | undefined> {
    return this.#parts.hypervisor.inspect(guest.record.id).catch(absent);
  }

  /** Call inside `guest.serialize`. */
  async #recoverGuest(
    guest: ManagedGuest,
    find: () => GuestFacts | undefined | Promise<GuestFacts | undefined>,
  ): Promise<void> {
    const { actuators, pause, moves, log } = this.#parts;
    try {
      const found = await find();
      if (found === undefined || found.state !== 'running') {
        guest.unread = false;
        await this.gone(guest);
        await this.#putBack(guest);
        return;
      }
      const foreign = await recoverGuest(guest, found, actuators, pause);
      guest.unread = false;
      if (foreign.length > 0) await this.#relinquish(guest, foreign, guest.held);
      await this.#resume(guest);
    } catch (cause) {
      if (!(cause instanceof AllocatorError)) throw cause;
      log.error(
        { guest: guest.record.name, code: cause.code, err: cause },
        'guest could not be recovered yet',
      );
      guest.unread = true;
      moves.retryLater(guest);
    }
  }

  /** Finish what a crash cut short: leases being prepared are put in place, leases being released are ended. */
  async #resume(guest: ManagedGuest): Promise<void> {
    const { clock, journal, leases, moves, grants, endings } = this.#parts;
    const nowMs = clock.nowMs();
    const open = leases.ofGuest(guest.record.id);
    // One that came while we were away from the hypervisor may not be durable yet.
    const preparing = open.filter(({ lease }) => lease.state === 'PREPARING');
    const result = await moves.reach(guest, preparing.map(leaseWrite));
    for (const before of open) {
      const { id } = before.lease;
      if (!leases.has(id)) continue;
      // Read anew: while the guest moved, one that waited may have begun, with its time to live from then.
      const { lease, start, ending = 'RELEASED' } = leases.get(id);
      if (hasEnded(lease.state)) continue;
      if (preparing.includes(before)) await grants.putInPlace(guest, id, result);
      else if (lease.state === 'RELEASING')
        await endings.close(lease.id, ending, lease.reason, { guest, result });
      else if (nowMs >= lease.expiresAtMs && start?.lastsAsRun !== true)
        endings.expire(lease.id, 'its time to live passed while the service was down');
    }
    await grants.promote(guest);
    await journal.commit([guest.write()]);
  }

  /** A guest stopped: its leases end, and what we set on it is taken back where it outlives the run. */
  async stopped(guest: ManagedGuest): Promise<void> {
    await this.gone(guest);
    await guest.serialize(() => this.#putBack(guest));
  }

  /**
   * Where settings outlive a run, ours are taken back from a guest that stopped: it would start with what an ended lease had
   * asked for. What somebody else has set stays. Call inside `guest.serialize`.
   */
  async #putBack(guest: ManagedGuest): Promise<void> {
    const { hypervisor, actuators, moves, ledger, log } = this.#parts;
    const { id, name, mode, baseline, known, relinquished } = guest.record;
    if (!hypervisor.settingsPersist || mode !== 'enforce') return;
    try {
      const { state, entitlement } = await hypervisor.inspect(id);
      const left = differing(entitlement, baseline.entitlement).filter(
        (resource) => !relinquished.includes(resource) && explainedBy(resource, entitlement, known, false),
      );
      guest.held = entitlement;
      if (state === 'running') {
        if (left.length > 0) moves.retryLater(guest); // started again already: the tick brings it where it belongs
        return;
      }
      for (const resource of left) {
        const read = await within(PUT_BACK_MS, (signal) => actuators[resource].restore(id, baseline, signal));
        guest.held = withResource(guest.held, resource, read);
      }
      guest.record = { ...guest.record, known: [baseline.entitlement] };
      await ledger.commit([guest.write()]);
    } catch (cause) {
      if (!(cause instanceof AllocatorError)) throw cause;
      if (cause.code === 'GUEST_NOT_FOUND') return;
      log.warn({ guest: name, code: cause.code, err: cause }, 'a stopped guest still has our settings');
      moves.retryLater(guest);
    }
  }

  /** A stopped guest holds nothing; its live settings are gone with it, or were put back. Asks the hypervisor nothing. */
  async gone(guest: ManagedGuest): Promise<void> {
    const { hypervisor, ledger, leases, groups, endings } = this.#parts;
    const { held } = guest;
    guest.facts = { ...guest.facts, state: 'shut-off' };
    guest.adjusted.clear();
    guest.held = guest.record.baseline.entitlement;
    guest.astray.clear();
    for (const open of leases.ofGuest(guest.record.id)) {
      // One that waits for a group goes to whoever of it runs first.
      if (open.lease.state === 'QUEUED' && groups.groupOf(open) !== undefined) continue;
      // Word of the stop before comes late: this one belongs to the start that a hook has told of since.
      if (open.start?.isAwaited && guest.starting) continue;
      await endings.endGone(open.lease.id, 'the guest stopped');
    }
    guest.goneUntilMs = Number.NEGATIVE_INFINITY;
    const { intended, startedByUs: _, ...record } = guest.record;
    const left = [...record.known, held, ...(intended === undefined ? [] : [intended])];
    const known = [record.baseline.entitlement, ...(hypervisor.settingsPersist ? left : [])];
    guest.record = { ...record, known: remembered(known), moving: false };
    this.#follow(guest);
    await ledger.commit([guest.write()]);
  }

  /** A guest that boots brings no vCPU online that was plugged meanwhile: with its agent there, what fell short is tried at once. */
  async #hear(guest: ManagedGuest): Promise<void> {
    const { capabilities } = guest.facts;
    guest.facts = { ...guest.facts, capabilities: { ...capabilities, agent: true } };
    if (guest.retryAtMonotonicMs === undefined || guest.unread) return;
    guest.retryAtMonotonicMs = undefined;
    await guest.serialize(() => this.#parts.grants.tryAgain(guest));
  }

  async #refresh(guest: ManagedGuest): Promise<void> {
    await guest.serialize(async () => {
      guest.facts = await this.#parts.hypervisor.inspect(guest.record.id);
      guest.held = guest.facts.entitlement;
    });
    this.#follow(guest);
  }

  /** Somebody changed a setting. If it was not us, the resource is theirs from now on. */
  async #checkForeign(guest: ManagedGuest, resource: Actuated): Promise<void> {
    const { clock, actuators } = this.#parts;
    const { record, facts } = guest;
    if (guest.unread || facts.state !== 'running') return;
    const read = withResource(guest.held, resource, await actuators[resource].read(guest.record.id));
    const astray = guest.astray.has(resource);
    const known = astray ? [guest.held, ...guest.record.known] : [guest.held];
    const booting = resource === 'memory' && clock.monotonicMs() < guest.bootsUntilMonotonicMs;
    // What is theirs already is left to them, and takes the room that it takes now.
    const isTheirs = record.relinquished.includes(resource);
    if (isTheirs || booting || explainedBy(resource, read, known, astray)) {
      guest.held = read;
      this.#parts.room.touch(guest.record.id);
      return;
    }
    await this.#relinquish(guest, [resource], read);
  }

  async #relinquish(guest: ManagedGuest, resources: readonly Actuated[], read: Entitlement): Promise<void> {
    const { room, log, journal } = this.#parts;
    guest.held = read;
    for (const resource of resources) guest.astray.delete(resource);
    room.touch(guest.record.id);
    guest.record = { ...guest.record, relinquished: [...guest.record.relinquished, ...resources] };
    log.warn(
      { guest: guest.record.name, resources, read, decision: 'relinquish' },
      'somebody else changed this guest: left alone until it is adopted anew',
    );
    // Owed, so that a ledger which cannot write now has it as soon as it can.
    journal.oweBeside([guest.write()]);
    await journal.commit();
  }

  #recount(): void {
    for (const guest of this.#parts.guests.managed.values()) this.#follow(guest);
  }

  /** The host's sums and the guest's cadence follow from its state. */
  #follow(guest: ManagedGuest): void {
    this.#parts.room.touch(guest.record.id);
    this.#parts.cadences.refresh(guest.record.id);
  }
}

function absent(cause: unknown): undefined {
  if (!(cause instanceof AllocatorError) || cause.code !== 'GUEST_NOT_FOUND') throw cause;
  return undefined;
}
