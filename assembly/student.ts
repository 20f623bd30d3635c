// Distribution functions, in closed forms that cost the same for every argument.
import { I_NORMAL, io, LEVELS, QUANTILES } from './layout';

/**
 * Standard normal quantile, absolute error below 5e-9 in z over (1e-3, 1 - 1e-3).
 * Source: P. J. Acklam, "An algorithm for computing the inverse normal cumulative distribution function", 2003.
 */
export function normalQuantile(p: f64): f64 {
  assert(p > 0.0 && p < 1.0, 'level must be in (0, 1)');
  if (p > 0.97575) return -tailQuantile(1.0 - p);
  if (p < 0.02425) return tailQuantile(p);
  const q = p - 0.5;
  const r = q * q;
  const above =
    (((((-3.969683028665376e1 * r + 2.209460984245205e2) * r - 2.759285104469687e2) * r +
      1.38357751867269e2) *
      r -
      3.066479806614716e1) *
      r +
      2.506628277459239) *
    q;
  const below =
    ((((-5.447609879822406e1 * r + 1.615858368580409e2) * r - 1.556989798598866e2) * r +
      6.680131188771972e1) *
      r -
      1.328068155288572e1) *
      r +
    1.0;
  return above / below;
}

function tailQuantile(p: f64): f64 {
  const q = Math.sqrt(-2.0 * Math.log(p));
  const above =
    ((((-7.784894002430293e-3 * q - 3.223964580411365e-1) * q - 2.400758277161838) * q - 2.549732539343734) *
      q +
      4.374664141464968) *
      q +
    2.938163982698783;
  const below =
    (((7.784695709041462e-3 * q + 3.224671290700398e-1) * q + 2.445134137142996) * q + 3.754408661907416) *
      q +
    1.0;
  return above / below;
}

/**
 * Standard normal distribution function, absolute error below 1.5e-4.
 * Source: E. Page, "Approximations to the cumulative normal function", Applied Statistics 26, 1977.
 */
export function normalCdf(z: f64): f64 {
  return 1.0 / (1.0 + Math.exp(-(1.5957691216057308 + 0.0713548162726009 * z * z) * z));
}

/**
 * Student-t quantile from the normal one; 1 % short of it at worst for nu >= 4 inside (0.01, 0.99).
 * Source: Abramowitz & Stegun 26.7.5.
 * @param z  standard normal quantile of the level
 * @param nu degrees of freedom, >= 4
 */
export function studentQuantile(z: f64, nu: f64): f64 {
  const z2 = z * z;
  return z * (1.0 + (term(0, z2) + (term(1, z2) + (term(2, z2) + term(3, z2) / nu) / nu) / nu) / nu);
}

/** Term `g` of the expansion in 1 / nu, over z, as a polynomial in z^2. */
function term(g: i32, z2: f64): f64 {
  if (g === 0) return (z2 + 1.0) / 4.0;
  if (g === 1) return ((5.0 * z2 + 16.0) * z2 + 3.0) / 96.0;
  if (g === 2) return (((3.0 * z2 + 19.0) * z2 + 17.0) * z2 - 15.0) / 384.0;
  return ((((79.0 * z2 + 776.0) * z2 + 1482.0) * z2 - 1920.0) * z2 - 945.0) / 92160.0;
}

/**
 * Quantiles of a Student-t distribution at the stored levels: `studentQuantile` at each of them, the terms that hold no
 * degrees of freedom known before.
 * @param out f64[LEVELS]
 */
export function studentQuantiles(centre: f64, deviation: f64, nu: f64, out: usize): void {
  const normal = io(I_NORMAL);
  const one = f64x2.splat(1.0);
  const step = f64x2.splat(1.0 / nu);
  for (let at: usize = 0; at < (<usize>LEVELS) << 3; at += 16) {
    let t = f64x2.mul(v128.load(terms + 3 * QUANTILES + at), step);
    t = f64x2.mul(f64x2.add(v128.load(terms + 2 * QUANTILES + at), t), step);
    t = f64x2.mul(f64x2.add(v128.load(terms + QUANTILES + at), t), step);
    t = f64x2.mul(f64x2.add(v128.load(terms + at), t), step);
    const quantile = f64x2.mul(v128.load(normal + at), f64x2.add(one, t));
    v128.store(out + at, f64x2.add(f64x2.splat(centre), f64x2.mul(f64x2.splat(deviation), quantile)));
  }
}
const terms = memory.data(512); // f64[4, 16], g1 to g4 of the levels

/** Fill the table of `studentQuantiles`; once, when the levels' normal quantiles are in place. */
export function prepareStudent(): void {
  for (let l = 0; l < LEVELS; ++l) {
    const z = load<f64>(io(I_NORMAL) + ((<usize>l) << 3));
    for (let g = 0; g < 4; ++g) store<f64>(terms + <usize>g * QUANTILES + ((<usize>l) << 3), term(g, z * z));
  }
}

/** Student-t distribution function through the normal one. Source: Abramowitz & Stegun 26.7.8. */
export function studentCdf(t: f64, nu: f64): f64 {
  return normalCdf((t * (1.0 - 1.0 / (4.0 * nu))) / Math.sqrt(1.0 + (t * t) / (2.0 * nu)));
}
