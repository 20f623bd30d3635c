import { loadModule, type ModuleBuild, type ModuleMemory } from './module.ts';

/** Functions of the module as assembly/training/index.ts exports them; addresses are byte offsets. */
interface TrainingExports {
  readonly memory: ModuleMemory;
  prepare(): void;
  pass(learn: number): number;
  descend(count: number, rate: number): number;
  modelAt(): number;
  gradientAt(): number;
  momentsAt(): number;
  inputAt(): number;
  lessonsAt(): number;
  modelSize(): number;
  stepsSize(): number;
  rowsSize(): number;
  lessonSize(): number;
  cellSize(): number;
  headSize(): number;
}

/** The training module with its memory: the weights, their moments, and one batch. */
export class TrainingKernels {
  readonly call: TrainingExports;
  /** f32[modelSize]: cell, head, trust. */
  readonly model: Float32Array;
  readonly gradient: Float32Array;
  /** f32[2, modelSize], of Adam. */
  readonly moments: Float32Array;
  /** f32[steps, rows, inputs] */
  readonly input: Float32Array;
  /** f32[steps, rows, lesson] */
  readonly lessons: Float32Array;
  readonly steps: number;
  readonly rows: number;
  readonly lesson: number;
  readonly cellSize: number;
  readonly headSize: number;

  private constructor(exports: TrainingExports, inputs: number) {
    this.call = exports;
    exports.prepare();
    const { buffer } = exports.memory;
    const size = exports.modelSize();
    this.steps = exports.stepsSize();
    this.rows = exports.rowsSize();
    this.lesson = exports.lessonSize();
    this.cellSize = exports.cellSize();
    this.headSize = exports.headSize();
    this.model = new Float32Array(buffer, exports.modelAt(), size);
    this.gradient = new Float32Array(buffer, exports.gradientAt(), size);
    this.moments = new Float32Array(buffer, exports.momentsAt(), 2 * size);
    const bins = this.steps * this.rows;
    this.input = new Float32Array(buffer, exports.inputAt(), bins * inputs);
    this.lessons = new Float32Array(buffer, exports.lessonsAt(), bins * this.lesson);
  }

  /** @param inputs of the recurrent part, as the series module has them */
  static async load(inputs: number, build: ModuleBuild = 'release'): Promise<TrainingKernels> {
    return new TrainingKernels(await loadModule<TrainingExports>('training', build), inputs);
  }
}
