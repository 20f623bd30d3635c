// One Gaussian process per output of a workload, over the coordinates z of a request:
//
//   y(z) = mean + f(z) + e,   f ~ GP(0, s2 k),   e ~ N(0, s2 noise age)
//   k(z, z') = 1 + linear <z, z'> + quadratic <z, z'>^2 + matern M52(|z - z'| / length) + drift exp(-lag / DRIFT_RUNS)
//   M52(r) = (1 + sqrt5 r + 5 r^2 / 3) exp(-sqrt5 r)
//
// Outputs are logarithms, so `linear` is a power law of the parameters and `quadratic` its bend; M52 takes the rest.
// `drift` lets the whole surface move from run to run: lag counts the runs between two, the next run being one ahead.
// age = 2^(runs since / AGE_HALF) >= 1 lets newer runs outweigh older ones. (linear, quadratic, matern, length, noise)
// is picked from a fixed grid by the leave-one-out predictive likelihood, in closed form from the inverse of K:
//
//   residual_i = alpha_i / Kinv_ii,   variance_i = s2 / Kinv_ii,   alpha = Kinv (y - mean)
//
// s2 is the mean square of those standardised residuals, shrunk towards S2_PRIOR: so it is also what calibrates the
// forecast's width. The predictive is Student-t with NU_PRIOR + n degrees of freedom.
//
// Source: Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2.2, 4.2.1 (Matern), 5.4.2 (leave-one-out).
import { relate, scoreResiduals } from './dependence';
import { exponential } from './exponential';
import {
  BAND,
  DIMS,
  factorMatrix,
  gramMatrix,
  inverseMatrix,
  kernelMatrix,
  LINE,
  NUMERIC,
  OUTPUTS,
  ROW_BYTES,
  RUNS_MAX,
  TRIANGLE,
  vector,
  W_ALPHA,
  W_COUNT,
  W_HEAD,
  W_LINV,
  W_MEAN,
  W_NEAR,
  W_NORM,
  W_PARAM,
  W_RAW,
  W_SCALE,
  W_SEEN,
  W_Y,
  W_Z,
} from './layout';
import { addScaled, dot, factor, innerProducts, invertLower, packedNorm, packLower } from './linear';

// Fields of one output's line in W_PARAM.
const P_CANDIDATE: usize = 0; // which of the grid
const P_OBSERVED: usize = 8; //   runs that taught this output
const P_MEAN: usize = 16; //      mean of y, newer runs weighing more
const P_S2: usize = 24;
const P_OWNER: usize = 32; //     output whose inverse this one shares
const P_MASK: usize = 40; //      u64, bit i: run i taught this output
const P_NOISE: usize = 48; //     deviation of what the parameters do not explain

const SHAPES: i32 = 11;
const NOISES: i32 = 6;

/** Half-life, in runs, of a run's weight. Long enough that 20 runs all count, short enough to leave a past behind. */
const AGE_HALF: f64 = 16.0;
/**
 * Log likelihood a drift must win by: one odd run looks like the start of a drift, two or three in a row are one.
 */
const DRIFT_EVIDENCE: f64 = 2.0;
/** Runs over which a drift is forgotten: few, since it is there to follow a workload that has changed. */
const DRIFT_RUNS: f64 = 8.0;
/** Variance of log usage before any run, and how many runs that belief is worth. */
const S2_PRIOR: f64 = 0.2;
const NU_PRIOR: f64 = 3.0;
/** Hyperparameters picked by the same residuals make them look smaller: they cost this many of them, or half. */
const CHOSEN: f64 = 4.0;
const CHOSEN_SHARE_MAX: f64 = 0.5;
/** Numeric coordinates start with variance 1 (a factor e in the parameter), worth this many runs. */
const SCALE_PRIOR: f64 = 1.0;
const SCALE_MIN: f64 = 0.05;
/** The deviation of neighbours is their own: this little is added to its variance, worth as little of a run. */
const NEAR_PRIOR: f64 = 0.02;
const NEAR_SCALE_MIN: f64 = 0.001;
/** Weight of one coordinate of a category: two categories differ in two. */
const NEAR_CATEGORY: f64 = 0.5;
/** Beyond this many deviations a parameter is as strange as it gets. */
const Z_MAX: f64 = 6.0;
const SQRT5: f64 = 2.23606797749979;

// Shapes in the order of growing freedom; ties go to the first.
const LINEAR = memory.data<f64>([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.3, 1.0, 1.0, 1.0]);
const QUADRATIC = memory.data<f64>([0.0, 0.03, 0.1, 0.0, 0.03, 0.0, 0.0, 0.0, 0.0, 0.03, 0.0]);
const MATERN = memory.data<f64>([0.0, 0.0, 0.0, 0.1, 0.1, 0.3, 1.0, 1.0, 0.0, 0.1, 0.3]);
const LENGTH = memory.data<f64>([1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 4.0, 1.0, 1.0, 2.0]);
const DRIFT = memory.data<f64>([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.3, 0.3]);
const NOISE = memory.data<f64>([0.1, 0.03, 0.01, 0.003, 0.3, 1.0]);

function element(base: usize, i: i32): f64 {
  return load<f64>(base + ((<usize>i) << 3));
}

/** Matern correlation with nu = 5/2 at distance r, in lengths. */
export function matern52(r: f64): f64 {
  return f64x2.extract_lane(maternPair(f64x2.splat(r)), 0);
}

function maternPair(r: v128): v128 {
  const x = f64x2.mul(f64x2.splat(SQRT5), r);
  const third = f64x2.mul(f64x2.mul(x, x), f64x2.splat(1.0 / 3.0));
  const power = exponential(f64x2.neg(f64x2.pmin(x, f64x2.splat(FAR))));
  return f64x2.mul(f64x2.add(f64x2.add(f64x2.splat(1.0), x), third), power);
}
/** From here on a Matern correlation is nothing. */
const FAR: f64 = 700.0;

/**
 * Covariances of one request with others, but for the drift.
 * @param inner     f64[n], <z, z'>
 * @param distance2 f64[n], |z - z'|^2
 * @param out       f64[n], written up to the next even place; may be `inner`
 */
function covariances(n: i32, shape: i32, inner: usize, distance2: usize, out: usize): void {
  const one = f64x2.splat(1.0);
  const linear = f64x2.splat(element(LINEAR, shape));
  const quadratic = f64x2.splat(element(QUADRATIC, shape));
  for (let at: usize = 0; at < (<usize>n) << 3; at += 16) {
    const x = v128.load(inner + at);
    const bend = f64x2.mul(f64x2.mul(quadratic, x), x);
    v128.store(out + at, f64x2.add(f64x2.add(one, f64x2.mul(linear, x)), bend));
  }
  if (element(MATERN, shape) === 0.0) return;
  const matern = f64x2.splat(element(MATERN, shape));
  const length = f64x2.splat(1.0 / element(LENGTH, shape));
  for (let at: usize = 0; at < (<usize>n) << 3; at += 16) {
    const distance = f64x2.sqrt(f64x2.pmax(v128.load(distance2 + at), f64x2.splat(0.0)));
    const near = f64x2.mul(matern, maternPair(f64x2.mul(distance, length)));
    v128.store(out + at, f64x2.add(v128.load(out + at), near));
  }
}
const decay = memory.data(520); // f64[RUNS_MAX + 1], exp(-lag / DRIFT_RUNS)

/** Fill the table of the drift's correlations; once, before anything is learned. */
export function prepareDrift(): void {
  for (let lag = 0; lag <= RUNS_MAX; ++lag) {
    store<f64>(decay + ((<usize>lag) << 3), Math.exp(-(<f64>lag) / DRIFT_RUNS));
  }
}

/** Runs learned since run i. */
function behind(p: usize, i: i32): i32 {
  return (load<i32>(p + W_HEAD) - 1 - i + RUNS_MAX) % RUNS_MAX;
}

function age(p: usize, i: i32): f64 {
  return Math.exp((Math.LN2 / AGE_HALF) * <f64>behind(p, i));
}

/** Standardise one request's coordinates by the workload's statistics: NaN becomes 0, the mean. */
export function standardise(p: usize, raw: usize, z: usize): void {
  for (let j = 0; j < NUMERIC; ++j) {
    const x = element(raw, j);
    const scaled = isNaN(x) ? 0.0 : (x - element(p + W_MEAN, j)) / element(p + W_SCALE, j);
    store<f64>(z + ((<usize>j) << 3), min(max(scaled, -Z_MAX), Z_MAX));
  }
  memory.copy(z + <usize>NUMERIC * 8, raw + <usize>NUMERIC * 8, <usize>(DIMS - NUMERIC) * 8);
}

/**
 * Mean, deviation, least and most of each numeric coordinate over the runs held, the deviation shrunk towards 1; and what
 * a squared difference of standardised coordinates weighs among neighbours.
 */
function measure(p: usize, n: i32): void {
  for (let j = 0; j < NUMERIC; ++j) {
    let count = 0.0;
    let sum = 0.0;
    let least = Infinity;
    let most = -Infinity;
    for (let i = 0; i < n; ++i) {
      const x = element(p + W_RAW + <usize>i * ROW_BYTES, j);
      if (isNaN(x)) continue;
      count += 1.0;
      sum += x;
      least = min(least, x);
      most = max(most, x);
    }
    store<f64>(p + W_SEEN + ((<usize>j) << 4), least);
    store<f64>(p + W_SEEN + ((<usize>j) << 4), most, 8);
    const mean = count > 0.0 ? sum / count : 0.0;
    let squares = 0.0;
    for (let i = 0; i < n; ++i) {
      const x = element(p + W_RAW + <usize>i * ROW_BYTES, j);
      if (!isNaN(x)) squares += (x - mean) * (x - mean);
    }
    const scale = max(Math.sqrt((SCALE_PRIOR + squares) / (SCALE_PRIOR + count)), SCALE_MIN);
    const own = Math.sqrt((NEAR_PRIOR + squares) / (NEAR_PRIOR + count)) + NEAR_SCALE_MIN;
    store<f64>(p + W_MEAN + ((<usize>j) << 3), mean);
    store<f64>(p + W_SCALE + ((<usize>j) << 3), scale);
    store<f64>(p + W_NEAR + ((<usize>j) << 3), (scale * scale) / (own * own));
  }
  for (let j = NUMERIC; j < DIMS; ++j) store<f64>(p + W_NEAR + ((<usize>j) << 3), NEAR_CATEGORY);
}

function fillGram(p: usize, n: i32): void {
  const gram = gramMatrix();
  for (let i = 0; i < n; ++i) {
    const zi = p + W_Z + <usize>i * ROW_BYTES;
    standardise(p, p + W_RAW + <usize>i * ROW_BYTES, zi);
    for (let j = 0; j <= i; ++j) {
      store<f64>(gram + <usize>i * LINE + ((<usize>j) << 3), dot(zi, p + W_Z + <usize>j * ROW_BYTES, DIMS));
    }
    store<f64>(p + W_NORM + ((<usize>i) << 3), element(gram + <usize>i * LINE, i));
  }
}

function fillKernel(p: usize, n: i32, shape: i32): void {
  const drift = element(DRIFT, shape);
  for (let i = 0; i < n; ++i) {
    const inner = gramMatrix() + <usize>i * LINE;
    const row = kernelMatrix() + <usize>i * LINE;
    const own = element(inner, i);
    for (let j = 0; j <= i; ++j) {
      store<f64>(vector(APART) + ((<usize>j) << 3), own + element(p + W_NORM, j) - 2.0 * element(inner, j));
    }
    covariances(i + 1, shape, inner, vector(APART), row);
    if (drift === 0.0) continue;
    for (let j = 0; j <= i; ++j) {
      const lag = abs(behind(p, i) - behind(p, j));
      store<f64>(row + ((<usize>j) << 3), element(row, j) + drift * element(decay, lag));
    }
  }
}

/**
 * Inverse of the Cholesky factor of K + noise, into `inverse`. A run outside `mask` is cut off: its line is that of
 * the identity, so that it neither gives nor takes.
 */
function invertMasked(n: i32, noise: f64, mask: u64, inverse: usize): void {
  const kernel = kernelMatrix();
  const work = factorMatrix(); // the masked matrix, then, in its place, its factor
  for (let i = 0; i < n; ++i) {
    const seen = ((mask >> <u64>i) & 1) === 1;
    for (let j = 0; j <= i; ++j) {
      let k = 0.0;
      if (seen && ((mask >> <u64>j) & 1) === 1) k = element(kernel + <usize>i * LINE, j);
      if (i === j) k = seen ? k + noise * element(vector(AGES), i) : 1.0;
      store<f64>(work + <usize>i * LINE + ((<usize>j) << 3), k);
    }
  }
  factor(n, work, work);
  invertLower(n, work, inverse);
}

// Scratch vectors.
const AGES: i32 = 0;
const DIAGONAL: i32 = 1; // of Kinv
const ALPHA: i32 = 2;
const APART: i32 = 3; //    squared distances of one run from those before it
const CENTRED: i32 = 4; //  and the next OUTPUTS - 1: y - mean, zero where missing

function diagonal(n: i32, inverse: usize): void {
  const d = vector(DIAGONAL);
  memory.fill(d, 0, LINE);
  for (let k = 0; k < n; ++k) {
    const row = inverse + <usize>k * LINE;
    for (let i = 0; i <= k; ++i) {
      const x = element(row, i);
      store<f64>(d + ((<usize>i) << 3), element(d, i) + x * x);
    }
  }
}

/** alpha = Linv' Linv y. @param y f64[RUNS_MAX], zero past n */
function solve(n: i32, inverse: usize, y: usize, alpha: usize): void {
  memory.fill(alpha, 0, LINE);
  for (let i = 0; i < n; ++i) {
    const row = inverse + <usize>i * LINE;
    addScaled(alpha, dot(row, y, i + 1), row, i + 1);
  }
}

/** Degrees of freedom of an output learned from `count` runs. */
function freedomOf(count: f64): f64 {
  return NU_PRIOR + max(count - CHOSEN, count * CHOSEN_SHARE_MAX);
}

/**
 * Leave-one-out variance of run i, in units of s2. K holds an old run's noise as `age` times what it is, so that it
 * weighs less; its residual is not larger for that, so the surplus comes off again.
 */
function varianceAt(i: i32, noise: f64): f64 {
  return 1.0 / element(vector(DIAGONAL), i) - noise * (element(vector(AGES), i) - 1.0);
}

/** Square of run i's leave-one-out residual alpha / Kinv. */
function squareAt(i: i32): f64 {
  const residual = element(vector(ALPHA), i) / element(vector(DIAGONAL), i);
  return residual * residual;
}

/** Scale s2 of an output from its leave-one-out residuals; ALPHA and DIAGONAL hold its solution. */
function scaleOf(n: i32, mask: u64, noise: f64): f64 {
  let sum = NU_PRIOR * S2_PRIOR;
  let count = 0.0;
  for (let i = 0; i < n; ++i) {
    if (((mask >> <u64>i) & 1) === 0) continue;
    sum += squareAt(i) / varianceAt(i, noise);
    count += 1.0;
  }
  return sum / freedomOf(count);
}

/** Leave-one-out log predictive likelihood, each run weighing 1 / age; constants left out. */
function likelihood(n: i32, mask: u64, noise: f64, s2: f64): f64 {
  let sum = 0.0;
  for (let i = 0; i < n; ++i) {
    if (((mask >> <u64>i) & 1) === 0) continue;
    const variance = s2 * varianceAt(i, noise);
    sum -= (0.5 * (Math.log(variance) + squareAt(i) / variance)) / element(vector(AGES), i);
  }
  return sum;
}

/** Mask, mean and centred values of one output. */
function centre(p: usize, n: i32, output: i32): u64 {
  const y = p + W_Y + <usize>output * LINE;
  const param = p + W_PARAM + ((<usize>output) << 6);
  const centred = vector(CENTRED + output);
  let mask: u64 = 0;
  let weight = 0.0;
  let sum = 0.0;
  let count = 0.0;
  for (let i = 0; i < n; ++i) {
    const value = element(y, i);
    if (isNaN(value)) continue;
    const w = 1.0 / element(vector(AGES), i);
    mask |= (<u64>1) << (<u64>i);
    weight += w;
    sum += w * value;
    count += 1.0;
  }
  const mean = weight > 0.0 ? sum / weight : 0.0;
  memory.fill(centred, 0, LINE);
  for (let i = 0; i < n; ++i) {
    const value = element(y, i);
    if (!isNaN(value)) store<f64>(centred + ((<usize>i) << 3), value - mean);
  }
  store<u64>(param + P_MASK, mask);
  store<f64>(param + P_MEAN, mean);
  store<f64>(param + P_OBSERVED, count);
  return mask;
}

/** Runs that taught an output, bit i for run i. */
export function maskOf(p: usize, output: i32): u64 {
  return load<u64>(p + W_PARAM + ((<usize>output) << 6) + P_MASK);
}
function candidateOf(p: usize, output: i32): i32 {
  return <i32>load<f64>(p + W_PARAM + ((<usize>output) << 6) + P_CANDIDATE);
}

/** True when an earlier output has the same runs, so that its factorisations serve both. */
function repeatsMask(p: usize, output: i32): bool {
  for (let o = 0; o < output; ++o) if (maskOf(p, o) === maskOf(p, output)) return true;
  return false;
}

const bestScores = memory.data(64);

/** Try the whole grid for every output whose runs match those of output `first`. */
function select(p: usize, n: i32, first: i32): void {
  const mask = maskOf(p, first);
  for (let o = first; o < OUTPUTS; ++o) store<f64>(bestScores + ((<usize>o) << 3), -Infinity);
  for (let shape = 0; shape < SHAPES; ++shape) {
    fillKernel(p, n, shape);
    const handicap = element(DRIFT, shape) > 0.0 ? DRIFT_EVIDENCE : 0.0;
    for (let noise = 0; noise < NOISES; ++noise) {
      invertMasked(n, element(NOISE, noise), mask, inverseMatrix());
      diagonal(n, inverseMatrix());
      for (let o = first; o < OUTPUTS; ++o) {
        if (maskOf(p, o) !== mask) continue;
        solve(n, inverseMatrix(), vector(CENTRED + o), vector(ALPHA));
        const score =
          likelihood(n, mask, element(NOISE, noise), scaleOf(n, mask, element(NOISE, noise))) - handicap;
        if (score <= element(bestScores, o)) continue;
        store<f64>(bestScores + ((<usize>o) << 3), score);
        store<f64>(p + W_PARAM + ((<usize>o) << 6) + P_CANDIDATE, <f64>(shape * NOISES + noise));
      }
    }
  }
}

/** First output with the same runs and the same hyperparameters: they share one inverse. */
function ownerOf(p: usize, output: i32): i32 {
  for (let o = 0; o < output; ++o) {
    if (maskOf(p, o) === maskOf(p, output) && candidateOf(p, o) === candidateOf(p, output)) return o;
  }
  return output;
}

/** Solve every output whose inverse is that of `owner`, which is made here. */
function settle(p: usize, n: i32, owner: i32): void {
  const mask = maskOf(p, owner);
  const noise = element(NOISE, candidateOf(p, owner) % NOISES);
  fillKernel(p, n, candidateOf(p, owner) / NOISES);
  invertMasked(n, noise, mask, inverseMatrix());
  diagonal(n, inverseMatrix());
  for (let o = owner; o < OUTPUTS; ++o) {
    if (ownerOf(p, o) !== owner) continue;
    const param = p + W_PARAM + ((<usize>o) << 6);
    solve(n, inverseMatrix(), vector(CENTRED + o), vector(ALPHA));
    const s2 = scaleOf(n, mask, noise);
    store<f64>(param + P_OWNER, <f64>owner);
    store<f64>(param + P_S2, s2);
    store<f64>(param + P_NOISE, Math.sqrt(s2 * noise));
    memory.copy(p + W_ALPHA + <usize>o * LINE, vector(ALPHA), LINE);
    score(o, n, mask);
  }
  silence(n, mask);
  packLower(n, inverseMatrix(), p + W_LINV + <usize>owner * TRIANGLE);
}

/** Score an output's leave-one-out residuals; ALPHA and DIAGONAL hold its solution. An empty mask: it has none. */
function score(output: i32, n: i32, mask: u64): void {
  const residuals = vector(CENTRED + output); // no longer needed
  for (let i = 0; i < n; ++i) {
    const taught = ((mask >> <u64>i) & 1) === 1;
    const residual = taught ? element(vector(ALPHA), i) / element(vector(DIAGONAL), i) : NaN;
    store<f64>(residuals + ((<usize>i) << 3), residual);
  }
  scoreResiduals(output, n, residuals);
}

/** A cut-off run must add nothing to a quadratic form. */
function silence(n: i32, mask: u64): void {
  for (let i = 0; i < n; ++i) {
    if (((mask >> <u64>i) & 1) === 0) store<f64>(inverseMatrix() + <usize>i * LINE + ((<usize>i) << 3), 0.0);
  }
}

/**
 * Fit every output of a workload to the runs it holds.
 * @param groups outputs fall into groups that were learned from the same runs; hyperparameters are picked anew for
 *               at most this many of them, starting at the group of output `start`; the others keep theirs
 */
export function fit(p: usize, groups: i32, start: i32): void {
  const n = load<i32>(p + W_COUNT);
  assert(n > 0 && n <= RUNS_MAX, 'a fit needs a run');
  measure(p, n);
  fillGram(p, n);
  for (let i = 0; i < n; ++i) store<f64>(vector(AGES) + ((<usize>i) << 3), age(p, i));
  for (let o = 0; o < OUTPUTS; ++o) centre(p, n, o);
  for (let step = 0; step < OUTPUTS && groups > 0; ++step) {
    const o = (start + step) % OUTPUTS;
    if (maskOf(p, o) === 0 || repeatsMask(p, o)) continue;
    select(p, n, o);
    groups -= 1;
  }
  for (let o = 0; o < OUTPUTS; ++o) {
    if (maskOf(p, o) === 0) score(o, n, 0);
    else if (ownerOf(p, o) === o) settle(p, n, o);
  }
  relate(p, n);
}

// One prediction. Vectors: INNER <z_i, z>, DISTANCE |z_i - z|^2, then one vector of correlations a shape.
const INNER: i32 = 0;
const DISTANCE: i32 = 1;
const CORRELATION: i32 = 4;
/** Scratch vectors from here on are not the process's. */
export const VECTORS_END: i32 = CORRELATION + SHAPES;
const query = memory.data(384); //       f64[DIMS]
const ownInner = memory.data(8);
const shapeFilled = memory.data(16); //   u8[SHAPES]
const explained = memory.data(64); //    f64[OUTPUTS], |Linv k|^2 of each owner
const explainedKnown = memory.data(8); // u8[OUTPUTS]

// Results of predict(): location, latent variance, noise variance, degrees of freedom.
export let location: f64 = 0.0;
export let latent: f64 = 0.0;
export let noiseVariance: f64 = 0.0;
export let freedom: f64 = 0.0;

/** Coordinates of the last `aim`, standardised, f64[DIMS]. */
export function queryAt(): usize {
  return query;
}

/** Take a request's coordinates; the predictions that follow are for it. */
export function aim(p: usize, row: usize): void {
  const n = load<i32>(p + W_COUNT);
  memory.fill(shapeFilled, 0, 16);
  memory.fill(explainedKnown, 0, 8);
  if (n === 0) return;
  standardise(p, row, query);
  const own = dot(query, query, DIMS);
  store<f64>(ownInner, own);
  innerProducts(n, p + W_Z, query, vector(INNER));
  for (let i = 0; i < n; ++i) {
    const distance2 = own + element(p + W_NORM, i) - 2.0 * element(vector(INNER), i);
    store<f64>(vector(DISTANCE) + ((<usize>i) << 3), distance2);
  }
}

function correlations(p: usize, n: i32, shape: i32): usize {
  const k = vector(CORRELATION + shape);
  if (load<u8>(shapeFilled + <usize>shape) === 1) return k;
  store<u8>(shapeFilled + <usize>shape, 1);
  covariances(n, shape, vector(INNER), vector(DISTANCE), k);
  const drift = element(DRIFT, shape);
  for (let i = 0; drift > 0.0 && i < n; ++i) {
    store<f64>(k + ((<usize>i) << 3), element(k, i) + drift * element(decay, behind(p, i) + 1));
  }
  for (let i = n; i % BAND > 0; ++i) store<f64>(k + ((<usize>i) << 3), 0.0);
  return k;
}

/** Covariance of the request with itself. */
function priorOf(shape: i32): f64 {
  const own = load<f64>(ownInner);
  return (
    1.0 +
    element(LINEAR, shape) * own +
    element(QUADRATIC, shape) * own * own +
    element(MATERN, shape) +
    element(DRIFT, shape)
  );
}

/** |Linv k|^2: how much of the request's variance the runs explain. */
function explainedBy(p: usize, n: i32, owner: i32, k: usize): f64 {
  if (load<u8>(explainedKnown + <usize>owner) === 1) return element(explained, owner);
  const sum = packedNorm(n, p + W_LINV + <usize>owner * TRIANGLE, k);
  store<u8>(explainedKnown + <usize>owner, 1);
  store<f64>(explained + ((<usize>owner) << 3), sum);
  return sum;
}

/**
 * Posterior of one output at the request of the last `aim`, into the exported results.
 * @returns runs it rests on; 0: the results are not set
 */
export function predict(p: usize, output: i32): i32 {
  const param = p + W_PARAM + ((<usize>output) << 6);
  const observed = load<f64>(param + P_OBSERVED);
  if (observed === 0.0) return 0;
  const n = load<i32>(p + W_COUNT);
  const candidate = candidateOf(p, output);
  const shape = candidate / NOISES;
  const k = correlations(p, n, shape);
  const s2 = load<f64>(param + P_S2);
  const prior = priorOf(shape);
  const rest = prior - explainedBy(p, n, <i32>load<f64>(param + P_OWNER), k);
  location = load<f64>(param + P_MEAN) + dot(p + W_ALPHA + <usize>output * LINE, k, n);
  latent = s2 * max(rest, 1e-9);
  noiseVariance = s2 * element(NOISE, candidate % NOISES);
  freedom = freedomOf(observed);
  return <i32>observed;
}
