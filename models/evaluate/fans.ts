import type { ScoredWindow } from './evaluate.ts';
import { SCORED_LEVELS } from './scores.ts';

/** One window to be looked at: what came before, what was forecast, and what came. */
export interface Fan {
  readonly series: string;
  readonly metric: string;
  /** First bin that was forecast; the past ends before it. */
  readonly origin: number;
  /** NaN: nothing was read. */
  readonly past: Float64Array;
  readonly actual: Float64Array;
  /** f64[horizon, levels], in the order of SCORED_LEVELS. */
  readonly forecast: Float64Array;
  readonly loss: number;
  /** `hardest`: of all windows the one with the greatest loss; `even`: taken from a series at even distances. */
  readonly why: 'hardest' | 'even';
}

const HARDEST = 2;
const EVEN = 4;
/** Bins of the past that are kept, in horizons, and at most. */
const PAST_HORIZONS = 2;
const PAST_MAX = 576;

/**
 * Keeps a few windows of an evaluation: the hardest, each of another series, and the last of series at even distances, so
 * that what is shown is not what looks best.
 */
export class FanCollector {
  readonly #metrics: readonly string[];
  readonly #places: ReadonlySet<number>;
  readonly #even = new Map<number, Fan>();
  #hardest: readonly Fan[] = [];
  #place = -1;
  #series: string | undefined;

  /** @param count series of the set */
  constructor(metrics: readonly string[], count: number) {
    this.#metrics = metrics;
    this.#places = new Set(Array.from({ length: EVEN }, (_, i) => Math.floor(((i + 0.5) * count) / EVEN)));
  }

  /** Look at a window; what is kept of it is a copy. */
  watch(window: ScoredWindow): void {
    const { grid, metric, origin, forecast, loss } = window;
    if (grid.series !== this.#series) this.#place += 1;
    this.#series = grid.series;
    const actual = grid.values[metric]?.subarray(origin, origin + forecast.length / SCORED_LEVELS.length);
    if (actual?.every(Number.isNaN) ?? true) return;
    if (this.#places.has(this.#place) && metric === this.#place % this.#metrics.length)
      this.#even.set(this.#place, this.#fanOf(window, 'even'));
    const least = this.#hardest.at(-1);
    if (this.#hardest.length === HARDEST && loss <= (least as Fan).loss) return;
    const same = this.#hardest.find(({ series }) => series === grid.series);
    if (same !== undefined && loss <= same.loss) return;
    const others = this.#hardest.filter((fan) => fan !== same);
    this.#hardest = [...others, this.#fanOf(window, 'hardest')]
      .sort((a, b) => b.loss - a.loss)
      .slice(0, HARDEST);
  }

  #fanOf({ grid, metric, origin, forecast, loss }: ScoredWindow, why: Fan['why']): Fan {
    const values = grid.values[metric] as Float64Array;
    const horizon = forecast.length / SCORED_LEVELS.length;
    const back = Math.min(PAST_HORIZONS * horizon, PAST_MAX, origin);
    return {
      series: grid.series,
      metric: this.#metrics[metric] as string,
      origin,
      past: values.slice(origin - back, origin),
      actual: values.slice(origin, origin + horizon),
      forecast: forecast.slice(),
      loss,
      why,
    };
  }

  /** The hardest first. */
  get fans(): readonly Fan[] {
    return [...this.#hardest, ...this.#even.values()];
  }
}
