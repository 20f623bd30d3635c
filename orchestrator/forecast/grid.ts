import assert from 'node:assert';
import { FIELDS } from '../core/forecast.ts';

/** A clock set back by more than this begins anew where it stands; readings less far back tell what is known already. */
const STEP_BACK_MS_MAX = 10_000;

// One field's row: the bin that is open, until when readings reach, value x ms and ms of the open bin, the last closed
// bin's value, and how many bins were given out.
const OPEN = 0;
const UNTIL = 1;
const SUM = 2;
const WEIGHT = 3;
const LAST = 4;
const BINS = 5;
const ROW = 6;

/** What a grid is laid over. */
export interface GridShape {
  readonly stepMs: number;
  /** Where bins begin: at this past whole steps since the epoch, ms in [0, stepMs). */
  readonly phaseMs: number;
  /** Bins of one value in a row at most: what a single reading may cause. */
  readonly runMax: number;
  /** Longer runs are shortened by whole multiples of this, so that what comes after keeps its place in the season; 0: to `runMax`. */
  readonly season: number;
}

/** Called with each run of closed bins of one value, in order. */
export type TakeBins = (field: number, value: number, count: number) => void;

/**
 * Lays uneven readings of a guest's fields over a grid of time: a bin is the time-weighted mean of what was read of it, a bin
 * of which nothing was read repeats the one before. Each field closes its bins by its own readings, for they come apart.
 */
export class Grid {
  readonly #shape: GridShape;
  /** f64[FIELDS, ROW] */
  readonly #rows: Float64Array;

  /** @param rows as `rows` of a grid of the same shape gave it; absent: nothing was read yet */
  constructor(shape: GridShape, rows: Float64Array = new Float64Array(FIELDS * ROW).fill(Number.NaN)) {
    assert(rows.length === FIELDS * ROW);
    assert(shape.phaseMs >= 0 && shape.phaseMs < shape.stepMs);
    this.#shape = shape;
    this.#rows = rows;
  }

  /** The whole state, f64. */
  get rows(): Float64Array {
    return this.#rows;
  }

  /** Bins of a field given out so far. */
  bins(field: number): number {
    return this.#rows[field * ROW + BINS] || 0;
  }

  /** Where in the season a field's first bin lies. */
  clock(field: number): number {
    const { season } = this.#shape;
    const first = (this.#at(field, OPEN) - this.bins(field)) % Math.max(season, 1);
    return first < 0 ? first + season : first;
  }

  /** End of the newest closed bin of any field, ms since epoch; NaN before the first. */
  get endMs(): number {
    let open = Number.NaN;
    for (let f = 0; f < FIELDS; f += 1)
      if (this.bins(f) > 0 && !(open > this.#at(f, OPEN))) open = this.#at(f, OPEN);
    return this.#startMs(open);
  }

  /** Index of the bin that holds a moment. */
  binOf(atMs: number): number {
    return Math.floor((atMs - this.#shape.phaseMs) / this.#shape.stepMs);
  }

  /**
   * Take one field's reading of the period that ends at `atMs`; the part of it that was read before is not read again.
   * @param value finite
   * @param periodMs above 0
   */
  take(field: number, value: number, atMs: number, periodMs: number, takeBins: TakeBins): void {
    const row = field * ROW;
    const rows = this.#rows;
    const until = this.#at(field, UNTIL);
    if (Number.isNaN(until) || atMs < until - STEP_BACK_MS_MAX) this.#begin(row, atMs - periodMs);
    else if (atMs <= until) return;
    const fromMs = Math.max(atMs - periodMs, this.#at(field, UNTIL));
    const open = this.#at(field, OPEN);
    const now = this.binOf(atMs);
    let restMs = fromMs;
    if (now > open) {
      const endMs = this.#startMs(open + 1);
      if (fromMs < endMs) this.#weigh(row, value, endMs - fromMs);
      const weight = rows[row + WEIGHT] as number;
      this.#close(field, weight > 0 ? (rows[row + SUM] as number) / weight : Number.NaN, 1, takeBins);
      const readFrom = Math.max(open + 1, this.binOf(fromMs));
      this.#close(field, Number.NaN, Math.min(readFrom, now) - open - 1, takeBins);
      this.#close(field, value, now - readFrom, takeBins);
      rows[row + OPEN] = now;
      rows[row + SUM] = 0;
      rows[row + WEIGHT] = 0;
      restMs = Math.max(fromMs, this.#startMs(now));
    }
    this.#weigh(row, value, atMs - restMs);
    rows[row + UNTIL] = atMs;
  }

  #at(field: number, place: number): number {
    return this.#rows[field * ROW + place] as number;
  }

  #startMs(bin: number): number {
    return bin * this.#shape.stepMs + this.#shape.phaseMs;
  }

  #begin(row: number, fromMs: number): void {
    this.#rows[row + OPEN] = this.binOf(fromMs);
    this.#rows[row + UNTIL] = fromMs;
    this.#rows[row + SUM] = 0;
    this.#rows[row + WEIGHT] = 0;
  }

  #weigh(row: number, value: number, ms: number): void {
    this.#rows[row + SUM] = (this.#rows[row + SUM] as number) + value * ms;
    this.#rows[row + WEIGHT] = (this.#rows[row + WEIGHT] as number) + ms;
  }

  /** @param value NaN: nothing was read of them, so the last is repeated; before the first there is nothing to repeat */
  #close(field: number, value: number, count: number, takeBins: TakeBins): void {
    const { runMax, season } = this.#shape;
    const run = count <= runMax ? count : season > 1 ? count % season : runMax;
    const taken = Number.isNaN(value) ? this.#at(field, LAST) : value;
    if (run <= 0 || Number.isNaN(taken)) return;
    this.#rows[field * ROW + LAST] = taken;
    this.#rows[field * ROW + BINS] = this.bins(field) + run;
    takeBins(field, taken, run);
  }
}
