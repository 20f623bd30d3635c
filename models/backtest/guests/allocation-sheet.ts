import { DAY_BINS, type GuestSeries, WARM_UP_BINS } from './guest-series.ts';

/** What a policy's allocations came to, over all guests. Fractions, but churn. */
export interface AllocationScore {
  /** Share of the observed guest-bins in which demand exceeded the allocation. */
  readonly violation: number;
  /** Demand beyond the allocation over all demand. */
  readonly volume: number;
  /** 1 - used / allocated. */
  readonly slack: number;
  /** 95th percentile over guests of their own violation, read linearly between them. */
  readonly p95Violation: number;
  /** Changes per guest-day. */
  readonly churn: number;
}

const P95 = 0.95;

/** Scores allocations, guest by guest. The warm-up is left out. */
export class AllocationSheet {
  #observed = 0;
  #violated = 0;
  #demand = 0;
  #beyond = 0;
  #used = 0;
  #allocated = 0;
  #changes = 0;
  #bins = 0;
  readonly #byGuest: number[] = [];

  /** @param inForce f64[bins]: what was allocated in each bin, > 0 */
  add({ demand }: GuestSeries, inForce: Float64Array): void {
    let observed = 0;
    let violated = 0;
    for (let bin = WARM_UP_BINS; bin < demand.length; bin += 1) {
      const wanted = demand[bin] as number;
      const given = inForce[bin] as number;
      if (given !== inForce[bin - 1]) this.#changes += 1;
      if (Number.isNaN(wanted)) continue;
      observed += 1;
      this.#demand += wanted;
      this.#allocated += given;
      if (wanted > given) {
        violated += 1;
        this.#beyond += wanted - given;
        this.#used += given;
      } else {
        this.#used += wanted;
      }
    }
    this.#bins += demand.length - WARM_UP_BINS;
    this.#observed += observed;
    this.#violated += violated;
    if (observed > 0) this.#byGuest.push(violated / observed);
  }

  total(): AllocationScore {
    const sorted = Float64Array.from(this.#byGuest).sort();
    const place = P95 * (sorted.length - 1);
    const lower = sorted[Math.floor(place)] ?? Number.NaN;
    const upper = sorted[Math.ceil(place)] ?? Number.NaN;
    return {
      violation: this.#violated / this.#observed,
      volume: this.#demand > 0 ? this.#beyond / this.#demand : 0,
      slack: 1 - this.#used / this.#allocated,
      p95Violation: lower + (upper - lower) * (place - Math.floor(place)),
      churn: (this.#changes * DAY_BINS) / this.#bins,
    };
  }
}
