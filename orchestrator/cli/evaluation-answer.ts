import {
  INTERVAL_LEVEL,
  type Interval,
  RESAMPLES,
  type ScoreIntervals,
} from '../../models/evaluate/bootstrap.ts';
import type { Durations } from '../../models/evaluate/durations.ts';
import type { Evaluation, EvaluationPlan } from '../../models/evaluate/evaluate.ts';
import type { Hardest } from '../../models/evaluate/hardest.ts';
import { SCORED_LEVELS, type Scores } from '../../models/evaluate/scores.ts';
import { facts, table } from './table.ts';

/** A forecaster beside the one that was scored. */
export interface ReferenceRow {
  readonly name: string;
  readonly scores: Evaluation;
  /** CRPS of the one that was scored in units of this one's, on the same series. */
  readonly ratio: Interval;
}

/** All that an evaluation found. */
export interface EvaluationFindings {
  readonly dataset: string;
  readonly forecaster: string;
  readonly plan: EvaluationPlan;
  readonly result: Evaluation;
  readonly intervals: ScoreIntervals;
  readonly hardest: Hardest;
  readonly references: readonly ReferenceRow[];
  readonly seconds: number;
}

export function evaluationDocument(found: EvaluationFindings) {
  const { dataset, plan, result, intervals, hardest, references, seconds } = found;
  return {
    dataset,
    horizon: plan.horizon,
    windows: plan.windows,
    ...scoresDocument(result),
    refresh_us: durationDocument(result.refresh),
    infer_us: durationDocument(result.infer),
    seconds: Number(seconds.toFixed(3)),
    intervals: {
      level: INTERVAL_LEVEL,
      resamples: RESAMPLES,
      series: result.bySeries.length,
      ND: pair(intervals.nd),
      MASE_median: pair(intervals.maseMedian),
      CRPS: pair(intervals.crps),
    },
    hardest: {
      series: hardest.series.map(({ series, scored, share, crps }) => ({
        series,
        scored,
        share,
        CRPS: crps,
      })),
      share: hardest.share,
      CRPS_of_rest: hardest.crpsOfRest,
    },
    reference: references.map(({ name, scores, ratio }) => ({
      name,
      ...scoresDocument(scores),
      CRPS_ratio: pair(ratio),
    })),
  };
}

function scoresDocument({ scored, mae, nd, mase, maseMedian, crps, coverage }: Scores) {
  return {
    scored,
    MAE: mae,
    ND: nd,
    MASE: mase,
    MASE_median: maseMedian,
    CRPS: crps,
    coverage: Object.fromEntries(SCORED_LEVELS.map((level, l) => [String(level), coverage[l]])),
  };
}

function pair({ low, high }: Interval): readonly [number, number] {
  return [low, high];
}

function durationDocument(durations: Durations) {
  const us = (level: number): number => Number(durations.percentile(level).toPrecision(3));
  return { p50: us(0.5), p99: us(0.99) };
}

/** Four digits; "-" where there is nothing to divide by. */
export function scoreText(value: number): string {
  return Number.isNaN(value) ? '-' : String(Number(value.toPrecision(4)));
}

export function intervalText({ low, high }: Interval): string {
  return Number.isNaN(low) ? '-' : `${scoreText(low)} to ${scoreText(high)}`;
}

export function percentText(share: number): string {
  return Number.isNaN(share) ? '-' : `${(share * 100).toFixed(1)} %`;
}

export function evaluationText(found: EvaluationFindings): string {
  const { dataset, forecaster, plan, result, intervals, hardest, references, seconds } = found;
  const { horizon, windows, metrics } = plan;
  const score = scoreText;
  const within = (interval: Interval): string => ` (${intervalText(interval)})`;
  const cost = (durations: Durations): string => {
    const { p50, p99 } = durationDocument(durations);
    return `${p50} us, one in a hundred above ${p99} us`;
  };
  const own = facts([
    ['forecaster', forecaster],
    ['set', `${dataset}: ${metrics.join(', ')} of ${result.series.toLocaleString('en-US')} series`],
    ['windows', `${windows} of ${horizon} steps, ${result.scored.toLocaleString('en-US')} values scored`],
    ['MAE', score(result.mae)],
    ['ND', score(result.nd) + within(intervals.nd)],
    ['MASE', `${score(result.mase)}, median ${score(result.maseMedian)}${within(intervals.maseMedian)}`],
    ['CRPS', score(result.crps) + within(intervals.crps)],
    [
      'coverage',
      SCORED_LEVELS.map((level, l) => `${level}: ${score(result.coverage[l] ?? Number.NaN)}`).join('  '),
    ],
    ['refresh', cost(result.refresh)],
    ['infer', cost(result.infer)],
    ['took', `${seconds.toFixed(1)} s`],
    ['in brackets', `${INTERVAL_LEVEL * 100} % of ${RESAMPLES} draws of the series, with replacement`],
  ]);
  return [own, referenceText(references), hardestText(hardest)].filter((part) => part !== '').join('\n\n');
}

function referenceText(references: readonly ReferenceRow[]): string {
  if (references.length === 0) return '';
  const head = ['beside it', 'MAE', 'ND', 'MASE', 'its median', 'CRPS', 'CRPS above / this'];
  const rows = references.map(({ name, scores, ratio }) => [
    name,
    ...[scores.mae, scores.nd, scores.mase, scores.maseMedian, scores.crps].map(scoreText),
    intervalText(ratio),
  ]);
  return table(head, rows, { right: [1, 2, 3, 4, 5, 6] });
}

function hardestText({ series, share, crpsOfRest }: Hardest): string {
  const rows = series.map((row) => [row.series, percentText(row.share), scoreText(row.crps)]);
  if (!Number.isNaN(crpsOfRest)) rows.push(['all others', percentText(1 - share), scoreText(crpsOfRest)]);
  return table(['hardest series', 'of the CRPS', 'its own'], rows, { right: [1, 2] });
}
