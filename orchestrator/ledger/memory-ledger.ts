import { AllocatorError } from '../core/errors.ts';
import type { LeaseLedger, LedgerEntry, LedgerWrite } from '../core/ports.ts';

interface Stored {
  readonly text: string;
  readonly version: number;
}

/**
 * LeaseLedger in memory, for simulations and replays: values are stored as text, as a disk would, and a commit is durable
 * only after `flushDelay`, so that a power loss can be played.
 */
export class MemoryLedger implements LeaseLedger {
  #visible = new Map<string, Stored>();
  #durable = new Map<string, Stored>();
  /** Commits not yet durable, oldest first, with what each left under its keys. */
  readonly #unflushed: { readonly commit: number; readonly left: ReadonlyMap<string, Stored | undefined> }[] =
    [];
  #commits = 0;
  /** Set to make every commit fail, as a full disk does. */
  failure: Error | undefined;
  /** Awaited between becoming visible and becoming durable. */
  flushDelay: () => Promise<void> = async () => {};

  get(key: string): LedgerEntry | undefined {
    const stored = this.#visible.get(key);
    return stored && { key, value: JSON.parse(stored.text), version: stored.version };
  }

  /** What a power loss would leave under a key now. */
  durable(key: string): unknown {
    const stored = this.#durable.get(key);
    return stored && JSON.parse(stored.text);
  }

  range(prefix: string): LedgerEntry[] {
    const keys = [...this.#visible.keys()].filter((key) => key.startsWith(prefix)).sort();
    return keys.map((key) => this.get(key)).filter((entry) => entry !== undefined);
  }

  async commit(writes: readonly LedgerWrite[]): Promise<void> {
    if (this.failure !== undefined) {
      throw new AllocatorError('LEDGER_UNAVAILABLE', `The ledger did not write: ${this.failure.message}`);
    }
    for (const { key, ifVersion } of writes) {
      if (ifVersion !== undefined && (this.#visible.get(key)?.version ?? 0) !== ifVersion) {
        throw new AllocatorError('STATE_CONFLICT', `${key} was changed by another writer`, { key });
      }
    }
    const left = new Map<string, Stored | undefined>();
    for (const { key, value } of writes) {
      const version = (this.#visible.get(key)?.version ?? 0) + 1;
      const stored = value === undefined ? undefined : { text: JSON.stringify(value), version };
      put(this.#visible, key, stored);
      left.set(key, stored);
    }
    this.#commits += 1;
    const commit = this.#commits;
    this.#unflushed.push({ commit, left });
    await this.flushDelay();
    this.#flush(commit);
  }

  /** A commit takes along those before it, as a disk's log does. */
  #flush(commit: number): void {
    while (this.#unflushed[0] !== undefined && this.#unflushed[0].commit <= commit) {
      for (const [key, stored] of this.#unflushed.shift()?.left ?? []) put(this.#durable, key, stored);
    }
  }

  /** What a new process finds after the old one was killed: the kernel still has every write. */
  afterKill(): MemoryLedger {
    return MemoryLedger.#holding(this.#visible);
  }

  /** What a machine finds after its power went: only what was flushed. */
  afterPowerLoss(): MemoryLedger {
    return MemoryLedger.#holding(this.#durable);
  }

  static #holding(stored: ReadonlyMap<string, Stored>): MemoryLedger {
    const ledger = new MemoryLedger();
    ledger.#visible = new Map(stored);
    ledger.#durable = new Map(stored);
    return ledger;
  }

  async close(): Promise<void> {}
}

function put(map: Map<string, Stored>, key: string, stored: Stored | undefined): void {
  if (stored === undefined) map.delete(key);
  else map.set(key, stored);
}
