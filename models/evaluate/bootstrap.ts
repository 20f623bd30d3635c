import type { SeriesScore } from './scores.ts';

/** How often series are drawn anew. */
export const RESAMPLES = 1000;
/** Share of the resamples that an interval holds; as many lie below it as above. */
export const INTERVAL_LEVEL = 0.9;

/** NaN when there is nothing to divide by. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** Intervals of scores: what they would be on other series of the same kind. */
export interface ScoreIntervals {
  readonly crps: Interval;
  readonly nd: Interval;
  readonly maseMedian: Interval;
}

/**
 * Intervals by drawing the series anew, as many as there are, with replacement. Windows of one series are alike, so they
 * are drawn together.
 * Source: Efron & Tibshirani, "An introduction to the bootstrap", 1993, ch. 13, the percentile interval.
 * @param random numbers in [0, 1)
 */
export function intervalsOf(series: readonly SeriesScore[], random: () => number): ScoreIntervals {
  const sizes = series.map((one) => sum(one.sizes));
  const errors = series.map((one) => sum(one.errors));
  const losses = series.map((one) => sum(one.losses));
  const cells = series
    .flatMap((one, owner) => one.cells.map((cell) => ({ cell, owner })))
    .sort((a, b) => a.cell - b.cell);
  const drawn = resample(series.length, random, (counts) => ({
    crps: weighted(losses, counts) / weighted(sizes, counts),
    nd: weighted(errors, counts) / weighted(sizes, counts),
    maseMedian: weightedMedian(cells, counts),
  }));
  return {
    crps: intervalOf(drawn.map(({ crps }) => crps)),
    nd: intervalOf(drawn.map(({ nd }) => nd)),
    maseMedian: intervalOf(drawn.map(({ maseMedian }) => maseMedian)),
  };
}

/**
 * Interval of one forecaster's CRPS in units of another's on the same series, which are drawn in pairs. Below 1: it is
 * better than the other.
 * @param series, others of the same series in the same order
 */
export function ratioInterval(
  series: readonly SeriesScore[],
  others: readonly SeriesScore[],
  random: () => number,
): Interval {
  const losses = series.map((one) => sum(one.losses));
  const theirs = others.map((one) => sum(one.losses));
  return intervalOf(
    resample(series.length, random, (counts) => weighted(losses, counts) / weighted(theirs, counts)),
  );
}

/** What a statistic gives on each resample. @param statistic of how often each of `size` was drawn */
export function resample<T>(size: number, random: () => number, statistic: (counts: Uint32Array) => T): T[] {
  return Array.from({ length: RESAMPLES }, () => statistic(drawCounts(size, random)));
}

/** How often each of `size` is drawn in as many draws with replacement. */
export function drawCounts(size: number, random: () => number): Uint32Array {
  const counts = new Uint32Array(size);
  for (let i = 0; i < size; i += 1) {
    const drawn = Math.floor(random() * size);
    counts[drawn] = (counts[drawn] as number) + 1;
  }
  return counts;
}

/** The middle INTERVAL_LEVEL of the values, by nearest rank. Values that are not finite are left out. */
export function intervalOf(values: readonly number[]): Interval {
  const sorted = Float64Array.from(values.filter(Number.isFinite)).sort();
  const at = (share: number): number => sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN;
  return { low: at((1 - INTERVAL_LEVEL) / 2), high: at((1 + INTERVAL_LEVEL) / 2) };
}

export function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}

function weighted(values: readonly number[], counts: Uint32Array): number {
  return values.reduce((total, value, i) => total + value * (counts[i] as number), 0);
}

/** Middle of sorted cells, each as often as its owner was drawn; of an even count the mean of the two in the middle. */
function weightedMedian(
  cells: readonly { readonly cell: number; readonly owner: number }[],
  counts: Uint32Array,
): number {
  const total = cells.reduce((all, { owner }) => all + (counts[owner] as number), 0);
  let below = 0;
  let lower = Number.NaN;
  for (const { cell, owner } of cells) {
    below += counts[owner] as number;
    if (Number.isNaN(lower) && below >= Math.ceil(total / 2) && below > 0) lower = cell;
    if (below >= Math.floor(total / 2) + 1) return (lower + cell) / 2;
  }
  return Number.NaN;
}
