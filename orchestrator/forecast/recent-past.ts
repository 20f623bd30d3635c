import { FIELDS } from '../core/forecast.ts';

/** Widths of the bins, ms: each four times the one before, from a full sample's to what a run of 40 minutes needs. */
const WIDTHS_MS = [1_000, 4_000, 16_000, 64_000, 256_000] as const;
/** Bins kept of each width. A run is read at the finest width that still holds all of it: in 3 to 9 bins. */
const BINS = 10;

/** What one guest used lately, as means, finely for seconds and coarsely for most of an hour: 1.8 KiB. */
export class RecentPast {
  /** f32[WIDTHS, BINS, FIELDS]; NaN: never read */
  readonly #means = new Float32Array(WIDTHS_MS.length * BINS * FIELDS).fill(Number.NaN);
  /** f32[WIDTHS, BINS], ms read of each */
  readonly #readMs = new Float32Array(WIDTHS_MS.length * BINS);
  /** i32[WIDTHS, BINS], which bin since the epoch stands there */
  readonly #numbers = new Int32Array(WIDTHS_MS.length * BINS).fill(-1);

  /**
   * Take a reading of the period that ends at `atMs`, whole into the bin of its middle.
   * @param values f64[FIELDS]; NaN: not read
   * @param periodMs above 0
   */
  take(values: Float64Array, atMs: number, periodMs: number): void {
    for (const [w, widthMs] of WIDTHS_MS.entries()) {
      const number = Math.floor((atMs - periodMs / 2) / widthMs);
      if (!(number >= 0)) continue;
      const bin = w * BINS + (number % BINS);
      const row = this.#means.subarray(bin * FIELDS, (bin + 1) * FIELDS);
      if (this.#numbers[bin] !== number) {
        this.#numbers[bin] = number;
        this.#readMs[bin] = 0;
        row.fill(Number.NaN);
      }
      const readMs = (this.#readMs[bin] as number) + periodMs;
      this.#readMs[bin] = readMs;
      for (let f = 0; f < FIELDS; f += 1) {
        const value = values[f] as number;
        if (Number.isNaN(value)) continue;
        const mean = row[f] as number;
        row[f] = Number.isNaN(mean) ? value : mean + ((value - mean) * periodMs) / readMs;
      }
    }
  }

  /**
   * Means of a field over equal parts of a stretch of time into `out`, f64[parts].
   * @returns false when some of it was not read, or is forgotten
   */
  means(field: number, fromMs: number, toMs: number, out: Float64Array): boolean {
    const w = WIDTHS_MS.findIndex((widthMs) => toMs - fromMs < (BINS - 1) * widthMs);
    if (w < 0) return false;
    const partMs = (toMs - fromMs) / out.length;
    for (let i = 0; i < out.length; i += 1)
      out[i] = this.#mean(w, field, fromMs + i * partMs, fromMs + (i + 1) * partMs);
    return !out.some(Number.isNaN);
  }

  #mean(w: number, field: number, fromMs: number, toMs: number): number {
    const widthMs = WIDTHS_MS[w] as number;
    let sum = 0;
    for (let number = Math.floor(fromMs / widthMs); number * widthMs < toMs; number += 1) {
      const bin = w * BINS + (number % BINS);
      if (this.#numbers[bin] !== number) return Number.NaN;
      const overlapMs = Math.min((number + 1) * widthMs, toMs) - Math.max(number * widthMs, fromMs);
      sum += (this.#means[bin * FIELDS + field] as number) * overlapMs;
    }
    return sum / (toMs - fromMs);
  }
}
