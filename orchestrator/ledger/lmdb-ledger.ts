import { mkdirSync } from 'node:fs';
import { open, type RootDatabase } from 'lmdb';
import { AllocatorError } from '../core/errors.ts';
import type { LeaseLedger, LedgerEntry, LedgerWrite } from '../core/ports.ts';

/** Address space kept for the map; LMDB's file grows only as it fills. 1 GiB is about a million leases. */
const MAP_BYTES = 1 << 30;

interface Stored {
  readonly v: number;
  readonly d: unknown;
}

class Conflict extends Error {}

/** LeaseLedger on one host, in LMDB. One process writes; others may read. */
export class LmdbLedger implements LeaseLedger {
  readonly #db: RootDatabase<Stored, string>;

  private constructor(db: RootDatabase<Stored, string>) {
    this.#db = db;
  }

  /**
   * @param directory created when absent
   * @throws {AllocatorError} LEDGER_UNAVAILABLE
   */
  static open(directory: string): LmdbLedger {
    try {
      mkdirSync(directory, { recursive: true, mode: 0o750 });
      return new LmdbLedger(
        open<Stored, string>({ path: directory, encoding: 'json', mapSize: MAP_BYTES, noSubdir: false }),
      );
    } catch (cause) {
      throw new AllocatorError(
        'LEDGER_UNAVAILABLE',
        `The ledger in ${directory} cannot be opened: ${(cause as Error).message}`,
        { directory },
        { cause },
      );
    }
  }

  get(key: string): LedgerEntry | undefined {
    const stored = this.#db.get(key);
    return stored === undefined ? undefined : { key, value: stored.d, version: stored.v };
  }

  range(prefix: string): LedgerEntry[] {
    const entries: LedgerEntry[] = [];
    for (const { key, value } of this.#db.getRange({ start: prefix, end: `${prefix}\uffff` })) {
      entries.push({ key, value: value.d, version: value.v });
    }
    return entries;
  }

  async commit(writes: readonly LedgerWrite[]): Promise<void> {
    try {
      await this.#db.transaction(() => {
        for (const { key, ifVersion } of writes) {
          if (ifVersion !== undefined && (this.#db.get(key)?.v ?? 0) !== ifVersion) throw new Conflict(key);
        }
        for (const { key, value } of writes) {
          if (value === undefined) this.#db.remove(key);
          else this.#db.put(key, { v: (this.#db.get(key)?.v ?? 0) + 1, d: value });
        }
      });
      // A transaction resolves when it is visible; only the flush after it makes it survive a power loss.
      await this.#db.flushed;
    } catch (cause) {
      if (cause instanceof Conflict) {
        throw new AllocatorError('STATE_CONFLICT', `${cause.message} was changed by another writer`, {
          key: cause.message,
        });
      }
      throw new AllocatorError(
        'LEDGER_UNAVAILABLE',
        `The ledger did not write: ${(cause as Error).message}`,
        {},
        { cause },
      );
    }
  }

  async close(): Promise<void> {
    await this.#db.flushed;
    await this.#db.close();
  }
}
