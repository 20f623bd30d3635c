import { satisfies } from '../core/entitlement.ts';
import { AllocatorError } from '../core/errors.ts';
import { type Adjustment, hasEnded, type Lease, withAdjustments } from '../core/lease.ts';
import { type Need, wholeGrains } from '../core/needs.ts';
import type { Clock } from '../core/ports.ts';
import { type Entitlement, RESOURCE_OF } from '../core/profile.ts';
import { roomOf } from '../core/room.ts';
import type { GuestBook } from './guest-book.ts';
import type { GuestMoves } from './guest-moves.ts';
import type { HostRoom } from './host-room.ts';
import { decided, decisionOf, type LeaseBook, type LeaseRecord, leaseWrite } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { Tenancy } from './tenancy.ts';

export interface RenewalsParts {
  readonly clock: Clock;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly room: HostRoom;
  readonly tenancy: Tenancy;
  readonly journal: LeaseJournal;
  readonly moves: GuestMoves;
}

/** Keeps leases: for longer, and with what their work turned out to need. */
export class Renewals {
  readonly #parts: RenewalsParts;

  constructor(parts: RenewalsParts) {
    this.#parts = parts;
  }

  /**
   * Move a lease's expiry; with a need, have it in place before the answer, as far as guest and host have room.
   * @throws {AllocatorError} LEASE_NOT_FOUND, LEASE_ENDED, STATE_CONFLICT, CAPACITY_EXHAUSTED, LEDGER_UNAVAILABLE
   */
  async renew(leaseId: string, ttlMs: number, need: Need = {}): Promise<Lease> {
    const { clock, guests, leases, journal } = this.#parts;
    const record = leases.get(leaseId);
    assertRenewable(record.lease);
    const asks = Object.keys(need).length > 0;
    if (asks) assertInPlace(record.lease);
    const fromMs = Math.max(clock.nowMs(), record.lease.startMs);
    await journal.save({ ...record, lease: { ...record.lease, ttlMs, expiresAtMs: fromMs + ttlMs } });
    const guest = guests.find(record.lease.guest);
    if (asks && guest !== undefined) await guest.serialize(() => this.#enlarge(guest, leaseId, need));
    return leases.get(leaseId).lease;
  }

  /** Call inside `guest.serialize`. What is promised anew is durable before anything moves, as with a new lease. */
  async #enlarge(guest: ManagedGuest, id: string, need: Need): Promise<void> {
    const { leases, journal, moves, room } = this.#parts;
    assertInPlace(leases.get(id).lease);
    const enlarged = this.#enlarged(guest, leases.get(id), need);
    if (enlarged === undefined) return;
    journal.put(enlarged.record);
    for (const { field, level } of enlarged.levels)
      guest.adjust(field, level, leases.admitted(guest.record.id));
    room.touch(guest.record.id);
    const { shortfalls } = await moves.reach(guest, [leaseWrite(enlarged.record)]);
    const record = leases.get(id);
    if (hasEnded(record.lease.state) || record.lease.state === 'RELEASING') return;
    const isWhole = satisfies(guest.held, guest.asked(leases.asked(guest.record.id)));
    const outcome = shortfalls.join('; ') || 'in force';
    const lease: Lease = {
      ...record.lease,
      state: isWhole ? 'ACTIVE' : 'DEGRADED',
      reason: isWhole ? 'what its client asked for is in place' : `enlarged in part: ${outcome}`,
      granted: guest.held,
    };
    const decision = decisionOf(lease, {
      atMs: this.#parts.clock.nowMs(),
      action: 'adjust',
      rule: 'asked',
      inputs: { ...need },
      outcome,
    });
    await journal.save(decided({ ...record, lease }, decision), [guest.write()]);
  }

  /** The lease with its need, and the levels its guest is to stand at; undefined when it has all of it. */
  #enlarged(
    guest: ManagedGuest,
    record: LeaseRecord,
    need: Need,
  ): { record: LeaseRecord; levels: { field: keyof Need; level: number }[] } | undefined {
    const { clock, leases, room, tenancy } = this.#parts;
    const others = leases.inForce(guest.record.id).filter(({ lease }) => lease.id !== record.lease.id);
    const present = guest.target(leases.admitted(guest.record.id));
    const { tenant } = record.lease;
    const free = room.roomFor(guest, tenancy.keptFrom(new Set([tenant])));
    const left = tenancy.quotaLeft(tenant);
    const most = roomOf((field) => Math.min(free[field], present[field] + left[field]));
    const requested: { -readonly [F in keyof Entitlement]: Entitlement[F] } = { ...record.lease.requested };
    const admitted: { -readonly [F in keyof Entitlement]: Entitlement[F] } = { ...record.admitted };
    const levels: { field: keyof Need; level: number }[] = [];
    const adjustments: Adjustment[] = [];
    for (const [field, value] of Object.entries(need) as [keyof Need, number][]) {
      const wanted = wholeGrains(value, field);
      if (wanted <= admitted[field]) continue;
      const all = guest.combined([
        ...others.map((other) => other.admitted),
        { ...admitted, [field]: wanted },
      ]);
      const fits = Math.min(all[field], Math.max(most[field], present[field]));
      const grown = Math.max(admitted[field], wanted - (all[field] - fits));
      requested[field] = Math.max(requested[field], Math.min(wanted, guest.facts.ceiling[field]));
      if (grown <= admitted[field]) continue;
      admitted[field] = grown;
      const level = Math.max(present[field], fits);
      levels.push({ field, level });
      adjustments.push({
        atMs: clock.nowMs(),
        resource: RESOURCE_OF[field],
        from: present[field],
        to: level,
        residual: value - (record.lease.predicted.fields[field]?.q50 ?? value),
        reason: 'its client asked for it',
      });
    }
    if (levels.length === 0) {
      if (Object.entries(need).every(([field, value]) => value <= admitted[field as keyof Need]))
        return undefined;
      throw new AllocatorError('CAPACITY_EXHAUSTED', 'Neither the guest nor the host has room for more', {
        leaseId: record.lease.id,
      });
    }
    const lease: Lease = { ...withAdjustments(record.lease, adjustments), requested };
    return { record: { ...record, admitted, lease }, levels };
  }
}

function assertRenewable({ id, state }: Lease): void {
  if (!hasEnded(state) && state !== 'RELEASING') return;
  throw new AllocatorError('LEASE_ENDED', `Lease ${id} is ${state} and cannot be renewed`, {
    leaseId: id,
    state,
  });
}

/** Only what is in place can be enlarged: before, a need is that of the request. */
function assertInPlace(lease: Lease): void {
  assertRenewable(lease);
  const { id, state } = lease;
  if (state === 'ACTIVE' || state === 'DEGRADED') return;
  throw new AllocatorError('STATE_CONFLICT', `Lease ${id} is ${state}: only one in place can be enlarged`, {
    leaseId: id,
    state,
  });
}
