import { type RequestCost, triesOf } from '../../orchestrator/core/retry-cost.ts';

const GIB = 1024 ** 3;
const HOUR_S = 3600;

/** What a policy's allocations of memory came to, over all requests. */
export interface AllocationScores {
  readonly wastageGibH: number;
  /** Lost tries. */
  readonly failuresPer1000: number;
  /** Median of allocated over used; NaN where nothing was used. */
  readonly medianOver: number;
}

/**
 * Counts what allocations cost: over all tries of a request (allocated - used, or all of it for a lost try) x run time.
 * A lost try is taken to run as long as the one that fits, and is repeated with twice as much.
 */
export class AllocationSheet {
  #requests = 0;
  #wastageGibH = 0;
  #failures = 0;
  readonly #overs: number[] = [];

  /** @param allocated bytes of the first try, > 0 @param used bytes @returns tries that were lost */
  add(allocated: number, used: number, runtimeS: number): RequestCost {
    const cost = triesOf(allocated, used);
    this.#requests += 1;
    this.#wastageGibH += (cost.wasted * runtimeS) / GIB / HOUR_S;
    this.#failures += cost.lost;
    if (used > 0) this.#overs.push(allocated / used);
    return cost;
  }

  total(): AllocationScores {
    const sorted = Float64Array.from(this.#overs).sort();
    const middle = (sorted.length - 1) / 2;
    return {
      wastageGibH: this.#wastageGibH,
      failuresPer1000: (1000 * this.#failures) / this.#requests,
      medianOver:
        ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2,
    };
  }
}
