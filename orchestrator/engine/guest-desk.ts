import type { CallContext, GuestStatus } from '../core/engine.ts';
import { AllocatorError } from '../core/errors.ts';
import type { GuestFacts, GuestId, Mode } from '../core/guest.ts';
import { leadTimes } from '../core/lead-time.ts';
import type { Clock, Forecaster, LeaseLedger } from '../core/ports.ts';
import type { Sampling } from '../core/sample.ts';
import type { Cadences } from './cadences.ts';
import type { Endings } from './endings.ts';
import type { Grants } from './grants.ts';
import type { GuestBook } from './guest-book.ts';
import type { GuestMoves } from './guest-moves.ts';
import type { HostRoom } from './host-room.ts';
import type { LeaseBook } from './lease-book.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';

export interface GuestDeskParts {
  readonly clock: Clock;
  readonly forecaster: Forecaster;
  readonly ledger: LeaseLedger;
  readonly log: Log;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly room: HostRoom;
  readonly cadences: Cadences;
  readonly moves: GuestMoves;
  readonly grants: Grants;
  readonly endings: Endings;
}

/** What an operator does with guests: adopt, disown, restore, change the mode, look. */
export class GuestDesk {
  readonly #parts: GuestDeskParts;

  constructor(parts: GuestDeskParts) {
    this.#parts = parts;
  }

  async list(): Promise<GuestStatus[]> {
    const all = await this.#parts.guests.census();
    return all.map((facts) => this.#status(facts));
  }

  async get(name: string): Promise<GuestStatus> {
    return this.#status(await this.#parts.guests.lookUp(name));
  }

  /** Manage a guest from now on; its sizes of this moment are its baseline. One that is managed already changes its mode. */
  async adopt(name: string, mode: Mode): Promise<GuestStatus> {
    const { guests, ledger, clock, log } = this.#parts;
    const facts = await guests.lookUp(name);
    assertRuns(facts);
    if (guests.find(facts.id) !== undefined) return this.setMode(name, mode);
    const { id, entitlement, cpuLimited } = facts;
    const baseline = { entitlement, cpuLimited };
    const guest = guests.manage(
      {
        id,
        name: facts.name,
        mode,
        adoptedAtMs: clock.nowMs(),
        baseline,
        relinquished: [],
        known: [entitlement],
        moving: false,
      },
      facts,
    );
    try {
      await ledger.commit([guest.write()]);
    } catch (cause) {
      guests.drop(id);
      throw cause;
    }
    this.#follow(id);
    log.info({ guest: facts.name, mode, baseline: entitlement }, 'guest adopted');
    return this.#status(facts);
  }

  /** End its leases, put the baseline back and stop managing it. */
  async disown(name: string, context: CallContext): Promise<GuestStatus> {
    const { guests, forecaster } = this.#parts;
    const guest = guests.adopted(name);
    const { id } = guest.record;
    guest.leaving = true;
    try {
      await this.#letGo(guest);
    } catch (cause) {
      guest.leaving = false;
      throw cause;
    }
    this.#follow(id);
    forecaster.forget(id);
    context.signal.throwIfAborted();
    return this.get(id);
  }

  /** In one turn of the guest's queue, so that nothing can come between. */
  async #letGo(guest: ManagedGuest): Promise<void> {
    const { guests, ledger, moves, endings } = this.#parts;
    await endings.endAll(guest, 'the guest is no longer managed');
    await guest.serialize(async () => {
      await moves.restore(guest);
      await ledger.commit([{ key: guest.write().key, value: undefined }]);
      guests.drop(guest.record.id);
    });
  }

  /** End its leases and put the baseline back; the guest stays adopted. */
  async restore(name: string, context: CallContext): Promise<GuestStatus> {
    const { guests, moves, endings } = this.#parts;
    const guest = guests.adopted(name);
    await endings.endAll(guest, 'the baseline was restored');
    await guest.serialize(() => moves.restore(guest));
    context.signal.throwIfAborted();
    return this.get(guest.record.id);
  }

  /** Leaving enforce puts the baseline back, entering it puts the leases in force. */
  async setMode(name: string, mode: Mode): Promise<GuestStatus> {
    const { guests, ledger, room, moves, grants, log } = this.#parts;
    const guest = guests.adopted(name);
    await guest.serialize(async () => {
      const leaving = guest.record.mode === 'enforce' && mode !== 'enforce';
      if (leaving) await moves.restore(guest);
      guest.record = { ...guest.record, mode };
      room.touch(guest.record.id);
      if (leaving) await grants.demote(guest);
      if (mode === 'enforce') await grants.tryAgain(guest);
      await ledger.commit([guest.write()]);
    });
    log.info({ guest: guest.record.name, mode }, 'mode changed');
    return this.get(guest.record.id);
  }

  async setSampling(name: string, sampling: Partial<Sampling>): Promise<GuestStatus> {
    const { guests, ledger, cadences } = this.#parts;
    const guest = guests.adopted(name);
    await guest.serialize(async () => {
      const before = guest.record;
      guest.record = { ...before, sampling };
      await ledger.commit([guest.write()]).catch((cause: unknown) => {
        guest.record = before;
        throw cause;
      });
    });
    cadences.refresh(guest.record.id);
    return this.get(guest.record.id);
  }

  #status(facts: GuestFacts): GuestStatus {
    const guest = this.#parts.guests.find(facts.id);
    const leases = this.#parts.leases.ofGuest(facts.id).map(({ lease }) => lease.id);
    if (guest === undefined) return { facts, leases };
    const {
      known: _,
      moving: __,
      startedByUs: ___,
      byDefinition: ____,
      growthsMs = {},
      ...adopted
    } = guest.record;
    const { lastSample } = guest;
    const leads = leadTimes(growthsMs);
    return {
      facts,
      adopted,
      leadTimesMs: leads,
      leases,
      ...(lastSample === undefined ? {} : { lastSample }),
    };
  }

  /** The host's sums and the guest's cadence follow from whether it is managed. */
  #follow(id: GuestId): void {
    this.#parts.room.touch(id);
    this.#parts.cadences.refresh(id);
  }
}

function assertRuns({ name, state }: GuestFacts): void {
  if (state === 'running') return;
  throw new AllocatorError(
    'GUEST_NOT_RUNNING',
    `Guest ${name} is ${state}: its baseline can only be read while it runs`,
    { guest: name },
  );
}
