import { GRAIN } from '../../orchestrator/core/needs.ts';
import type { RecordedRequest } from '../data/request-set.ts';

/** Least memory any policy allocates: what the actuator can set. */
export const MEMORY_BYTES_MIN = GRAIN.memoryBytes;
/** The first request of all, of which nothing is known: 1 GiB. */
const FIRST_BYTES = 1024 ** 3;
const P95 = 0.95;

/** A rule that allocates memory to requests, one after the other. */
export interface MemoryPolicy {
  /** Bytes of the first try, before anything of the run is seen. */
  allocate(request: RecordedRequest): number;
  /** Learn from the run. */
  learn(request: RecordedRequest): void;
}

/**
 * What every policy gives a workload it has not seen: what its user requested, else the largest that any run used.
 */
export class ColdStart implements MemoryPolicy {
  #largest = 0;

  allocate({ requestedMemoryBytes }: RecordedRequest): number {
    const known = this.#largest > 0 ? this.#largest : FIRST_BYTES;
    return Math.max(requestedMemoryBytes ?? known, MEMORY_BYTES_MIN);
  }

  learn({ used }: RecordedRequest): void {
    this.#largest = Math.max(this.#largest, used.memory);
  }
}

/** What the user requested. Only for sets where it is recorded with every request. */
export class Requested extends ColdStart {}

/** Exactly what the run will use. */
export class Oracle implements MemoryPolicy {
  allocate({ used }: RecordedRequest): number {
    return Math.max(used.memory, Number.MIN_VALUE);
  }

  learn(): void {
    // It knows already.
  }
}

/** A rule that needs runs of the same workload, over one that does not. */
abstract class ByWorkload<State> implements MemoryPolicy {
  readonly #cold = new ColdStart();
  readonly #states = new Map<string, State>();

  allocate(request: RecordedRequest): number {
    const state = this.#states.get(request.workload);
    return state === undefined
      ? this.#cold.allocate(request)
      : Math.max(this.allocateFrom(state, request), MEMORY_BYTES_MIN);
  }

  learn(request: RecordedRequest): void {
    this.#cold.learn(request);
    let state = this.#states.get(request.workload);
    if (state === undefined) {
      state = this.newState();
      this.#states.set(request.workload, state);
    }
    this.learnInto(state, request);
  }

  protected abstract newState(): State;
  protected abstract allocateFrom(state: State, request: RecordedRequest): number;
  protected abstract learnInto(state: State, request: RecordedRequest): void;
}

/** The 95th percentile of all the workload's runs, read linearly between them. */
export class WorkloadP95 extends ByWorkload<number[]> {
  protected newState(): number[] {
    return [];
  }

  protected allocateFrom(sorted: number[]): number {
    return quantileOfSorted(sorted, P95);
  }

  protected learnInto(sorted: number[], { used }: RecordedRequest): void {
    insertSorted(sorted, used.memory);
  }
}

interface Runs {
  readonly inputs: number[];
  readonly used: number[];
}

/**
 * Least squares over the input size, plus the largest under-estimate that this line makes of the past runs.
 * Source: Witt et al., "Feedback-based resource allocation for batch scheduling of scientific workflows", 2019.
 */
export class WittLinear extends ByWorkload<Runs> {
  protected newState(): Runs {
    return { inputs: [], used: [] };
  }

  protected allocateFrom({ inputs, used }: Runs, { inputBytes }: RecordedRequest): number {
    const centre = mean(inputs);
    const level = mean(used);
    let across = 0;
    let along = 0;
    for (const [i, x] of inputs.entries()) {
      across += (x - centre) ** 2;
      along += (x - centre) * ((used[i] as number) - level);
    }
    const slope = across > 0 ? along / across : 0;
    let offset = 0;
    for (const [i, x] of inputs.entries())
      offset = Math.max(offset, (used[i] as number) - (level + slope * (x - centre)));
    return level + slope * (knownInput(inputBytes) - centre) + offset;
  }

  protected learnInto({ inputs, used }: Runs, request: RecordedRequest): void {
    inputs.push(knownInput(request.inputBytes));
    used.push(request.used.memory);
  }
}

/** Without a size the line is level. */
function knownInput(bytes: number): number {
  return Number.isNaN(bytes) ? 0 : bytes;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export function insertSorted(sorted: number[], value: number): void {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  sorted.splice(low, 0, value);
}

/** Quantile of n >= 1 values, read linearly between them. */
export function quantileOfSorted(sorted: readonly number[], level: number): number {
  const place = level * (sorted.length - 1);
  const lower = sorted[Math.floor(place)] as number;
  const upper = sorted[Math.ceil(place)] as number;
  return lower + (upper - lower) * (place - Math.floor(place));
}
