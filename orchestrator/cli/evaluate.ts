import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { gridByInstructions, gridBySeconds, type SeriesGrid } from '../../models/data/grid.ts';
import { type SeriesRows, SeriesSet, type SetFacts } from '../../models/data/series-set.ts';
import type { Durations } from '../../models/evaluate/durations.ts';
import { type Evaluation, type EvaluationPlan, Evaluator } from '../../models/evaluate/evaluate.ts';
import { BASELINES, type Baseline, baselineSource } from '../../models/evaluate/naive.ts';
import { SCORED_LEVELS } from '../../models/evaluate/scores.ts';
import type { ForecasterSource } from '../../models/evaluate/series-forecaster.ts';
import { AllocatorError } from '../core/errors.ts';
import { SeriesModel, withoutRecurrence } from '../forecast/series-model.ts';
import { SeriesKernels } from '../wasm/series.ts';
import { type Io, printAnswer } from './io.ts';
import { DEFAULT_MODEL, loadModel } from './model-folder.ts';
import { Progress } from './progress.ts';
import { parseCount } from './quantities.ts';
import { facts } from './table.ts';

interface EvaluateOptions {
  readonly data: string;
  readonly metrics: readonly string[];
  readonly horizon: number;
  readonly windows: number;
  readonly season: number;
  readonly resample?: number;
  readonly axis: 'seconds' | 'instructions';
  readonly model?: string;
  readonly models?: string;
  readonly lstm: boolean;
  readonly baseline?: Baseline;
  readonly json?: boolean;
}

/** `foreshade evaluate`: score a forecaster on a recorded set. */
export function evaluateCommand(io: Io): Command {
  const command = new Command('evaluate');
  return command
    .description('Score a forecaster on a recorded set: its error, its quantiles, what a forecast costs')
    .requiredOption(
      '--data <folder>',
      'the set: dataset.json and series.csv.gz, series.csv or series.parquet',
    )
    .requiredOption('--metrics <names>', 'columns to forecast, by commas', parseNames)
    .requiredOption('--horizon <steps>', 'steps forecast at each origin', parseCount)
    .requiredOption(
      '--windows <count>',
      'the last so many horizons of each series, one after the other',
      parseCount,
    )
    .requiredOption(
      '--season <steps>',
      "steps of a season: of MASE's scale, and of the seasonal forecast",
      parseCount,
    )
    .option(
      '--resample <step>',
      "means of so many seconds (default: the set's own step), or instructions",
      parseStep,
    )
    .addOption(
      new Option('--axis <axis>', 'what a step is counted in; instructions need --resample')
        .choices(['seconds', 'instructions'])
        .default('seconds'),
    )
    .option(
      '--model <name>',
      'a trained model, NAME or NAME@VERSION (default: the one that comes with the program)',
    )
    .option('--models <folder>', "where trained models are kept (default: the user's data folder)")
    .option('--no-lstm', 'the model without its recurrent part')
    .addOption(
      new Option('--baseline <name>', 'a reference forecast instead of a model')
        .choices(BASELINES)
        .conflicts(['model', 'lstm']),
    )
    .option('--json', 'print exactly one JSON document on stdout')
    .addHelpText(
      'after',
      `
Examples:
  $ foreshade evaluate --data sets/web --metrics cpu_mhz,cpu_pct --horizon 48 --windows 18 --season 288 --baseline seasonal-naive
  $ foreshade evaluate --data sets/web --metrics cpu_mhz --resample 3600 --horizon 48 --windows 2 --season 24 --baseline last-value --json`,
    )
    .action(async (options: EvaluateOptions) => {
      if (options.axis === 'instructions' && options.resample === undefined)
        command.error('error: --axis instructions needs --resample: how many instructions a step is');
      await evaluate(io, options);
    });
}

function parseNames(text: string): string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.includes('') || new Set(names).size < names.length)
    throw new InvalidArgumentError('It is a list of different names, by commas.');
  return names;
}

function parseStep(text: string): number {
  const step = Number(text);
  if (!(step > 0 && Number.isFinite(step))) throw new InvalidArgumentError('It is a number above 0.');
  return step;
}

async function evaluate(io: Io, options: EvaluateOptions): Promise<void> {
  const began = performance.now();
  const source = await sourceOf(io, options);
  const set = await SeriesSet.open(resolve(options.data));
  try {
    const toGrid = gridder(set, options);
    const plan: EvaluationPlan = options;
    const evaluator = new Evaluator(source, plan);
    if (io.errIsTerminal) io.err(`reading ${options.data}\n`);
    const { count, series } = await set.read(toGrid.columns);
    const progress = new Progress(io);
    let done = 0;
    for await (const rows of series) {
      io.signal.throwIfAborted();
      evaluator.add(toGrid.grid(rows));
      done += 1;
      progress.tell(done / count, `${done} of ${count} series`);
    }
    progress.end();
    const result = evaluator.finish();
    for (const remark of remarks(result)) io.err(`${remark}\n`);
    const seconds = (performance.now() - began) / 1000;
    printAnswer(io, options.json, {
      document: evaluationDocument(set.facts.name, options, result, seconds),
      text: evaluationText(set.facts.name, source.name, options, result, seconds),
    });
  } finally {
    set.close();
  }
}

async function sourceOf(
  io: Io,
  { baseline, model = DEFAULT_MODEL, models, lstm }: EvaluateOptions,
): Promise<ForecasterSource> {
  if (baseline !== undefined) return baselineSource(baseline);
  const kernels = await SeriesKernels.load();
  const { weights } = await loadModel(io, kernels, model, models);
  kernels.adopt(lstm ? weights : withoutRecurrence(kernels, weights));
  const name = lstm ? model : `${model} without its recurrent part`;
  return { name, open: (facts) => new SeriesModel(kernels, facts) };
}

/** How the rows of a set become even series. */
interface Gridder {
  /** What is read: the metrics, and on the axis of instructions their count behind them. */
  readonly columns: readonly string[];
  grid(rows: SeriesRows): SeriesGrid;
}

/** @throws {AllocatorError} INVALID_REQUEST when the set lacks what was asked for */
function gridder(set: SeriesSet, { metrics, axis, resample }: EvaluateOptions): Gridder {
  const unknown = metrics.filter((name) => !set.metrics.includes(name));
  if (unknown.length > 0) {
    throw new AllocatorError(
      'INVALID_REQUEST',
      `${set.facts.name} has no metric ${unknown.join(', ')}; it has ${set.metrics.join(', ')}`,
    );
  }
  if (axis === 'instructions') return instructionGridder(set, metrics, resample as number);
  const { stepS, grid } = set.facts;
  const step = resample ?? stepS;
  if (step === undefined)
    throw new AllocatorError('INVALID_REQUEST', 'dataset.json has no step_seconds: give --resample');
  if (stepS !== undefined && step < stepS)
    throw new AllocatorError(
      'INVALID_REQUEST',
      `--resample ${step} is below the set's own step of ${stepS} s`,
    );
  const even = grid && { startS: grid.startS, steps: Math.ceil((grid.steps * (stepS ?? step)) / step) };
  return { columns: metrics, grid: (rows) => gridBySeconds(rows, step, even) };
}

function instructionGridder(
  { facts, metrics: all }: SeriesSet,
  metrics: readonly string[],
  step: number,
): Gridder {
  const { name, perRow } = instructionColumn(facts, all);
  return {
    columns: [...metrics, name].filter((column, i, names) => names.indexOf(column) === i),
    grid: ({ columns, ...rows }) => {
      const at = metrics.includes(name) ? metrics.indexOf(name) : metrics.length;
      const executed = (columns[at] ?? []).map((value) => value * perRow);
      return gridByInstructions({ ...rows, columns: columns.slice(0, metrics.length) }, executed, step);
    },
  };
}

/** The column that counts instructions, and what one of its units is. */
function instructionColumn(
  { profile, stepS, name }: SetFacts,
  metrics: readonly string[],
): { name: string; perRow: number } {
  const rate = metrics.find((metric) => profile[metric] === 'instructions_per_s');
  if (rate !== undefined && stepS !== undefined) return { name: rate, perRow: stepS };
  if (metrics.includes('instructions')) return { name: 'instructions', perRow: 1 };
  throw new AllocatorError(
    'INVALID_REQUEST',
    `${name} counts no instructions: it has neither a metric "instructions" nor one that profile maps to instructions_per_s`,
  );
}

function remarks({ tooShort, duplicates, outside }: Evaluation): string[] {
  const lines: (readonly [number, string])[] = [
    [tooShort, 'series too short for these windows, left out'],
    [duplicates, 'rows at the time of the row before them, of which the mean counts'],
    [outside, "rows outside of the set's grid, left out"],
  ];
  return lines.filter(([count]) => count > 0).map(([count, text]) => `${text}: ${count}`);
}

function evaluationDocument(dataset: string, options: EvaluateOptions, result: Evaluation, seconds: number) {
  return {
    dataset,
    horizon: options.horizon,
    windows: options.windows,
    scored: result.scored,
    MAE: result.mae,
    ND: result.nd,
    MASE: result.mase,
    MASE_median: result.maseMedian,
    CRPS: result.crps,
    coverage: Object.fromEntries(SCORED_LEVELS.map((level, l) => [String(level), result.coverage[l]])),
    refresh_us: durationDocument(result.refresh),
    infer_us: durationDocument(result.infer),
    seconds: Number(seconds.toFixed(3)),
  };
}

function durationDocument(durations: Durations) {
  const us = (level: number): number => Number(durations.percentile(level).toPrecision(3));
  return { p50: us(0.5), p99: us(0.99) };
}

function evaluationText(
  dataset: string,
  forecaster: string,
  { horizon, windows, metrics }: EvaluateOptions,
  result: Evaluation,
  seconds: number,
): string {
  const score = (value: number): string => (Number.isNaN(value) ? '-' : String(Number(value.toPrecision(4))));
  const cost = (durations: Durations): string => {
    const { p50, p99 } = durationDocument(durations);
    return `${p50} us, one in a hundred above ${p99} us`;
  };
  return facts([
    ['forecaster', forecaster],
    ['set', `${dataset}: ${metrics.join(', ')} of ${result.series.toLocaleString('en-US')} series`],
    ['windows', `${windows} of ${horizon} steps, ${result.scored.toLocaleString('en-US')} values scored`],
    ['MAE', score(result.mae)],
    ['ND', score(result.nd)],
    ['MASE', `${score(result.mase)}, median ${score(result.maseMedian)}`],
    ['CRPS', score(result.crps)],
    [
      'coverage',
      SCORED_LEVELS.map((level, l) => `${level}: ${score(result.coverage[l] ?? Number.NaN)}`).join('  '),
    ],
    ['refresh', cost(result.refresh)],
    ['infer', cost(result.infer)],
    ['took', `${seconds.toFixed(1)} s`],
  ]);
}
