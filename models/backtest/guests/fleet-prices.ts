import { DAY_BINS } from './guest-series.ts';

/** How the prices follow what happened, a bin. */
const VIOLATION_RATE = 0.012;
const CHANGE_RATE = 0.01;
const GUEST_RATE = 0.006;
/** Below this target a bin says less, and the price follows it the slower. */
const FULL_RATE_TARGET = 0.01;
/** A guest is charged a price of its own while it falls short more often than so many times the target. */
const GUEST_SHARE = 2.8;
/** Share of the guests, those that are dearest to keep to it, that pay no more than the dearest of the others. */
const EXEMPT_SHARE = 0.05;
/** Changes per guest-day. */
const CHURN = 38;
/** First and highest prices, in mean sizes a target; they are found by what happens. */
const FIRST_VIOLATION = 0.3;
const OWN_MAX = 1000;
const FIRST_CHANGE = 0.02;
/** Most that one bin moves the logarithm of a price. */
const MOVE_MAX = 1;

/** What a bin brought to a guest. */
export type Shortfall = 'none' | 'short' | 'unseen';

/**
 * Prices that keep a fleet to a target of violations and of changes: each rises while there are more than it is to allow. The
 * price of falling short is one for all; a guest that falls short too often for itself has a higher one of its own.
 */
export class FleetPrices {
  readonly #target: number;
  readonly #own: Float64Array;
  readonly #ownMax: number;
  /** The own price of the dearest guest that is kept to its share. */
  #kept: number;
  #violation: number;
  #change: number;

  /** @param target share of the guest-bins, in (0, 1) @param meanSize over the guests, > 0; prices are in its unit */
  constructor(guests: number, target: number, meanSize: number) {
    this.#target = target;
    this.#violation = (FIRST_VIOLATION * meanSize) / target;
    this.#kept = this.#violation;
    this.#own = new Float64Array(guests).fill(this.#violation);
    this.#ownMax = (OWN_MAX * meanSize) / target;
    this.#change = FIRST_CHANGE * meanSize;
  }

  /** Of a change. */
  get change(): number {
    return this.#change;
  }

  /** Of a guest's falling short in a bin. */
  violation(guest: number): number {
    return Math.max(this.#violation, Math.min(this.#own[guest] as number, this.#kept));
  }

  /** @param shortfalls by guest @param changes of all guests in the bin */
  observe(shortfalls: readonly Shortfall[], changes: number): void {
    const guests = shortfalls.length;
    let seen = 0;
    let short = 0;
    for (const [g, shortfall] of shortfalls.entries()) {
      if (shortfall === 'unseen') continue;
      const isShort = shortfall === 'short' ? 1 : 0;
      seen += 1;
      short += isShort;
      this.#own[g] = moved(this.#own[g] as number, GUEST_RATE, isShort / (this.#target * GUEST_SHARE));
    }
    if (seen > 0) {
      const rate = VIOLATION_RATE * Math.min(1, this.#target / FULL_RATE_TARGET);
      this.#violation = moved(this.#violation, rate, short / seen / this.#target);
    }
    this.#change = moved(this.#change, CHANGE_RATE, ((changes / guests) * DAY_BINS) / CHURN);
    for (const [g, own] of this.#own.entries())
      this.#own[g] = Math.min(Math.max(own, this.#violation), this.#ownMax);
    const rising = Float64Array.from(this.#own).sort();
    this.#kept = rising[guests - 1 - Math.floor(EXEMPT_SHARE * (guests - 1))] as number;
  }
}

/** @param ratio of what happened to what is allowed */
function moved(price: number, rate: number, ratio: number): number {
  return price * Math.exp(Math.min(rate * (ratio - 1), MOVE_MAX));
}
