/**
 * Mean of |y_t - y_(t-S)| over a series' past, what MASE is measured in. Pairs with a missing value do not count.
 * Source: Hyndman & Koehler, "Another look at measures of forecast accuracy", 2006, with lag S.
 */
export class SeasonalScale {
  readonly #ring: Float64Array;
  #bins = 0;
  #sum = 0;
  #pairs = 0;

  constructor(season: number) {
    this.#ring = new Float64Array(season).fill(Number.NaN);
  }

  /** Take the next bin; NaN is a missing one. */
  refresh(value: number): void {
    const column = this.#bins % this.#ring.length;
    const difference = Math.abs(value - (this.#ring[column] as number));
    if (!Number.isNaN(difference)) {
      this.#sum += difference;
      this.#pairs += 1;
    }
    this.#ring[column] = value;
    this.#bins += 1;
  }

  /** NaN without a pair, 0 when every value repeats. */
  get value(): number {
    return this.#sum / this.#pairs;
  }
}
