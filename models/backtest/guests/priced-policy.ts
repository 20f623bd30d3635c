import { doublings, EDGES } from './chance-edges.ts';
import { FleetPrices, type Shortfall } from './fleet-prices.ts';
import type { Actuator, Fleet, GuestSeries } from './guest-series.ts';
import { actuated, fitted } from './in-force.ts';

/** What is known of the demand to come. */
export interface Foresight {
  /** First bin at whose end is decided. */
  readonly from: number;
  /** f32[bins - from, EDGES] a guest: sizes in doublings, rising, for the bin `lead` later. */
  readonly edges: readonly Float32Array[];
  /** f32[bins - from, EDGES] a guest: chances that its demand exceeds them. */
  readonly chances: readonly Float32Array[];
}

/** One target, and what is given under it. */
interface Course {
  readonly prices: FleetPrices;
  /** f64[bins] a guest. */
  readonly inForce: readonly Float64Array[];
}

/** Sizes that are looked at from one edge to the next. */
const STEPS = 3;
const SIZES_MAX = (EDGES - 1) * STEPS + 1;

/**
 * Allocates to all guests at the prices of the fleet: a guest is given what makes size + price x chance of falling short
 * least, and is left with what it has unless a change saves more than the price of a change.
 */
export class PricedPolicy {
  readonly #fleet: Fleet;
  readonly #actuator: Actuator;
  readonly #lead: number;
  readonly #foresight: Foresight;
  readonly #courses: readonly Course[];
  readonly #shortfalls: Shortfall[];
  readonly #sizes = new Float64Array(SIZES_MAX);
  readonly #chances = new Float64Array(SIZES_MAX);

  constructor(
    fleet: Fleet,
    actuator: Actuator,
    lead: number,
    foresight: Foresight,
    targets: readonly number[],
  ) {
    this.#fleet = fleet;
    this.#actuator = actuator;
    this.#lead = lead;
    this.#foresight = foresight;
    this.#shortfalls = fleet.map(() => 'unseen');
    const means = fleet.map(({ seen }) => meanOf(seen, foresight.from) + actuator.floor);
    const mean = means.reduce((sum, own) => sum + own, 0) / fleet.length;
    this.#courses = targets.map((target) => ({
      prices: new FleetPrices(fleet.length, target, mean),
      inForce: fleet.map(({ provisioned, demand }) => new Float64Array(demand.length).fill(provisioned)),
    }));
  }

  /** f64[bins] a guest, by target. */
  get inForce(): readonly (readonly Float64Array[])[] {
    return this.#courses.map(({ inForce }) => inForce);
  }

  /** At the end of a bin: look at what it brought, and decide. */
  step(bin: number): void {
    for (const course of this.#courses) this.#learn(course, bin);
    for (const [g, series] of this.#fleet.entries()) {
      if (bin + this.#lead >= series.demand.length) continue;
      const row = (bin - this.#foresight.from) * EDGES;
      const edges = (this.#foresight.edges[g] as Float32Array).subarray(row, row + EDGES);
      const chances = (this.#foresight.chances[g] as Float32Array).subarray(row, row + EDGES);
      const count = this.#lookAhead(edges, chances, series.ceiling);
      for (const { prices, inForce } of this.#courses) {
        const given = inForce[g] as Float64Array;
        const current = given[bin + this.#lead - 1] as number;
        const kept = this.#chanceOf(edges, chances, current, series);
        const wanted = this.#wanted(current, kept, count, prices, g);
        given[bin + this.#lead] = actuated(this.#actuator, series.ceiling, wanted, current);
      }
    }
  }

  #learn({ prices, inForce }: Course, bin: number): void {
    let changes = 0;
    for (const [g, { demand }] of this.#fleet.entries()) {
      const given = inForce[g] as Float64Array;
      if (given[bin] !== given[bin - 1]) changes += 1;
      const wanted = demand[bin] as number;
      const isShort = wanted > (given[bin] as number);
      this.#shortfalls[g] = Number.isNaN(wanted) ? 'unseen' : isShort ? 'short' : 'none';
    }
    prices.observe(this.#shortfalls, changes);
  }

  /** Sizes worth looking at, none below the forecast's median: nobody is given up. With their chances. @returns how many */
  #lookAhead(edges: Float32Array, chances: Float32Array, ceiling: number): number {
    const { floor, grain } = this.#actuator;
    let count = 0;
    let next = edges[0] as number;
    for (let edge = 0; edge < EDGES; edge += 1) {
      const low = next;
      next = edges[edge + 1] ?? low;
      const isWide = 2 ** next - 2 ** low > 2 * grain;
      for (let step = 0; step < (isWide ? STEPS : 1); step += 1) {
        const share = step / STEPS;
        const size = fitted(this.#actuator, ceiling, 2 ** (low + (next - low) * share) - floor);
        this.#sizes[count] = size;
        this.#chances[count] = size >= ceiling ? 0 : between(chances, edge, share);
        count += 1;
      }
    }
    return count;
  }

  /** Chance that the demand exceeds a size: none of the median is more than sure, and beyond the last edge it stays. */
  #chanceOf(edges: Float32Array, chances: Float32Array, size: number, { ceiling }: GuestSeries): number {
    if (size >= ceiling) return 0;
    const log = doublings(size, this.#actuator);
    if (log < (edges[0] as number)) return 1;
    let edge = 0;
    while (edge < EDGES - 1 && (edges[edge + 1] as number) <= log) edge += 1;
    const low = edges[edge] as number;
    return between(chances, edge, edge < EDGES - 1 ? (log - low) / ((edges[edge + 1] as number) - low) : 0);
  }

  /** @param kept chance that the current size falls short; 1 where it lies below the median */
  #wanted(current: number, kept: number, count: number, prices: FleetPrices, guest: number): number {
    const price = prices.violation(guest);
    let least = Number.POSITIVE_INFINITY;
    let size = current;
    for (let i = 0; i < count; i += 1) {
      const cost = (this.#sizes[i] as number) + price * (this.#chances[i] as number);
      if (cost >= least) continue;
      least = cost;
      size = this.#sizes[i] as number;
    }
    return kept === 1 || current + price * kept - least > prices.change ? size : current;
  }
}

/** Between two edges the logarithm of the chance is linear. */
function between(chances: Float32Array, edge: number, share: number): number {
  const low = chances[edge] as number;
  return share === 0 ? low : low * ((chances[edge + 1] as number) / low) ** share;
}

function meanOf(values: Float64Array, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i += 1) sum += values[i] as number;
  return sum / count;
}
