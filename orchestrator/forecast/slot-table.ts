import assert from 'node:assert';

/**
 * Fixed places for keys, the least recently claimed giving way when all are taken.
 * A JavaScript Map keeps insertion order, so its first key is the one claimed longest ago.
 */
export class SlotTable {
  readonly #slots = new Map<string, number>();
  readonly #free: number[];
  readonly #clear: (slot: number, key: string) => void;

  /** @param clear empties a place; called before a place is given to a new key, and with the key that had it */
  constructor(size: number, clear: (slot: number, key: string) => void) {
    assert(size > 0);
    this.#free = Array.from({ length: size }, (_, i) => size - 1 - i);
    this.#clear = clear;
  }

  get size(): number {
    return this.#slots.size;
  }

  /** Place of a key, or -1. Does not count as use. */
  find(key: string): number {
    return this.#slots.get(key) ?? -1;
  }

  /** Place of a key, made for it if need be; it becomes the most recently used. */
  claim(key: string): number {
    const held = this.#slots.get(key);
    if (held !== undefined) {
      this.#slots.delete(key);
      this.#slots.set(key, held);
      return held;
    }
    if (this.#free.length === 0) this.#evictOldest();
    const slot = this.#free.pop();
    assert(slot !== undefined);
    this.#slots.set(key, slot);
    return slot;
  }

  release(key: string): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) return;
    this.#slots.delete(key);
    this.#clear(slot, key);
    this.#free.push(slot);
  }

  #evictOldest(): void {
    for (const key of this.#slots.keys()) {
      this.release(key);
      return;
    }
  }
}
