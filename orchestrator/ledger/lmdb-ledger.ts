import { mkdirSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { open, type RootDatabase } from 'lmdb';
import { AllocatorError } from '../core/errors.ts';
import type { LeaseLedger, LedgerEntry, LedgerWrite } from '../core/ports.ts';
import { damageOf, syncFolders } from './lmdb-file.ts';

/** Address space kept for the map; LMDB's file grows only as it fills. 1 GiB is about a million leases. */
const MAP_BYTES = 1 << 30;

interface Stored {
  readonly v: number;
  readonly d: unknown;
}

/** `stored` absent: the key is removed. */
interface Change {
  readonly key: string;
  readonly stored?: Stored;
}

type BatchError = Error & { readonly commitError?: Promise<never> };

/** LeaseLedger on one host, in LMDB. One process writes, so it knows every key's version; others may read. */
export class LmdbLedger implements LeaseLedger {
  readonly #db: RootDatabase<Stored, string>;
  /** Versions as the commits under way will leave them. */
  readonly #versions: Map<string, number>;
  #waiting: Change[] = [];
  #running: Promise<void> = Promise.resolve();
  /** Will write what waits, once `#running` is through. */
  #next: Promise<void> | undefined;

  private constructor(db: RootDatabase<Stored, string>) {
    this.#db = db;
    this.#versions = new Map([...db.getRange({})].map(({ key, value }) => [key, value.v]));
  }

  /**
   * @param directory created when absent, unless it is only read
   * @throws {AllocatorError} LEDGER_UNAVAILABLE
   */
  static open(directory: string, { readOnly = false }: { readonly readOnly?: boolean } = {}): LmdbLedger {
    try {
      if (!readOnly) mkdirSync(directory, { recursive: true, mode: 0o750 });
      const damage = damageOf(directory);
      if (damage !== undefined) throw new Error(damage);
      const db = open<Stored, string>({
        path: directory,
        encoding: 'json',
        mapSize: MAP_BYTES,
        noSubdir: false,
        readOnly,
        // LMDB's own order: pages, sync, meta page, sync. The library's overlapping one answers before the sync, and
        // never tells that a sync failed.
        overlappingSync: false,
        // With it the library starts a batch of its own each turn, whose failure nobody can hear.
        eventTurnBatching: false,
      });
      if (!readOnly) syncFolders(directory);
      return new LmdbLedger(db);
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

  /** Commits that come while one is being synced share the next sync. If it fails they fail with it: they may rest on it. */
  async commit(writes: readonly LedgerWrite[]): Promise<void> {
    for (const { key, ifVersion } of writes) {
      if (ifVersion !== undefined && (this.#versions.get(key) ?? 0) !== ifVersion) {
        throw new AllocatorError('STATE_CONFLICT', `${key} was changed by another writer`, { key });
      }
    }
    for (const write of writes) this.#waiting.push(this.#advance(write));
    this.#next ??= this.#writeAfter(this.#running);
    await this.#next;
  }

  #advance({ key, value }: LedgerWrite): Change {
    if (value === undefined) {
      this.#versions.delete(key);
      return { key };
    }
    const version = (this.#versions.get(key) ?? 0) + 1;
    this.#versions.set(key, version);
    return { key, stored: { v: version, d: value } };
  }

  async #writeAfter(before: Promise<void>): Promise<void> {
    let changes: Change[] = [];
    try {
      await before.finally(async () => {
        await nextTurn(); // whoever the last sync woke may have more to write, and a sync costs more than a turn
        changes = this.#waiting;
        this.#waiting = [];
        this.#running = this.#next ?? this.#running;
        this.#next = undefined;
      });
      // Resolves after both syncs.
      await this.#db.batch(() => {
        for (const { key, stored } of changes) {
          const written = stored === undefined ? this.#db.remove(key) : this.#db.put(key, stored);
          written.catch(() => {}); // the batch says so too
        }
      });
    } catch (cause) {
      this.#running = Promise.resolve();
      for (const { key } of changes) this.#recall(key);
      throw cause instanceof AllocatorError ? cause : await unavailable(cause as BatchError);
    }
  }

  /** After a commit that failed, the version is again that on disk. */
  #recall(key: string): void {
    const stored = this.#db.get(key);
    if (stored === undefined) this.#versions.delete(key);
    else this.#versions.set(key, stored.v);
  }

  async close(): Promise<void> {
    await (this.#next ?? this.#running);
    await this.#db.close();
  }
}

/** lmdb-js rejects with a summary; what really failed is in a promise beside it. */
async function unavailable(error: BatchError): Promise<AllocatorError> {
  const cause = await error.commitError?.catch((cause: Error) => cause);
  const reason = cause ?? error;
  return new AllocatorError(
    'LEDGER_UNAVAILABLE',
    `The ledger did not write: ${reason.message}`,
    {},
    { cause: reason },
  );
}
