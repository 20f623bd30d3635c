import type { GuestId } from '../core/guest.ts';
import type { Room } from '../core/room.ts';

/**
 * Sum of what managed guests were promised, kept up to date by recounting only the guests that changed: an
 * allocation must not cost more on a host with a thousand guests.
 */
export class Commitments {
  readonly #promiseOf: (guest: GuestId) => Room;
  readonly #counted = new Map<GuestId, Room>();
  readonly #changed = new Set<GuestId>();
  #cpuMillicores = 0;
  #memoryBytes = 0;

  /** @param promiseOf what a guest is promised now; zero for one that is not managed */
  constructor(promiseOf: (guest: GuestId) => Room) {
    this.#promiseOf = promiseOf;
  }

  /** The guest's leases, sizes or mode may have changed. */
  touch(guest: GuestId): void {
    this.#changed.add(guest);
  }

  total(): Room {
    for (const guest of this.#changed) {
      const before = this.#counted.get(guest) ?? { cpuMillicores: 0, memoryBytes: 0 };
      const now = this.#promiseOf(guest);
      this.#cpuMillicores += now.cpuMillicores - before.cpuMillicores;
      this.#memoryBytes += now.memoryBytes - before.memoryBytes;
      if (now.cpuMillicores === 0 && now.memoryBytes === 0) this.#counted.delete(guest);
      else this.#counted.set(guest, now);
    }
    this.#changed.clear();
    return { cpuMillicores: this.#cpuMillicores, memoryBytes: this.#memoryBytes };
  }
}
