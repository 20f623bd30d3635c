import type { Forecaster } from '../../orchestrator/core/ports.ts';
import type { RecordedRequest, RequestResource, RequestSet } from '../data/request-set.ts';
import { ScoreSheet, type Scores } from '../evaluate/scores.ts';
import { ForecastPolicy } from './forecast-policy.ts';
import { type MemoryPolicy, Oracle, Requested, WittLinear, WorkloadP95 } from './reference-policies.ts';
import { type ResourceQuantiles, WorkloadQuantiles } from './request-quantiles.ts';
import { type AllocationScores, AllocationSheet } from './tries.ts';

/** One policy on one resource. */
export interface BacktestRow {
  readonly policy: string;
  readonly resource: RequestResource;
  /** Of memory only, and of policies that allocate. */
  readonly allocation?: AllocationScores;
  /** Of policies that forecast quantiles. */
  readonly quantiles?: Scores;
}

/** Plays a set through every policy: each predicts a request before it is seen, and learns from it after. */
export class RequestBacktest {
  readonly #set: RequestSet;
  readonly #ours: ForecastPolicy;
  readonly #reference = new WorkloadQuantiles();
  readonly #rivals: ReadonlyMap<string, MemoryPolicy>;
  readonly #allocations = new Map<string, AllocationSheet>();
  readonly #sheets = new Map<string, Map<RequestResource, ScoreSheet>>();

  constructor(set: RequestSet, forecaster: Forecaster) {
    this.#set = set;
    this.#ours = new ForecastPolicy(forecaster);
    const isRequested = set.requests.every(({ requestedMemoryBytes }) => requestedMemoryBytes !== undefined);
    this.#rivals = new Map<string, MemoryPolicy>([
      ...(isRequested ? ([['requested', new Requested()]] as const) : []),
      ['workload-p95', new WorkloadP95()],
      ['witt', new WittLinear()],
      ['oracle', new Oracle()],
    ]);
    for (const policy of ['foreshade', ...this.#rivals.keys()])
      this.#allocations.set(policy, new AllocationSheet());
    for (const policy of ['foreshade', 'workload-quantiles'])
      this.#sheets.set(policy, new Map(set.resources.map((resource) => [resource, new ScoreSheet()])));
  }

  /** The next request, in the set's order. */
  play(request: RecordedRequest): void {
    const { quantiles, allocated } = this.#ours.foresee(request);
    this.#allocate('foreshade', request, allocated);
    this.#score('foreshade', request, quantiles);
    this.#score('workload-quantiles', request, this.#reference.predict(request));
    for (const [name, policy] of this.#rivals) this.#allocate(name, request, policy.allocate(request));
    this.#ours.learn(request, allocated);
    this.#reference.learn(request);
    for (const policy of this.#rivals.values()) policy.learn(request);
  }

  finish(): BacktestRow[] {
    const rows: BacktestRow[] = [];
    for (const [policy, sheet] of this.#allocations) {
      const scores = this.#sheets.get(policy)?.get('memory')?.total();
      rows.push({
        policy,
        resource: 'memory',
        allocation: sheet.total(),
        ...(scores && { quantiles: scores }),
      });
    }
    for (const [policy, sheets] of this.#sheets) {
      for (const [resource, sheet] of sheets) {
        if (resource === 'memory' && this.#allocations.has(policy)) continue;
        rows.push({ policy, resource, quantiles: sheet.total() });
      }
    }
    return rows;
  }

  #allocate(policy: string, { used }: RecordedRequest, allocated: number): void {
    this.#allocations.get(policy)?.add(allocated, used.memory, used.duration);
  }

  /** What was not recorded is not scored, nor is the first of all: nobody can say anything of it. */
  #score(policy: string, { used }: RecordedRequest, quantiles: ResourceQuantiles): void {
    for (const resource of this.#set.resources) {
      if (quantiles[resource].some(Number.isNaN)) continue;
      const sheet = this.#sheets.get(policy)?.get(resource);
      sheet?.add(Float64Array.of(used[resource]), quantiles[resource], Number.NaN);
    }
  }
}
