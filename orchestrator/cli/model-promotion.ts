import { cp, mkdir, rename } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { gridBySeconds } from '../../models/data/grid.ts';
import { SeriesSet } from '../../models/data/series-set.ts';
import { judge, meanCrps, SERIES_MIN, type Trial, type Verdict } from '../../models/evaluate/challenge.ts';
import { Evaluator } from '../../models/evaluate/evaluate.ts';
import { promotedVersion, servedVersion, serveVersion } from '../../models/files/current-version.ts';
import {
  type ModelManifest,
  partsOf,
  readModel,
  type SavedModel,
  versionsIn,
} from '../../models/files/model-file.ts';
import { isHeldBack, seasonOf } from '../../models/train/curriculum.ts';
import { Random } from '../../models/train/random.ts';
import { AllocatorError } from '../core/errors.ts';
import { SeriesKernels } from '../wasm/series.ts';
import { intervalText, scoreText } from './evaluation-answer.ts';
import { modelSource } from './evaluation-sources.ts';
import { type Io, printAnswer, Unsuccessful } from './io.ts';
import { checkedName, modelFolder, shippedFolder } from './model-folder.ts';
import { Progress } from './progress.ts';
import { facts, table } from './table.ts';

export interface PromotionOptions {
  readonly data: readonly string[];
  readonly horizon: number;
  readonly windows: number;
  readonly models?: string;
  readonly json?: boolean;
}

/** Seed of the draws behind a verdict: asked again, it is the same. */
const VERDICT_SEED = 1;

/** A version and its forecaster. */
interface Rival extends SavedModel {
  readonly kernels: SeriesKernels;
}

/** What a challenge came to. */
export interface Promotion {
  readonly isPromoted: boolean;
  readonly document: ReturnType<typeof verdictDocument>;
  readonly text: string;
}

/**
 * Let a version serve if it forecasts what neither it nor the one that serves has learned from better than that one.
 * @throws {Unsuccessful} when it does not; the answer says so, and the other goes on serving
 */
export async function promoteModel(io: Io, wanted: string, options: PromotionOptions): Promise<void> {
  const { isPromoted, document, text } = await challenge(io, wanted, options);
  printAnswer(io, options.json, { document, text });
  if (!isPromoted) throw new Unsuccessful();
}

/** As `promoteModel`, and what to say of it. */
export async function challenge(io: Io, wanted: string, options: PromotionOptions): Promise<Promotion> {
  const { home, champion, challenger } = await rivalsOf(io, wanted, options.models);
  const before = await promotedVersion(home);
  const progress = new Progress(io);
  const trials: Trial[] = [];
  for (const folder of options.data)
    trials.push(await trialOn(io, resolve(folder), champion, challenger, options, progress));
  progress.end();
  const random = new Random(VERDICT_SEED);
  const verdict = judge(trials, () => random.next());
  if (verdict.series < SERIES_MIN)
    refuse(`a verdict needs ${SERIES_MIN} series that neither has learned from; there are ${verdict.series}`);
  if ((await promotedVersion(home)) !== before)
    throw new AllocatorError('STATE_CONFLICT', `another promotion of ${basename(home)} came in between`);
  const serves = (verdict.isBetter ? challenger : champion).manifest.version;
  await serveVersion(home, serves);
  return {
    isPromoted: verdict.isBetter,
    document: verdictDocument(champion.manifest, challenger.manifest, trials, verdict, serves),
    text: verdictText(champion.manifest, challenger.manifest, trials, verdict),
  };
}

/**
 * See that what serves now goes on serving when another version is kept: what ships is copied beside it, the newest is named.
 * @param home the model's folder
 * @returns whether anything serves
 */
export async function settleChampion(home: string): Promise<boolean> {
  const serves = await servedVersion(home);
  if (serves !== undefined) {
    if ((await promotedVersion(home)) === undefined) await serveVersion(home, serves);
    return true;
  }
  const shipped = join(shippedFolder(), basename(home));
  const version = await servedVersion(shipped);
  if (version === undefined) return false;
  const draft = join(home, `.${version}-${process.pid}`);
  await mkdir(home, { recursive: true });
  await cp(join(shipped, String(version)), draft, { recursive: true });
  await rename(draft, join(home, String(version)));
  await serveVersion(home, version);
  return true;
}

async function rivalsOf(io: Io, wanted: string, folder?: string) {
  const [plain = '', version] = wanted.split('@');
  const home = join(modelFolder(io, folder), checkedName(plain));
  const versions = await versionsIn(home);
  const challenger = versions.find((one) => String(one) === version);
  if (version === undefined) refuse(`name the version that is to serve: ${plain}@VERSION`);
  if (challenger === undefined) return refuse(`there is no model ${wanted} in ${modelFolder(io, folder)}`);
  // Before the first promotion the newest serves: what is newest beside the challenger is what it would replace.
  const champion = (await promotedVersion(home)) ?? versions.filter((one) => one !== challenger).at(-1);
  if (champion === undefined) return refuse(`${plain} has no other version: it serves already`);
  if (champion === challenger) return refuse(`${wanted} serves already`);
  const read = async (one: number): Promise<Rival> => {
    const kernels = await SeriesKernels.load();
    return { kernels, ...(await readModel(join(home, String(one)), partsOf(kernels))) };
  };
  return { home, champion: await read(champion), challenger: await read(challenger) };
}

/** Score both on what neither has learned from of a set. */
async function trialOn(
  io: Io,
  folder: string,
  champion: Rival,
  challenger: Rival,
  { horizon, windows }: PromotionOptions,
  progress: Progress,
): Promise<Trial> {
  const set = await SeriesSet.open(folder);
  try {
    const { name, stepS, seasonSteps, grid } = set.facts;
    if (stepS === undefined) return refuse(`${name} has no step_seconds: it cannot be judged on`);
    const season = Math.max(seasonSteps ?? seasonOf(stepS), 1);
    const plan = { metrics: set.metrics, axis: 'seconds', horizon, windows, season } as const;
    const evaluators = [champion, challenger].map(
      ({ kernels, weights, manifest }) =>
        new Evaluator(modelSource(String(manifest.version), kernels, weights), plan),
    );
    const learned = learnedUntil(name, [champion.manifest, challenger.manifest]);
    const { count, series } = await set.read(set.metrics);
    let place = 0;
    let fair = 0;
    for await (const rows of series) {
      io.signal.throwIfAborted();
      const from = isHeldBack(place) ? 0 : learned;
      const even = gridBySeconds(rows, stepS, grid);
      if (from + horizon <= even.steps) {
        for (const evaluator of evaluators) evaluator.add(even, from);
        fair += 1;
      }
      place += 1;
      progress.tell(place / count, `${name}: ${place} of ${count} series`);
    }
    if (fair === 0)
      refuse(
        `all of ${name} was learned from and nothing kept back: judge on another set, or train with --until-step`,
      );
    const [first, second] = evaluators.map((one) => one.finish().bySeries);
    return { set: name, champion: first ?? [], challenger: second ?? [] };
  } finally {
    set.close();
  }
}

/** First bin of a set that no model has learned from; infinite when one learned from all of it. */
function learnedUntil(set: string, manifests: readonly ModelManifest[]): number {
  const ends = manifests
    .filter(({ data }) => data.some(({ name }) => name === set))
    .map(({ untilStep }) => untilStep ?? Number.POSITIVE_INFINITY);
  return Math.max(0, ...ends);
}

function refuse(message: string): never {
  throw new AllocatorError('INVALID_REQUEST', message);
}

function verdictDocument(
  champion: ModelManifest,
  challenger: ModelManifest,
  trials: readonly Trial[],
  { isBetter, ratio, interval, series }: Verdict,
  serves: number,
) {
  return {
    model: challenger.name,
    champion: champion.version,
    challenger: challenger.version,
    promoted: isBetter,
    serves,
    series,
    CRPS_ratio: ratio,
    CRPS_ratio_interval: [interval.low, interval.high],
    sets: trials.map((trial) => ({
      name: trial.set,
      series: trial.champion.length,
      scored: trial.champion.reduce((all, { scored }) => all + scored, 0),
      champion_CRPS: meanCrps(trial.champion),
      challenger_CRPS: meanCrps(trial.challenger),
    })),
  };
}

function verdictText(
  champion: ModelManifest,
  challenger: ModelManifest,
  trials: readonly Trial[],
  { isBetter, ratio, interval }: Verdict,
): string {
  const [old, young] = [champion, challenger].map(({ name, version }) => `${name}@${version}`) as [
    string,
    string,
  ];
  const rows = trials.map((trial) => [
    trial.set,
    trial.champion.length.toLocaleString('en-US'),
    scoreText(meanCrps(trial.champion)),
    scoreText(meanCrps(trial.challenger)),
  ]);
  const verdict = isBetter
    ? `${young} serves from now on: it is better whatever the choice of series`
    : `${old} goes on serving: that ${young} is better may be the choice of series, or it is not`;
  return [
    table(['held back of', 'series', old, young], rows, { right: [1, 2, 3] }),
    '',
    facts([
      ['CRPS, new / old', `${scoreText(ratio)} (${intervalText(interval)} in 90 % of the draws)`],
      ['verdict', verdict],
    ]),
  ].join('\n');
}
