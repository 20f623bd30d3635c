import type { Interval, ScoreIntervals } from '../evaluate/bootstrap.ts';
import type { Evaluation, EvaluationPlan } from '../evaluate/evaluate.ts';
import type { Fan } from '../evaluate/fans.ts';
import type { Hardest } from '../evaluate/hardest.ts';
import { SCORED_LEVELS, type Scores } from '../evaluate/scores.ts';
import { type Markup, markup } from './markup.ts';
import { columns, dataTable, legend, pageText, section, shareBar } from './page.ts';
import { type Mark, plot, type Tone } from './plot.ts';

/** What an evaluation found, for its report. */
export interface EvaluationStory {
  readonly dataset: string;
  readonly forecaster: string;
  /** ISO 8601. */
  readonly madeAt: string;
  readonly plan: EvaluationPlan;
  readonly result: Evaluation;
  readonly intervals: ScoreIntervals;
  readonly hardest: Hardest;
  readonly references: readonly {
    readonly name: string;
    readonly scores: Evaluation;
    /** CRPS of the forecaster in units of this one's. */
    readonly ratio: Interval;
  }[];
  readonly fans: readonly Fan[];
}

const LEVELS = SCORED_LEVELS.length;
const MEDIAN = SCORED_LEVELS.indexOf(0.5);
/** References that are drawn: more lines than tones cannot be told apart. */
const REFERENCE_TONES: readonly Tone[] = ['b', 'c'];

/** The report of an evaluation: one HTML document that needs nothing beside it. */
export function evaluationReport(story: EvaluationStory): string {
  const { dataset, forecaster, plan, result, intervals, madeAt } = story;
  const { horizon, windows, metrics } = plan;
  const best = [...story.references].sort((a, b) => a.scores.crps - b.scores.crps)[0];
  return pageText({
    title: `${forecaster} on ${dataset}`,
    subtitle: `${metrics.join(', ')} of ${whole(result.series)} series · ${whole(windows)} windows of ${whole(horizon)} steps, each forecast from all before it · season of ${whole(plan.season)} steps`,
    madeAt,
    tiles: [
      { label: 'CRPS', value: score(result.crps), note: range(intervals.crps) },
      { label: 'MASE, median', value: score(result.maseMedian), note: range(intervals.maseMedian) },
      { label: 'ND', value: score(result.nd), note: range(intervals.nd) },
      {
        label: 'Against a reference',
        value: best === undefined ? '-' : `${score(result.crps / best.scores.crps)} ×`,
        note: best === undefined ? 'nothing was' : `the CRPS of ${best.name}`,
      },
      {
        label: 'Values scored',
        value: whole(result.scored),
        note: `${whole(result.bySeries.length)} series`,
      },
    ],
    sections: [
      columns(stepSection(story), coverageSection(result)),
      scoreSection(story),
      hardestSection(story.hardest),
      ...(story.fans.length > 0 ? [fanSection(story)] : []),
    ],
  });
}

function stepSection({ forecaster, result, references }: EvaluationStory): Markup {
  const line = (crps: readonly number[]) => crps.map((y, h) => ({ x: h + 1, y }));
  const entries = [
    { tone: 'a' as Tone, label: forecaster, points: line(result.crpsByStep), dashed: false },
    ...references.slice(0, REFERENCE_TONES.length).map(({ name, scores }, i) => ({
      tone: REFERENCE_TONES[i] as Tone,
      label: name,
      points: line(scores.crpsByStep),
      dashed: true,
    })),
  ];
  return section(
    'CRPS by step',
    'How the error grows with the distance; lower is better.',
    legend(entries),
    plot({
      description: 'CRPS of each step of the horizon, beside the reference forecasts',
      xTitle: 'steps ahead',
      yTitle: 'CRPS',
      fromZero: true,
      xText: (step) => `step ${step}`,
      marks: entries.map((entry): Mark => ({ kind: 'line', ...entry })),
    }),
  );
}

function coverageSection({ coverage }: Evaluation): Markup {
  const points = SCORED_LEVELS.map((level, l) => ({ x: level, y: coverage[l] ?? Number.NaN }));
  const entries = [
    { tone: 'a', label: 'observed', points, dots: true },
    { tone: 'quiet', label: 'as promised', points: [{ x: 0, y: 0 }, { x: 1, y: 1 }], dashed: true },
  ] as const; // biome-ignore format: the diagonal
  return section(
    'Coverage',
    'Share of actual values below each quantile. Above the diagonal the quantile is too high, below it too low.',
    legend(entries),
    plot({
      description: 'Observed coverage of each quantile level against its nominal one',
      xTitle: 'quantile level',
      yTitle: 'share of actual values below it',
      x: [0, 1],
      y: [0, 1],
      xText: (level) => `level ${level}`,
      marks: [...entries].reverse().map((entry): Mark => ({ kind: 'line', ...entry })),
    }),
  );
}

function scoreSection({ forecaster, result, intervals, references }: EvaluationStory): Markup {
  const row = (name: string, scores: Scores, ratio: string) => [
    name,
    ...[scores.mae, scores.nd, scores.mase, scores.maseMedian, scores.crps].map(score),
    ratio,
  ];
  return section(
    'Scores',
    `In the last column the forecaster’s CRPS in units of each reference’s, as the middle 90 % of draws of the series have it: wholly below 1 it is better, whatever the choice of series. Its own CRPS: ${range(intervals.crps)}.`,
    dataTable(
      [
        { head: 'forecaster' },
        ...['MAE', 'ND', 'MASE', 'MASE, median', 'CRPS', 'CRPS ratio'].map((head) => ({
          head,
          numeric: true,
        })),
      ],
      [
        row(forecaster, result, '-'),
        ...references.map(({ name, scores, ratio }) => row(name, scores, range(ratio))),
      ],
    ),
  );
}

function hardestSection({ series, share, crpsOfRest }: Hardest): Markup {
  const rest = Number.isNaN(crpsOfRest)
    ? ''
    : ` Without them the CRPS is ${score(crpsOfRest)}: the ${series.length} below carry ${percent(share)} of the numerator.`;
  return section(
    'Hardest series',
    `A few series may decide a score.${rest}`,
    dataTable(
      [
        { head: 'series' },
        { head: 'share of the CRPS' },
        { head: 'its own CRPS', numeric: true },
        { head: 'values', numeric: true },
      ],
      series.map((row) => [
        row.series,
        shareBar(row.share, percent(row.share)),
        score(row.crps),
        whole(row.scored),
      ]),
    ),
  );
}

function fanSection({ fans, plan }: EvaluationStory): Markup {
  const entries = [
    { tone: 'ink', label: 'what came' },
    { tone: 'a', label: 'median; around it the middle 20, 40, 60 and 80 %' },
    { tone: 'quiet', label: 'the past' },
  ] as const;
  return section(
    'Forecasts',
    'The windows with the greatest loss, then the last windows of series at even distances in the set: not chosen for their looks.',
    legend(entries),
    markup`<div class="fans">${fans.map((fan) => fanFigure(fan, plan.metrics.length > 1))}</div>`,
  );
}

function fanFigure(fan: Fan, namesMetric: boolean): Markup {
  const { past, actual, forecast, series, metric, origin, why } = fan;
  const quantile = (h: number, l: number): number => forecast[h * LEVELS + l] as number;
  const steps = Array.from(actual.keys());
  const bands = Array.from(
    { length: MEDIAN },
    (_, l): Mark => ({
      kind: 'band',
      opacity: 0.13,
      points: steps.map((h) => ({ x: h + 1, low: quantile(h, l), high: quantile(h, LEVELS - 1 - l) })),
    }),
  );
  const line = (values: ArrayLike<number>, from: number) =>
    Array.from(values, (y, i) => ({ x: from + i, y }));
  const before = past.at(-1) ?? Number.NaN;
  const marks: Mark[] = [
    ...bands,
    { kind: 'line', tone: 'quiet', label: 'the past', points: line(past, 1 - past.length), thin: true },
    {
      kind: 'line',
      tone: 'a',
      label: 'median',
      points: steps.map((h) => ({ x: h + 1, y: quantile(h, MEDIAN) })),
    },
    { kind: 'line', tone: 'ink', label: 'what came', points: line([before, ...actual], 0), thin: true },
  ];
  const name = namesMetric ? `${series} · ${metric}` : series;
  const reason = why === 'hardest' ? 'among the hardest' : 'at even distance';
  return markup`<figure style="margin:0"><h3>${name}</h3><p>from step ${whole(origin)} · ${reason}</p>${plot({
    description: `Forecast of ${name} from step ${origin}, and what came`,
    xTitle: 'steps from the origin',
    yTitle: metric,
    size: { width: 460, height: 210 },
    xText: (step) => `step ${step}`,
    marks,
  })}</figure>`;
}

function score(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : '-';
}

function range({ low, high }: Interval): string {
  return Number.isNaN(low) ? '-' : `${score(low)} to ${score(high)}`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

function whole(value: number): string {
  return value.toLocaleString('en-US');
}
