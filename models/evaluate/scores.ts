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

  /**
   * Score one window of one metric.
   * @param actual   f64[horizon]; NaN is not scored
   * @param forecast f64[horizon, levels], in the order of SCORED_LEVELS
   * @param scale    mean seasonal difference of the window's past; 0 or NaN: the window has no MASE
   */
  add(actual: Float64Array, forecast: Float64Array, scale: number): void {
    let error = 0;
    let scored = 0;
    for (const [h, y] of actual.entries()) {
      if (Number.isNaN(y)) continue;
      scored += 1;
      error += Math.abs(y - (forecast[h * LEVELS + MEDIAN] as number));
      this.#absoluteActual += Math.abs(y);
      for (const [l, level] of SCORED_LEVELS.entries()) this.#addLevel(l, level, y, forecast[h * LEVELS + l]);
    }
    this.#scored += scored;
    this.#absoluteError += error;
    const cell = error / scored / scale;
    if (Number.isFinite(cell)) this.#cells.push(cell);
  }

  #addLevel(l: number, level: number, y: number, quantile: number | undefined): void {
    const residual = y - (quantile as number);
    // A forecaster that answers nothing must not be scored as if it had not been asked.
    if (!Number.isFinite(residual)) throw new Error(`the forecast of level ${level} is ${quantile}`);
    this.#pinball[l] = (this.#pinball[l] as number) + Math.max(level * residual, (level - 1) * residual);
    this.#covered[l] = (this.#covered[l] as number) + (residual < 0 ? 1 : residual === 0 ? 0.5 : 0);
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

function finiteOrNaN(value: number): number {
  return Number.isFinite(value) ? value : Number.NaN;
}

/** Middle value; of an even count the mean of the two in the middle. */
function median(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length / 2;
  return ((sorted[Math.ceil(half) - 1] ?? Number.NaN) + (sorted[Math.floor(half)] ?? Number.NaN)) / 2;
}
