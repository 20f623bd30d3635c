import { AllocatorError } from '../core/errors.ts';
import type { LeaseLedger, LedgerEntry, LedgerWrite } from '../core/ports.ts';

/**
 * LeaseLedger in memory, for simulations: values are stored as text, as a disk would, and a commit is durable
 * only after `flush`, so that a power loss can be played.
 */
export class MemoryLedger implements LeaseLedger {
  #visible = new Map<string, { text: string; version: number }>();
  #durable = new Map<string, { text: string; version: number }>();
  #commits = 0;
  #flushed = 0;
  /** Set to make every commit fail, as a full disk does. */
  failure: Error | undefined;
  /** Awaited between becoming visible and becoming durable. */
  flushDelay: () => Promise<void> = async () => {};

  get(key: string): LedgerEntry | undefined {
    const stored = this.#visible.get(key);
    return stored && { key, value: JSON.parse(stored.text), version: stored.version };
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
    for (const { key, value } of writes) {
      if (value === undefined) this.#visible.delete(key);
      else {
        const version = (this.#visible.get(key)?.version ?? 0) + 1;
        this.#visible.set(key, { text: JSON.stringify(value), version });
      }
    }
    const written = new Map(this.#visible);
    this.#commits += 1;
    const commit = this.#commits;
    await this.flushDelay();
    if (commit <= this.#flushed) return;
    this.#flushed = commit;
    this.#durable = written;
  }

  /** What a new process finds after the old one was killed: the kernel still has every write. */
  afterKill(): MemoryLedger {
    return MemoryLedger.#holding(this.#visible);
  }

  /** What a machine finds after its power went: only what was flushed. */
  afterPowerLoss(): MemoryLedger {
    return MemoryLedger.#holding(this.#durable);
  }

  static #holding(stored: ReadonlyMap<string, { text: string; version: number }>): MemoryLedger {
    const ledger = new MemoryLedger();
    ledger.#visible = new Map(stored);
    ledger.#durable = new Map(stored);
    return ledger;
  }

  async close(): Promise<void> {}
}
