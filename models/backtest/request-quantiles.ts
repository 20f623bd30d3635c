import { REQUEST_RESOURCES, type RecordedRequest, type RequestResource } from '../data/request-set.ts';
import { SCORED_LEVELS } from '../evaluate/scores.ts';
import { insertSorted, quantileOfSorted } from './reference-policies.ts';

/** Quantiles at SCORED_LEVELS of each resource, in bytes, cores and seconds. */
export type ResourceQuantiles = Readonly<Record<RequestResource, Float64Array>>;

/**
 * The empirical quantiles of all the workload's past runs; of a workload without one, those of every past run. NaN: there
 * is no run at all.
 */
export class WorkloadQuantiles {
  readonly #everyRun = emptySorted();
  readonly #workloads = new Map<string, Record<RequestResource, number[]>>();

  predict({ workload }: RecordedRequest): ResourceQuantiles {
    const own = this.#workloads.get(workload);
    const quantiles = {} as Record<RequestResource, Float64Array>;
    for (const resource of REQUEST_RESOURCES) {
      const sorted = own?.[resource].length ? own[resource] : this.#everyRun[resource];
      quantiles[resource] = Float64Array.from(SCORED_LEVELS, (level) =>
        sorted.length === 0 ? Number.NaN : quantileOfSorted(sorted, level),
      );
    }
    return quantiles;
  }

  learn({ workload, used }: RecordedRequest): void {
    let own = this.#workloads.get(workload);
    if (own === undefined) {
      own = emptySorted();
      this.#workloads.set(workload, own);
    }
    for (const resource of REQUEST_RESOURCES) {
      if (Number.isNaN(used[resource])) continue;
      insertSorted(own[resource], used[resource]);
      insertSorted(this.#everyRun[resource], used[resource]);
    }
  }
}

function emptySorted(): Record<RequestResource, number[]> {
  return { memory: [], cpu: [], disk_read: [], disk_write: [], duration: [] };
}
