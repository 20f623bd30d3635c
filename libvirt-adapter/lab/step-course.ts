/** A quantity as it was read now and then. Times do not decrease. */
export class StepCourse {
  readonly #times: number[] = [];
  readonly #values: number[] = [];

  add(time: number, value: number): void {
    this.#times.push(time);
    this.#values.push(value);
  }

  /** What was read last at or before `time`; NaN before the first reading. */
  latest(time: number): number {
    const after = this.#firstAfter(time);
    return after === 0 ? Number.NaN : (this.#values[after - 1] as number);
  }

  /** On the straight line between the readings around `time`; NaN outside of them. */
  between(time: number): number {
    const after = this.#firstAfter(time);
    const [from, to] = [this.#times[after - 1], this.#times[after]];
    if (from === undefined) return Number.NaN;
    const value = this.#values[after - 1] as number;
    if (to === undefined) return time === from ? value : Number.NaN;
    return value + ((time - from) / (to - from)) * ((this.#values[after] as number) - value);
  }

  /** Index of the first reading later than `time`. */
  #firstAfter(time: number): number {
    let low = 0;
    let high = this.#times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#times[middle] as number) <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
