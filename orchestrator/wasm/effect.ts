import assert from 'node:assert';
import { FIELDS, KNOTS_MAX, LEVELS, QUANTILE_LEVELS } from '../core/forecast.ts';
import { loadModule, type ModuleBuild, type ModuleMemory } from './module.ts';

/** Functions of the module as assembly/effect/index.ts exports them; addresses are byte offsets. */
interface EffectExports {
  readonly memory: ModuleMemory;
  prepare(): void;
  addEffect(knots: number, ageS: number): void;
  takeLargest(): void;
  addLargest(): void;
  meanShare(field: number, ageS: number, aheadS: number): number;
  levelsAt(): number;
  knotsAt(): number;
  largestAt(): number;
  durationAt(): number;
  sharesAt(): number;
  beforeAt(): number;
  peakAt(): number;
  valuesAt(): number;
  fieldsSize(): number;
  levelsSize(): number;
  knotsMax(): number;
  phasesSize(): number;
}

/** Calls that take the kernels through the slow first tier of the JIT before the first request comes. */
const WARM_UP_CALLS = 400;

/** The module that adds requests to a guest's use, with its memory. The views are made once and stay valid. */
export class EffectKernels {
  readonly call: EffectExports;
  /** Equal parts of a life. */
  readonly phases: number;
  /** f64[KNOTS_MAX], s, increasing. */
  readonly knots: Float64Array;
  /** f64[FIELDS, LEVELS], quantiles of the request's largest use; NaN: not known, and so nothing. */
  readonly largest: Float64Array;
  /** f64[FIELDS, phases], shares of the largest use; a field whose first is NaN was taught by no run. */
  readonly shares: Float64Array;
  /** f64[FIELDS], usage just before the request. */
  readonly before: Float64Array;
  /** The three that follow, one behind the other, so that an answer is copied out at once. */
  readonly answer: Float64Array;
  /** f64[FIELDS, LEVELS], what `takeLargest` reads and `addLargest` adds to. */
  readonly peak: Float64Array;
  /** f64[LEVELS], quantiles of the request's run time, s; NaN: not known, and so without end. */
  readonly duration: Float64Array;
  /** f64[FIELDS, KNOTS_MAX, LEVELS], what `addEffect` adds to; the knots in use lie close together. NaN stays. */
  readonly values: Float64Array;

  private constructor(exports: EffectExports) {
    this.call = exports;
    assert.equal(exports.fieldsSize(), FIELDS, 'the kernels were built for other fields');
    assert.equal(exports.levelsSize(), LEVELS, 'the kernels were built for other levels');
    assert.equal(exports.knotsMax(), KNOTS_MAX, 'the kernels were built for other knots');
    this.phases = exports.phasesSize();
    const view = (at: number, length: number) => new Float64Array(exports.memory.buffer, at, length);
    this.knots = view(exports.knotsAt(), KNOTS_MAX);
    this.largest = view(exports.largestAt(), FIELDS * LEVELS);
    this.shares = view(exports.sharesAt(), FIELDS * this.phases);
    this.before = view(exports.beforeAt(), FIELDS);
    const lengths = [FIELDS * LEVELS, LEVELS, FIELDS * KNOTS_MAX * LEVELS] as const;
    this.answer = view(
      exports.peakAt(),
      lengths.reduce((sum, length) => sum + length),
    );
    this.peak = view(exports.peakAt(), lengths[0]);
    this.duration = view(exports.durationAt(), lengths[1]);
    this.values = view(exports.valuesAt(), lengths[2]);
    const end = this.values.byteOffset + this.values.byteLength;
    assert.equal(end, this.answer.byteOffset + this.answer.byteLength, 'an answer must lie in one piece');
    view(exports.levelsAt(), LEVELS).set(QUANTILE_LEVELS);
    exports.prepare();
    this.#warmUp();
  }

  #warmUp(): void {
    const { call, knots, duration, values, peak } = this;
    for (let k = 0; k < KNOTS_MAX; k += 1) knots[k] = k;
    duration.fill(KNOTS_MAX);
    for (let i = 0; i < WARM_UP_CALLS; i += 1) {
      call.addEffect(KNOTS_MAX, 0);
      call.takeLargest();
      call.addLargest();
    }
    values.fill(0);
    peak.fill(0);
  }

  static async load(build: ModuleBuild = 'release'): Promise<EffectKernels> {
    return new EffectKernels(await loadModule<EffectExports>('effect', build));
  }
}
