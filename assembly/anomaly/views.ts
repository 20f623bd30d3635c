// Views of a row: level, step and departure of every metric, standardised by what the history was like.
import {
  G_COUNT,
  G_FARTHEST,
  G_LARGEST,
  G_MEAN,
  G_PAST,
  G_SCALE,
  get,
  METRICS_MAX,
  put,
  ROW,
  SAMPLE,
  VIEWS,
  Z,
} from './layout';

export const LEVEL: i32 = 0;
/** Against the mean of the past with a half-life of one row. */
export const STEP: i32 = 1;
/** Against the mean of the past with a half-life of thirty rows. */
export const DEPARTURE: i32 = 2;

/** 1 - 2^(-1 / half-life). */
const STEP_GAIN: f64 = 0.5;
const DEPARTURE_GAIN: f64 = 0.022840031565754093;

/** Departures count up to so many deviations: one wild reading of one metric does not drown the rest. */
const CLIP: f64 = 10.0;
/** Least deviation, as a share of the metric's largest level: a metric that hardly moves is not judged by its noise. */
const DEVIATION_SHARE: f64 = 1e-3;
/** Deviation of a metric that never moved in the history, as a share of the farthest it has since been: the first move counts fully. */
const STILL_SHARE: f64 = 0.1;

function row(start: usize, view: i32): usize {
  return start + <usize>view * ROW;
}

/** Forget the past of every metric, keep what was measured. */
export function forgetPast(guest: usize): void {
  for (let i = 0; i < VIEWS * METRICS_MAX; ++i) put(guest + G_PAST, i, NaN);
}

/**
 * Take one row of SAMPLE: `x - past` of each view into Z, then the past moves towards it.
 *
 *   past' = past + gain * (x - past)
 *
 * A missing reading is NaN in Z and leaves the past alone. A level has no past; a metric's first step is 0.
 */
export function takeRow(guest: usize, metrics: i32): void {
  for (let view = 0; view < VIEWS; ++view) {
    const past = row(guest + G_PAST, view);
    const out = row(Z, view);
    const gain = view === STEP ? STEP_GAIN : DEPARTURE_GAIN;
    for (let m = 0; m < metrics; ++m) {
      const x = get(SAMPLE, m);
      if (view === LEVEL || isNaN(x)) {
        put(out, m, x);
        continue;
      }
      const before = get(past, m);
      const away = isNaN(before) ? 0.0 : x - before;
      put(out, m, away);
      put(past, m, isNaN(before) ? x : before + gain * away);
    }
  }
}

/** Add the row in Z to the moments of every view, by Welford's recurrence; a missing value is left out. */
export function addMoments(guest: usize, metrics: i32): void {
  for (let view = 0; view < VIEWS; ++view) {
    const counts = row(guest + G_COUNT, view);
    const means = row(guest + G_MEAN, view);
    const squares = row(guest + G_SCALE, view);
    for (let m = 0; m < metrics; ++m) {
      const x = get(row(Z, view), m);
      if (isNaN(x)) continue;
      const count = get(counts, m) + 1.0;
      const away = x - get(means, m);
      const mean = get(means, m) + away / count;
      put(counts, m, count);
      put(means, m, mean);
      put(squares, m, get(squares, m) + away * (x - mean));
      if (view === LEVEL) put(guest + G_LARGEST, m, max(get(guest + G_LARGEST, m), abs(x)));
    }
  }
}

/** Turn the sums of squares into deviations. */
export function closeMoments(guest: usize, metrics: i32): void {
  for (let view = 0; view < VIEWS; ++view) {
    const scales = row(guest + G_SCALE, view);
    for (let m = 0; m < metrics; ++m) {
      const squares = get(scales, m);
      const count = get(row(guest + G_COUNT, view), m);
      const least = DEVIATION_SHARE * get(guest + G_LARGEST, m);
      put(scales, m, squares > 0.0 ? max(Math.sqrt(squares / count), least) : 0.0);
    }
  }
}

/**
 * Standardise Z in place, clipped. A missing reading becomes 0, where its metric says nothing, and so does a metric that
 * the history never read.
 * @returns how many readings the row has
 */
export function standardise(guest: usize, metrics: i32): i32 {
  let seen = 0;
  for (let m = 0; m < metrics; ++m) {
    const level = get(SAMPLE, m);
    const isRead = !isNaN(level);
    if (isRead) seen += 1;
    const counts = isRead && get(guest + G_COUNT, m) > 0.0;
    const still = counts && get(guest + G_SCALE, m) === 0.0 ? stillDeviation(guest, m, level) : 0.0;
    for (let view = 0; view < VIEWS; ++view) {
      const deviation = counts ? max(get(row(guest + G_SCALE, view), m), still) : 0.0;
      const away = get(row(Z, view), m) - get(row(guest + G_MEAN, view), m);
      put(row(Z, view), m, deviation > 0.0 ? min(max(away / deviation, -CLIP), CLIP) : 0.0);
    }
  }
  return seen;
}

function stillDeviation(guest: usize, m: i32, level: f64): f64 {
  const farthest = max(get(guest + G_FARTHEST, m), abs(level - get(guest + G_MEAN, m)));
  put(guest + G_FARTHEST, m, farthest);
  return STILL_SHARE * farthest;
}
