import assert from 'node:assert';
import { LEVELS, QUANTILE_LEVELS } from './forecast.ts';

/** What one request costs whose lost tries are repeated with twice as much. */
export interface RequestCost {
  /** Allocated and not used, summed over the tries, in the unit of the allocation: a lost try counts whole. */
  readonly wasted: number;
  readonly lost: number;
}

/** Pure. @param allocated first try, > 0 @param used what the run needs */
export function triesOf(allocated: number, used: number): RequestCost {
  assert(allocated > 0 && used >= 0 && used < Number.POSITIVE_INFINITY);
  let wasted = 0;
  let lost = 0;
  let held = allocated;
  for (; held < used; held *= 2) {
    wasted += held;
    lost += 1;
  }
  return { wasted: wasted + held - used, lost };
}

/** What a forecast says of the need, as points: levels in the middle of a stretch, and the stretch's mass. */
const INNER = [
  ...[0.025, 0.075].map((level) => ({ level, weight: 0.05 })),
  ...[0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85].map((level) => ({ level, weight: 0.1 })),
  ...[0.91, 0.93, 0.95, 0.97].map((level) => ({ level, weight: 0.02 })),
  { level: 0.985, weight: 0.01 },
] as const;
/**
 * Beyond the last level: how far, in spreads (from 0.9 to 0.99) and in logarithms, and with what mass. Twice what the
 * levels leave, for a model that is wrong is so in its tail.
 */
const TAIL = [
  { spreads: 0, factor: 1, weight: 0.008 },
  { spreads: 0.5, factor: 1, weight: 0.006 },
  { spreads: 1.5, factor: 1, weight: 0.003 },
  { spreads: 1.5, factor: 1.35, weight: 0.002 },
  { spreads: 1.5, factor: 2.5, weight: 0.001 },
] as const;
/** Least spread of the logarithm: readings come in whole pages or megabytes. */
const SPREAD_MIN = 0.02;
/** A candidate lies this much above the need it covers, for the same reason. */
const MARGIN = 1.02;
const MARGIN_UNITS = 0.5;
/** Candidates beyond everything the forecast holds for possible. */
const BEYOND = [1.25, 1.6, 2.2, 3.5] as const;
const LEVEL_90 = QUANTILE_LEVELS.indexOf(0.9);
/** First inner point that is a candidate: an allocation is never below the middle of the forecast. */
const CANDIDATE_MIN = 8;

/**
 * The allocation whose expected cost is least when a lost try is repeated with twice as much:
 *
 *   a = argmin E[wasted(a)] x weight + price x E[lost(a)]
 *
 * so that short and small runs are given freely and long and large ones closely. Pure.
 * @param quantiles f64[LEVELS] of the need, increasing, finite, not negative
 * @param grain     smallest amount that means something, in the unit of the need
 * @param weight    cost of one unit that is wasted (its expected run time)
 * @param price     cost of a lost try beside what it wastes
 */
export function cheapestAllocation(
  quantiles: Float64Array,
  grain: number,
  weight: number,
  price: number,
): number {
  const needs = needPoints(quantiles, grain);
  const largest = needs.at(-1)?.need as number;
  let best = Number.POSITIVE_INFINITY;
  let chosen = largest;
  const consider = (allocated: number): void => {
    let cost = 0;
    for (const point of needs) {
      const { wasted, lost } = triesOf(allocated, point.need);
      cost += point.weight * (wasted * weight + lost * price);
    }
    if (cost >= best) return;
    best = cost;
    chosen = allocated;
  };
  for (const { need } of needs.slice(CANDIDATE_MIN)) consider(need * MARGIN + MARGIN_UNITS * grain);
  for (const factor of BEYOND) consider(largest * factor + grain);
  return chosen;
}

function needPoints(quantiles: Float64Array, grain: number): { need: number; weight: number }[] {
  assert(quantiles.length === LEVELS);
  const log = (l: number): number => Math.log1p((quantiles[l] as number) / grain);
  const last = log(LEVELS - 1);
  const spread = Math.max(last - log(LEVEL_90), SPREAD_MIN);
  const need = (y: number): number => grain * Math.expm1(Math.max(y, 0));
  const inner = INNER.map(({ level, weight }) => {
    const above = Math.max(
      1,
      QUANTILE_LEVELS.findIndex((stored) => stored >= level),
    );
    const lower = QUANTILE_LEVELS[above - 1] as number;
    const upper = QUANTILE_LEVELS[above] as number;
    const share = Math.max(0, (level - lower) / (upper - lower));
    return { need: need(log(above - 1) + share * (log(above) - log(above - 1))), weight };
  });
  const tail = TAIL.map(({ spreads, factor, weight }) => ({
    need: need(last + spreads * spread) * factor,
    weight,
  }));
  return [...inner, ...tail];
}

/** How the price of a lost try follows what was lost. */
export interface LossPolicy {
  /** Share of requests that may lose a try, in (0, 1). */
  readonly target: number;
  /** Change of the price's logarithm by a request that lost nothing. */
  readonly rate: number;
  readonly priceMin: number;
  readonly priceMax: number;
}

/** The price after a request: a little less when nothing was lost, much more when something was. Pure. */
export function nextPrice(price: number, lost: number, policy: LossPolicy): number {
  const moved = price * Math.exp((policy.rate * (lost - policy.target)) / policy.target);
  return Math.min(Math.max(moved, policy.priceMin), policy.priceMax);
}
