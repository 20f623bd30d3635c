import type { GuestId } from '../core/guest.ts';
import { beyond, fitsIn, NO_ROOM, plus, type Room } from '../core/room.ts';

/** What a guest's leases hold, by tenant. */
export type HoldingsOf = (guest: GuestId) => ReadonlyMap<string, Room>;

/** Sum of what each tenant's leases hold, kept up to date by recounting only the guests that changed. */
export class Holdings {
  readonly #holdingsOf: HoldingsOf;
  readonly #counted = new Map<GuestId, ReadonlyMap<string, Room>>();
  readonly #changed = new Set<GuestId>();
  readonly #held = new Map<string, Room>();

  constructor(holdingsOf: HoldingsOf) {
    this.#holdingsOf = holdingsOf;
  }

  /** The guest's leases, baseline or mode may have changed. */
  touch(guest: GuestId): void {
    this.#changed.add(guest);
  }

  /** Tenants that hold something. */
  all(): ReadonlyMap<string, Room> {
    for (const guest of this.#changed) {
      const now = this.#holdingsOf(guest);
      for (const [tenant, room] of this.#counted.get(guest) ?? [])
        this.#set(tenant, beyond(this.#get(tenant), room));
      for (const [tenant, room] of now) this.#set(tenant, plus(this.#get(tenant), room));
      if (now.size === 0) this.#counted.delete(guest);
      else this.#counted.set(guest, now);
    }
    this.#changed.clear();
    return this.#held;
  }

  of(tenant: string): Room {
    return this.all().get(tenant) ?? NO_ROOM;
  }

  #get(tenant: string): Room {
    return this.#held.get(tenant) ?? NO_ROOM;
  }

  #set(tenant: string, room: Room): void {
    if (fitsIn(room, NO_ROOM)) this.#held.delete(tenant);
    else this.#held.set(tenant, room);
  }
}
