import assert from 'node:assert';
import { loadModule, type ModuleBuild, type ModuleMemory } from './module.ts';

/** Functions of the module as assembly/series/index.ts exports them; addresses are byte offsets. */
interface SeriesExports {
  readonly memory: ModuleMemory;
  prepare(): void;
  open(slot: number, season: number, clock: number): void;
  refresh(slot: number, value: number): void;
  fit(slot: number, fit: number): void;
  aim(slot: number): void;
  forecast(slot: number, steps: number, levels: number): void;
  compare(slot: number, step: number, y: number): void;
  modelAt(): number;
  stepsAt(): number;
  levelsAt(): number;
  quantilesAt(): number;
  featuresAt(): number;
  matrixAt(): number;
  leanAt(slot: number): number;
  leanShare(slot: number, knot: number): number;
  validAt(): number;
  seriesBytes(slot: number): number;
  seriesAt(slot: number): number;
  modelSize(): number;
  groupsSize(): number;
  groupRow(): number;
  knotsSize(): number;
  knotStep(knot: number): number;
  stepsMax(): number;
  levelsMax(): number;
  inputsSize(): number;
  hiddenSize(): number;
  fitsSize(): number;
  slotsSize(): number;
}

/**
 * The series module with its memory: one model, and the state of many series. The views are made once and stay valid,
 * for the memory never grows.
 */
export class SeriesKernels {
  readonly call: SeriesExports;
  /** f32[modelSize]: cell, head, trust. */
  readonly model: Float32Array;
  /** i32[stepsMax], increasing, from 1. */
  readonly steps: Int32Array;
  /** f32[levelsMax], increasing, in (0, 1). */
  readonly levels: Float32Array;
  /** f32[stepsMax, levelsMax] */
  readonly quantiles: Float32Array;
  /** f32[inputs]: what the recurrent part saw of the newest bin. */
  readonly features: Float32Array;
  /** f32[16, groupRow]: distances of the experts' distributions from an outcome, pairwise. */
  readonly matrix: Float32Array;
  /** i32[groupRow]: atoms of each expert that have a value. */
  readonly valid: Int32Array;
  readonly groups: number;
  readonly groupRow: number;
  readonly stepsMax: number;
  readonly levelsMax: number;
  readonly inputs: number;
  readonly hidden: number;
  /** Fits of the linear expert. */
  readonly fits: number;
  /** Of each track: the long one's slots are [0, slots), the short one's [slots, 2 slots). */
  readonly slots: number;
  /** Horizons of the knots, bins. */
  readonly knotSteps: readonly number[];

  private constructor(exports: SeriesExports) {
    this.call = exports;
    exports.prepare();
    const { buffer } = exports.memory;
    this.groups = exports.groupsSize();
    this.groupRow = exports.groupRow();
    this.stepsMax = exports.stepsMax();
    this.levelsMax = exports.levelsMax();
    this.inputs = exports.inputsSize();
    this.hidden = exports.hiddenSize();
    this.fits = exports.fitsSize();
    this.slots = exports.slotsSize();
    const knots = exports.knotsSize();
    this.knotSteps = Array.from({ length: knots }, (_, knot) => exports.knotStep(knot));
    this.model = new Float32Array(buffer, exports.modelAt(), exports.modelSize());
    this.steps = new Int32Array(buffer, exports.stepsAt(), this.stepsMax);
    this.levels = new Float32Array(buffer, exports.levelsAt(), this.levelsMax);
    this.quantiles = new Float32Array(buffer, exports.quantilesAt(), this.stepsMax * this.levelsMax);
    this.features = new Float32Array(buffer, exports.featuresAt(), this.inputs);
    this.matrix = new Float32Array(buffer, exports.matrixAt(), 16 * this.groupRow);
    this.valid = new Int32Array(buffer, exports.validAt(), this.groupRow);
  }

  static async load(build: ModuleBuild = 'release'): Promise<SeriesKernels> {
    return new SeriesKernels(await loadModule<SeriesExports>('series', build));
  }

  /** Take a model's weights. @param weights f32[modelSize], finite */
  adopt(weights: Float32Array): void {
    assert.equal(weights.length, this.model.length, 'the weights are of another shape');
    assert(weights.every(Number.isFinite), 'weights must be finite');
    this.model.set(weights);
  }

  /** f32[groups]: what the outcomes of a series so far add to the logits of its experts at one knot, before the model's trust. */
  lean(slot: number, knot: number): Float32Array {
    const { memory, leanAt, leanShare } = this.call;
    const at = leanAt(slot) + 4 * knot * this.groupRow;
    const share = leanShare(slot, knot);
    return new Float32Array(memory.buffer, at, this.groups).map((lean) => lean * share);
  }

  /** The whole state of a series, to be paged out and back. */
  state(slot: number): Uint8Array {
    return new Uint8Array(this.call.memory.buffer, this.call.seriesAt(slot), this.call.seriesBytes(slot));
  }
}
