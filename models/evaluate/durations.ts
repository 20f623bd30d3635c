/** Width of a class: durations are told to one percent, in bounded memory. */
const RATIO = 1.01;
/** Least duration told apart, us: below it only the clock is measured. */
const LEAST_US = 0.01;
/** As far as 1,000 s. */
const CLASSES = Math.ceil(Math.log(1e9 / LEAST_US) / Math.log(RATIO));

/** Counts how long calls took, for percentiles. */
export class Durations {
  readonly #counts = new Float64Array(CLASSES);
  #calls = 0;

  add(us: number): void {
    const found = Math.floor(Math.log(Math.max(us, LEAST_US) / LEAST_US) / Math.log(RATIO));
    const index = Math.min(found, CLASSES - 1);
    this.#counts[index] = (this.#counts[index] as number) + 1;
    this.#calls += 1;
  }

  /** Duration that the share `level` of the calls did not pass, us. NaN without a call. */
  percentile(level: number): number {
    let below = 0;
    for (const [index, count] of this.#counts.entries()) {
      below += count;
      if (count > 0 && below >= level * this.#calls) return LEAST_US * RATIO ** (index + 0.5);
    }
    return Number.NaN;
  }
}
