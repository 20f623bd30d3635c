import { drawCounts, type Interval, intervalOf, RESAMPLES } from './bootstrap.ts';
import type { SeriesScore } from './scores.ts';

/** Two forecasters on the same windows of one set. */
export interface Trial {
  readonly set: string;
  readonly champion: readonly SeriesScore[];
  /** The same series in the same order. */
  readonly challenger: readonly SeriesScore[];
}

export interface Verdict {
  readonly series: number;
  /** CRPS of the challenger in units of the champion's: geometric mean over the metrics of all sets. */
  readonly ratio: number;
  readonly interval: Interval;
  /** The challenger is better beyond the choice of series. */
  readonly isBetter: boolean;
}

/** Least series of a verdict: with fewer, all of them favour one of two equals by chance more often than one time in twenty. */
export const SERIES_MIN = 5;
/** Losses are told apart to this share of the values' size, so that a perfect forecast has a ratio too. */
const LOSS_LEAST = 1e-9;

/**
 * Hold a challenger against a champion. It is better when nineteen of twenty draws of the series say so; series are drawn
 * within their set, in pairs.
 * @param random numbers in [0, 1)
 */
export function judge(trials: readonly Trial[], random: () => number): Verdict {
  const drawn = Array.from({ length: RESAMPLES }, () =>
    ratioOf(trials, ({ champion }) => drawCounts(champion.length, random)),
  );
  const interval = intervalOf(drawn);
  return {
    series: trials.reduce((all, { champion }) => all + champion.length, 0),
    ratio: ratioOf(trials, ({ champion }) => new Uint32Array(champion.length).fill(1)),
    interval,
    isBetter: interval.high < 1,
  };
}

/** CRPS of one set: mean over its metrics, each in units of its own size. */
export function meanCrps(series: readonly SeriesScore[]): number {
  const ratios = Array.from(
    series[0]?.sizes.keys() ?? [],
    (m) => sumOf(series, 'losses', m) / sumOf(series, 'sizes', m),
  );
  const known = ratios.filter(Number.isFinite);
  return known.reduce((all, crps) => all + crps, 0) / known.length;
}

/** Each metric of each set counts alike, whatever its unit and however hard it is. */
function ratioOf(trials: readonly Trial[], countsOf: (trial: Trial) => Uint32Array): number {
  let logs = 0;
  let terms = 0;
  for (const trial of trials) {
    const counts = countsOf(trial);
    for (const metric of trial.champion[0]?.sizes.keys() ?? []) {
      const size = sumOf(trial.champion, 'sizes', metric, counts);
      if (!(size > 0)) continue;
      const least = LOSS_LEAST * size;
      const ours = sumOf(trial.challenger, 'losses', metric, counts) + least;
      logs += Math.log(ours / (sumOf(trial.champion, 'losses', metric, counts) + least));
      terms += 1;
    }
  }
  return Math.exp(logs / terms);
}

function sumOf(
  series: readonly SeriesScore[],
  key: 'losses' | 'sizes',
  metric: number,
  counts?: Uint32Array,
): number {
  return series.reduce((all, one, i) => all + (one[key][metric] as number) * (counts?.[i] ?? 1), 0);
}
