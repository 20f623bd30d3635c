/** Levels that are scored; the one in the middle is the point forecast. */
export const SCORED_LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9] as const;
const LEVELS = SCORED_LEVELS.length;
const MEDIAN = SCORED_LEVELS.indexOf(0.5);

/** Scores of a set, over all series, metrics and windows. NaN: there is nothing to divide by. */
export interface Scores {
  /** Values scored; missing ones are not. */
  readonly scored: number;
  /** In the unit of the metric; over several metrics a mixture. */
  readonly mae: number;
  /** sum|e| / sum|y|. */
  readonly nd: number;
  /** Over the cells that are finite, a cell being one window of one metric of one series. */
  readonly mase: number;
  readonly maseMedian: number;
  /** Mean over the levels of 2 sum(pinball) / sum|y|. A point forecast's is its ND. */
  readonly crps: number;
  /** Share of the actual values below each level's quantile; equal to it counts half. */
  readonly coverage: readonly number[];
}

/** What one series adds to the scores. */
export interface SeriesScore {
  readonly series: string;
  readonly scored: number;
  /** Sums by metric, f64[metrics]: of |e|, of |y|, and of the mean over the levels of 2 x pinball. */
  readonly errors: Float64Array;
  readonly sizes: Float64Array;
  readonly losses: Float64Array;
  /** MASE of its cells that are finite. */
  readonly cells: readonly number[];
}

interface Tally extends SeriesScore {
  scored: number;
  readonly cells: number[];
}

/**
 * Gathers what the scores are made of.
 * Source: Aksu et al., "GIFT-Eval: a benchmark for general time series forecasting model evaluation", 2024
 * (mean weighted sum quantile loss, MASE by window).
 */
export class ScoreSheet {
  #scored = 0;
  #absoluteError = 0;
  #absoluteActual = 0;
  readonly #pinball = new Float64Array(LEVELS);
  readonly #covered = new Float64Array(LEVELS);
  readonly #cells: number[] = [];
  readonly #tallies: Tally[] = [];
  /** By step: sum of the mean over the levels of 2 x pinball, and of |y|. */
  readonly #stepLosses: number[] = [];
  readonly #stepSizes: number[] = [];

  /** What is added from now on is of this series. */
  begin(series: string, metrics: number): void {
    const [errors, sizes, losses] = [0, 0, 0].map(() => new Float64Array(metrics)) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    this.#tallies.push({ series, scored: 0, errors, sizes, losses, cells: [] });
  }

  /**
   * Score one window of one metric.
   * @param actual   f64[horizon]; NaN is not scored
   * @param forecast f64[horizon, levels], in the order of SCORED_LEVELS
   * @param scale    mean seasonal difference of the window's past; 0 or NaN: the window has no MASE
   * @param metric   its place among the series' metrics
   * @returns        sum over the window of the mean over the levels of 2 x pinball
   */
  add(actual: Float64Array, forecast: Float64Array, scale: number, metric = 0): number {
    if (this.#tallies.length === 0) this.begin('', metric + 1);
    const tally = this.#tallies.at(-1) as Tally;
    let error = 0;
    let size = 0;
    let losses = 0;
    let scored = 0;
    for (const [h, y] of actual.entries()) {
      if (Number.isNaN(y)) continue;
      scored += 1;
      error += Math.abs(y - (forecast[h * LEVELS + MEDIAN] as number));
      size += Math.abs(y);
      let loss = 0;
      for (const [l, level] of SCORED_LEVELS.entries())
        loss += this.#addLevel(l, level, y, forecast[h * LEVELS + l]);
      loss *= 2 / LEVELS;
      losses += loss;
      this.#stepLosses[h] = (this.#stepLosses[h] ?? 0) + loss;
      this.#stepSizes[h] = (this.#stepSizes[h] ?? 0) + Math.abs(y);
    }
    this.#scored += scored;
    this.#absoluteError += error;
    this.#absoluteActual += size;
    tally.scored += scored;
    add(tally.errors, metric, error);
    add(tally.sizes, metric, size);
    add(tally.losses, metric, losses);
    const cell = error / scored / scale;
    if (Number.isFinite(cell)) {
      this.#cells.push(cell);
      tally.cells.push(cell);
    }
    return losses;
  }

  /** @returns the pinball loss */
  #addLevel(l: number, level: number, y: number, quantile: number | undefined): number {
    const residual = y - (quantile as number);
    // A forecaster that answers nothing must not be scored as if it had not been asked.
    if (!Number.isFinite(residual)) throw new Error(`the forecast of level ${level} is ${quantile}`);
    const loss = Math.max(level * residual, (level - 1) * residual);
    add(this.#pinball, l, loss);
    add(this.#covered, l, coveredShare(y, quantile as number));
    return loss;
  }

  /** Series of which something was scored, in the order they came. */
  bySeries(): readonly SeriesScore[] {
    return this.#tallies.filter(({ scored }) => scored > 0);
  }

  /** CRPS of each step of the horizon; NaN where there is nothing to divide by. */
  crpsByStep(): readonly number[] {
    return Array.from(this.#stepLosses, (loss, h) => finiteOrNaN((loss ?? 0) / (this.#stepSizes[h] ?? 0)));
  }

  total(): Scores {
    const weighted = this.#pinball.reduce((sum, loss) => sum + (2 * loss) / this.#absoluteActual, 0);
    return {
      scored: this.#scored,
      mae: this.#absoluteError / this.#scored,
      nd: finiteOrNaN(this.#absoluteError / this.#absoluteActual),
      mase: this.#cells.reduce((sum, cell) => sum + cell, 0) / this.#cells.length,
      maseMedian: median(this.#cells),
      crps: finiteOrNaN(weighted / LEVELS),
      coverage: [...this.#covered].map((count) => count / this.#scored),
    };
  }
}

function add(sums: Float64Array, place: number, value: number): void {
  sums[place] = (sums[place] as number) + value;
}

function finiteOrNaN(value: number): number {
  return Number.isFinite(value) ? value : Number.NaN;
}

/** Middle value; of an even count the mean of the two in the middle. */
function median(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length / 2;
  return ((sorted[Math.ceil(half) - 1] ?? Number.NaN) + (sorted[Math.floor(half)] ?? Number.NaN)) / 2;
}

/** What an actual counts as lying under a quantile; a tie counts half. Quantiles are single precision, so a tie is one of it. */
function coveredShare(actual: number, quantile: number): number {
  const difference = Math.fround(actual) - Math.fround(quantile);
  return difference < 0 ? 1 : difference === 0 ? 0.5 : 0;
}
