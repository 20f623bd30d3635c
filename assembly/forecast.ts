// From posteriors to quantiles of usage: a request's own increment over the guest's present usage, its duration, and
// the course over the knots.

import { approach, joinExperts, judge, processMedian, remember } from './experts';
import { exponentials } from './exponential';
import { baseOf, recentQuantiles } from './guests';
import {
  DURATION,
  FIELDS,
  I_BEFORE,
  I_CEILING,
  I_FLOORS,
  I_KNOTS,
  I_NORMAL,
  I_PEAK,
  I_ROW,
  io,
  KNOTS_MAX,
  LEVELS,
  LINE,
  O_DURATION,
  O_PEAK,
  O_VALUES,
  OUTPUTS,
  ROW_BYTES,
  RUNS_MAX,
  W_BEFORE,
  W_COUNT,
  W_HEAD,
  W_RAW,
  W_Y,
  WORKLOAD_BYTES,
  workloadAt,
} from './layout';
import { mixQuantiles } from './mixture';
import { aim, fit, freedom, latent, location, noiseVariance, predict } from './process';
import { normalCdf, studentQuantiles } from './student';

/** Standard normal quantile of 0.95: a cold start's q0.95 is the guest's ceiling. */
const Z95: f64 = 1.6448536269514722;
/** Idle of a guest that was never read, or reads nothing: this share of its ceiling. */
const IDLE_FRACTION: f64 = 0.01;
/** Usage while a request runs, over its peak: peaks are brief. */
const LEVEL_OF_PEAK: f64 = 0.9;
/** Log deviation of a client's own estimate of its run time: a factor 2 either way, two times in three. */
const ESTIMATE_DEVIATION: f64 = 0.7;
/** Log outputs beyond this are clamped, so that no quantile overflows. */
const Y_MAX: f64 = 40.0;
/** Shortest duration told apart from none, s. */
const DURATION_MIN: f64 = 0.001;

function element(base: usize, i: i32): f64 {
  return load<f64>(base + ((<usize>i) << 3));
}
function put(base: usize, i: i32, value: f64): void {
  store<f64>(base + ((<usize>i) << 3), value);
}

/** Logarithm of an increment in units of the field's floor: linear near zero, a logarithm above. */
function toLog(field: i32, increment: f64): f64 {
  return Math.log1p(max(increment, 0.0) / element(io(I_FLOORS), field));
}

// Belief before any run, set by believe*().
let priorLocation: f64 = 0.0;
let priorDeviation: f64 = 0.0; // NaN: no belief

/** A cold start lies between the guest's present usage and its ceiling: median at the geometric middle. */
function believeField(field: i32, base: f64): void {
  const ceiling = element(io(I_CEILING), field);
  priorDeviation = NaN;
  if (isNaN(ceiling)) return;
  const from = isNaN(base) ? 0.0 : base;
  const idle = max(from, ceiling * IDLE_FRACTION);
  const middle = toLog(field, Math.sqrt(idle * ceiling) - from);
  priorLocation = middle;
  priorDeviation = max((toLog(field, ceiling - from) - middle) / Z95, 0.05);
}

function believeDuration(estimate: f64): void {
  priorDeviation = isNaN(estimate) ? NaN : ESTIMATE_DEVIATION;
  priorLocation = isNaN(estimate) ? 0.0 : Math.log(max(estimate, DURATION_MIN));
}

// Predictive of one output, set by settle().
let centre: f64 = 0.0;
let deviation: f64 = 0.0; // NaN: nothing is known
let nu: f64 = 0.0;

/**
 * Join what the runs say with the belief before them, each weighing by its precision: with no runs near the request
 * the belief speaks, near seen parameters the runs do.
 */
function settle(p: usize, output: i32): void {
  const runs = p === 0 ? 0 : predict(p, output);
  if (runs === 0) {
    centre = priorLocation;
    deviation = priorDeviation;
    nu = 1e6;
    return;
  }
  let variance = latent;
  centre = location;
  if (!isNaN(priorDeviation)) {
    const own = 1.0 / latent;
    const belief = 1.0 / (priorDeviation * priorDeviation);
    variance = 1.0 / (own + belief);
    centre = variance * (own * location + belief * priorLocation);
  }
  deviation = Math.sqrt(variance + noiseVariance);
  nu = freedom;
}

/** Take what the runs say and no belief. False: no run taught this output. */
function settleProcess(p: usize, output: i32): bool {
  if (predict(p, output) === 0) return false;
  centre = location;
  deviation = Math.sqrt(latent + noiseVariance);
  nu = freedom;
  return true;
}

/** Quantiles of the output last settled, logarithms: the process and the belief alone, or averaged with the experts. */
function foretell(p: usize, output: i32): void {
  studentQuantiles(centre, deviation, nu, foretold);
  if (p !== 0) joinExperts(p, output, foretold);
}
const foretold = memory.data(128); // f64[LEVELS]

/**
 * P(Y > y) for the quantiles in `foretold`: between and beyond them the normal score is linear in y. Quantiles that all
 * but coincide are a step.
 */
function survivalAt(y: f64): f64 {
  let upper = 1;
  while (upper < LEVELS - 1 && element(foretold, upper) < y) upper += 1;
  const from = element(foretold, upper - 1);
  const gap = element(foretold, upper) - from;
  const z = element(io(I_NORMAL), upper - 1);
  if (gap <= 1e-9) return y > from ? 0.0 : 1.0;
  return 1.0 - normalCdf(z + ((element(io(I_NORMAL), upper) - z) * (y - from)) / gap);
}

const running = memory.data(128); //  f64[LEVELS], usage while the request runs
const idle = memory.data(128); //     f64[LEVELS], usage of the guest by itself
const survival = memory.data(128); // f64[KNOTS_MAX], P(duration > knot)

function forecastDuration(p: usize, knots: i32, estimate: f64): void {
  believeDuration(estimate);
  settle(p, DURATION);
  const known = !isNaN(deviation);
  foretell(p, DURATION);
  if (known) exponentials(LEVELS, foretold, -Y_MAX, Y_MAX, 0.0, 1.0, io(O_DURATION));
  else fill(io(O_DURATION), NaN);
  for (let k = 0; k < knots; ++k) {
    // Work of unknown length is taken to be still running.
    put(survival, k, known ? survivalAt(Math.log(element(io(I_KNOTS), k))) : 1.0);
  }
}

/** Quantiles of the process alone for the request in I_ROW: f64[LEVELS], logarithms, until the next call; 0: no run. */
export function processQuantilesAt(slot: i32, output: i32): usize {
  const p = workloadAt(slot);
  aim(p, io(I_ROW));
  if (!settleProcess(p, output)) return 0;
  foretell(0, output);
  return foretold;
}

function fill(out: usize, value: f64): void {
  for (let l = 0; l < LEVELS; ++l) put(out, l, value);
}

function forecastField(p: usize, guest: i32, field: i32, knots: i32): void {
  const peak = io(O_PEAK) + <usize>(field * LEVELS) * 8;
  const values = io(O_VALUES) + <usize>(field * knots * LEVELS) * 8;
  let base = element(io(I_BEFORE), field);
  if (isNaN(base)) base = baseOf(guest, field);
  const unread = isNaN(base);
  if (unread && p !== 0) base = element(p + W_BEFORE, field); // as the newest run found its guest; NaN: no run did
  believeField(field, base);
  settle(p, field);
  if (isNaN(deviation)) {
    fill(peak, NaN);
    for (let k = 0; k < knots; ++k) fill(values + <usize>(k * LEVELS) * 8, NaN);
    return;
  }
  if (isNaN(base)) base = 0.0;
  foretell(p, field);
  exponentials(LEVELS, foretold, 0.0, Y_MAX, 1.0, element(io(I_FLOORS), field), running);
  for (let l = 0; l < LEVELS; ++l) {
    const increment = element(running, l);
    put(peak, l, base + increment);
    put(running, l, base + increment * LEVEL_OF_PEAK);
  }
  if (unread) fill(idle, base);
  else recentQuantiles(guest, field, idle);
  for (let k = 0; k < knots; ++k) {
    mixQuantiles(running, idle, element(survival, k), values + <usize>(k * LEVELS) * 8);
  }
}

/**
 * Forecast the request in I_ROW on a guest with the usage in I_BEFORE and the ceiling in I_CEILING at the knots in I_KNOTS, into O_PEAK,
 * O_DURATION and O_VALUES. Changes no state.
 * @param slot     workload, or -1: none was ever learned
 * @param guest    guest slot, or -1: never read. Its usage in I_BEFORE counts where it is not NaN
 * @param estimate client's own run time, s; NaN: none
 * @returns runs the workload holds
 */
export function forecastRequest(slot: i32, guest: i32, knots: i32, estimate: f64): i32 {
  assert(knots > 0 && knots <= KNOTS_MAX, 'knots must be in [1, KNOTS_MAX]');
  const p: usize = slot < 0 ? <usize>0 : workloadAt(slot);
  if (p !== 0) {
    aim(p, io(I_ROW));
    approach(p);
  }
  forecastDuration(p, knots, estimate);
  for (let f = 0; f < FIELDS; ++f) forecastField(p, guest, f, knots);
  return p === 0 ? 0 : load<i32>(p + W_COUNT);
}

/** Forecast a guest by itself: its kept readings' quantiles at every knot. Duration is NaN. */
export function forecastGuest(guest: i32, knots: i32): void {
  assert(knots > 0 && knots <= KNOTS_MAX, 'knots must be in [1, KNOTS_MAX]');
  fill(io(O_DURATION), NaN);
  for (let f = 0; f < FIELDS; ++f) {
    const peak = io(O_PEAK) + <usize>(f * LEVELS) * 8;
    recentQuantiles(guest, f, peak);
    const values = io(O_VALUES) + <usize>(f * knots * LEVELS) * 8;
    for (let k = 0; k < knots; ++k) memory.copy(values + <usize>(k * LEVELS) * 8, peak, <usize>LEVELS * 8);
  }
}

/**
 * What a field's peak teaches. A peak at its limit says "at least": it teaches when it lies above what the model
 * expects, and nothing otherwise, for a value filled in from the model would only make the model surer of itself.
 */
function lesson(p: usize, field: i32, censored: bool): f64 {
  const peak = element(io(I_PEAK), field);
  const before = element(io(I_BEFORE), field);
  if (isNaN(peak)) return NaN;
  const y = toLog(field, peak - (isNaN(before) ? 0.0 : before));
  if (!censored) return y;
  return predict(p, field) > 0 && y <= location ? NaN : y;
}

/** Deviations at which a run is a surprise, and the hyperparameters that failed to see it coming are picked anew. */
const SURPRISE: f64 = 2.5;

/** First output whose lesson the model did not expect, or -1. */
function surprised(p: usize): i32 {
  for (let o = 0; o < OUTPUTS; ++o) {
    const y = element(lessons, o);
    if (isNaN(y) || predict(p, o) === 0) continue;
    if (abs(y - location) > SURPRISE * Math.sqrt(latent + noiseVariance)) return o;
  }
  return -1;
}

/**
 * Learn a finished run from I_ROW, I_PEAK and I_BEFORE, and fit the workload anew.
 * @param duration s; NaN: not to be learned
 * @param censored bit f: the peak of field f is a lower bound
 * @param select   1 to pick the hyperparameters anew, 0 to do so only when the run is a surprise
 * @param groups   outputs with the same runs share the choice; at most this many groups choose anew
 * @param start    output whose group chooses first, unless another was surprised
 */
export function learn(slot: i32, duration: f64, censored: i32, select: i32, groups: i32, start: i32): void {
  assert(start >= 0 && start < OUTPUTS, 'start must be an output');
  assert(!(duration < 0.0) && duration !== Infinity, 'duration must be finite and not negative');
  const p = workloadAt(slot);
  aim(p, io(I_ROW));
  for (let f = 0; f < FIELDS; ++f) put(lessons, f, lesson(p, f, ((censored >> f) & 1) === 1));
  put(lessons, DURATION, isNaN(duration) ? NaN : Math.log(max(duration, DURATION_MIN)));
  const surprise = surprised(p);
  approach(p);
  for (let o = 0; o < OUTPUTS; ++o) put(misses, o, judged(p, o));
  const place = load<i32>(p + W_HEAD);
  append(p);
  for (let o = 0; o < OUTPUTS; ++o) remember(p, o, place, element(misses, o));
  if (select === 0 && surprise < 0) fit(p, 0, start);
  else fit(p, groups, surprise < 0 ? start : surprise);
}

/** Judge the experts by a run's lesson on one output. @returns the lesson over the process's median, or NaN */
function judged(p: usize, output: i32): f64 {
  const y = element(lessons, output);
  if (isNaN(y) || !settleProcess(p, output)) return NaN;
  foretell(p, output);
  judge(p, output, y, output === DURATION ? 0.0 : element(io(I_FLOORS), output));
  return y - processMedian();
}
const misses = memory.data(64); // f64[OUTPUTS]

/** Put the run and its lessons in the place of the oldest. */
function append(p: usize): void {
  const head = load<i32>(p + W_HEAD);
  memory.copy(p + W_RAW + <usize>head * ROW_BYTES, io(I_ROW), ROW_BYTES);
  for (let o = 0; o < OUTPUTS; ++o) put(p + W_Y + <usize>o * LINE, head, element(lessons, o));
  for (let f = 0; f < FIELDS; ++f) {
    const before = element(io(I_BEFORE), f);
    if (!isNaN(before)) put(p + W_BEFORE, f, before);
  }
  store<i32>(p + W_HEAD, (head + 1) % RUNS_MAX);
  store<i32>(p + W_COUNT, min(load<i32>(p + W_COUNT) + 1, RUNS_MAX));
}
const lessons = memory.data(64);

/** Forget every run of a workload. */
export function clearWorkload(slot: i32): void {
  const p = workloadAt(slot);
  memory.fill(p, 0, WORKLOAD_BYTES);
  for (let f = 0; f < FIELDS; ++f) put(p + W_BEFORE, f, NaN);
}
