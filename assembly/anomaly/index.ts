// The anomaly score of guests, row by row. A guest is opened, taught its history in three passes over the same rows, and then
// scored; rows are written to sampleAt().
//
//   measure ... closeMeasure    mean and deviation of every view
//   relate ... closeRelate      how the metrics move together
//   rate                        measures of the history, from which the host makes the tails
import { addProducts, distance, factorMean, unfold } from './joint';
import * as layout from './layout';
import { get, guestAt, jointAt, metricsOf, put, tailAt } from './layout';
import { decadesOf } from './tail';
import { addMoments, closeMoments, DEPARTURE, forgetPast, LEVEL, STEP, standardise, takeRow } from './views';

// Tracks: what is measured of a row.
const TOGETHER: i32 = 0; // distance of the levels
const MOVED: i32 = 1; //    mean of the largest steps
const MOVING: i32 = 2; //   the same, smoothed
const APART: i32 = 3; //    distance of the departures, smoothed

/** Metrics whose steps count: an event seldom moves all of them, and one alone is often noise. */
const LARGEST: i32 = 3;
/** 1 - 2^(-1/2): what is smoothed has a half-life of two rows. */
const SMOOTH_GAIN: f64 = 0.2928932188134524;

export function sampleAt(): usize {
  return layout.SAMPLE;
}
export function measuresAt(): usize {
  return layout.MEASURES;
}
export function decadesAt(): usize {
  return layout.DECADES;
}
export function evidenceAt(): usize {
  return layout.EVIDENCE;
}
export function metricsMax(): i32 {
  return layout.METRICS_MAX;
}
export function guestsMax(): i32 {
  return layout.GUESTS_MAX;
}
export function tracksSize(): i32 {
  return layout.TRACKS;
}
export function knotsSize(): i32 {
  return layout.KNOTS;
}
/** f64[KNOTS + 2]: see tail.ts. */
export function tailOf(slot: i32, track: i32): usize {
  return tailAt(guestAt(slot), track);
}

/** A guest without a history. */
export function open(slot: i32, metrics: i32): void {
  assert(layout.END <= (<usize>memory.size()) << 16, 'the memory must hold every guest');
  assert(metrics > 0 && metrics <= layout.METRICS_MAX, 'metrics must be in (0, METRICS_MAX]');
  const guest = guestAt(slot);
  memory.fill(guest, 0, jointAt(guest, 2) - guest);
  store<i32>(guest + layout.G_METRICS, metrics);
  rewind(slot);
}

/** Before each pass over the history: the past of every metric is forgotten. */
export function rewind(slot: i32): void {
  const guest = guestAt(slot);
  forgetPast(guest);
  for (let track = 0; track < layout.TRACKS; ++track) put(guest + layout.G_SMOOTH, track, NaN);
}

/** Move the past only: the first rows of a history, until its means have settled. */
export function skip(slot: i32): void {
  const guest = guestAt(slot);
  takeRow(guest, metricsOf(guest));
}

export function measure(slot: i32): void {
  const guest = guestAt(slot);
  const metrics = metricsOf(guest);
  takeRow(guest, metrics);
  addMoments(guest, metrics);
}
export function closeMeasure(slot: i32): void {
  const guest = guestAt(slot);
  closeMoments(guest, metricsOf(guest));
}

export function relate(slot: i32): void {
  const guest = guestAt(slot);
  const metrics = metricsOf(guest);
  takeRow(guest, metrics);
  if (standardise(guest, metrics) === 0) return;
  addProducts(jointAt(guest, 0), zOf(LEVEL), metrics);
  addProducts(jointAt(guest, 1), zOf(DEPARTURE), metrics);
  store<i32>(guest + layout.G_RELATED, load<i32>(guest + layout.G_RELATED) + 1);
}
export function closeRelate(slot: i32): void {
  const guest = guestAt(slot);
  const metrics = metricsOf(guest);
  const rows = load<i32>(guest + layout.G_RELATED);
  assert(rows > 0, 'a history must have readings');
  factorMean(jointAt(guest, 0), metrics, rows);
  factorMean(jointAt(guest, 1), metrics, rows);
}

/**
 * Measure the row by every track into measuresAt().
 * @returns how many readings it has; 0 leaves the measures and their means alone
 */
export function rate(slot: i32): i32 {
  const guest = guestAt(slot);
  const metrics = metricsOf(guest);
  takeRow(guest, metrics);
  const seen = standardise(guest, metrics);
  if (seen === 0) return 0;
  const moved = meanOfLargest(zOf(STEP), metrics);
  const apart = distance(jointAt(guest, 1), zOf(DEPARTURE), metrics, solvedOf(1));
  put(layout.MEASURES, TOGETHER, distance(jointAt(guest, 0), zOf(LEVEL), metrics, solvedOf(0)));
  put(layout.MEASURES, MOVED, moved);
  put(layout.MEASURES, MOVING, smooth(guest, MOVING, moved));
  put(layout.MEASURES, APART, smooth(guest, APART, apart));
  return seen;
}

/**
 * Surprise of the row, in decades: the mean over the tracks of how seldom the history was as far out.
 * @returns NaN for a row without a reading
 */
export function score(slot: i32): f64 {
  const guest = guestAt(slot);
  if (rate(slot) === 0) return NaN;
  let total = 0.0;
  for (let track = 0; track < layout.TRACKS; ++track) {
    const decades = decadesOf(tailAt(guest, track), get(layout.MEASURES, track));
    put(layout.DECADES, track, decades);
    total += decades;
  }
  return total / <f64>layout.TRACKS;
}

/** Shares of the metrics in the surprise of the row scored last, of this guest, into evidenceAt(); they add up to 1, or all are 0. */
export function explain(slot: i32): void {
  const guest = guestAt(slot);
  const metrics = metricsOf(guest);
  for (let m = 0; m < metrics; ++m) put(layout.EVIDENCE, m, 0.0);
  blameJoint(guest, metrics, 0, LEVEL, get(layout.DECADES, TOGETHER));
  blameJoint(guest, metrics, 1, DEPARTURE, get(layout.DECADES, APART));
  blameSteps(metrics, get(layout.DECADES, MOVED) + get(layout.DECADES, MOVING));
  let total = 0.0;
  for (let m = 0; m < metrics; ++m) total += get(layout.EVIDENCE, m);
  if (total > 0.0) for (let m = 0; m < metrics; ++m) put(layout.EVIDENCE, m, get(layout.EVIDENCE, m) / total);
}

function blameJoint(guest: usize, metrics: i32, joint: i32, view: i32, decades: f64): void {
  unfold(jointAt(guest, joint), solvedOf(joint), metrics, layout.WORK);
  let total = 0.0;
  // A part may be negative: a metric that makes the others' departure likelier bears no blame.
  for (let m = 0; m < metrics; ++m) {
    const part = max(get(zOf(view), m) * get(layout.WORK, m), 0.0);
    put(layout.WORK, m, part);
    total += part;
  }
  blame(metrics, decades, total);
}

function blameSteps(metrics: i32, decades: f64): void {
  let total = 0.0;
  for (let m = 0; m < metrics; ++m) {
    const part = get(zOf(STEP), m) * get(zOf(STEP), m);
    put(layout.WORK, m, part);
    total += part;
  }
  blame(metrics, decades, total);
}

/** Share `decades` out by the parts in WORK. */
function blame(metrics: i32, decades: f64, total: f64): void {
  if (total <= 0.0) return;
  for (let m = 0; m < metrics; ++m)
    put(layout.EVIDENCE, m, get(layout.EVIDENCE, m) + (decades * get(layout.WORK, m)) / total);
}

function zOf(view: i32): usize {
  return layout.Z + <usize>view * layout.ROW;
}
function solvedOf(joint: i32): usize {
  return layout.SOLVED + <usize>joint * layout.ROW;
}

function smooth(guest: usize, track: i32, value: f64): f64 {
  const before = get(guest + layout.G_SMOOTH, track);
  const after = isNaN(before) ? value : before + SMOOTH_GAIN * (value - before);
  put(guest + layout.G_SMOOTH, track, after);
  return after;
}

/** Mean of the LARGEST largest sizes, or of all if there are fewer. */
function meanOfLargest(z: usize, metrics: i32): f64 {
  let first = 0.0;
  let second = 0.0;
  let third = 0.0;
  for (let m = 0; m < metrics; ++m) {
    const size = abs(get(z, m));
    if (size > first) {
      third = second;
      second = first;
      first = size;
    } else if (size > second) {
      third = second;
      second = size;
    } else if (size > third) third = size;
  }
  return (first + second + third) / <f64>min(metrics, LARGEST);
}
