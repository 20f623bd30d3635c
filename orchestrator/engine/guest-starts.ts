import type { CallContext } from '../core/engine.ts';
import { differing } from '../core/entitlement.ts';
import { AllocatorError } from '../core/errors.ts';
import type { GuestFacts, GuestId, Mode } from '../core/guest.ts';
import type { ExpectedStart, GuestStarts } from '../core/guest-start.ts';
import type { Lease } from '../core/lease.ts';
import type { Clock, Hypervisor } from '../core/ports.ts';
import type { Entitlement } from '../core/profile.ts';
import type { Background } from './background.ts';
import { type Grants, START_MS_MAX } from './grants.ts';
import type { GuestBook } from './guest-book.ts';
import type { HostRoom } from './host-room.ts';
import type { LeaseBook, StartTie } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { Log } from './log.ts';
import type { GuestRecord, ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';
import type { Reconciler } from './reconcile.ts';
import { unlessAborted } from './unless-aborted.ts';

export interface GuestStartDeskParts {
  readonly clock: Clock;
  readonly hypervisor: Hypervisor;
  readonly log: Log;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly room: HostRoom;
  readonly journal: LeaseJournal;
  readonly grants: Grants;
  readonly reconciler: Reconciler;
  readonly background: Background;
  readonly policy: Pick<EnginePolicy, 'mode'>;
}

/**
 * Leases that guests' definitions ask for. A hook's word comes while the hypervisor holds the guest's start: nothing here takes a
 * guest's queue, in which a call to the hypervisor may stand, nor awaits one.
 */
export class GuestStartDesk implements GuestStarts {
  readonly #parts: GuestStartDeskParts;
  /** Guests that are being started, and until when that is believed, ms since epoch. */
  readonly #expected = new Map<GuestId, number>();

  constructor(parts: GuestStartDeskParts) {
    this.#parts = parts;
  }

  async reserve(start: ExpectedStart, { signal }: CallContext): Promise<Lease> {
    const { hypervisor, guests, leases, grants } = this.#parts;
    if (!hypervisor.available || !guests.isLoaded) {
      throw new AllocatorError(
        'HYPERVISOR_UNAVAILABLE',
        'The hypervisor has not been read yet; guests keep what they have',
      );
    }
    const { id } = start.facts;
    const known = this.#leaseOf(id, start.hasStarted);
    if (known !== undefined) return known;
    const guest = this.#take(start);
    this.#expect(guest);
    const reserved = grants.reserve(guest, start.request, start.lastsAsRun);
    await unlessAborted(reserved, signal);
    return this.#leaseOf(id, start.hasStarted) ?? leases.get((await reserved).id).lease;
  }

  modeOf(id: GuestId): Mode {
    const { guests, policy } = this.#parts;
    return guests.find(id)?.record.mode ?? policy.mode;
  }

  started(id: GuestId): void {
    const { guests, reconciler, background } = this.#parts;
    const guest = guests.find(id);
    if (guest === undefined) return;
    background.keep(reconciler.onGuestEvent({ kind: 'started', guest: id, name: guest.record.name }));
  }

  ended(id: GuestId): void {
    const { guests, reconciler, background } = this.#parts;
    const guest = guests.find(id);
    if (guest === undefined) return;
    this.#forget(guest);
    background.keep(reconciler.stopped(guest));
  }

  /** A guest that runs, or never came up, is expected no longer. */
  tend(): void {
    const { clock, guests } = this.#parts;
    const nowMs = clock.nowMs();
    for (const [id, untilMs] of this.#expected) {
      const guest = guests.find(id);
      if (guest === undefined) this.#expected.delete(id);
      else if (guest.facts.state === 'running' || nowMs >= untilMs) this.#forget(guest);
    }
  }

  /**
   * Begin a lease whose guest runs by now, and renew one that lasts as its guest's run.
   * @returns whether nothing else is to be done about it
   */
  tendLease({ id, guest: of, expiresAtMs, ttlMs }: Lease, { isAwaited, lastsAsRun }: StartTie): boolean {
    const { clock, guests, leases, journal, grants } = this.#parts;
    const nowMs = clock.nowMs();
    const guest = guests.find(of);
    if (guest === undefined) return false;
    if (isAwaited) {
      if (!guest.busy) grants.beginStarted(guest);
      return nowMs < expiresAtMs;
    }
    if (!lastsAsRun || guest.facts.state !== 'running' || expiresAtMs - nowMs > ttlMs / 2) return false;
    const record = leases.get(id);
    journal.owe({ ...record, lease: { ...record.lease, expiresAtMs: nowMs + ttlMs } });
    return false;
  }

  /** The guest's lease of this start; before it runs, one that is in force is of an earlier run, whose end is told late. */
  #leaseOf(id: GuestId, hasStarted: boolean): Lease | undefined {
    const ofGuest = this.#parts.leases.ofGuest(id);
    return ofGuest.find(({ start }) => start !== undefined && (hasStarted || start.isAwaited))?.lease;
  }

  /** The guest of a start, as its definition has it now. */
  #take({ facts, adopt }: ExpectedStart): ManagedGuest {
    const { guests, reconciler, background } = this.#parts;
    const guest = guests.find(facts.id);
    if (guest === undefined) {
      if (adopt) return this.#adopt(facts);
      throw new AllocatorError(
        'GUEST_NOT_ADOPTED',
        `Guest ${facts.name} is not managed, and hook.adopt is off: adopt it first`,
        { guest: facts.name },
      );
    }
    if (guest.leaving) {
      throw new AllocatorError('GUEST_BUSY', `Guest ${facts.name} is being disowned`, { guest: facts.name });
    }
    // Word of its last stop is on its way: what it held then is gone.
    if (guest.facts.state !== 'shut-off') background.keep(reconciler.gone(guest));
    guest.facts = facts;
    if (guest.record.byDefinition && !isOurs(guest, facts.entitlement))
      guest.record = { ...guest.record, ...asDefined(facts) };
    return guest;
  }

  /** Durable with the lease that it is adopted for. */
  #adopt(facts: GuestFacts): ManagedGuest {
    const { guests, journal, clock, policy, log } = this.#parts;
    const { id, name, entitlement } = facts;
    const { mode } = policy;
    const record = { id, name, mode, adoptedAtMs: clock.nowMs(), moving: false, byDefinition: true };
    const guest = guests.manage({ ...record, ...asDefined(facts) }, facts);
    journal.oweBeside([guest.write()]);
    log.info({ guest: name, mode, baseline: entitlement }, 'guest adopted, as its definition asks');
    return guest;
  }

  #expect(guest: ManagedGuest): void {
    this.#expected.set(guest.record.id, this.#parts.clock.nowMs() + START_MS_MAX);
    guest.starting = true;
    this.#parts.room.touch(guest.record.id);
  }

  #forget(guest: ManagedGuest): void {
    this.#expected.delete(guest.record.id);
    guest.starting = false;
    this.#parts.room.touch(guest.record.id);
  }
}

/** True when the definition says what we set last, and have not taken back since: that is nobody's wish for a baseline. */
function isOurs({ record }: ManagedGuest, entitlement: Entitlement): boolean {
  const same = (one: Entitlement): boolean => differing(one, entitlement).length === 0;
  return !same(record.baseline.entitlement) && record.known.some(same);
}

/** What a definition says of a guest's baseline; whoever changed an earlier run has no say in this one. */
function asDefined({
  entitlement,
  cpuLimited,
}: GuestFacts): Pick<GuestRecord, 'baseline' | 'known' | 'relinquished'> {
  return { baseline: { entitlement, cpuLimited }, known: [entitlement], relinquished: [] };
}
