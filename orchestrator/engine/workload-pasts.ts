import { addStretch, HOURS } from '../core/day-profile.ts';
import type { Outcome } from '../core/forecast.ts';
import type { ResourceProfile } from '../core/profile.ts';

/** Workloads remembered; the one that has not run for the longest goes. As many as a busy host's tenants have. */
const WORKLOADS_MAX = 1_024;
/** Runs before a workload's hours are believed: fewer may all be of one afternoon. */
const HOURS_RUNS_MIN = 8;
/** Weight of the past against one more run: what guests hold before a run drifts with the guests. */
const KEPT = 0.9;

interface Past {
  readonly hours: Float64Array;
  runs: number;
  cpuMillicores: number | undefined;
  memoryBytes: number | undefined;
}

/** At which hours workloads ran, and what their guests used before: what a guest is like that is not there yet. */
export class WorkloadPasts {
  readonly #pasts = new Map<string, Past>();

  note({ tenant, workload, startedAtMs, finishedAtMs, before }: Outcome): void {
    const key = keyOf(tenant, workload);
    const past = this.#pasts.get(key) ?? {
      hours: new Float64Array(HOURS),
      runs: 0,
      cpuMillicores: undefined,
      memoryBytes: undefined,
    };
    addStretch(past.hours, startedAtMs, finishedAtMs);
    past.runs += 1;
    past.cpuMillicores = blended(past.cpuMillicores, before.cpuMillicores);
    past.memoryBytes = blended(past.memoryBytes, before.memoryBytes);
    this.#pasts.delete(key);
    this.#pasts.set(key, past);
    const [oldest] = this.#pasts.keys();
    if (this.#pasts.size > WORKLOADS_MAX && oldest !== undefined) this.#pasts.delete(oldest);
  }

  /** What guests of the workload used just before its runs; a field that is absent is not known. */
  before(tenant: string, workload: string): ResourceProfile {
    const { cpuMillicores, memoryBytes } = this.#pasts.get(keyOf(tenant, workload)) ?? {};
    return {
      ...(cpuMillicores === undefined ? {} : { cpuMillicores }),
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
    };
  }

  /** How busy each hour of the UTC day was beside the busiest, in [0, 1]: f64[24]. Undefined before there were enough runs. */
  hours(tenant: string, workload: string): number[] | undefined {
    const past = this.#pasts.get(keyOf(tenant, workload));
    if (past === undefined || past.runs < HOURS_RUNS_MIN) return undefined;
    const most = Math.max(...past.hours);
    return most > 0 ? [...past.hours].map((hour) => hour / most) : undefined;
  }
}

function blended(past: number | undefined, now: number | undefined): number | undefined {
  if (past === undefined || now === undefined) return now ?? past;
  return KEPT * past + (1 - KEPT) * now;
}

/** The tenant's length first, so that no two pairs of names make the same key. */
function keyOf(tenant: string, workload: string): string {
  return `${tenant.length}:${tenant}${workload}`;
}
