import type { TrainingKernels } from '../../orchestrator/wasm/training.ts';
import type { Random } from './random.ts';

/** A stretch and where it comes from. */
export interface Stretch {
  /** f32[STRETCH_BINS, binNumbers] */
  readonly bins: Float32Array;
  /** Index of its set. */
  readonly set: number;
  /** Kept back: never learned from, it decides which epoch's weights are kept. */
  readonly heldBack: boolean;
}

/** After one epoch: mean loss of a stretch, in units of its set's loss before training. */
export interface EpochResult {
  readonly epoch: number;
  readonly learned: number;
  readonly heldBack: number;
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
  #best: Float32Array;
  #bestLoss: number;
  #steps = 0;

  /** @param kernels hold the starting weights */
  constructor(kernels: TrainingKernels, inputs: number, stretches: readonly Stretch[]) {
    this.#kernels = kernels;
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

  /** Train; the kernels end with the best weights. @param tell after each epoch; awaited */
  async train(
    epochs: number,
    random: Random,
    signal: AbortSignal,
    tell: (result: EpochResult) => Promise<void> | void,
  ): Promise<EpochResult[]> {
    const { rows, call, gradient } = this.#kernels;
    const batches = Math.ceil(this.#learned.length / rows);
    const results: EpochResult[] = [];
    let since = 0;
    for (let epoch = 1; epoch <= epochs && since < PATIENCE; epoch += 1) {
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
      since += 1;
      if (heldBack < this.#bestLoss) {
        this.#bestLoss = heldBack;
        this.#best = this.#kernels.model.slice();
        since = 0;
      }
      const result = { epoch, learned: total / this.#learned.length, heldBack };
      results.push(result);
      await tell(result);
    }
    this.#kernels.model.set(this.#best);
    return results;
  }

  /** Loss of other weights on what decides; the kernels keep theirs. */
  judge(weights: Float32Array): number {
    const { model } = this.#kernels;
    const own = model.slice();
    model.set(weights);
    const loss = this.#loss(this.#judges);
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
