import { ShadowError } from '../../orchestrator/core/shadow.ts';
import type { SeriesRows } from './series-set.ts';

/** One series on an even grid. */
export interface SeriesGrid {
  readonly series: string;
  /** Begin of the first bin: seconds, or instructions executed. */
  readonly startAt: number;
  /** Length of a bin, in the same unit. */
  readonly step: number;
  readonly steps: number;
  /** f64[steps] a metric: means of the bins. NaN: nothing was read in that bin. */
  readonly values: readonly Float64Array[];
  /** Rows at the time of the row before them; they count in the mean like any. */
  readonly duplicates: number;
  /** Rows before or after the grid; left out. */
  readonly outside: number;
}

/** Bins of one series at most: a year of seconds. More is a file whose times are not seconds. */
const STEPS_MAX = 32_000_000;
/** Times are decimals: one that falls short of its bin by less than this share of a bin is meant to be in it. */
const ROUNDING_BINS = 1e-6;

/**
 * Bins of `stepS` seconds, each the mean of its samples.
 * @param grid where every series' grid lies; absent: from the series' own first row to its own last
 */
export function gridBySeconds(
  { series, times, columns }: SeriesRows,
  stepS: number,
  grid?: { readonly startS: number; readonly steps: number },
): SeriesGrid {
  const startS = grid?.startS ?? (times[0] as number);
  const binOf = (time: number): number => Math.floor((time - startS) / stepS + ROUNDING_BINS);
  const steps = checkedSteps(series, grid?.steps ?? binOf(times.at(-1) as number) + 1);
  const bins = columns.map(() => new MeanBins(steps));
  let outside = 0;
  let duplicates = 0;
  for (const [i, time] of times.entries()) {
    if (time === times[i - 1]) duplicates += 1;
    const bin = binOf(time);
    if (bin < 0 || bin >= steps) outside += 1;
    else for (const [m, column] of columns.entries()) bins[m]?.add(bin, column[i] as number, 1);
  }
  return { series, startAt: startS, step: stepS, steps, values: means(bins), duplicates, outside };
}

/**
 * Bins of `step` instructions. A row stretches over what was executed in it, and a bin is the mean of its rows by how much
 * of it each covers; a row in which nothing was executed, or nobody counted, has no extent.
 * @param executed instructions, one a row
 * @throws {ShadowError} SET_REFUSED when a count is below 0
 */
export function gridByInstructions(
  { series, columns }: SeriesRows,
  executed: readonly number[],
  step: number,
): SeriesGrid {
  const total = executed.reduce((sum, count) => {
    if (count < 0) throw new ShadowError('SET_REFUSED', `${series} executed ${count} instructions in a step`);
    return sum + (count || 0);
  }, 0);
  const steps = checkedSteps(series, Math.ceil(total / step));
  const bins = columns.map(() => new MeanBins(steps));
  let from = 0;
  for (const [i, count] of executed.entries()) {
    const to = from + (count || 0);
    for (let bin = Math.floor(from / step); bin < steps && bin * step < to; bin += 1) {
      const covered = Math.min(to, (bin + 1) * step) - Math.max(from, bin * step);
      for (const [m, column] of columns.entries()) bins[m]?.add(bin, column[i] as number, covered);
    }
    from = to;
  }
  return { series, startAt: 0, step, steps, values: means(bins), duplicates: 0, outside: 0 };
}

function checkedSteps(series: string, steps: number): number {
  if (steps <= STEPS_MAX) return steps;
  throw new ShadowError(
    'SET_REFUSED',
    `${series} would have ${steps} bins, ${STEPS_MAX} at most: are its times in seconds?`,
  );
}

/** Weighted means of one metric, bin by bin. */
class MeanBins {
  readonly #sums: Float64Array;
  readonly #weights: Float64Array;

  constructor(steps: number) {
    this.#sums = new Float64Array(steps);
    this.#weights = new Float64Array(steps);
  }

  add(bin: number, value: number, weight: number): void {
    if (Number.isNaN(value) || weight <= 0) return;
    this.#sums[bin] = (this.#sums[bin] as number) + value * weight;
    this.#weights[bin] = (this.#weights[bin] as number) + weight;
  }

  /** 0 / 0 is NaN: a bin without samples is missing. */
  means(): Float64Array {
    return this.#sums.map((sum, bin) => sum / (this.#weights[bin] as number));
  }
}

function means(bins: readonly MeanBins[]): Float64Array[] {
  return bins.map((metric) => metric.means());
}
