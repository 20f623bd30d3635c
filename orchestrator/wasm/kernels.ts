import assert from 'node:assert';
import { FIELDS, KNOTS_MAX, LEVELS, QUANTILE_LEVELS } from '../core/forecast.ts';
import { loadModule, type ModuleBuild, type ModuleMemory } from './module.ts';

/** Functions of the module as assembly/index.ts exports them; addresses are byte offsets. */
export interface KernelExports {
  readonly memory: ModuleMemory;
  prepare(): void;
  observe(guest: number, full: number): void;
  clearGuest(guest: number): void;
  clearWorkload(slot: number): void;
  learn(
    slot: number,
    durationS: number,
    censored: number,
    select: number,
    groups: number,
    start: number,
  ): void;
  forecastRequest(slot: number, guest: number, knots: number, estimateS: number): number;
  forecastGuest(guest: number, knots: number): void;
  processQuantilesAt(slot: number, output: number): number;
  runsOf(slot: number): number;
  factor(n: number, a: number, l: number): void;
  invertLower(n: number, l: number, inverse: number): void;
  mixQuantiles(a: number, b: number, weight: number, out: number): void;
  exponentials(
    n: number,
    x: number,
    least: number,
    most: number,
    one: number,
    scale: number,
    out: number,
  ): void;
  matern52(r: number): number;
  normalCdf(z: number): number;
  normalQuantile(p: number): number;
  studentCdf(t: number, nu: number): number;
  studentQuantile(z: number, nu: number): number;
  levelsAt(): number;
  floorsAt(): number;
  rowAt(): number;
  peakAt(): number;
  beforeAt(): number;
  ceilingAt(): number;
  sampleAt(): number;
  knotsAt(): number;
  forecastPeakAt(): number;
  forecastDurationAt(): number;
  forecastValuesAt(): number;
  runRowsAt(slot: number): number;
  runOutputsAt(slot: number): number;
  fittedAt(slot: number): number;
  dependenceAt(slot: number): number;
  scratchAt(index: number): number;
  fieldsSize(): number;
  levelsSize(): number;
  knotsMax(): number;
  numericSize(): number;
  dimsSize(): number;
  runsMax(): number;
  workloadsMax(): number;
  guestsMax(): number;
}

/** Outputs of a model: the profile fields, then the duration. */
export const OUTPUTS = FIELDS + 1;

/**
 * The module with its memory. The views are made once and stay valid: the memory never grows.
 * One instance holds one forecaster's whole state; it is not shared.
 */
export class Kernels {
  readonly call: KernelExports;
  /** Coordinates of the request to learn or to forecast, f64[dims]; NaN: a number that was not given. */
  readonly row: Float64Array;
  /** f64[FIELDS]; NaN: not read. */
  readonly peak: Float64Array;
  readonly before: Float64Array;
  readonly ceiling: Float64Array;
  readonly sample: Float64Array;
  /** f64[KNOTS_MAX], s. */
  readonly knots: Float64Array;
  /** The three that follow, one behind the other, so that an answer is copied out at once. */
  readonly forecast: Float64Array;
  /** f64[FIELDS, LEVELS] */
  readonly forecastPeak: Float64Array;
  /** f64[LEVELS], s */
  readonly forecastDuration: Float64Array;
  /** f64[FIELDS, knots, LEVELS]; the knots in use lie close together */
  readonly forecastValues: Float64Array;
  readonly numeric: number;
  readonly dims: number;
  readonly runsMax: number;
  readonly workloadsMax: number;
  readonly guestsMax: number;

  /** @param floors f64[FIELDS], smallest increment of each field that means something, in its unit; > 0 */
  constructor(exports: KernelExports, floors: readonly number[]) {
    this.call = exports;
    assert.equal(exports.fieldsSize(), FIELDS, 'the kernels were built for other fields');
    assert.equal(exports.levelsSize(), LEVELS, 'the kernels were built for other levels');
    assert.equal(exports.knotsMax(), KNOTS_MAX, 'the kernels were built for other knots');
    assert(floors.length === FIELDS && floors.every((floor) => floor > 0));
    this.numeric = exports.numericSize();
    this.dims = exports.dimsSize();
    this.runsMax = exports.runsMax();
    this.workloadsMax = exports.workloadsMax();
    this.guestsMax = exports.guestsMax();
    this.row = this.view(exports.rowAt(), this.dims);
    this.peak = this.view(exports.peakAt(), FIELDS);
    this.before = this.view(exports.beforeAt(), FIELDS);
    this.ceiling = this.view(exports.ceilingAt(), FIELDS);
    this.sample = this.view(exports.sampleAt(), FIELDS);
    this.knots = this.view(exports.knotsAt(), KNOTS_MAX);
    const length = FIELDS * LEVELS + LEVELS + FIELDS * KNOTS_MAX * LEVELS;
    this.forecast = this.view(exports.forecastPeakAt(), length);
    this.forecastPeak = this.view(exports.forecastPeakAt(), FIELDS * LEVELS);
    this.forecastDuration = this.view(exports.forecastDurationAt(), LEVELS);
    this.forecastValues = this.view(exports.forecastValuesAt(), FIELDS * KNOTS_MAX * LEVELS);
    const end = this.forecastValues.byteOffset + this.forecastValues.byteLength;
    assert.equal(end, this.forecast.byteOffset + this.forecast.byteLength, 'an answer must lie in one piece');
    this.view(exports.levelsAt(), LEVELS).set(QUANTILE_LEVELS);
    this.view(exports.floorsAt(), FIELDS).set(floors);
    exports.prepare();
  }

  /** A view of `length` doubles at a byte offset of the module's memory. */
  view(offset: number, length: number): Float64Array {
    return new Float64Array(this.call.memory.buffer, offset, length);
  }
}

/** Load the kernels that forecast requests. */
export async function loadKernels(
  floors: readonly number[],
  build: ModuleBuild = 'release',
): Promise<Kernels> {
  return new Kernels(await loadModule<KernelExports>('foreshade', build), floors);
}
