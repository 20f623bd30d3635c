import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { SeriesGrid } from '../data/grid.ts';
import { Durations } from './durations.ts';
import { SCORED_LEVELS, ScoreSheet, type Scores, type SeriesScore } from './scores.ts';
import { SeasonalScale } from './seasonal-scale.ts';
import type { ForecasterSource, SeriesFacts, SeriesForecaster } from './series-forecaster.ts';

/** How the end of each series is cut into windows: the last `windows` x `horizon` bins, one after the other. */
export interface EvaluationPlan {
  readonly metrics: readonly string[];
  readonly axis: SeriesFacts['axis'];
  /** Bins forecast at each origin. */
  readonly horizon: number;
  readonly windows: number;
  /** Bins of a season: of MASE's scale, and told to the forecaster. */
  readonly season: number;
}

/** Scores of a forecaster and what its calls cost. */
export interface Evaluation extends Scores {
  /** One bin of one series, all its metrics. */
  readonly refresh: Durations;
  /** One origin of one series: all metrics, the whole horizon. */
  readonly infer: Durations;
  readonly series: number;
  /** Series of which something was scored. */
  readonly bySeries: readonly SeriesScore[];
  /** CRPS of each step of the horizon. */
  readonly crpsByStep: readonly number[];
  /** Series with no bin before the first window; left out. */
  readonly tooShort: number;
  readonly duplicates: number;
  readonly outside: number;
}

/** One window of one metric, as it was scored. The arrays are valid during the call. */
export interface ScoredWindow {
  readonly grid: SeriesGrid;
  readonly metric: number;
  /** First bin that was forecast. */
  readonly origin: number;
  /** f64[horizon, levels], in the order of SCORED_LEVELS. */
  readonly forecast: Float64Array;
  /** Sum over the window of the mean over the levels of 2 x pinball. */
  readonly loss: number;
}

/** Scores a forecaster series by series, by a rolling origin; one series is held at a time. */
export class Evaluator {
  readonly #source: ForecasterSource;
  readonly #plan: EvaluationPlan;
  readonly #watch: ((window: ScoredWindow) => void) | undefined;
  readonly #sheet = new ScoreSheet();
  readonly #refresh = new Durations();
  readonly #infer = new Durations();
  #series = 0;
  #tooShort = 0;
  #longest = 0;
  #duplicates = 0;
  #outside = 0;

  /** @param watch told each window, after it was scored */
  constructor(source: ForecasterSource, plan: EvaluationPlan, watch?: (window: ScoredWindow) => void) {
    this.#source = source;
    this.#plan = plan;
    this.#watch = watch;
  }

  /**
   * Forecast the windows of one series, each from all that came before it.
   * @param fromBin windows that begin before it are not scored
   */
  add(grid: SeriesGrid, fromBin = 0): void {
    const { metrics, axis, horizon, windows, season } = this.#plan;
    this.#duplicates += grid.duplicates;
    this.#outside += grid.outside;
    this.#longest = Math.max(this.#longest, grid.steps);
    const firstOrigin = grid.steps - windows * horizon;
    if (firstOrigin < 1) {
      this.#tooShort += 1;
      return;
    }
    this.#series += 1;
    this.#sheet.begin(grid.series, metrics.length);
    const forecaster = this.#source.open({ series: grid.series, metrics, step: grid.step, axis, season });
    const past = new Past(metrics.length, season);
    for (let bin = 0; bin < grid.steps; bin += 1) {
      if (bin >= firstOrigin && bin >= fromBin && (bin - firstOrigin) % horizon === 0)
        this.#scoreWindow(grid, bin, forecaster, past);
      past.refresh(grid, bin);
      const sample = { at: grid.startAt + bin * grid.step, values: past.latest };
      timed(this.#refresh, () => forecaster.refresh(sample));
      forecaster.rest?.();
    }
  }

  #scoreWindow(grid: SeriesGrid, origin: number, forecaster: SeriesForecaster, past: Past): void {
    const { horizon } = this.#plan;
    // From a past without a value nothing can be forecast, whoever forecasts: such a window is not scored.
    const known = grid.values.map((_, m) => past.isRead[m] === true);
    if (!known.includes(true)) return;
    const forecast = timed(this.#infer, () => forecaster.infer(horizon, SCORED_LEVELS));
    const row = horizon * SCORED_LEVELS.length;
    for (const [m, values] of grid.values.entries()) {
      if (!known[m]) continue;
      const actual = values.subarray(origin, origin + horizon);
      const own = forecast.subarray(m * row, (m + 1) * row);
      const loss = this.#sheet.add(actual, own, past.scales[m]?.value ?? Number.NaN, m);
      this.#watch?.({ grid, metric: m, origin, forecast: own, loss });
    }
  }

  /** @throws {AllocatorError} INVALID_REQUEST when no series is long enough, or nothing could be scored */
  finish(): Evaluation {
    const { horizon, windows } = this.#plan;
    if (this.#series === 0) {
      throw new AllocatorError(
        'INVALID_REQUEST',
        `no series is long enough: ${windows} windows of ${horizon} steps need ${windows * horizon + 1}, the longest has ${this.#longest}`,
        { horizon, windows, longest: this.#longest },
      );
    }
    const scores = this.#sheet.total();
    if (scores.scored === 0)
      throw new AllocatorError(
        'INVALID_REQUEST',
        'every value of the windows is missing: nothing can be scored',
        {
          horizon,
          windows,
        },
      );
    return {
      ...scores,
      refresh: this.#refresh,
      infer: this.#infer,
      series: this.#series,
      bySeries: this.#sheet.bySeries(),
      crpsByStep: this.#sheet.crpsByStep(),
      tooShort: this.#tooShort,
      duplicates: this.#duplicates,
      outside: this.#outside,
    };
  }
}

/** What lies before the present bin, metric by metric. */
class Past {
  readonly scales: readonly SeasonalScale[];
  readonly isRead: boolean[];
  /** f64[metrics], the newest bin. */
  readonly latest: Float64Array;

  constructor(metrics: number, season: number) {
    this.scales = Array.from({ length: metrics }, () => new SeasonalScale(season));
    this.isRead = new Array<boolean>(metrics).fill(false);
    this.latest = new Float64Array(metrics);
  }

  refresh({ values }: SeriesGrid, bin: number): void {
    for (const [m, scale] of this.scales.entries()) {
      const value = values[m]?.[bin] ?? Number.NaN;
      this.latest[m] = value;
      scale.refresh(value);
      if (!Number.isNaN(value)) this.isRead[m] = true;
    }
  }
}

function timed<T>(durations: Durations, call: () => T): T {
  const began = performance.now();
  const result = call();
  durations.add((performance.now() - began) * 1000);
  return result;
}
