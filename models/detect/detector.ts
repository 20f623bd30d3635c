/** Scores the rows of one series in their order. */
export interface SeriesDetector {
  /** @param history oldest row first; a reading a metric, NaN: missing */
  learn(history: readonly Float64Array[]): void;
  /**
   * Score of the next row, from it and those before it only.
   * @returns in [0, 1]; NaN when the row has no reading
   */
  score(row: Float64Array): number;
  close(): void;
}

/** Where detectors come from; the one that is scored is handed in. */
export interface DetectorSource {
  /** Metrics of a series at most. */
  readonly metricsMax: number;
  /** Rows of a history at least. */
  readonly historyRowsMin: number;
  open(metrics: number): SeriesDetector;
}
