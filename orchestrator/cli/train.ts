import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { kindOfSet } from '../../models/data/series-set.ts';
import { servedVersion } from '../../models/files/current-version.ts';
import { partsOf, saveModel } from '../../models/files/model-file.ts';
import { trainingReport } from '../../models/report/training-report.ts';
import { type TrainingResult, train } from '../../models/train/train.ts';
import { AllocatorError } from '../core/errors.ts';
import { type Io, printAnswer, Unsuccessful } from './io.ts';
import { lossText } from './model-card.ts';
import { checkedName, modelFolder } from './model-folder.ts';
import { challenge, settleChampion } from './model-promotion.ts';
import { Progress } from './progress.ts';
import { parseCount } from './quantities.ts';
import { parseFolders } from './set-folders.ts';
import { type RecordedSet, recordedSet } from './shadow-set.ts';
import { facts } from './table.ts';
import { TrainingCheckpoint } from './training-checkpoint.ts';
import { checkPlace, writeWhole } from './whole-file.ts';

interface TrainOptions {
  readonly data?: readonly string[];
  readonly shadow?: string;
  readonly promote?: boolean;
  readonly untilStep?: number;
  readonly axis: 'seconds' | 'instructions';
  readonly resample?: number;
  readonly epochs: number;
  readonly seed: number;
  readonly out: string;
  readonly resume?: boolean;
  readonly report?: string;
  readonly models?: string;
  readonly json?: boolean;
}

const EPOCHS = 12;
/** What is kept back of a record, steps: its last day, in windows of four hours, as the verdict is on. */
const HELD_BACK = { horizon: 48, windows: 6 };

/** `foreshade train`: learn from recorded sets how the experts are to be weighed. */
export function trainCommand(io: Io): Command {
  return new Command('train')
    .description('Train a model on recorded sets')
    .option('--data <folders>', 'series sets, by commas', parseFolders)
    .addOption(
      new Option('--shadow <folder>', 'the record of a service, `shadow` below its state_dir').conflicts(
        'data',
      ),
    )
    .option('--promote', 'of a record keep its last day back, and serve if better there than what serves')
    .requiredOption('--out <name>', 'name of the model; a name that exists gets its next version')
    .option('--until-step <n>', 'learn from the first so many steps of each series only', parseCount)
    .addOption(
      new Option('--axis <axis>', 'what a step is counted in; instructions need --resample')
        .choices(['seconds', 'instructions'])
        .default('seconds'),
    )
    .option('--resample <step>', 'instructions a step, on the axis of instructions', parseCount)
    .option(
      '--epochs <n>',
      'passes over what was cut, at most; it ends earlier when nothing gets better',
      parseCount,
      EPOCHS,
    )
    .option('--seed <n>', 'the same seed and sets give the same weights', parseSeed, 1)
    .option('--resume', 'go on where a training of this name was stopped, with the same sets and options')
    .option('--report <file>', 'write what was learned as one HTML file')
    .option('--models <folder>', "where trained models are kept (default: the user's data folder)")
    .option('--json', 'print exactly one JSON document on stdout')
    .addHelpText(
      'after',
      `
Examples:
  $ foreshade train --data sets/web,sets/batch --out ours
  $ foreshade train --data sets/lab --axis instructions --resample 1000000 --out by-instructions
  $ foreshade train --shadow /var/lib/foreshade/shadow --out default --promote
  $ foreshade evaluate --model ours --data sets/other --metrics cpu --horizon 48 --windows 18 --season 288`,
    )
    .action(async (options: TrainOptions) => await run(io, options));
}

function parseSeed(text: string): number {
  const seed = Number(text);
  if (!Number.isSafeInteger(seed) || seed < 0 || seed >= 2 ** 32)
    throw new InvalidArgumentError('It is a whole number from 0, below 2^32.');
  return seed;
}

async function run(io: Io, options: TrainOptions): Promise<void> {
  checkedName(options.out);
  refuseMixedAxes(options);
  if (options.report !== undefined) checkPlace(options.report);
  if (options.shadow === undefined) {
    if (options.data === undefined) throw new AllocatorError('INVALID_REQUEST', 'give --data or --shadow');
    await trainOn(io, options, seriesFolders(io, options.data), options.untilStep);
    return;
  }
  io.err(`reading ${options.shadow}\n`);
  const record = await recordedSet(options.shadow, io.signal);
  try {
    await trainOn(io, options, [record.folder], options.untilStep ?? learnedSteps(record, options));
  } finally {
    record.remove();
  }
}

/** @throws {AllocatorError} INVALID_REQUEST where options of one axis stand on the other */
function refuseMixedAxes({ axis, resample, shadow, promote }: TrainOptions): void {
  const isByInstructions = axis === 'instructions';
  if (isByInstructions !== (resample !== undefined))
    throw new AllocatorError(
      'INVALID_REQUEST',
      '--axis instructions and --resample go together: how many instructions a step is',
    );
  if (isByInstructions && (shadow !== undefined || promote === true))
    throw new AllocatorError('INVALID_REQUEST', '--shadow and --promote are of seconds');
}

/** Requests teach the service's own forecaster as they come; this model is of series. */
function seriesFolders(io: Io, data: readonly string[]): string[] {
  const all = data.map((folder) => resolve(folder));
  const folders = all.filter((folder) => !kindOfSet(folder).endsWith('requests'));
  const leftOut = all.filter((folder) => !folders.includes(folder));
  if (leftOut.length > 0) io.err(`sets of requests, left out: ${leftOut.join(', ')}\n`);
  return folders;
}

/** Steps of a record that are learned from: all of them, or what comes before its last day when that is to judge. */
function learnedSteps({ steps }: RecordedSet, { promote }: TrainOptions): number | undefined {
  if (promote !== true) return undefined;
  const until = steps - HELD_BACK.horizon * HELD_BACK.windows;
  if (until > 0) return until;
  throw new AllocatorError(
    'INVALID_REQUEST',
    'the record is too short: its last day is kept back to judge on',
  );
}

async function trainOn(
  io: Io,
  options: TrainOptions,
  folders: readonly string[],
  untilStep: number | undefined,
): Promise<void> {
  const began = performance.now();
  const name = options.out;
  const home = join(modelFolder(io, options.models), name);
  const checkpoint = new TrainingCheckpoint(io, home);
  const from = await checkpoint.find(options.resume === true);
  const progress = new Progress(io);
  const { epochs, seed } = options;
  const until = untilStep === undefined ? {} : { untilStep };
  const step = options.resample === undefined ? {} : { instructionStep: options.resample };
  const plan = {
    epochs,
    seed,
    ...until,
    ...step,
    folders,
    signal: io.signal,
    ...(from !== undefined && { from }),
  };
  const result = await train(plan, {
    progress: (fraction, place) => progress.tell(fraction, place),
    checkpoint: (state) => checkpoint.keep(state),
  }).finally(() => {
    progress.end();
    if (io.signal.aborted) checkpoint.tellStopped();
  });
  const parts = partsOf(result.kernels);
  const createdAt = new Date().toISOString();
  const isChallenge = options.promote === true && (await settleChampion(home));
  const { path, version } = await saveModel(
    home,
    {
      name,
      createdAt,
      ...parts,
      data: result.sets,
      dataSha256: result.dataSha256,
      ...until,
      seed,
      epochs: result.epochs.length,
      heldBackLoss: result.heldBackLoss,
      heldBackLossNoLstm: result.heldBackLossNoLstm,
    },
    parts,
    result.weights,
  );
  await checkpoint.remove();
  const seconds = (performance.now() - began) / 1000;
  if (options.report !== undefined) {
    const found = { model: `${name}@${version}`, madeAt: createdAt, seed, seconds, ...until, ...result };
    io.err(`report: ${await writeWhole(options.report, trainingReport(found))}\n`);
  }
  const place = options.models === undefined ? {} : { models: options.models };
  const promotion = isChallenge
    ? await challenge(io, `${name}@${version}`, { data: folders, ...HELD_BACK, ...place })
    : undefined;
  const serves = await servedVersion(home);
  if (serves !== version && promotion === undefined)
    io.err(`${name}@${serves} goes on serving: see foreshade model promote ${name}@${version}\n`);
  const text = trainingText(name, version, path, result, seconds);
  printAnswer(io, options.json, {
    document: {
      ...trainingDocument(name, version, path, result, seconds),
      ...(promotion && { promotion: promotion.document }),
    },
    text: promotion === undefined ? text : `${text}\n\n${promotion.text}`,
  });
  if (promotion?.isPromoted === false) throw new Unsuccessful();
}

function trainingDocument(
  name: string,
  version: number,
  path: string,
  { sets, stretches, epochs, heldBackLoss, heldBackLossNoLstm }: TrainingResult,
  seconds: number,
) {
  return {
    model: name,
    version,
    path,
    sets: sets.map(({ name, licence, series, bins }) => ({ name, licence, series, bins })),
    stretches,
    epochs: epochs.map(({ epoch, learned, heldBack, heldBackNoLstm }) => ({
      epoch,
      learned_loss: learned,
      held_back_loss: heldBack,
      held_back_loss_no_lstm: heldBackNoLstm,
    })),
    held_back_loss: heldBackLoss,
    held_back_loss_no_lstm: heldBackLossNoLstm,
    seconds: Number(seconds.toFixed(3)),
  };
}

function trainingText(
  name: string,
  version: number,
  path: string,
  { sets, stretches, epochs, heldBackLoss, heldBackLossNoLstm }: TrainingResult,
  seconds: number,
): string {
  return facts([
    ['model', `${name}@${version}`],
    ['kept in', path],
    ['sets', sets.map((set) => `${set.name} (${set.series} series)`).join(', ')],
    ['learned from', `${stretches.toLocaleString('en-US')} stretches, ${epochs.length} epochs`],
    ['held-back loss', lossText(heldBackLoss)],
    ['without its recurrent part', lossText(heldBackLossNoLstm)],
    ['took', `${seconds.toFixed(1)} s`],
  ]);
}
