// Experts: several forecasts of one output, joined by how well each foretold this workload's past runs.
//
// All but the first are empirical: weighted quantiles of what the remembered runs taught, so they follow any shape and
// never leave what was seen. An expert's weight is that of its losses L, pinball losses of usage
// (not of its logarithm) in units of that usage:
//
//   weight_e ~ L_e^-6,   L_e = sum of decayed own losses + PRIOR_RUNS x mean own loss x r_e
//
// r_e is the expert's loss over the mean of all experts', over all workloads: a new workload starts with the experts that
// served the others. Four of them only weigh the remembered runs: their weights are mixed to one distribution, so that work which
// is fast or slow keeps both heads. Its quantiles and those of the process and its misses are averaged, in logarithms.
//
// Source: Berrisch & Ziel, "CRPS learning", Journal of Econometrics 237, 2023 (averages of quantiles by their losses).
import {
  DIMS,
  I_LEVELS,
  I_ROW,
  io,
  LEVELS,
  LINE,
  NUMERIC,
  OUTPUTS,
  QUANTILES,
  RUNS_MAX,
  vector,
  W_APART,
  W_COUNT,
  W_COURSE,
  W_HEAD,
  W_LOSS,
  W_MISS,
  W_MISS_SIZE,
  W_NEAR,
  W_NOW,
  W_ORDER,
  W_ORDER_SIZE,
  W_RECENT,
  W_SEEN,
  W_STANDING,
  W_Y,
  W_Z,
} from './layout';
import { addScaled, squaredDistances } from './linear';
import { maskOf, queryAt, VECTORS_END } from './process';

/** The Gaussian process, kept within what was seen. */
const PROCESS: i32 = 0;
/** Every remembered run alike. */
const WINDOW: i32 = 1;
/** Newer runs more. */
const RECENT_RUNS: i32 = 2;
/** Runs with near parameters. */
const NEAR_RUNS: i32 = 3;
/** The process's median, with its past misses around it. */
const MISSES: i32 = 4;
/** Runs with near parameters that came after a like course of usage. */
const NEAR_COURSE: i32 = 5;
const EXPERTS: i32 = 6;

/** Half-life of a run's weight among the recent ones, in runs. */
const RECENT_HALF: f64 = 8.0;
/** Neighbours that count, at most: few when parameters tell, more when the course does, for it tells less. */
const NEIGHBOURS: i32 = 16;
const NEIGHBOURS_COURSE: i32 = 40;
const NEIGHBOURS_MIN: i32 = 6;
/** Squared distance of the oldest run from the newest: among equals the newer ones are nearer. */
const AGE_DISTANCE: f64 = 0.3;
/** Squared distance that one deviation of the course is worth. */
const COURSE_DISTANCE: f64 = 0.7;
const COURSE_DEVIATION_MIN: f64 = 0.05;
/** Weight lost from the nearest to the farthest neighbour. */
const FADE: f64 = 0.9;
/** Averages of past usage: one of the last run or two, one of the last dozen. */
const COURSE_FAST: f64 = 0.7;
const COURSE_SLOW: f64 = 0.15;

/** The process may leave the range seen by this factor's logarithm, and by one that shrinks with the runs. */
const BEYOND: f64 = 0.15;
const BEYOND_FIRST: f64 = 1.0;
/** Where the request leaves the range of the parameters, by as much again (usage in proportion), at most tenfold. */
const BEYOND_MAX: f64 = 2.3;
/** A category never seen may double the usage. */
const BEYOND_NOVEL: f64 = 0.7;

const PRIOR_RUNS: f64 = 3.0;
const LOSS_KEPT: f64 = 0.97;
const SHARED_LOSS_KEPT: f64 = 0.99;
/** Largest loss of one run: a single blow must not silence an expert for ever. */
const LOSS_MAX: f64 = 3.0;
/** Losses over their mean, before any run of any workload: the process learns fastest from few runs. */
const LOSS_PROCESS_FIRST: f64 = 0.7;
const LOSS_FIRST: f64 = 1.15;
/** Losses below this are told apart by rounding. */
const LOSS_MIN: f64 = 1e-6;
/** Place of the decayed count of runs in a line of losses. */
const LOSS_RUNS: i32 = 7;

// Scratch vectors that outlive a prediction: squared distances of the request to the runs, of parameters alone and those of
// one output; weights of the runs; the latter of near runs, for outputs learned from the runs in `nearMask`.
const DISTANCE_NEAR: i32 = 2;
const DISTANCE: i32 = 3;
const WEIGHTS: i32 = VECTORS_END;
const WEIGHTS_NEAR: i32 = VECTORS_END + 1;
let nearMask: u64 = 0;
let nearTotal: f64 = 0.0;
let courseTotal: f64 = 0.0;

const rows = memory.data(1024); //   f64[8, 16], quantiles of each expert
const shared = memory.data(512); //  f64[OUTPUTS, 8], losses over all workloads, over their mean
const newest = memory.data(64); //   f64[EXPERTS], losses of the run being judged
const trust = memory.data(64); //    f64[EXPERTS], weights of the experts
const mixture = memory.data(512); // f64[RUNS_MAX], weights of the runs
const centres = memory.data(528); // f64[RUNS_MAX + 2], mass up to the middle of each value
const ranked = memory.data(520); //  f64[RUNS_MAX + 1], the values with weight
const keys = memory.data(256); //    i32[RUNS_MAX]
const missOrder = memory.data(64); // u8[RUNS_MAX], misses by size
const fading = memory.data(512); //  f64[RUNS_MAX], weight of the run that lies so many behind
let excess: f64 = 0.0; //            how far the request leaves what was seen, a logarithm

// Places of the quantiles that no request changes.
const STANDING_WINDOW: i32 = 0;
const STANDING_RECENT: i32 = 1;
const STANDING_MISSES: i32 = 2;

function element(base: usize, i: i32): f64 {
  return load<f64>(base + ((<usize>i) << 3));
}
function put(base: usize, i: i32, value: f64): void {
  store<f64>(base + ((<usize>i) << 3), value);
}
function rowOf(expert: i32): usize {
  return rows + ((<usize>expert) << 7);
}
function behind(p: usize, i: i32): i32 {
  return (load<i32>(p + W_HEAD) - 1 - i + RUNS_MAX) % RUNS_MAX;
}
function orderOf(p: usize, output: i32): usize {
  return p + W_ORDER + <usize>(output * RUNS_MAX);
}
function sizeOf(p: usize, output: i32): i32 {
  return load<i32>(p + W_ORDER_SIZE + ((<usize>output) << 2));
}
function valuesOf(p: usize, output: i32): usize {
  return p + W_Y + <usize>output * LINE;
}
function standingOf(p: usize, output: i32, place: i32): usize {
  return p + W_STANDING + <usize>(output * 3 + place) * QUANTILES;
}
function courseOf(p: usize, output: i32, speed: i32): usize {
  return p + W_COURSE + <usize>(output * 2 + speed) * LINE;
}

/** Fill the tables; once, before anything is learned. */
export function prepareExperts(): void {
  for (let i = 0; i < RUNS_MAX; ++i) put(fading, i, Math.exp((-Math.LN2 * <f64>i) / RECENT_HALF));
  for (let o = 0; o < OUTPUTS; ++o) {
    for (let e = 0; e < EXPERTS; ++e) {
      put(shared, o * 8 + e, e === PROCESS || e === MISSES ? LOSS_PROCESS_FIRST : LOSS_FIRST);
    }
  }
}

/** Measure the request of the last `aim` against the remembered runs. */
export function approach(p: usize): void {
  const n = load<i32>(p + W_COUNT);
  const distances = vector(DISTANCE_NEAR);
  squaredDistances(n, p + W_Z, p + W_NEAR, queryAt(), distances);
  for (let i = 0; i < n; ++i) {
    put(distances, i, element(distances, i) + (AGE_DISTANCE * <f64>behind(p, i)) / <f64>n);
  }
  for (let i = n; i < RUNS_MAX; ++i) put(distances, i, Infinity);
  nearMask = 0;
  excess = element(io(I_ROW), DIMS - 1) > 0.0 ? BEYOND_NOVEL : 0.0;
  let furthest = 0.0;
  for (let j = 0; n > 0 && j < NUMERIC; ++j) furthest = max(furthest, beyondSeen(p, j));
  excess = min(excess + furthest, BEYOND_MAX);
}

/** How far a coordinate of the request lies outside of the remembered runs; 0 where there is nothing to compare. */
function beyondSeen(p: usize, j: i32): f64 {
  const x = element(io(I_ROW), j);
  const least = element(p + W_SEEN, 2 * j);
  const most = element(p + W_SEEN, 2 * j + 1);
  return isNaN(x) || most < least ? 0.0 : max(max(x - most, least - x), 0.0);
}

/**
 * Quantiles of weighted values: a value's mass is centred on it, and between two the distribution is uniform.
 * @param order  u8[count], places of the values, by size
 * @param values by place
 * @param weights by place; a value with none is passed over. At least one has some
 */
function weightedQuantiles(order: usize, count: i32, values: usize, weights: usize, out: usize): void {
  const infinity = f64x2.splat(Infinity);
  for (let at: usize = 0; at <= LINE; at += 16) v128.store(centres + at, infinity);
  let total = 0.0;
  let held = 0;
  for (let i = 0; i < count; ++i) {
    const place = <i32>load<u8>(order + <usize>i);
    const weight = element(weights, place);
    put(centres, held, total + 0.5 * weight);
    put(ranked, held, element(values, place));
    total += weight;
    held += i32(weight > 0.0);
  }
  put(centres, held, Infinity); // a last one without weight may stand there
  for (let l = 0; l < LEVELS; ++l) {
    const mass = element(io(I_LEVELS), l) * total;
    const above = reached(mass);
    const lower = max(above - 1, 0);
    const upper = min(above, held - 1);
    const from = element(ranked, lower);
    const gap = element(centres, upper) - element(centres, lower);
    const share = gap > 0.0 ? (mass - element(centres, lower)) / gap : 0.0;
    put(out, l, from + (element(ranked, upper) - from) * share);
  }
}

/** First of the centres that is not below `mass`: in as many steps whatever it is. */
function reached(mass: f64): i32 {
  let at = 0;
  for (let step = RUNS_MAX >> 1; step > 0; step >>= 1) {
    at += select<i32>(step, 0, element(centres, at + step - 1) < mass);
  }
  return at + i32(element(centres, at) < mass);
}

/** Bits of the upper half of a number that is not negative, less the sign. */
const KEY_BITS: i32 = 31;

/**
 * The k-th smallest of numbers that are not negative, in the same time whatever they are: the upper half of it bit by bit,
 * then the largest number that begins so. Of numbers alike to 20 bits that is the largest.
 * @param a f64[RUNS_MAX], infinity where there is none
 * @param k from 1 to how many there are
 */
function smallest(a: usize, k: i32): f64 {
  for (let at: usize = 0; at < LINE; at += 32) {
    v128.store(keys + (at >> 1), v128.shuffle<i32>(v128.load(a + at), v128.load(a + at, 16), 1, 3, 5, 7));
  }
  let key = 0;
  for (let bit = KEY_BITS - 1; bit >= 0; --bit) {
    const trial = key | (1 << bit);
    key = select<i32>(trial, key, below(i32x4.splat(trial)) < k);
  }
  const end = f64x2.splat(reinterpret<f64>((<i64>(key + 1)) << 32));
  let largest = f64x2.splat(0.0);
  for (let at: usize = 0; at < LINE; at += 16) {
    const x = v128.load(a + at);
    largest = f64x2.pmax(largest, v128.and(x, f64x2.lt(x, end)));
  }
  return max(f64x2.extract_lane(largest, 0), f64x2.extract_lane(largest, 1));
}

/** How many keys lie below one. */
function below(key: v128): i32 {
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  for (let at: usize = 0; at < (<usize>RUNS_MAX) << 2; at += 64) {
    a = i32x4.sub(a, i32x4.lt_s(v128.load(keys + at), key));
    b = i32x4.sub(b, i32x4.lt_s(v128.load(keys + at, 16), key));
    a = i32x4.sub(a, i32x4.lt_s(v128.load(keys + at, 32), key));
    b = i32x4.sub(b, i32x4.lt_s(v128.load(keys + at, 48), key));
  }
  const pairs = i32x4.add(a, b);
  const sums = i32x4.add(pairs, v128.shuffle<i32>(pairs, pairs, 2, 3, 0, 1));
  return i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1);
}

/** Weights of the nearest of `count` runs, by the distances in DISTANCE, into f64[RUNS_MAX]. @returns their sum */
function weigh(count: i32, most: i32, out: usize): f64 {
  const distances = vector(DISTANCE);
  const k = min(min(most, max(NEIGHBOURS_MIN, count >> 1)), count);
  const reach = smallest(distances, k) + 1e-9;
  const scale = f64x2.splat(FADE / reach);
  let sum = f64x2.splat(0.0);
  for (let at: usize = 0; at < LINE; at += 16) {
    const distance = v128.load(distances + at);
    const weight = f64x2.sub(f64x2.splat(1.0), f64x2.mul(distance, scale));
    const kept = v128.and(weight, f64x2.le(distance, f64x2.splat(reach)));
    v128.store(out + at, kept);
    sum = f64x2.add(sum, kept);
  }
  return f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1);
}

/** Distances of the runs that taught an output: by their parameters, or by the course of usage before them too. */
function measure(p: usize, output: i32, withCourse: bool): void {
  const near = vector(DISTANCE_NEAR);
  const apart = p + W_APART + <usize>output * LINE;
  const out = vector(DISTANCE);
  const infinity = f64x2.splat(Infinity);
  for (let at: usize = 0; at < LINE; at += 16) {
    const distance = v128.load(near + at);
    const course = v128.load(apart + at);
    const taught = f64x2.lt(course, infinity);
    v128.store(
      out + at,
      withCourse ? f64x2.add(distance, course) : v128.bitselect(distance, infinity, taught),
    );
  }
}

let lowest: f64 = 0.0;
let highest: f64 = 0.0;

function within(y: f64): f64 {
  return min(max(y, lowest), highest);
}

const MEDIAN: i32 = 5; // place of 0.5 among the levels

/** Let the process answer for one output, whose quantiles stand in the first row, and its misses; weigh the runs by how near they are. */
function consult(p: usize, output: i32): void {
  const count = sizeOf(p, output);
  const order = orderOf(p, output);
  const values = valuesOf(p, output);
  const beyond = BEYOND + BEYOND_FIRST / <f64>count + excess;
  lowest = element(values, load<u8>(order)) - beyond;
  highest = element(values, load<u8>(order + <usize>(count - 1))) + beyond;
  for (let l = 0; l < LEVELS; ++l) put(rowOf(PROCESS), l, within(element(rowOf(PROCESS), l)));
  consultMisses(p, output);
  if (maskOf(p, output) !== nearMask) {
    nearMask = maskOf(p, output);
    measure(p, output, false);
    nearTotal = weigh(count, NEIGHBOURS, vector(WEIGHTS_NEAR));
  }
  measure(p, output, true);
  courseTotal = weigh(count, NEIGHBOURS_COURSE, vector(WEIGHTS));
}

/** Let those that only weigh the runs answer each by itself, by the weights of the last `consult`. */
function consultEach(p: usize, output: i32): void {
  const count = sizeOf(p, output);
  const order = orderOf(p, output);
  const values = valuesOf(p, output);
  memory.copy(rowOf(WINDOW), standingOf(p, output, STANDING_WINDOW), QUANTILES);
  memory.copy(rowOf(RECENT_RUNS), standingOf(p, output, STANDING_RECENT), QUANTILES);
  weightedQuantiles(order, count, values, vector(WEIGHTS_NEAR), rowOf(NEAR_RUNS));
  weightedQuantiles(order, count, values, vector(WEIGHTS), rowOf(NEAR_COURSE));
}

function consultMisses(p: usize, output: i32): void {
  const row = rowOf(MISSES);
  if (load<i32>(p + W_MISS_SIZE + ((<usize>output) << 2)) === 0) {
    memory.copy(row, rowOf(PROCESS), QUANTILES);
    return;
  }
  const standing = standingOf(p, output, STANDING_MISSES);
  const median = element(rowOf(PROCESS), MEDIAN);
  for (let l = 0; l < LEVELS; ++l) put(row, l, within(median + element(standing, l)));
}

/** Weights of the experts by their losses, adding up to 1, into `trust`. */
function weighExperts(p: usize, output: i32): void {
  const losses = p + W_LOSS + ((<usize>output) << 6);
  const own = element(losses, LOSS_RUNS);
  let typical = 0.0;
  for (let e = 0; e < EXPERTS; ++e) typical += element(losses, e) / <f64>EXPERTS;
  const prior = own > 0.0 ? (PRIOR_RUNS * typical) / own : PRIOR_RUNS;
  let total = 0.0;
  for (let e = 0; e < EXPERTS; ++e) {
    const loss = element(losses, e) + prior * element(shared, output * 8 + e);
    const inverse = 1.0 / max(loss / (own + PRIOR_RUNS), LOSS_MIN);
    const square = inverse * inverse;
    const weight = square * square * square; // loss^-6
    put(trust, e, weight);
    total += weight;
  }
  for (let e = 0; e < EXPERTS; ++e) put(trust, e, element(trust, e) / total);
}

/** One distribution of those that only weigh the runs: their weights are mixed, never their quantiles averaged. */
function mixRuns(p: usize, output: i32): void {
  const count = sizeOf(p, output);
  const apart = p + W_APART + <usize>output * LINE;
  const recent = p + W_RECENT + <usize>output * LINE;
  const near = vector(WEIGHTS_NEAR);
  const course = vector(WEIGHTS);
  const infinity = f64x2.splat(Infinity);
  const a = f64x2.splat(element(trust, WINDOW) / <f64>count);
  const b = f64x2.splat(element(trust, RECENT_RUNS));
  const c = f64x2.splat(element(trust, NEAR_RUNS) / nearTotal);
  const d = f64x2.splat(element(trust, NEAR_COURSE) / courseTotal);
  for (let at: usize = 0; at < LINE; at += 16) {
    const even = v128.and(a, f64x2.lt(v128.load(apart + at), infinity));
    const aged = f64x2.add(even, f64x2.mul(b, v128.load(recent + at)));
    const placed = f64x2.add(f64x2.mul(c, v128.load(near + at)), f64x2.mul(d, v128.load(course + at)));
    v128.store(mixture + at, f64x2.add(aged, placed));
  }
  weightedQuantiles(orderOf(p, output), count, valuesOf(p, output), mixture, rowOf(WINDOW));
}

/**
 * Join the experts for one output, at the request of the last `approach`.
 * @param row f64[LEVELS], the process's quantiles, logarithms; overwritten
 */
export function joinExperts(p: usize, output: i32, row: usize): void {
  if (sizeOf(p, output) === 0) return;
  memory.copy(rowOf(PROCESS), row, (<usize>LEVELS) << 3);
  consult(p, output);
  weighExperts(p, output);
  mixRuns(p, output);
  memory.fill(row, 0, QUANTILES);
  addScaled(row, element(trust, PROCESS), rowOf(PROCESS), LEVELS);
  addScaled(row, element(trust, MISSES), rowOf(MISSES), LEVELS);
  addScaled(row, 1.0 - element(trust, PROCESS) - element(trust, MISSES), rowOf(WINDOW), LEVELS);
}

/**
 * Judge the experts on a run that is over, before it is remembered; they were asked by `joinExperts` just now.
 * @param y     what the run taught of this output, a logarithm
 * @param floor smallest step of the output, in its unit; 0: the logarithm is that of the value itself
 */
export function judge(p: usize, output: i32, y: f64, floor: f64): void {
  if (sizeOf(p, output) === 0) return;
  consultEach(p, output);
  const actual = usageOf(y, floor);
  const losses = p + W_LOSS + ((<usize>output) << 6);
  const scale = actual + usageOf(element(rowOf(WINDOW), MEDIAN), floor) + max(floor, 1e-3);
  let typical = 0.0;
  for (let e = 0; e < EXPERTS; ++e) {
    let sum = 0.0;
    for (let l = 0; l < LEVELS; ++l) {
      const residual = actual - usageOf(element(rowOf(e), l), floor);
      const level = element(io(I_LEVELS), l);
      sum += max(level * residual, (level - 1.0) * residual);
    }
    put(newest, e, min(sum / <f64>LEVELS / scale, LOSS_MAX));
    typical += element(newest, e) / <f64>EXPERTS;
  }
  for (let e = 0; e < EXPERTS; ++e) {
    const loss = element(newest, e);
    put(losses, e, element(losses, e) * LOSS_KEPT + loss);
    if (typical < LOSS_MIN) continue;
    const all = output * 8 + e;
    const ratio = loss / typical;
    put(shared, all, element(shared, all) * SHARED_LOSS_KEPT + ratio * (1.0 - SHARED_LOSS_KEPT));
  }
  put(losses, LOSS_RUNS, element(losses, LOSS_RUNS) * LOSS_KEPT + 1.0);
}

/** Median of the process within its bounds, as it was last asked. */
export function processMedian(): f64 {
  return element(rowOf(PROCESS), MEDIAN);
}

function usageOf(y: f64, floor: f64): f64 {
  return floor > 0.0 ? floor * Math.expm1(y) : Math.exp(y);
}

/**
 * Remember what the experts need of the run whose place is `place`: call after its lessons are in place, and before the
 * process is fitted anew.
 * @param miss what the run taught over the process's median, or NaN
 */
export function remember(p: usize, output: i32, place: i32, miss: f64): void {
  const y = element(valuesOf(p, output), place);
  put(p + W_MISS + <usize>output * LINE, place, miss);
  const isFirst = sizeOf(p, output) === 0;
  for (let speed = 0; speed < 2; ++speed) {
    const at = output * 2 + speed;
    const before = isFirst ? y : element(p + W_NOW, at);
    put(courseOf(p, output, speed), place, before);
    if (isNaN(y)) continue;
    put(p + W_NOW, at, before + (speed === 0 ? COURSE_FAST : COURSE_SLOW) * (y - before));
  }
  const size = sortPlaces(p, valuesOf(p, output), orderOf(p, output));
  store<i32>(p + W_ORDER_SIZE + ((<usize>output) << 2), size);
  rememberCourses(p, output, size);
  if (size > 0) rememberStanding(p, output, size);
  rememberMisses(p, output);
}

/** Squared distances of the courses before the runs from the one before the next; infinity: the run taught nothing. */
function rememberCourses(p: usize, output: i32, size: i32): void {
  const order = orderOf(p, output);
  const out = p + W_APART + <usize>output * LINE;
  for (let i = 0; i < RUNS_MAX; ++i) put(out, i, Infinity);
  for (let i = 0; i < size; ++i) put(out, load<u8>(order + <usize>i), 0.0);
  for (let speed = 0; speed < 2; ++speed) {
    const course = courseOf(p, output, speed);
    const now = element(p + W_NOW, output * 2 + speed);
    let sum = 0.0;
    let squares = 0.0;
    for (let i = 0; i < size; ++i) {
      const x = element(course, load<u8>(order + <usize>i)) - now;
      sum += x;
      squares += x * x;
    }
    const mean = sum / <f64>size;
    const deviation = Math.sqrt(max(squares / <f64>size - mean * mean, 0.0)) + COURSE_DEVIATION_MIN;
    const scale = COURSE_DISTANCE / (deviation * deviation);
    for (let i = 0; i < size; ++i) {
      const place = <i32>load<u8>(order + <usize>i);
      const x = element(course, place) - now;
      put(out, place, element(out, place) + scale * x * x);
    }
  }
}

/** Quantiles of every run and of the newer runs, and the weights of the latter. */
function rememberStanding(p: usize, output: i32, size: i32): void {
  const values = valuesOf(p, output);
  const order = orderOf(p, output);
  const weights = vector(WEIGHTS);
  for (let i = 0; i < RUNS_MAX; ++i) put(weights, i, 1.0);
  weightedQuantiles(order, size, values, weights, standingOf(p, output, STANDING_WINDOW));
  let faded = 0.0;
  for (let i = 0; i < size; ++i) {
    const place = <i32>load<u8>(order + <usize>i);
    put(weights, place, element(fading, behind(p, place)));
    faded += element(weights, place);
  }
  weightedQuantiles(order, size, values, weights, standingOf(p, output, STANDING_RECENT));
  const recent = p + W_RECENT + <usize>output * LINE;
  memory.fill(recent, 0, LINE);
  for (let i = 0; i < size; ++i) {
    const place = <i32>load<u8>(order + <usize>i);
    put(recent, place, element(weights, place) / faded);
  }
}

/** Quantiles of the misses. */
function rememberMisses(p: usize, output: i32): void {
  const misses = p + W_MISS + <usize>output * LINE;
  const size = sortPlaces(p, misses, missOrder);
  store<i32>(p + W_MISS_SIZE + ((<usize>output) << 2), size);
  if (size === 0) return;
  for (let i = 0; i < RUNS_MAX; ++i) put(vector(WEIGHTS), i, 1.0);
  weightedQuantiles(missOrder, size, misses, vector(WEIGHTS), standingOf(p, output, STANDING_MISSES));
}

/** Places of the values that are not NaN, by size, into u8[RUNS_MAX]; of equals the earlier place first. */
function sortPlaces(p: usize, values: usize, order: usize): i32 {
  const n = load<i32>(p + W_COUNT);
  let size = 0;
  for (let i = 0; i < n; ++i) {
    const value = element(values, i);
    if (isNaN(value)) continue;
    let at = size;
    for (; at > 0 && element(values, load<u8>(order + <usize>(at - 1))) > value; --at) {
      store<u8>(order + <usize>at, load<u8>(order + <usize>(at - 1)));
    }
    store<u8>(order + <usize>at, <u8>i);
    size += 1;
  }
  return size;
}
