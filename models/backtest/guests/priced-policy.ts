import type { Actuator, Fleet } from './guest-series.ts';
import { DAY_BINS } from './guest-series.ts';
import { actuated, fitted } from './in-force.ts';
import { doublings, FEATURES } from './tail-features.ts';
import type { TailForest } from './tail-forest.ts';

/** Levels of the forecast that chances of falling short are read from. */
export const OWN_LEVELS = [
  0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999, 0.9995,
] as const;

/** How the prices follow what happened, a bin; and what they are to keep. */
const VIOLATION_RATE = 0.012;
const CHANGE_RATE = 0.01;
const GUEST_RATE = 0.006;
/** A guest is charged more while it falls short more often than so many times the target. */
const GUEST_SHARE = 2.9;
/** Changes per guest-day. */
const CHURN = 38;
/** From this target on the forecaster's own distribution is taken as it is; below, the far tail, the mean of it and the forest's. */
const TAIL_TARGET = 0.005;
const TAIL_OWN = 0.5;
/** First prices, in mean sizes; they are found by what happens. */
const FIRST_VIOLATION = 0.3;
const FIRST_CHANGE = 0.02;

/** What is known of the demand to come, by guest. */
export interface Foresight {
  readonly forest: TailForest;
  /** f32[bins - from, FEATURES], for the forest. */
  readonly features: readonly Float32Array[];
  /** First bin at whose end is decided. */
  readonly from: number;
  /** f32[bins - from, OWN_LEVELS]: the forecaster's quantiles of the bin `lead` later. */
  readonly forecasts: readonly Float32Array[];
}

/** Prices of one target, in the resource's unit. */
interface Prices {
  readonly target: number;
  /** Weight of the forecaster's own distribution; the rest is the forest's. */
  readonly own: number;
  violation: number;
  change: number;
  readonly surcharge: Float64Array;
  readonly inForce: readonly Float64Array[];
}

const SIZES_MAX = 96;
/** Least step between two sizes that are looked at, doublings. */
const STEP = 0.05;
const STEP_GROWTH = 1.02;
/** Chances below it are none. */
const CHANCE_MIN = 1e-6;

/**
 * Allocates to all guests with two pooled prices: a guest is given what makes size + price x chance of falling short least,
 * and is left with what it has unless a change saves more than the price of a change. Both prices follow what happened.
 */
export class PricedPolicy {
  readonly #fleet: Fleet;
  readonly #actuator: Actuator;
  readonly #forest: TailForest;
  readonly #features: readonly Float32Array[];
  readonly #from: number;
  readonly #forecasts: readonly Float32Array[];
  readonly #rising = new Float64Array(OWN_LEVELS.length);
  readonly #lead: number;
  readonly #prices: Prices[];
  readonly #leaves: Int32Array;
  readonly #sizes = new Float64Array(SIZES_MAX);
  /** Chances of falling short of the sizes, by the forecaster and by the forest. */
  readonly #byForecast = new Float64Array(SIZES_MAX);
  readonly #byForest = new Float64Array(SIZES_MAX);

  constructor(
    fleet: Fleet,
    actuator: Actuator,
    lead: number,
    { forest, features, from, forecasts }: Foresight,
    targets: readonly number[],
  ) {
    this.#fleet = fleet;
    this.#actuator = actuator;
    this.#forest = forest;
    this.#features = features;
    this.#from = from;
    this.#forecasts = forecasts;
    this.#lead = lead;
    this.#leaves = new Int32Array(forest.size);
    const means = fleet.map(({ seen }) => meanOf(seen, from) + actuator.floor);
    const mean = means.reduce((sum, own) => sum + own, 0) / fleet.length;
    this.#prices = targets.map((target) => ({
      target,
      own: target < TAIL_TARGET ? TAIL_OWN : 1,
      violation: (FIRST_VIOLATION * mean) / target,
      change: FIRST_CHANGE * mean,
      surcharge: new Float64Array(fleet.length).fill(1),
      inForce: fleet.map(({ provisioned, demand }) => new Float64Array(demand.length).fill(provisioned)),
    }));
  }

  /** f64[bins] a guest, by target. */
  get inForce(): readonly (readonly Float64Array[])[] {
    return this.#prices.map(({ inForce }) => inForce);
  }

  /** At the end of a bin: look at what it brought, and decide. */
  step(bin: number): void {
    for (const prices of this.#prices) this.#learn(prices, bin);
    for (const [g, { ceiling }] of this.#fleet.entries()) {
      const features = this.#features[g] as Float32Array;
      const at = (bin - this.#from) * FEATURES;
      this.#forest.find(features, at, this.#leaves);
      const own = this.#forecasts[g] as Float32Array;
      for (let k = 0; k < OWN_LEVELS.length; k += 1)
        this.#rising[k] = doublings(
          own[(bin - this.#from) * OWN_LEVELS.length + k] as number,
          this.#actuator,
        );
      const count = this.#lookAhead(features, at, ceiling);
      for (const prices of this.#prices) this.#decide(prices, g, bin, count, features, at);
    }
  }

  #learn(prices: Prices, bin: number): void {
    let observed = 0;
    let short = 0;
    let changed = 0;
    const guestTarget = prices.target * GUEST_SHARE;
    for (const [g, { demand }] of this.#fleet.entries()) {
      const given = prices.inForce[g] as Float64Array;
      if (given[bin] !== given[bin - 1]) changed += 1;
      const wanted = demand[bin] as number;
      if (Number.isNaN(wanted)) continue;
      observed += 1;
      const isShort = wanted > (given[bin] as number);
      if (isShort) short += 1;
      const surcharge =
        (prices.surcharge[g] as number) * Math.exp(GUEST_RATE * ((isShort ? 1 : 0) / guestTarget - 1));
      prices.surcharge[g] = Math.min(Math.max(surcharge, 1), 100);
    }
    if (observed > 0) {
      const rate = VIOLATION_RATE * Math.min(1, prices.target * 100);
      prices.violation *= Math.exp(Math.min(rate * (short / observed / prices.target - 1), 1));
    }
    const churn = (changed / this.#fleet.length) * DAY_BINS;
    prices.change *= Math.exp(CHANGE_RATE * (churn / CHURN - 1));
  }

  /** Sizes worth looking at, none below the forecast's median: nobody is given up, with their chances of falling short. @returns how many */
  #lookAhead(features: Float32Array, at: number, ceiling: number): number {
    const { floor } = this.#actuator;
    let count = 0;
    const isTail = this.#prices.some(({ own }) => own < 1);
    const look = (wanted: number): void => {
      const size = fitted(this.#actuator, ceiling, wanted);
      const log = doublings(size, this.#actuator);
      this.#sizes[count] = size;
      this.#byForecast[count] = size >= ceiling ? 0 : this.#ownChance(log);
      this.#byForest[count] =
        size >= ceiling || !isTail ? 0 : this.#forest.above(features, at, this.#leaves, log);
      count += 1;
    };
    for (const log of this.#rising) look(2 ** log - floor);
    let log = this.#rising[0] as number;
    let step = STEP;
    while (
      count < SIZES_MAX &&
      Math.max(this.#byForecast[count - 1] as number, this.#byForest[count - 1] as number) > CHANCE_MIN
    ) {
      look(2 ** log - floor);
      log += step;
      step *= STEP_GROWTH;
    }
    return count;
  }

  #chance(features: Float32Array, at: number, size: number, ceiling: number, own: number): number {
    if (size >= ceiling) return 0;
    const log = doublings(size, this.#actuator);
    const forest = own < 1 ? this.#forest.above(features, at, this.#leaves, log) : 0;
    return own * this.#ownChance(log) + (1 - own) * forest;
  }

  /** By the forecaster: between its levels the logarithm of the chance is linear in the size's. */
  #ownChance(log: number): number {
    const rising = this.#rising;
    if (log < (rising[0] as number)) return 1;
    for (let k = 1; k < rising.length; k += 1) {
      const high = rising[k] as number;
      if (log >= high) continue;
      const low = rising[k - 1] as number;
      const share = (log - low) / (high - low);
      const from = Math.log(1 - (OWN_LEVELS[k - 1] as number));
      return Math.exp(from + (Math.log(1 - (OWN_LEVELS[k] as number)) - from) * share);
    }
    return (1 - (OWN_LEVELS.at(-1) as number)) * 2 ** (-2 * (log - (rising.at(-1) as number)));
  }

  #decide(prices: Prices, g: number, bin: number, count: number, features: Float32Array, at: number): void {
    const price = prices.violation * (prices.surcharge[g] as number);
    let best = Number.POSITIVE_INFINITY;
    let size = 0;
    for (let i = 0; i < count; i += 1) {
      const cost =
        (this.#sizes[i] as number) +
        price *
          (prices.own * (this.#byForecast[i] as number) + (1 - prices.own) * (this.#byForest[i] as number));
      if (cost < best) {
        best = cost;
        size = this.#sizes[i] as number;
      }
    }
    const { ceiling } = this.#fleet[g] as Fleet[number];
    const given = prices.inForce[g] as Float64Array;
    const current = given[bin + this.#lead - 1] as number;
    const kept = current + price * this.#chance(features, at, current, ceiling, prices.own);
    const isHopeless = current + this.#actuator.floor < 2 ** (this.#rising[0] as number);
    const wanted = isHopeless || kept - best > prices.change ? size : current;
    if (bin + this.#lead < given.length)
      given[bin + this.#lead] = actuated(this.#actuator, ceiling, wanted, current);
  }
}

function meanOf(values: Float64Array, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i += 1) sum += values[i] as number;
  return sum / count;
}
