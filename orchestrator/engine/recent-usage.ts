import { PROFILE_FIELDS, type ProfileField } from '../core/profile.ts';
import type { GuestSample } from '../core/sample.ts';

/** Samples kept at most: 6 s at the fast cadence, longer than any cooldown's look back. */
const ROWS_MAX = 64;
/** Samples kept of a guest that is sampled once a second: longer than `KEPT_MS`. */
const ROWS_MIN = 16;
/** A sample younger than this is kept while there may be more rows. */
const KEPT_MS = 10_000;
/** Time, then the profile's fields; NaN for one that was not read. */
const COLUMNS = 1 + PROFILE_FIELDS.length;

/** What one guest used of late: its last samples' times and usage, as numbers alone. A sample takes ten times as much. */
export class RecentUsage {
  /** f64[rows, COLUMNS], a ring. */
  #values = new Float64Array(ROWS_MIN * COLUMNS);
  #next = 0;
  #rows = 0;

  note({ atMs, usage }: GuestSample): void {
    const at = this.#place(atMs) * COLUMNS;
    const values = this.#values;
    values[at] = atMs;
    for (let i = 0; i < PROFILE_FIELDS.length; i += 1)
      values[at + 1 + i] = usage[PROFILE_FIELDS[i] as ProfileField] ?? Number.NaN;
  }

  /** Usage of one field where it was read, of samples later than `sinceMs`; in no order. */
  of(field: ProfileField, sinceMs: number): number[] {
    const values = this.#values;
    const column = 1 + PROFILE_FIELDS.indexOf(field);
    const found: number[] = [];
    for (let at = 0; at < this.#rows * COLUMNS; at += COLUMNS) {
      const value = values[at + column] as number;
      if ((values[at] as number) > sinceMs && !Number.isNaN(value)) found.push(value);
    }
    return found;
  }

  /** The row for the next sample: a new one, or the oldest's. */
  #place(atMs: number): number {
    const capacity = this.#values.length / COLUMNS;
    const isFull = this.#rows === capacity;
    if (isFull && capacity < ROWS_MAX && atMs - (this.#values[this.#next * COLUMNS] as number) < KEPT_MS) {
      this.#grow();
      return this.#place(atMs);
    }
    const row = this.#next;
    this.#next = (row + 1) % capacity;
    this.#rows = isFull ? capacity : this.#rows + 1;
    return row;
  }

  /** Twice the rows, oldest first. */
  #grow(): void {
    const values = new Float64Array(2 * this.#values.length);
    const oldestAt = this.#next * COLUMNS;
    values.set(this.#values.subarray(oldestAt));
    values.set(this.#values.subarray(0, oldestAt), this.#values.length - oldestAt);
    this.#values = values;
    this.#next = this.#rows;
  }
}
