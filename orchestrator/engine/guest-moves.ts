import type { Clock, LedgerWrite } from '../core/ports.ts';
import type { HostRoom } from './host-room.ts';
import type { LeaseBook } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { MoveResult, Mover } from './mover.ts';

/** First and longest pause before a move that failed is tried again. */
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 60_000;

/** Where guests are to be, by their leases and modes. All but `retryLater` are called inside `guest.serialize`. */
export class GuestMoves {
  readonly #mover: Mover;
  readonly #leases: LeaseBook;
  readonly #room: HostRoom;
  readonly #journal: LeaseJournal;
  readonly #clock: Clock;

  constructor(parts: {
    mover: Mover;
    leases: LeaseBook;
    room: HostRoom;
    journal: LeaseJournal;
    clock: Clock;
  }) {
    this.#mover = parts.mover;
    this.#leases = parts.leases;
    this.#room = parts.room;
    this.#journal = parts.journal;
    this.#clock = parts.clock;
  }

  /**
   * Bring a guest to what its leases, or its baseline, say. Nothing is touched outside enforce, nor unread.
   * @param writes what must be durable, with all that is owed, before anything is touched
   * @throws {AllocatorError} LEDGER_UNAVAILABLE: nothing was touched
   */
  async reach(guest: ManagedGuest, writes: readonly LedgerWrite[] = []): Promise<MoveResult> {
    const reason = whyNot(guest);
    if (reason !== undefined) {
      await this.#journal.commit(writes);
      return { reached: false, shortfalls: [reason] };
    }
    const target = guest.target(this.#leases.admitted(guest.record.id));
    const result = await this.#mover.move(guest, target, writes).catch((cause) => {
      this.retryLater(guest);
      throw cause;
    });
    this.#room.touch(guest.record.id);
    if (result.reached) guest.failures = 0;
    else this.retryLater(guest);
    return result;
  }

  /** Put the baseline back, whatever the leases say; relinquished resources are left as they are. */
  async restore(guest: ManagedGuest): Promise<void> {
    guest.adjusted.clear();
    if (guest.record.mode !== 'enforce') return;
    await this.#mover.move(guest, guest.target([]));
    await this.#journal.commit([guest.write()]);
  }

  /** Have the tick try again, after a pause that doubles with each failure. */
  retryLater(guest: ManagedGuest): void {
    guest.failures += 1;
    const pauseMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** (guest.failures - 1));
    guest.retryAtMonotonicMs = this.#clock.monotonicMs() + pauseMs;
  }
}

/** Why a guest is not to be moved; undefined when it may be. */
function whyNot({ record, unread }: ManagedGuest): string | undefined {
  if (record.mode !== 'enforce') return `mode ${record.mode}: nothing was changed`;
  return unread ? 'the guest could not be read yet: nothing was changed' : undefined;
}
