import type { GuestId } from '../core/guest.ts';
import type { LeaseLedger, LedgerWrite } from '../core/ports.ts';
import type { Cadences } from './cadences.ts';
import type { HostRoom } from './host-room.ts';
import { type LeaseBook, type LeaseRecord, leaseWrite } from './lease-book.ts';

/**
 * The one way a lease changes: the book, the sums and the cadence that follow from it, and the ledger. A change is owed
 * to the ledger until a commit has taken it, and every commit takes along all that is owed: room that one lease gave up
 * in memory is promised to another only together with the giving up.
 */
export class LeaseJournal {
  readonly #leases: LeaseBook;
  readonly #room: HostRoom;
  readonly #cadences: Cadences;
  readonly #ledger: LeaseLedger;
  /** Leases of which memory is ahead of the ledger, no commit under way with the difference. */
  readonly #owed = new Set<string>();
  /** What else must be written together with them. */
  #beside: LedgerWrite[] = [];

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

  /** Change a lease in memory; the next commit, whoever's it is, takes it along with the writes beside it. */
  owe(record: LeaseRecord, beside: readonly LedgerWrite[] = []): void {
    this.put(record);
    this.#owed.add(record.lease.id);
    this.#beside.push(...beside);
  }

  /** Writes about no lease, for the next commit to take along. */
  oweBeside(writes: readonly LedgerWrite[]): void {
    this.#beside.push(...writes);
  }

  /**
   * Change a lease and make it durable, with whatever else must be true together.
   * @throws {AllocatorError} LEDGER_UNAVAILABLE: the change stands in memory, and is owed
   */
  async save(record: LeaseRecord, writes: readonly LedgerWrite[] = []): Promise<void> {
    this.owe(record);
    await this.commit(writes);
  }

  /** Make durable what is owed, and these writes. @throws {AllocatorError} LEDGER_UNAVAILABLE: what was owed still is */
  async commit(writes: readonly LedgerWrite[] = []): Promise<void> {
    const ids = [...this.#owed].filter((id) => this.#leases.has(id));
    const beside = this.#beside;
    this.#owed.clear();
    this.#beside = [];
    const all = [...ids.map((id) => leaseWrite(this.#leases.get(id))), ...beside, ...writes];
    if (all.length === 0) return;
    try {
      await this.#ledger.commit(all);
    } catch (cause) {
      for (const id of ids) this.#owed.add(id);
      this.#beside = [...beside, ...this.#beside];
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
