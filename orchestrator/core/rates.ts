/** One reading of cumulative counters, with the monotonic time it was taken. An absent counter was not read. */
export interface CounterReading {
  readonly monotonicMs: number;
  readonly counters: Readonly<Record<string, number>>;
}

/** What two readings tell. */
export interface RateStep {
  readonly periodMs: number;
  /** Per second; absent where a counter is missing from either reading or went back. */
  readonly perS: Readonly<Record<string, number>>;
  /** Some counter went back: a reboot, a restore or another process. */
  readonly hasReset: boolean;
}

/** Rates between two readings; undefined when no time has passed. */
export function rateStep(before: CounterReading, after: CounterReading): RateStep | undefined {
  const periodMs = after.monotonicMs - before.monotonicMs;
  if (!(periodMs > 0)) return undefined;
  const perS: Record<string, number> = {};
  let hasReset = false;
  for (const [name, value] of Object.entries(after.counters)) {
    const earlier = before.counters[name];
    if (earlier === undefined) continue;
    if (value < earlier) hasReset = true;
    else perS[name] = ((value - earlier) * 1000) / periodMs;
  }
  return { periodMs, perS, hasReset };
}

/** Readings of the last `windowMs`, oldest dropped once a younger one covers the window. */
export class SlidingReadings {
  readonly #windowMs: number;
  readonly #readings: CounterReading[] = [];

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  /** Take a reading; gives the step over the window that ends at it, undefined for the first. */
  push(reading: CounterReading): RateStep | undefined {
    const readings = this.#readings;
    readings.push(reading);
    while (readings.length > 2 && this.#covers(readings[1], reading)) readings.shift();
    const [oldest] = readings;
    const step = oldest === undefined || oldest === reading ? undefined : rateStep(oldest, reading);
    if (step?.hasReset) readings.splice(0, readings.length - 1);
    return step;
  }

  clear(): void {
    this.#readings.length = 0;
  }

  #covers(candidate: CounterReading | undefined, last: CounterReading): boolean {
    return candidate !== undefined && last.monotonicMs - candidate.monotonicMs >= this.#windowMs;
  }
}
