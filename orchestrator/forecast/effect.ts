import { FIELDS, LEVELS, QUANTILE_LEVELS } from '../core/forecast.ts';
import { PROFILE_FIELDS, type ProfileField, type ResourceProfile } from '../core/profile.ts';
import type { EffectKernels } from '../wasm/effect.ts';

/** What one request adds to its guest while it runs. */
export interface Effect {
  /** f64[FIELDS, LEVELS], quantiles of the largest usage while it runs; NaN: not known, and so nothing is added. */
  readonly peak: Float64Array;
  /** f64[LEVELS], quantiles of the run time, s; NaN: not known, and so without end. */
  readonly duration: Float64Array;
  /** The guest's usage just before it, over which the peak is. */
  readonly before: ResourceProfile;
  /** f64[FIELDS, PHASES], shares of the largest use; a field whose first is NaN, or all of them where it is absent: not known. */
  readonly shares: Float64Array | undefined;
  /** How long it runs already, s; not negative. */
  readonly ageS: number;
}

/** A sum as it was copied out. */
export interface Summed {
  /** f64[FIELDS, LEVELS] */
  readonly peak: Float64Array;
  /** f64[LEVELS], of the request that was aimed at last. */
  readonly duration: Float64Array;
  /** f64[FIELDS, knots, LEVELS] */
  readonly values: Float64Array;
}

const MEDIAN = QUANTILE_LEVELS.indexOf(0.5);
const PEAK_END = FIELDS * LEVELS;
const DURATION_END = PEAK_END + LEVELS;

/** Quantiles of a guest's use to which requests are added, one after the other. One sum at a time, for the kernels hold it. */
export class EffectSum {
  readonly #kernels: EffectKernels;
  #knots = 0;

  constructor(kernels: EffectKernels) {
    this.#kernels = kernels;
  }

  /**
   * Begin with what the guest uses by itself.
   * @param values f64[FIELDS, knots, LEVELS]; NaN: a field that was never read
   * @returns the values as they stand: a view, which may be written to until the next begin
   */
  begin(knotsS: readonly number[], values: Float64Array): Float64Array {
    const { knots, values: sum } = this.#kernels;
    this.#knots = knotsS.length;
    for (let k = 0; k < knotsS.length; k += 1) knots[k] = knotsS[k] as number;
    sum.set(values);
    return sum.subarray(0, values.length);
  }

  /** Make a request the one that the calls below speak of. */
  aim({ peak, duration, before, shares }: Effect): void {
    const kernels = this.#kernels;
    kernels.peak.set(peak);
    kernels.duration.set(duration);
    for (let f = 0; f < FIELDS; f += 1) kernels.before[f] = before[PROFILE_FIELDS[f] as ProfileField] ?? 0;
    if (shares === undefined) kernels.shares.fill(Number.NaN);
    else kernels.shares.set(shares);
    kernels.call.takeLargest();
  }

  /** Add the request over its life. */
  add(ageS: number): void {
    this.#kernels.call.addEffect(this.#knots, ageS);
  }

  /** Mean share of its largest use that the request takes of a field so many seconds from now. */
  meanShare(field: number, ageS: number, aheadS: number): number {
    return this.#kernels.call.meanShare(field, ageS, aheadS);
  }

  /** Median of the most that the request adds to a field; NaN: not known. */
  medianOf(field: number): number {
    return this.#kernels.largest[field * LEVELS + MEDIAN] as number;
  }

  /** Add to a guest's largest usage the whole of what the request uses at most. @returns the sum, f64[FIELDS, LEVELS] */
  addLargest(own: Float64Array): Float64Array {
    this.#kernels.peak.set(own);
    this.#kernels.call.addLargest();
    return this.#kernels.peak.slice();
  }

  /** What came of it; `peak` is that of the request aimed at last. */
  read(): Summed {
    // One copy, for each has its price.
    const answer = this.#kernels.answer.slice(0, DURATION_END + FIELDS * this.#knots * LEVELS);
    const peak = answer.subarray(0, PEAK_END);
    const duration = answer.subarray(PEAK_END, DURATION_END);
    return { peak, duration, values: answer.subarray(DURATION_END) };
  }
}
