import { availableParallelism } from 'node:os';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import { withoutRecurrence } from '../../orchestrator/forecast/series-model.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { TrainingKernels } from '../../orchestrator/wasm/training.ts';
import { type Curriculum, readCurriculum } from './curriculum.ts';
import { Random } from './random.ts';
import { startingModel } from './starting-model.ts';
import { StretchPool } from './stretch-pool.ts';
import { binNumbers, STRETCH_BINS } from './stretches.ts';
import { type EpochResult, type Stretch, Trainer } from './trainer.ts';

export interface TrainingPlan {
  readonly folders: readonly string[];
  /** Only the first so many bins of each series are learned from. */
  readonly untilStep?: number;
  readonly epochs: number;
  readonly seed: number;
  readonly signal: AbortSignal;
}

export interface TrainingResult {
  readonly weights: Float32Array;
  readonly curriculum: Curriculum;
  readonly stretches: number;
  readonly epochs: readonly EpochResult[];
  /** On what was kept back, in units of the pool's loss before training. */
  readonly heldBackLoss: number;
  readonly heldBackLossNoLstm: number;
  readonly kernels: SeriesKernels;
}

/** Where a training is. @param fraction in [0, 1] of this part */
export type TellProgress = (fraction: number, place: string) => void;

/**
 * Share of its say that the recurrent part keeps. What it learns holds within the sets it saw; on bursty guests of other
 * systems its whole say made the CRPS a fifth worse than none, and this share neither better nor worse.
 */
const SAY = 0.3;
/** Most workers that cut stretches. */
const WORKERS_MAX = 4;

/** Train a series model; the same sets, plan and seed give the same weights, to the bit. */
export async function train(plan: TrainingPlan, tell: TellProgress): Promise<TrainingResult> {
  const { signal, seed } = plan;
  const curriculum = await readCurriculum(plan.folders, plan, (folder) => tell(0, `reading ${folder}`));
  const kernels = await SeriesKernels.load();
  const stretches = await cut(curriculum, STRETCH_BINS * binNumbers(kernels), signal, tell);
  if (stretches.length === 0)
    throw new AllocatorError(
      'INVALID_REQUEST',
      `no series has the ${2 * STRETCH_BINS} steps that are needed to learn from it`,
    );
  const training = await TrainingKernels.load(kernels.inputs);
  const random = new Random(seed);
  training.model.set(startingModel(kernels, training, random));
  const trainer = new Trainer(training, kernels.inputs, stretches);
  const epochs = await trainer.train(plan.epochs, random, signal, ({ epoch, heldBack }) =>
    tell(epoch / plan.epochs, `epoch ${epoch}, held-back loss ${heldBack.toFixed(4)}`),
  );
  const weights = tempered(kernels, trainer.best);
  const heldBackLossNoLstm = trainer.judge(withoutRecurrence(kernels, weights));
  return {
    weights,
    curriculum,
    stretches: stretches.length,
    epochs,
    heldBackLoss: trainer.judge(weights),
    heldBackLossNoLstm,
    kernels,
  };
}

/** Weights between those without a recurrent part and those with all of it, by SAY. */
function tempered(kernels: SeriesKernels, weights: Float32Array): Float32Array {
  const without = withoutRecurrence(kernels, weights);
  return weights.map((weight, i) => (without[i] as number) + SAY * (weight - (without[i] as number)));
}

/** @param size numbers of a stretch */
async function cut(
  { lessons }: Curriculum,
  size: number,
  signal: AbortSignal,
  tell: TellProgress,
): Promise<readonly Stretch[]> {
  const pool = new StretchPool(Math.min(availableParallelism(), WORKERS_MAX));
  try {
    const answers = await pool.run(
      lessons.map(({ job }) => job),
      signal,
      (done) => tell(done / lessons.length, `${done} of ${lessons.length} series played`),
    );
    return answers.flatMap((answer, i) => {
      const { set, heldBack } = lessons[i] as Curriculum['lessons'][number];
      return Array.from({ length: answer.length / size }, (_, s) => ({
        bins: answer.subarray(s * size, (s + 1) * size),
        set,
        heldBack,
      }));
    });
  } finally {
    await pool.close();
  }
}
