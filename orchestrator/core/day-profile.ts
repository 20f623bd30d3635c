import assert from 'node:assert';

/** Hours of the UTC day, which is what every profile by hour is read on. */
export const HOURS = 24;
const HOUR_MS = 3_600_000;
const DAY_MS = HOURS * HOUR_MS;
/** What is this old counts half: habits of a week are still seen after two, and given up after a month. */
const HALF_LIFE_DAYS = 14;

/** Mean demand by hour of the UTC day. */
export class DayProfile {
  readonly #sums = new Float64Array(HOURS);
  readonly #weights = new Float64Array(HOURS);
  #day = Number.NEGATIVE_INFINITY;

  /**
   * Take in the mean demand of a stretch, by the hour in which it lies or ends.
   * @param atMs its time, ms since epoch @param lastedMs its length @param demand >= 0
   */
  add(atMs: number, lastedMs: number, demand: number): void {
    assert(Number.isFinite(atMs) && lastedMs > 0 && Number.isFinite(demand) && demand >= 0);
    this.#age(Math.floor(atMs / DAY_MS));
    const hour = hourOf(atMs);
    this.#sums[hour] = (this.#sums[hour] as number) + demand * lastedMs;
    this.#weights[hour] = (this.#weights[hour] as number) + lastedMs;
  }

  /** Add it to another's, hour by hour; an hour never seen is as the mean of those seen. @param total f64[24] */
  addTo(total: Float64Array): void {
    const seen = sum(this.#weights);
    if (seen === 0) return;
    const mean = sum(this.#sums) / seen;
    for (let hour = 0; hour < HOURS; hour += 1) {
      const weight = this.#weights[hour] as number;
      total[hour] = (total[hour] as number) + (weight > 0 ? (this.#sums[hour] as number) / weight : mean);
    }
  }

  /** Days that pass take weight from all that came before. */
  #age(day: number): void {
    if (day <= this.#day) return;
    const kept = Number.isFinite(this.#day) ? 2 ** ((this.#day - day) / HALF_LIFE_DAYS) : 1;
    this.#day = day;
    for (let hour = 0; hour < HOURS; hour += 1) {
      this.#sums[hour] = (this.#sums[hour] as number) * kept;
      this.#weights[hour] = (this.#weights[hour] as number) * kept;
    }
  }
}

/** Time that a stretch has in each hour of the UTC day, added to `total`. A stretch of days counts for every hour alike. */
export function addStretch(total: Float64Array, startMs: number, endMs: number): void {
  const days = Math.floor((endMs - startMs) / DAY_MS);
  for (let hour = 0; hour < HOURS; hour += 1) total[hour] = (total[hour] as number) + days * HOUR_MS;
  for (let atMs = startMs + days * DAY_MS; atMs < endMs; ) {
    const nextMs = Math.min(endMs, (Math.floor(atMs / HOUR_MS) + 1) * HOUR_MS);
    const hour = hourOf(atMs);
    total[hour] = (total[hour] as number) + nextMs - atMs;
    atMs = nextMs;
  }
}

/**
 * Share of a newcomer's peak that does not add to the others' peak, in [0, 1]: 1 when it is busy in hours in which they leave
 * that much below their own peak, 0 when it adds in full. Undefined for a newcomer that uses nothing.
 * @param own f64[24] @param others f64[24]
 */
export function complementOf(own: readonly number[], others: readonly number[]): number | undefined {
  const ownPeak = Math.max(...own);
  if (!(ownPeak > 0)) return undefined;
  const peak = Math.max(...others);
  const together = Math.max(...others.map((value, hour) => value + (own[hour] as number)));
  return Math.min(1, Math.max(0, 1 - (together - peak) / ownPeak));
}

function hourOf(atMs: number): number {
  return Math.floor((atMs - Math.floor(atMs / DAY_MS) * DAY_MS) / HOUR_MS);
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}
