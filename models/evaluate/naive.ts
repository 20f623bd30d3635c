import type { ForecasterSource, SeriesFacts, SeriesForecaster, SeriesSample } from './series-forecaster.ts';

/** Reference forecasts, by name. Both are points: every quantile is the same value. */
export const BASELINES = ['seasonal-naive', 'last-value'] as const;
export type Baseline = (typeof BASELINES)[number];

/** The last season repeated, or the last value: a season of one bin. */
export function baselineSource(name: Baseline): ForecasterSource {
  return {
    name,
    open: ({ metrics, season }: SeriesFacts) =>
      new NaiveForecaster(metrics.length, name === 'last-value' ? 1 : season),
  };
}

/**
 * Repeats the last season. A bin of it that is missing is the last value read before it, as GluonTS's
 * LastValueImputation has it; one before the series' first value is the last value read.
 */
class NaiveForecaster implements SeriesForecaster {
  readonly #season: number;
  /** f64[metrics, season]: bin n of the series in column n modulo the season. */
  readonly #ring: Float64Array;
  readonly #last: Float64Array;
  #bins = 0;
  #out = new Float64Array(0);

  constructor(metrics: number, season: number) {
    this.#season = season;
    this.#ring = new Float64Array(metrics * season).fill(Number.NaN);
    this.#last = new Float64Array(metrics).fill(Number.NaN);
  }

  refresh({ values }: SeriesSample): void {
    const column = this.#bins % this.#season;
    for (let m = 0; m < values.length; m += 1) {
      const value = values[m] as number;
      if (!Number.isNaN(value)) this.#last[m] = value;
      this.#ring[m * this.#season + column] = this.#last[m] as number;
    }
    this.#bins += 1;
  }

  infer(horizon: number, levels: readonly number[]): Float64Array {
    const row = horizon * levels.length;
    if (this.#out.length !== this.#last.length * row) this.#out = new Float64Array(this.#last.length * row);
    for (const [m, last] of this.#last.entries()) {
      for (let h = 0; h < horizon; h += 1) {
        const seen = this.#ring[m * this.#season + ((this.#bins + h) % this.#season)] as number;
        const at = m * row + h * levels.length;
        this.#out.fill(Number.isNaN(seen) ? last : seen, at, at + levels.length);
      }
    }
    return this.#out;
  }
}
