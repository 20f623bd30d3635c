import type { DetectorSource, SeriesDetector } from './detector.ts';

/** Deviations count up to so many. */
const CLIP = 10;

/** The reference row: the largest |z| of any metric, by mean and deviation of the history, over its clip. */
class ThreeSigma implements SeriesDetector {
  #moments: readonly { readonly mean: number; readonly deviation: number }[] = [];

  learn(history: readonly Float64Array[]): void {
    this.#moments = Array.from(history[0] ?? [], (_, m) => momentsOf(history, m));
  }

  score(row: Float64Array): number {
    let largest = Number.NaN;
    for (const [m, { mean, deviation }] of this.#moments.entries()) {
      const away = Math.abs((row[m] as number) - mean);
      if (Number.isNaN(away)) continue;
      // Of a metric that never moved, any other value is as far out as can be.
      const z = away === 0 ? 0 : Math.min(away / deviation, CLIP);
      if (!(largest >= z)) largest = z;
    }
    return largest / CLIP;
  }

  close(): void {}
}

function momentsOf(history: readonly Float64Array[], m: number): { mean: number; deviation: number } {
  let [count, mean, squares] = [0, 0, 0];
  for (const row of history) {
    const value = row[m] as number;
    if (Number.isNaN(value)) continue;
    count += 1;
    const away = value - mean;
    mean += away / count;
    squares += away * (value - mean);
  }
  return count === 0
    ? { mean: Number.NaN, deviation: Number.NaN }
    : { mean, deviation: Math.sqrt(squares / count) };
}

export const THREE_SIGMA: DetectorSource = {
  metricsMax: Number.POSITIVE_INFINITY,
  historyRowsMin: 1,
  open: () => new ThreeSigma(),
};
