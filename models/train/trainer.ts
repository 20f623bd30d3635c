import type { TrainingKernels } from '../../orchestrator/wasm/training.ts';
import type { Random } from './random.ts';

/** A stretch and where it comes from. */
export interface Stretch {
  /** f32[STRETCH_BINS, binNumbers] */
  readonly bins: Float32Array;
  /** Index of its set at one spacing: losses are measured in units of each. */
  readonly set: number;
  /** Kept back: never learned from, it decides which epoch's weights are kept. */
  readonly heldBack: boolean;
}

/** After one epoch: mean loss of a stretch, in units of its set's loss before training. */
export interface EpochResult {
  readonly epoch: number;
  readonly learned: number;
  readonly heldBack: number;
  /** The same weights without their recurrent part. */
  readonly heldBackNoLstm: number;
}

/** All that a training needs to go on after an epoch as if it had never stopped. */
export interface TrainerState {
  /** f32[modelSize]: the weights after the last epoch, and those of the best one. */
  readonly model: Float32Array;
  readonly best: Float32Array;
  /** f32[2, modelSize], of Adam. */
  readonly moments: Float32Array;
  /** What has been, from the first epoch on. */
  readonly epochs: readonly EpochResult[];
}

/** Losses of a set on what was kept back of it. */
export interface SetLoss {
  readonly stretches: number;
  readonly loss: number;
  readonly lossNoLstm: number;
}

const RATE = 0.003;
const RATE_MIN = 1e-5;
/** Epochs without a better held-back loss after which training ends. */
const PATIENCE = 4;

/** Trains a series model by Adam on the CRPS of the pool, over stretches that were cut before. */
export class Trainer {
  readonly #kernels: TrainingKernels;
  readonly #inputs: number;
  readonly #learned: Stretch[];
  readonly #heldBack: readonly Stretch[];
  readonly #units: readonly number[];
  readonly #withoutLstm: (weights: Float32Array) => Float32Array;
  #best: Float32Array;
  #bestLoss: number;
  #steps = 0;
  #sinceBest = 0;

  /**
   * @param kernels     hold the starting weights
   * @param withoutLstm weights whose recurrent part has no say
   */
  constructor(
    kernels: TrainingKernels,
    inputs: number,
    stretches: readonly Stretch[],
    withoutLstm: (weights: Float32Array) => Float32Array,
  ) {
    this.#kernels = kernels;
    this.#withoutLstm = withoutLstm;
    this.#inputs = inputs;
    this.#learned = stretches.filter(({ heldBack }) => !heldBack);
    this.#heldBack = stretches.filter(({ heldBack }) => heldBack);
    const sets = Math.max(...stretches.map(({ set }) => set)) + 1;
    this.#units = Array.from({ length: sets }, () => 1);
    this.#units = Array.from({ length: sets }, (_, set) =>
      this.#loss(stretches.filter((s) => s.set === set)),
    );
    this.#best = kernels.model.slice();
    this.#bestLoss = this.#loss(this.#judges);
  }

  /** What decides: the stretches kept back, or all when none is. */
  get #judges(): readonly Stretch[] {
    return this.#heldBack.length > 0 ? this.#heldBack : this.#learned;
  }

  get best(): Float32Array {
    return this.#best;
  }

  /**
   * Train; the kernels end with the best weights.
   * @param tell after each epoch, with what it takes to go on from there; awaited
   * @param from go on after these epochs: stretches, `epochs` and `random` are those it began with
   */
  async train(
    epochs: number,
    random: Random,
    signal: AbortSignal,
    tell: (result: EpochResult, state: TrainerState) => Promise<void> | void,
    from?: TrainerState,
  ): Promise<EpochResult[]> {
    const { rows, call, gradient, model, moments } = this.#kernels;
    const batches = Math.ceil(this.#learned.length / rows);
    const results: EpochResult[] = [];
    if (from !== undefined) {
      // The order of the stretches comes of all shuffles before: they are repeated, so nobody needs to keep it.
      for (const result of from.epochs) {
        random.shuffle(this.#learned);
        this.#isBest(result.heldBack);
        results.push(result);
      }
      this.#steps = results.length * batches;
      this.#best = from.best.slice();
      model.set(from.model);
      moments.set(from.moments);
    }
    for (let epoch = results.length + 1; epoch <= epochs && this.#sinceBest < PATIENCE; epoch += 1) {
      random.shuffle(this.#learned);
      let total = 0;
      for (let batch = 0; batch < batches; batch += 1) {
        if (batch % 32 === 0) {
          await new Promise((resolve) => setImmediate(resolve));
          signal.throwIfAborted();
        }
        const lessons = this.#load(this.#learned.slice(batch * rows, (batch + 1) * rows));
        total += call.pass(1);
        for (let i = 0; i < gradient.length; i += 1) gradient[i] = (gradient[i] as number) / lessons;
        this.#steps += 1;
        const progress = this.#steps / (epochs * batches);
        call.descend(this.#steps, RATE_MIN + RATE * 0.5 * (1 + Math.cos(Math.PI * progress)));
      }
      const heldBack = this.#loss(this.#judges);
      if (this.#isBest(heldBack)) this.#best = model.slice();
      const heldBackNoLstm = this.judge(this.#withoutLstm(model.slice()));
      const result = { epoch, learned: total / this.#learned.length, heldBack, heldBackNoLstm };
      results.push(result);
      await tell(result, {
        model: model.slice(),
        best: this.#best,
        moments: moments.slice(),
        epochs: results,
      });
    }
    model.set(this.#best);
    return results;
  }

  /** Note the loss of one more epoch. */
  #isBest(heldBack: number): boolean {
    const isBest = heldBack < this.#bestLoss;
    this.#sinceBest = isBest ? 0 : this.#sinceBest + 1;
    if (isBest) this.#bestLoss = heldBack;
    return isBest;
  }

  /** Loss of other weights on what decides; the kernels keep theirs. */
  judge(weights: Float32Array): number {
    return this.#lossOf(weights, this.#judges);
  }

  /** Losses of weights on what was kept back, by the set's index; undefined where nothing was. */
  judgeSets(weights: Float32Array): (SetLoss | undefined)[] {
    return this.#units.map((_, set) => {
      const stretches = this.#heldBack.filter((one) => one.set === set);
      if (stretches.length === 0) return undefined;
      const loss = this.#lossOf(weights, stretches);
      return {
        stretches: stretches.length,
        loss,
        lossNoLstm: this.#lossOf(this.#withoutLstm(weights), stretches),
      };
    });
  }

  #lossOf(weights: Float32Array, stretches: readonly Stretch[]): number {
    const { model } = this.#kernels;
    const own = model.slice();
    model.set(weights);
    const loss = this.#loss(stretches);
    model.set(own);
    return loss;
  }

  #loss(stretches: readonly Stretch[]): number {
    const { rows, call } = this.#kernels;
    let total = 0;
    for (let at = 0; at < stretches.length; at += rows) {
      this.#load(stretches.slice(at, at + rows));
      total += call.pass(0);
    }
    return stretches.length === 0 ? 1 : total / stretches.length;
  }

  /** Lay out a batch; places without a stretch have no lessons. @returns lessons in it, at least 1 */
  #load(stretches: readonly Stretch[]): number {
    const { steps, rows, lesson, input, lessons } = this.#kernels;
    const inputs = this.#inputs;
    const width = inputs + lesson;
    let count = 0;
    input.fill(0);
    lessons.fill(0);
    for (const [row, { bins, set }] of stretches.entries()) {
      const unit = this.#units[set] as number;
      for (let step = 0; step < steps; step += 1) {
        const from = step * width;
        const place = step * rows + row;
        input.set(bins.subarray(from, from + inputs), place * inputs);
        lessons.set(bins.subarray(from + inputs, from + width), place * lesson);
        const weight = bins[from + inputs + 1] as number;
        if (weight === 0) continue;
        lessons[place * lesson + 1] = weight / unit;
        count += 1;
      }
    }
    return Math.max(count, 1);
  }
}
