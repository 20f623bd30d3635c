import { I_LEVELS, io, LEVELS } from './layout';

function element(base: usize, i: i32): f64 {
  return load<f64>(base + ((<usize>i) << 3));
}

/** Weights this close to 0 or 1 move no stored level by more than the levels are apart in practice. */
const WEIGHT_MIN: f64 = 1e-3;

/**
 * Quantiles of a mixture of two distributions, each given by its quantiles at the levels: the distribution functions
 * are mixed and inverted, never the quantiles averaged. Between levels a distribution is uniform; the mass beyond its
 * outer levels stands on them.
 *
 *   F(x) = weight Fa(x) + (1 - weight) Fb(x);   out[l] = min { x : F(x) >= level[l] }
 *
 * @param a      f64[LEVELS], increasing
 * @param b      f64[LEVELS], increasing
 * @param weight of a, in [0, 1]
 * @param out    f64[LEVELS], written; must not overlap a or b
 */
export function mixQuantiles(a: usize, b: usize, weight: f64, out: usize): void {
  assert(weight >= 0.0 && weight <= 1.0, 'weight must be in [0, 1]');
  if (weight > 1.0 - WEIGHT_MIN || weight < WEIGHT_MIN) {
    memory.copy(out, weight < WEIGHT_MIN ? b : a, (<usize>LEVELS) << 3);
    return;
  }
  const levels = io(I_LEVELS);
  const other = 1.0 - weight;
  let i = 0; // a's next knot
  let j = 0; // b's next knot
  let done = 0;
  let x = min(element(a, 0), element(b, 0));
  let mass = 0.0; // F just after x
  while (done < LEVELS) {
    const fromA = j === LEVELS || (i < LEVELS && element(a, i) <= element(b, j));
    const next = fromA ? element(a, i) : element(b, j);
    const before = weight * reached(a, levels, i, next) + other * reached(b, levels, j, next);
    for (; done < LEVELS && element(levels, done) <= before; ++done) {
      const gap = before - mass;
      const share = gap > 0.0 ? min(max((element(levels, done) - mass) / gap, 0.0), 1.0) : 1.0;
      store<f64>(out + ((<usize>done) << 3), x + (next - x) * share);
    }
    if (fromA) i += 1;
    else j += 1;
    const after = weight * reached(a, levels, i, next) + other * reached(b, levels, j, next);
    for (; done < LEVELS && element(levels, done) <= after; ++done)
      store<f64>(out + ((<usize>done) << 3), next);
    if (i + j === 2 * LEVELS) {
      for (; done < LEVELS; ++done) store<f64>(out + ((<usize>done) << 3), next);
    }
    x = next;
    mass = max(before, after);
  }
}

/** Distribution function at x, given that `passed` knots of q lie at or below it. */
function reached(q: usize, levels: usize, passed: i32, x: f64): f64 {
  if (passed === 0) return 0.0;
  if (passed === LEVELS) return 1.0;
  const lower = element(q, passed - 1);
  const upper = element(q, passed);
  const from = element(levels, passed - 1);
  const gap = upper - lower;
  if (gap <= 0.0) return from;
  return from + (element(levels, passed) - from) * min(max((x - lower) / gap, 0.0), 1.0);
}
