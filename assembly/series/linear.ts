// The linear expert: a ridge regression for every other knot, on what was just before the present, around the target one and two
// seasons before it, and before the present a season before, all as differences from the last value (Zeng et al., "Are
// Transformers Effective for Time Series Forecasting?", 2023, NLinear). Its distribution is its residuals around its point.
//
// A regressor is the mean of a span of bins, the wider the farther it lies: means are less noisy than lags picked among
// them, and so few of them still see all that a regression on every lag of a season would use.
import {
  FIT_ORIGINS,
  FITS,
  knotBelow,
  knotShare,
  knotStep,
  LINE,
  R_ERRORS,
  R_GRAM,
  R_MOMENT,
  R_ROW,
  REGRESSORS,
  RESIDUALS,
  S_FITTED,
  S_LINEAR,
} from './layout';

const LINE_SIZE: i32 = REGRESSORS + RESIDUALS;
/** Noise of the ridge, as a share of the regressors' mean square. */
const RIDGE: f64 = 1e-4;
/** Origins a fit needs before it is worth anything. */
const ORIGINS_MIN: i32 = 3 * REGRESSORS;

/** First and last bin of every regressor, beside its anchor; by anchor. */
// biome-ignore format: a line an anchor
const SPANS = memory.data<i32>([
  -1, -1, -2, -2, -4, -3, -8, -5, -16, -9, -32, -17, // the present
  -30, -16, -15, -7, -6, -3, -2, -1, 0, 0, 1, 2, 3, 6, 7, 15, 16, 30, // the target, a season before
  -20, -5, -4, 4, 5, 20, // two seasons before
  0, 0, -1, -1, -3, -2, -7, -4, -15, -8, -31, -16, // the present, a season before
]);
const PRESENT_END: i32 = 6;
const TARGET_END: i32 = 15;
const EARLIER_END: i32 = 18;
/** Past a fit's first origin needs. */
const REACH: i32 = 36;

function line(i: i32): f64 {
  return <f64>load<f32>(LINE + ((<usize>i) << 2));
}
function put(i: i32, value: f64): void {
  store<f64>(R_ROW + ((<usize>i) << 3), value);
}

/** Regressors up to `end` from an anchor; of a span that leaves what is known, the nearest that is known. */
function regressFrom(anchor: i32, from: i32, end: i32, origin: i32): void {
  const last = line(origin - 1);
  for (let r = from; r < end; ++r) {
    const span = SPANS + ((<usize>r) << 3);
    const first = min(max(anchor + load<i32>(span), 0), origin - 1);
    const final = min(max(anchor + load<i32>(span, 4), 0), origin - 1);
    let sum = 0.0;
    for (let i = first; i <= final; ++i) sum += line(i);
    put(r, sum / <f64>(final - first + 1) - last);
  }
}

/** Regressors of a step from an origin into R_ROW. */
function regress(origin: i32, season: i32, step: i32): void {
  const present = origin - 1;
  regressFrom(present, 0, PRESENT_END, origin);
  if (season <= 1) {
    for (let r = PRESENT_END; r < REGRESSORS; ++r) put(r, 0.0);
    return;
  }
  const target = present + step - ((step + season - 1) / season) * season;
  regressFrom(target, PRESENT_END, TARGET_END, origin);
  regressFrom(target - season, TARGET_END, EARLIER_END, origin);
  regressFrom(present - season, EARLIER_END, REGRESSORS, origin);
}

function coefficients(s: usize, fit: i32): usize {
  return s + S_LINEAR + <usize>(fit * LINE_SIZE) * 4;
}

function isFitted(s: usize, fit: i32): bool {
  return ((load<i32>(s + S_FITTED) >> fit) & 1) === 1;
}

// Place of the located step between fits, set by linearPoint().
let fitBelow: i32 = 0;
let fitShare: f32 = 0.0;

/** Point forecast of the located step; NaN: no fit. Sets the place that residualAt reads. */
export function linearPoint(s: usize, origin: i32, season: i32, step: i32): f32 {
  const place = (<f32>knotBelow + knotShare) * <f32>0.5;
  fitBelow = min(<i32>place, FITS - 1);
  fitShare = fitBelow === FITS - 1 ? 0.0 : place - <f32>fitBelow;
  if (!isFitted(s, fitBelow)) return NaN;
  if (fitShare > 0.0 && !isFitted(s, fitBelow + 1)) return NaN;
  regress(origin, season, step);
  const a = coefficients(s, fitBelow);
  const b = coefficients(s, min(fitBelow + 1, FITS - 1));
  let below = 0.0;
  let above = 0.0;
  for (let i = 0; i < REGRESSORS; ++i) {
    const x = load<f64>(R_ROW + ((<usize>i) << 3));
    below += x * <f64>load<f32>(a + ((<usize>i) << 2));
    above += x * <f64>load<f32>(b + ((<usize>i) << 2));
  }
  const share = <f64>fitShare;
  return <f32>(line(origin - 1) + below * (1.0 - share) + (share > 0.0 ? above * share : 0.0));
}

/** Atom `i` of the residual at the step of the last linearPoint. */
export function residualAt(s: usize, i: i32): f32 {
  const place = (<usize>(REGRESSORS + i)) << 2;
  const below = load<f32>(coefficients(s, fitBelow) + place);
  if (fitShare === 0.0) return below;
  return below + (load<f32>(coefficients(s, fitBelow + 1) + place) - below) * fitShare;
}

/**
 * Fit to LINE: at most FIT_ORIGINS origins, evenly over the history.
 * @param count bins in LINE
 * @param fit   in [0, FITS)
 */
export function fitLinear(s: usize, count: i32, season: i32, fit: i32): void {
  const step = knotStep(2 * fit);
  const first = REACH + (season > 1 ? season : 0);
  const origins = count - step - first + 1;
  if (origins < ORIGINS_MIN) return;
  const stride = (origins + FIT_ORIGINS - 1) / FIT_ORIGINS;
  const used = origins / stride;
  memory.fill(R_MOMENT, 0, <usize>(REGRESSORS + REGRESSORS * REGRESSORS) * 8);
  for (let n = 0; n < used; ++n) {
    const origin = count - step - n * stride;
    regress(origin, season, step);
    accumulate(line(origin - 1 + step) - line(origin - 1));
  }
  if (!solve()) return;
  const out = coefficients(s, fit);
  for (let i = 0; i < REGRESSORS; ++i)
    store<f32>(out + ((<usize>i) << 2), <f32>load<f64>(R_MOMENT + ((<usize>i) << 3)));
  for (let n = 0; n < used; ++n) {
    const origin = count - step - n * stride;
    regress(origin, season, step);
    let point = 0.0;
    for (let i = 0; i < REGRESSORS; ++i)
      point += load<f64>(R_ROW + ((<usize>i) << 3)) * load<f64>(R_MOMENT + ((<usize>i) << 3));
    insert(n, <f32>(line(origin - 1 + step) - line(origin - 1) - point));
  }
  for (let i = 0; i < RESIDUALS; ++i) {
    const place = ((2 * i + 1) * used) / (2 * RESIDUALS);
    store<f32>(out + ((<usize>(REGRESSORS + i)) << 2), load<f32>(R_ERRORS + ((<usize>place) << 2)));
  }
  store<i32>(s + S_FITTED, load<i32>(s + S_FITTED) | (1 << fit));
}

/** Add R_ROW and its target to the normal equations, lower triangle. */
function accumulate(target: f64): void {
  for (let i = 0; i < REGRESSORS; ++i) {
    const x = load<f64>(R_ROW + ((<usize>i) << 3));
    const moment = R_MOMENT + ((<usize>i) << 3);
    store<f64>(moment, load<f64>(moment) + x * target);
    const scale = f64x2.splat(x);
    const row = R_GRAM + <usize>(i * REGRESSORS) * 8;
    for (let j: usize = 0; j <= (<usize>i) << 3; j += 16) {
      v128.store(row + j, f64x2.add(v128.load(row + j), f64x2.mul(scale, v128.load(R_ROW + j))));
    }
  }
}

/** Ridge by Cholesky, in place; the answer in R_MOMENT. False: there is nothing to explain. */
function solve(): bool {
  let trace = 0.0;
  for (let i = 0; i < REGRESSORS; ++i) trace += load<f64>(R_GRAM + ((<usize>(i * REGRESSORS + i)) << 3));
  if (!(trace > 0.0)) return false;
  const ridge = (RIDGE * trace) / <f64>REGRESSORS;
  for (let i = 0; i < REGRESSORS; ++i) {
    const row = R_GRAM + ((<usize>(i * REGRESSORS)) << 3);
    for (let j = 0; j <= i; ++j) {
      const other = R_GRAM + ((<usize>(j * REGRESSORS)) << 3);
      let sum = load<f64>(row + ((<usize>j) << 3));
      if (i === j) sum += ridge;
      for (let k = 0; k < j; ++k)
        sum -= load<f64>(row + ((<usize>k) << 3)) * load<f64>(other + ((<usize>k) << 3));
      store<f64>(
        row + ((<usize>j) << 3),
        i === j ? Math.sqrt(max(sum, ridge * 1e-6)) : sum / load<f64>(other + ((<usize>j) << 3)),
      );
    }
  }
  for (let i = 0; i < REGRESSORS; ++i) {
    const row = R_GRAM + ((<usize>(i * REGRESSORS)) << 3);
    let sum = load<f64>(R_MOMENT + ((<usize>i) << 3));
    for (let k = 0; k < i; ++k)
      sum -= load<f64>(row + ((<usize>k) << 3)) * load<f64>(R_MOMENT + ((<usize>k) << 3));
    store<f64>(R_MOMENT + ((<usize>i) << 3), sum / load<f64>(row + ((<usize>i) << 3)));
  }
  for (let i = REGRESSORS - 1; i >= 0; --i) {
    let sum = load<f64>(R_MOMENT + ((<usize>i) << 3));
    for (let k = i + 1; k < REGRESSORS; ++k) {
      sum -=
        load<f64>(R_GRAM + ((<usize>(k * REGRESSORS + i)) << 3)) * load<f64>(R_MOMENT + ((<usize>k) << 3));
    }
    store<f64>(R_MOMENT + ((<usize>i) << 3), sum / load<f64>(R_GRAM + ((<usize>(i * REGRESSORS + i)) << 3)));
  }
  return true;
}

/** Insert an error into the first `held` ones, in order. */
function insert(held: i32, error: f32): void {
  let low = 0;
  let high = held;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (load<f32>(R_ERRORS + ((<usize>middle) << 2)) < error) low = middle + 1;
    else high = middle;
  }
  const place = R_ERRORS + ((<usize>low) << 2);
  memory.copy(place + 4, place, (<usize>(held - low)) << 2);
  store<f32>(place, error);
}
