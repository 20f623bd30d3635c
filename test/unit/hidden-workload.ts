import { type ForecastQuery, type Outcome, QUANTILE_LEVELS } from '../../orchestrator/core/forecast.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import type { Params } from '../../orchestrator/core/request.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';

/** Standard normal number. Source: Box & Muller, 1958. */
export function normalFrom(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

export const BASE = { cpuMillicores: 20, memoryBytes: 60 * MIB } as const;
export const CEILING = { cpuMillicores: 4000, memoryBytes: 1024 * MIB } as const;
const MODES = ['fast', 'good', 'best'] as const;

/**
 * A made-up work whose need hides in its parameters: threads saturate, memory and run time grow with different
 * powers, and the mode changes all three. The forecaster never sees this formula.
 */
export const hiddenWorkload = {
  draw(random: () => number): Params {
    return {
      input_mib: { kind: 'number', value: Math.round(10 * 20 ** random()) },
      level: { kind: 'number', value: 1 + Math.floor(random() * 9) },
      mode: { kind: 'category', value: MODES[Math.floor(random() * 3)] as string },
    };
  },
  /** Increment over an idle guest, and seconds. */
  need(params: Params): { cpuMillicores: number; memoryBytes: number; durationS: number } {
    const input = Number(params.input_mib?.value);
    const level = Number(params.level?.value);
    const mode = MODES.indexOf(params.mode?.value as 'fast');
    const threads = Math.min(3.8, ([1, 1.9, 3] as const)[mode as 0] * (0.6 + 0.05 * level));
    const memory = 20 + ([0.3, 0.5, 0.9] as const)[mode as 0] * input ** 0.9 * (1 + 0.05 * level ** 1.3);
    const durationS = 0.3 + (input * 0.02 * (1 + level ** 1.5 / 8)) / threads;
    return { cpuMillicores: threads * 950, memoryBytes: memory * MIB, durationS };
  },
};

export function sampleOf(guest: string, second: number, random: () => number): GuestSample {
  const usage = {
    cpuMillicores: BASE.cpuMillicores + 4 * (random() - 0.5),
    memoryBytes: BASE.memoryBytes + (random() - 0.5) * MIB,
  };
  return { guest, atMs: second * 1000, periodMs: 1000, cadence: 'full', usage, flags: [] };
}

export function requestOf(guest: string, name: string, params: Params): ForecastQuery {
  const workload = { tenant: 'lab', name, params };
  return { guest, axis: 'seconds', track: 'short', originMs: 0, workload, ceiling: CEILING };
}

/** A finished run of the hidden work, with `noise` as the log deviation of each of its readings. */
export function outcomeOf(
  guest: string,
  workload: string,
  params: Params,
  random: () => number,
  noise = 0.03,
): Outcome {
  const need = hiddenWorkload.need(params);
  const vary = () => Math.exp(noise * normalFrom(random));
  return {
    leaseId: 'lease',
    guest,
    tenant: 'lab',
    workload,
    params,
    startedAtMs: 0,
    finishedAtMs: need.durationS * vary() * 1000,
    before: BASE,
    peak: {
      cpuMillicores: BASE.cpuMillicores + need.cpuMillicores * vary(),
      memoryBytes: BASE.memoryBytes + need.memoryBytes * vary(),
    },
    censored: [],
    completed: true,
  };
}

/** Value of one level in a row of quantiles that starts at `offset`. */
export function at(row: Float64Array, level: (typeof QUANTILE_LEVELS)[number], offset = 0): number {
  return row[offset + QUANTILE_LEVELS.indexOf(level)] as number;
}
