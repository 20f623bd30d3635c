import { FIELDS, LEVELS, QUANTILE_LEVELS } from '../core/forecast.ts';
import { PHASES } from './life-shapes.ts';

/** Share of its largest use that a run takes, where no run taught more: peaks are brief. */
const SHARE_UNTAUGHT = 0.9;
const MEDIAN = QUANTILE_LEVELS.indexOf(0.5);

/** What one request adds to its guest while it runs. */
export interface Effect {
  /** f64[FIELDS, LEVELS], quantiles of the largest use; NaN: not known, and so nothing. */
  readonly largest: Float64Array;
  /** f64[LEVELS], quantiles of the run time, s; NaN: not known, and so without end. */
  readonly duration: Float64Array;
  /** Shares of the largest use by field, f64[PHASES] each; undefined: not known. */
  readonly shares: (field: number) => Float64Array | undefined;
  /** How long it runs already, s. */
  readonly ageS: number;
}

/** Probability that each quantile stands for: what is nearer to it than to its neighbours. */
const WEIGHTS: readonly number[] = QUANTILE_LEVELS.map((level, l) => {
  const from = l === 0 ? 0 : (level + (QUANTILE_LEVELS[l - 1] as number)) / 2;
  const to = l === LEVELS - 1 ? 1 : (level + (QUANTILE_LEVELS[l + 1] as number)) / 2;
  return to - from;
});

/** Share of the largest use at a moment of a run, read between the middles of its phases. @param moment of its life, in [0, 1) */
function shareOf(taught: Float64Array | undefined, moment: number): number {
  if (taught === undefined) return SHARE_UNTAUGHT;
  const at = Math.min(PHASES - 1, Math.max(0, moment * PHASES - 0.5));
  const before = Math.floor(at);
  const [from, to] = [taught[before] as number, taught[Math.min(before + 1, PHASES - 1)] as number];
  return from + (to - from) * (at - before);
}

/** Shares a request may take at one moment, increasing, and the probability of each. One by run time: f64[LEVELS] each. */
interface Shares {
  readonly share: Float64Array;
  readonly probability: Float64Array;
}

const found: Shares = { share: new Float64Array(LEVELS), probability: new Float64Array(LEVELS) };

/**
 * Shares of its largest use that a request may take in so many seconds: by each run time that it has not outlasted, 0 once that is
 * over. One that outlasted all that was foreseen of it is taken to go on as it is. Overwritten by the next call.
 */
export function sharesAt({ duration, shares, ageS }: Effect, field: number, aheadS: number): Shares {
  const { share, probability } = found;
  const taught = shares(field);
  const isOpen = !((duration[LEVELS - 1] as number) > ageS);
  let left = 0;
  for (let l = 0; l < LEVELS; l += 1)
    if (isOpen || (duration[l] as number) > ageS) left += WEIGHTS[l] as number;
  for (let l = 0; l < LEVELS; l += 1) {
    const lastsS = duration[l] as number;
    const moment = isOpen ? 1 : (ageS + aheadS) / lastsS;
    const value = isOpen || moment < 1 ? shareOf(taught, moment) : 0;
    const chance = isOpen || lastsS > ageS ? (WEIGHTS[l] as number) / left : 0;
    let place = l;
    for (; place > 0 && (share[place - 1] as number) > value; place -= 1) {
      share[place] = share[place - 1] as number;
      probability[place] = probability[place - 1] as number;
    }
    share[place] = value;
    probability[place] = chance;
  }
  return found;
}

/** The mean of `sharesAt`. */
export function meanShareAt(effect: Effect, field: number, aheadS: number): number {
  const { share, probability } = sharesAt(effect, field, aheadS);
  return share.reduce((sum, one, l) => sum + one * (probability[l] as number), 0);
}

const use = new Float64Array(LEVELS);
const spread = new Float64Array(LEVELS);

/**
 * Add an effect to the quantiles of a guest's use at each knot. How large it is, how long it lasts and the guest's own use are taken
 * to be independent.
 * @param values f64[FIELDS, knots, LEVELS], changed in place; NaN stays
 */
export function addEffect(values: Float64Array, knotsS: readonly number[], effect: Effect): void {
  for (let f = 0; f < FIELDS; f += 1) {
    const largest = effect.largest.subarray(f * LEVELS, (f + 1) * LEVELS);
    const median = largest[MEDIAN] as number;
    if (Number.isNaN(median)) continue;
    for (const [k, aheadS] of knotsS.entries()) {
      const { share, probability } = sharesAt(effect, f, aheadS);
      let at = 0;
      let reached = probability[0] as number;
      for (let l = 0; l < LEVELS; l += 1) {
        while (at < LEVELS - 1 && reached < (QUANTILE_LEVELS[l] as number)) {
          at += 1;
          reached += probability[at] as number;
        }
        use[l] = median * (share[at] as number);
        // How far off the size is counts as far as it is used: not at all where the request is over.
        spread[l] = ((largest[l] as number) - median) * (share[at] as number);
      }
      addDeviations(use, spread);
      const row = (f * knotsS.length + k) * LEVELS;
      addIndependent(values.subarray(row, row + LEVELS), use);
    }
  }
}

/**
 * Add independent quantiles to a row of quantiles, in place: medians add, and deviations from them as the root of their squares,
 * which is exact where one of the two is certain, and for normal laws.
 */
export function addIndependent(row: Float64Array, added: Float64Array): void {
  const median = added[MEDIAN] as number;
  if (Number.isNaN(median)) return;
  for (let l = 0; l < LEVELS; l += 1) spread[l] = (added[l] as number) - median;
  addDeviations(row, spread);
  for (let l = 0; l < LEVELS; l += 1) row[l] = Math.max(0, (row[l] as number) + median);
}

/** @param deviations of the other from its own median */
function addDeviations(row: Float64Array, deviations: Float64Array): void {
  const median = row[MEDIAN] as number;
  for (let l = 0; l < LEVELS; l += 1) {
    const [own, other] = [(row[l] as number) - median, deviations[l] as number];
    const away = Math.sqrt(own * own + other * other);
    row[l] = median + (l < MEDIAN ? -away : away);
    // A level below the median may come out under a lower one.
    if (l > 0) row[l] = Math.max(row[l] as number, row[l - 1] as number);
  }
}
