import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { SeriesSet } from '../../models/data/series-set.ts';
import { type GridQuestion, gridder } from '../../models/data/set-grid.ts';
import { intervalsOf, ratioInterval } from '../../models/evaluate/bootstrap.ts';
import { type Evaluation, type EvaluationPlan, Evaluator } from '../../models/evaluate/evaluate.ts';
import { FanCollector } from '../../models/evaluate/fans.ts';
import { hardestOf } from '../../models/evaluate/hardest.ts';
import { BASELINES } from '../../models/evaluate/naive.ts';
import { evaluationReport } from '../../models/report/evaluation-report.ts';
import { Random } from '../../models/train/random.ts';
import { type EvaluationFindings, evaluationDocument, evaluationText } from './evaluation-answer.ts';
import {
  REFERENCES,
  type Reference,
  referenceSources,
  type SourceQuestion,
  sourceOf,
} from './evaluation-sources.ts';
import { type Io, printAnswer } from './io.ts';
import { Progress } from './progress.ts';
import { parseCount } from './quantities.ts';
import { checkPlace, writeWhole } from './whole-file.ts';

interface EvaluateOptions extends GridQuestion, SourceQuestion {
  readonly data: string;
  readonly horizon: number;
  readonly windows: number;
  readonly season: number;
  readonly reference: readonly Reference[];
  readonly report?: string;
  readonly json?: boolean;
}

/** Seed of the draws that intervals come of: the same scores have the same intervals. */
const BOOTSTRAP_SEED = 1;

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
    .addOption(
      new Option('--reference <names>', `what stands beside it, by commas: ${REFERENCES.join(', ')}`)
        .argParser(parseReferences)
        .default([...BASELINES], BASELINES.join(',')),
    )
    .option('--report <file>', 'write what was found as one HTML file')
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

function parseReferences(text: string): Reference[] {
  const known: readonly string[] = REFERENCES;
  const names = parseNames(text);
  if (!names.every((name) => known.includes(name)))
    throw new InvalidArgumentError(`It is a list of ${REFERENCES.join(', ')}, by commas.`);
  return names as Reference[];
}

function parseStep(text: string): number {
  const step = Number(text);
  if (!(step > 0 && Number.isFinite(step))) throw new InvalidArgumentError('It is a number above 0.');
  return step;
}

async function evaluate(io: Io, options: EvaluateOptions): Promise<void> {
  const began = performance.now();
  if (options.report !== undefined) checkPlace(options.report);
  const source = await sourceOf(io, options);
  const references = await referenceSources(options.reference, options);
  const set = await SeriesSet.open(resolve(options.data));
  try {
    const toGrid = gridder(set, options);
    const plan: EvaluationPlan = options;
    if (io.errIsTerminal) io.err(`reading ${options.data}\n`);
    const { count, series } = await set.read(toGrid.columns);
    const collector = new FanCollector(plan.metrics, count);
    const watch = options.report === undefined ? undefined : collector.watch.bind(collector);
    const evaluators = [
      new Evaluator(source, plan, watch),
      ...references.map((one) => new Evaluator(one, plan)),
    ];
    const progress = new Progress(io);
    let done = 0;
    for await (const rows of series) {
      io.signal.throwIfAborted();
      const grid = toGrid.grid(rows);
      for (const evaluator of evaluators) evaluator.add(grid);
      done += 1;
      progress.tell(done / count, `${done} of ${count} series`);
    }
    progress.end();
    const [result, ...others] = evaluators.map((one) => one.finish()) as [Evaluation, ...Evaluation[]];
    for (const remark of remarks(result)) io.err(`${remark}\n`);
    const { bySeries } = result;
    const random = (): (() => number) => {
      const drawn = new Random(BOOTSTRAP_SEED);
      return () => drawn.next();
    };
    const found: EvaluationFindings = {
      dataset: set.facts.name,
      forecaster: source.name,
      plan,
      result,
      intervals: intervalsOf(bySeries, random()),
      hardest: hardestOf(bySeries),
      references: others.map((scores, i) => ({
        name: references[i]?.name ?? '',
        scores,
        ratio: ratioInterval(bySeries, scores.bySeries, random()),
      })),
      seconds: (performance.now() - began) / 1000,
    };
    if (options.report !== undefined) {
      const story = { ...found, madeAt: new Date().toISOString(), fans: collector.fans };
      io.err(`report: ${await writeWhole(options.report, evaluationReport(story))}\n`);
    }
    printAnswer(io, options.json, { document: evaluationDocument(found), text: evaluationText(found) });
  } finally {
    set.close();
  }
}

function remarks({ tooShort, duplicates, outside }: Evaluation): string[] {
  const lines: (readonly [number, string])[] = [
    [tooShort, 'series too short for these windows, left out'],
    [duplicates, 'rows at the time of the row before them, of which the mean counts'],
    [outside, "rows outside of the set's grid, left out"],
  ];
  return lines.filter(([count]) => count > 0).map(([count, text]) => `${text}: ${count}`);
}
