import type { GuestId } from '../core/guest.ts';
import { workBeganAtMs } from '../core/lease.ts';
import type { Room } from '../core/room.ts';
import type { GuestBook } from './guest-book.ts';
import type { HostRoom } from './host-room.ts';
import type { LeaseBook, LeaseRecord } from './lease-book.ts';

/** When a running lease should end, and what is free then. */
export interface ForeseenEnd {
  readonly leaseId: string;
  readonly atMs: number;
  readonly room: Room;
}

interface Entry extends ForeseenEnd {
  readonly guest: GuestId;
  /** Until when it counts by its predicted length; later, its time to live is all that is known. */
  readonly foretoldMs: number;
}

/**
 * When running leases should end, soonest first: after their predicted length, or with their time to live where that is sooner or
 * unknown. Kept in order guest by guest, so that to ask costs no more beside many leases than beside few.
 */
export class ForeseenEnds {
  readonly #leases: LeaseBook;
  readonly #guests: GuestBook;
  readonly #changed = new Set<GuestId>();
  readonly #ofGuest = new Map<GuestId, readonly Entry[]>();
  readonly #inOrder: Entry[] = [];

  constructor(leases: LeaseBook, guests: GuestBook, room: HostRoom) {
    this.#leases = leases;
    this.#guests = guests;
    room.onTouch((id) => this.#changed.add(id));
  }

  /** As foreseen at `nowMs`; not to be changed, and good until the next lease does. */
  soonest(nowMs: number): readonly ForeseenEnd[] {
    for (const id of this.#changed) this.#count(id, nowMs);
    this.#changed.clear();
    let first = this.#inOrder[0];
    while (first !== undefined && nowMs > first.foretoldMs) {
      // One that has outlived its forecast ends with its time to live, for all we know.
      this.#count(first.guest, nowMs);
      first = this.#inOrder[0];
    }
    return this.#inOrder;
  }

  #count(id: GuestId, nowMs: number): void {
    for (const entry of this.#ofGuest.get(id) ?? []) this.#inOrder.splice(this.#placeOf(entry), 1);
    const entries = this.#leases
      .ofGuest(id)
      .filter(({ lease }) => lease.inPlaceAtMs !== undefined)
      .map((record) => this.#entry(record, nowMs));
    if (entries.length === 0) this.#ofGuest.delete(id);
    else this.#ofGuest.set(id, entries);
    for (const entry of entries) this.#inOrder.splice(this.#placeOf(entry), 0, entry);
  }

  #entry({ lease, admitted }: LeaseRecord, nowMs: number): Entry {
    const { id: leaseId, guest, predicted, expiresAtMs } = lease;
    const durationS = predicted.durationS?.q50;
    const endMs = durationS === undefined ? expiresAtMs : workBeganAtMs(lease, nowMs) + durationS * 1000;
    const isForetold = endMs >= nowMs && endMs < expiresAtMs;
    return {
      leaseId,
      guest,
      atMs: isForetold ? endMs : expiresAtMs,
      foretoldMs: isForetold ? endMs : Number.POSITIVE_INFINITY,
      room: this.#guests.aboveBaseline(guest, admitted),
    };
  }

  /** Of the first that is not before the entry. */
  #placeOf({ atMs, leaseId }: Entry): number {
    let low = 0;
    let high = this.#inOrder.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const one = this.#inOrder[middle] as Entry;
      if (one.atMs < atMs || (one.atMs === atMs && one.leaseId < leaseId)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
