import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import { withoutRecurrence } from '../../orchestrator/forecast/series-model.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { TrainingKernels } from '../../orchestrator/wasm/training.ts';
import { type Curriculum, readCurriculum, type SetShare } from './curriculum.ts';
import { Random } from './random.ts';
import { startingModel } from './starting-model.ts';
import { binNumbers, STRETCH_BINS, type StretchJob } from './stretches.ts';
import { type EpochResult, type SetLoss, type Stretch, Trainer, type TrainerState } from './trainer.ts';
import { WorkerPool } from './worker-pool.ts';

export interface TrainingPlan {
  readonly folders: readonly string[];
  /** Only the first so many bins of each series are learned from. */
  readonly untilStep?: number;
  /** Bins are of so many instructions; absent: of the sets' own seconds. */
  readonly instructionStep?: number;
  readonly epochs: number;
  readonly seed: number;
  readonly signal: AbortSignal;
  /** Go on from here; refused when it is of another training. */
  readonly from?: TrainingState;
}

/** What a training learns from and how: two that agree in all of it give the same weights. */
export interface TrainingIdentity {
  readonly sets: readonly string[];
  readonly untilStep: number | null;
  readonly epochs: number;
  readonly seed: number;
  readonly dataSha256: string;
  /** SHA-256 over the stretches as they were cut, hex: the experts' part in it. */
  readonly stretchesSha256: string;
}

/** Where a training stands after an epoch. */
export interface TrainingState extends TrainerState {
  readonly identity: TrainingIdentity;
}

/** What was taken of a set, and how well it was foretold. */
export interface LearnedSet extends SetShare {
  /** Of the weights that were kept; absent: nothing of it was kept back. */
  readonly heldBack?: SetLoss;
}

export interface TrainingResult {
  readonly weights: Float32Array;
  readonly sets: readonly LearnedSet[];
  /** SHA-256 over every value, hex. */
  readonly dataSha256: string;
  readonly stretches: number;
  readonly epochs: readonly EpochResult[];
  /** On what was kept back, in units of the pool's loss before training. */
  readonly heldBackLoss: number;
  readonly heldBackLossNoLstm: number;
  readonly kernels: SeriesKernels;
}

/** What a training says while it runs. */
export interface TrainingListener {
  /** Where it is. @param fraction in [0, 1] of this part */
  progress(fraction: number, place: string): void;
  /** After each epoch, awaited: what it takes to go on from there. */
  checkpoint(state: TrainingState): Promise<void>;
}

/**
 * Share of what it learned that the head keeps, trust in leans included; the rest is as before training. What it learns holds
 * within the sets it saw, and on bursty guests of other systems it does more harm than good.
 */
const SAY = 0.1;
/** Most workers that cut stretches. */
const WORKERS_MAX = 4;

/**
 * Train a series model; the same sets, plan and seed give the same weights, to the bit, with and without a stop on the way.
 * @throws {AllocatorError} INVALID_REQUEST when there is nothing to learn from, or `from` is of another training
 */
export async function train(plan: TrainingPlan, listener: TrainingListener): Promise<TrainingResult> {
  const { signal, seed, from } = plan;
  const tell = listener.progress.bind(listener);
  const curriculum = await readCurriculum(plan.folders, plan, (folder) => tell(0, `reading ${folder}`));
  const options = {
    sets: curriculum.sets.map(({ name }) => name),
    untilStep: plan.untilStep ?? null,
    epochs: plan.epochs,
    seed,
    dataSha256: curriculum.sha256,
  };
  if (from !== undefined) refuseOther(from.identity, options);
  const kernels = await SeriesKernels.load();
  const { stretches, sha256 } = await cut(curriculum, STRETCH_BINS * binNumbers(kernels), signal, tell);
  if (stretches.length === 0)
    throw new AllocatorError(
      'INVALID_REQUEST',
      `no series has the ${2 * STRETCH_BINS} steps that are needed to learn from it`,
    );
  const identity = { ...options, stretchesSha256: sha256 };
  if (from !== undefined) refuseOther(from.identity, identity);
  const training = await TrainingKernels.load(kernels.inputs);
  const random = new Random(seed);
  const start = startingModel(kernels, training, random);
  training.model.set(start);
  const trainer = new Trainer(training, kernels.inputs, stretches, (weights) =>
    withoutRecurrence(kernels, weights),
  );
  const epochs = await trainer.train(
    plan.epochs,
    random,
    signal,
    async ({ epoch, heldBack }, state) => {
      tell(epoch / plan.epochs, `epoch ${epoch}, held-back loss ${heldBack.toFixed(4)}`);
      await listener.checkpoint({ ...state, identity });
    },
    from,
  );
  const weights = tempered(trainer.best, start, training.cellSize);
  return {
    weights,
    sets: learnedSets(curriculum, trainer.judgeSets(weights)),
    dataSha256: curriculum.sha256,
    stretches: stretches.length,
    epochs,
    heldBackLoss: trainer.judge(weights),
    heldBackLossNoLstm: trainer.judge(withoutRecurrence(kernels, weights)),
    kernels,
  };
}

/** What differs is said in these words. */
const DIFFERENCES: Readonly<Record<keyof TrainingIdentity, string>> = {
  sets: 'it is of other sets',
  untilStep: 'it has another --until-step',
  epochs: 'it has another --epochs',
  seed: 'it has another --seed',
  dataSha256: 'a set has changed since',
  stretchesSha256: 'this version of the program has other experts',
};

function refuseOther(found: TrainingIdentity, wanted: Partial<TrainingIdentity>): void {
  for (const key of Object.keys(wanted) as (keyof TrainingIdentity)[]) {
    const [was, is] = [found[key], wanted[key]].map((value) => String(value ?? 'none'));
    if (was === is) continue;
    throw new AllocatorError(
      'INVALID_REQUEST',
      `the checkpoint is of another training: ${DIFFERENCES[key]} (${was}, not ${is})`,
    );
  }
}

/** Weights whose head lies between that of `start` and the trained one, by SAY. */
function tempered(trained: Float32Array, start: Float32Array, cellSize: number): Float32Array {
  return trained.map((weight, i) => {
    const before = start[i] as number;
    return i < cellSize ? weight : before + SAY * (weight - before);
  });
}

/** Losses by set: means over its spacings, by their stretches. */
function learnedSets({ sets, shareOf }: Curriculum, losses: readonly (SetLoss | undefined)[]): LearnedSet[] {
  return sets.map((set, share) => {
    const own = losses.filter((loss, i) => loss !== undefined && shareOf[i] === share) as SetLoss[];
    const stretches = own.reduce((sum, one) => sum + one.stretches, 0);
    const mean = (key: 'loss' | 'lossNoLstm'): number =>
      own.reduce((sum, one) => sum + one[key] * one.stretches, 0) / stretches;
    if (stretches === 0) return set;
    return { ...set, heldBack: { stretches, loss: mean('loss'), lossNoLstm: mean('lossNoLstm') } };
  });
}

/** @param size numbers of a stretch */
async function cut(
  { lessons }: Curriculum,
  size: number,
  signal: AbortSignal,
  tell: TrainingListener['progress'],
): Promise<{ readonly stretches: readonly Stretch[]; readonly sha256: string }> {
  const workers = Math.min(availableParallelism(), WORKERS_MAX);
  const pool = new WorkerPool<StretchJob, Float32Array>(
    new URL('./stretch-worker.js', import.meta.url),
    workers,
  );
  try {
    const answers = await pool.run(
      lessons.map(({ job }) => job),
      signal,
      (done) => tell(done / lessons.length, `${done} of ${lessons.length} series played`),
    );
    const hash = createHash('sha256');
    const stretches = answers.flatMap((answer, i) => {
      const { set, heldBack } = lessons[i] as Curriculum['lessons'][number];
      hash.update(`${set} ${heldBack}`).update(answer);
      return Array.from({ length: answer.length / size }, (_, s) => ({
        bins: answer.subarray(s * size, (s + 1) * size),
        set,
        heldBack,
      }));
    });
    return { stretches, sha256: hash.digest('hex') };
  } finally {
    await pool.close();
  }
}
