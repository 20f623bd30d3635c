/** One bin of one series. */
export interface SeriesSample {
  /** Begin of the bin: seconds, or instructions executed. */
  readonly at: number;
  /** f64[metrics]; NaN: nothing was read. Valid during the call. */
  readonly values: Float64Array;
}

/** What a forecaster is told of a series before its first sample. */
export interface SeriesFacts {
  readonly series: string;
  readonly metrics: readonly string[];
  /** Length of a bin: seconds, or instructions. */
  readonly step: number;
  readonly axis: 'seconds' | 'instructions';
  /** Bins after which the course is expected to repeat. */
  readonly season: number;
}

/** Forecasts one series, sample by sample. It never sees a sample before its turn. */
export interface SeriesForecaster {
  /** Take the next bin, a missing one too. */
  refresh(sample: SeriesSample): void;
  /** Work between samples that no forecast waits for, such as a slow fit. */
  rest?(): void;
  /**
   * Quantiles of the bins that follow the last sample; changes nothing.
   * @param levels increasing, each in (0, 1)
   * @returns f64[metrics, horizon, levels], row-major; valid until the next call. NaN only for a metric that was never read
   */
  infer(horizon: number, levels: readonly number[]): Float64Array;
}

/** Makes a forecaster a series. */
export interface ForecasterSource {
  /** As messages call it. */
  readonly name: string;
  open(facts: SeriesFacts): SeriesForecaster;
}
