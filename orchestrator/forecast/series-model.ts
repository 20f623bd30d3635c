import type { SeriesKernels } from '../wasm/series.ts';
import { fitsDueAt } from './fit-schedule.ts';

/** What a series is, for a forecaster. */
interface Facts {
  readonly metrics: readonly string[];
  /** Bins after which the course is expected to repeat; 1: it is not. */
  readonly season: number;
}

/** Forecasts one series, all its metrics, by the experts of the series module and the model that weighs them. */
export class SeriesModel {
  readonly #kernels: SeriesKernels;
  readonly #last: Float32Array;
  readonly #slots: readonly number[];
  #bins = 0;
  #out = new Float64Array(0);

  /** Takes the slots from 0: one module instance serves one series at a time here. */
  constructor(kernels: SeriesKernels, { metrics, season }: Facts) {
    this.#kernels = kernels;
    this.#last = new Float32Array(metrics.length).fill(Number.NaN);
    this.#slots = metrics.map((_, m) => m);
    for (const slot of this.#slots) kernels.call.open(slot, season > 1 ? season : 0, 0);
  }

  /** Take the next bin; a missing one repeats the last, and before the first there is nothing to take. */
  refresh({ values }: { readonly values: Float64Array }): void {
    for (const [m, slot] of this.#slots.entries()) {
      const value = values[m] as number;
      if (!Number.isNaN(value)) this.#last[m] = value;
      const taken = this.#last[m] as number;
      if (!Number.isNaN(taken)) this.#kernels.call.refresh(slot, taken);
    }
    this.#bins += 1;
  }

  /** Work between samples that no forecast waits for; to be called after each bin. */
  rest(): void {
    const { fits } = this.#kernels;
    const due = fitsDueAt(this.#bins, fits);
    for (let fit = 0; fit < fits; fit += 1) if ((due >> fit) & 1) this.#fit(fit);
  }

  #fit(fit: number): void {
    for (const [m, slot] of this.#slots.entries())
      if (!Number.isNaN(this.#last[m])) this.#kernels.call.fit(slot, fit);
  }

  /** f64[metrics, horizon, levels]; NaN for a metric that was never read. */
  infer(horizon: number, levels: readonly number[]): Float64Array {
    const { call, stepsMax, levelsMax, steps, quantiles } = this.#kernels;
    const width = levels.length;
    const row = horizon * width;
    if (this.#out.length !== this.#last.length * row) this.#out = new Float64Array(this.#last.length * row);
    this.#kernels.levels.set(levels);
    for (const [m, slot] of this.#slots.entries()) {
      if (Number.isNaN(this.#last[m])) {
        this.#out.fill(Number.NaN, m * row, (m + 1) * row);
        continue;
      }
      call.aim(slot);
      for (let from = 0; from < horizon; from += stepsMax) {
        const count = Math.min(stepsMax, horizon - from);
        for (let i = 0; i < count; i += 1) steps[i] = from + i + 1;
        call.forecast(slot, count, width);
        for (let i = 0; i < count; i += 1) {
          const at = i * levelsMax;
          this.#out.set(quantiles.subarray(at, at + width), m * row + (from + i) * width);
        }
      }
    }
    return this.#out;
  }
}

/** A model's weights with a head that does not look at the recurrent state: what is left is a fixed prior and what the series teach. */
export function withoutRecurrence(kernels: SeriesKernels, weights: Float32Array): Float32Array {
  const { inputs, hidden, groupRow, knotSteps } = kernels;
  const head = (inputs + hidden + 1) * 4 * hidden;
  return weights.slice().fill(0, head, head + hidden * knotSteps.length * groupRow);
}
