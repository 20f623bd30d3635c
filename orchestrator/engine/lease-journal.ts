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

  /** Change a lease and make it durable, with whatever else must be true together. @throws {AllocatorError} LEDGER_UNAVAILABLE */
  async save(record: LeaseRecord, writes: readonly LedgerWrite[] = []): Promise<void> {
    this.put(record);
    await this.#ledger.commit([leaseWrite(record), ...writes]);
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
