import type { GuestId } from '../core/guest.ts';
import type { LeaseLedger, LedgerWrite } from '../core/ports.ts';
import type { Cadences } from './cadences.ts';
import type { HostRoom } from './host-room.ts';
import { type LeaseBook, type LeaseRecord, leaseWrite } from './lease-book.ts';

/** The one way a lease changes: the book, the sums and the cadence that follow from it, and the ledger. */
export class LeaseJournal {
  readonly #leases: LeaseBook;
  readonly #room: HostRoom;
  readonly #cadences: Cadences;
  readonly #ledger: LeaseLedger;
  /** Leases whose last change the ledger could not take: memory is ahead of it. */
  readonly #owed = new Set<string>();

  constructor(parts: { leases: LeaseBook; room: HostRoom; cadences: Cadences; ledger: LeaseLedger }) {
    this.#leases = parts.leases;
    this.#room = parts.room;
    this.#cadences = parts.cadences;
    this.#ledger = parts.ledger;
  }

  /** Change a lease in memory; the caller sees to the ledger. */
  put(record: LeaseRecord): void {
    this.#leases.put(record);
    this.#follow(record.lease.guest);
  }

  /**
   * Change a lease and make it durable, with whatever else must be true together.
   * @throws {AllocatorError} LEDGER_UNAVAILABLE: the change stands in memory, and the next save or `flush` takes it along
   */
  async save(record: LeaseRecord, writes: readonly LedgerWrite[] = []): Promise<void> {
    this.put(record);
    this.#owed.add(record.lease.id);
    await this.#commit(writes);
  }

  /** Make durable what an earlier save could not. @throws {AllocatorError} LEDGER_UNAVAILABLE */
  async flush(): Promise<void> {
    if (this.#owed.size > 0) await this.#commit([]);
  }

  async #commit(writes: readonly LedgerWrite[]): Promise<void> {
    const ids = [...this.#owed].filter((id) => this.#leases.has(id));
    this.#owed.clear();
    try {
      await this.#ledger.commit([...ids.map((id) => leaseWrite(this.#leases.get(id))), ...writes]);
    } catch (cause) {
      for (const id of ids) this.#owed.add(id);
      throw cause;
    }
  }

  /** Take back a lease that never became durable: nobody was promised anything, and its request may come again. */
  withdraw({ lease }: LeaseRecord): void {
    this.#leases.remove(lease.id);
    this.#follow(lease.guest);
  }

  #follow(guest: GuestId): void {
    this.#room.touch(guest);
    this.#cadences.refresh(guest);
  }
}
