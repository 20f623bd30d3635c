// One series: taking its bins, and forecasting it.
import { step as cellStep } from '../lstm/cell';
import { beginCalibration, calibrated, follow } from './calibrate';
import { gatherStep, gatherStill } from './experts';
import { weigh, weighAlone, weightsHere } from './gate';
import {
  capacityOf,
  FEATURES,
  FITS,
  GATES,
  HIDDEN,
  INPUTS,
  isShort,
  KNOTS,
  knotStep,
  LEVELS,
  LEVELS_MAX,
  LINE,
  locate,
  MODEL,
  QUANTILES,
  S_BINS,
  S_C,
  S_CLOCK,
  S_H,
  S_LEVEL,
  S_RING,
  S_SCALE,
  S_SEASON,
  S_STILL,
  SERIES_BYTES,
  SHORT_BYTES,
  STEPS,
  STEPS_MAX,
  seriesAt,
} from './layout';
import { learnLean } from './lean';
import { fitLinear } from './linear';
import { findNeighbours } from './neighbours';
import { invert, measure, orderAtoms, rank, spread } from './pool';

/** Half-life, in bins, of the level and scale a series is seen in. */
const HALF_LIFE: f64 = 288.0;
/** Bins before an origin whose forecast is held against its outcome. */
const ORIGIN_MIN: i32 = 8;
/** Until so many bins, or until it is full, every knot of a series is reviewed every YOUNG_EVERY bins, then every KNOTS. */
const YOUNG_BINS: i32 = 3072;
const YOUNG_EVERY: i32 = 4;
/** Until so many bins every outcome teaches the experts in full; then those of a young series by their share. */
const INFANT_BINS: i32 = 1024;
/** What the recurrent part sees stays within this. */
const FEATURE_MAX: f64 = 8.0;

/** Begin a series. @param season bins after which it may repeat; 0: none @param clock where in it the first bin lies */
export function open(slot: i32, season: i32, clock: i32): void {
  const s = seriesAt(slot);
  assert(season >= 0 && season <= capacityOf(s), "a season must be in [0, the series' capacity]");
  memory.fill(s, 0, isShort(s) ? SHORT_BYTES : SERIES_BYTES);
  store<i32>(s + S_SEASON, season);
  store<i32>(s + S_CLOCK, clock);
  beginCalibration(s);
}

function held(s: usize): i32 {
  return min(load<i32>(s + S_BINS), capacityOf(s));
}

/** Copy the ring into LINE, oldest first. */
function straighten(s: usize): void {
  const bins = load<i32>(s + S_BINS);
  const ring = s + S_RING;
  const capacity = capacityOf(s);
  if (bins <= capacity) {
    memory.copy(LINE, ring, (<usize>bins) << 2);
    return;
  }
  const head = (<usize>(bins % capacity)) << 2;
  const size = (<usize>capacity) << 2;
  memory.copy(LINE, ring + head, size - head);
  memory.copy(LINE + size - head, ring, head);
}

function line(i: i32): f64 {
  return <f64>load<f32>(LINE + ((<usize>i) << 2));
}

function mean(count: i32, width: i32): f64 {
  const n = min(width, count);
  let sum = 0.0;
  for (let i = count - n; i < count; ++i) sum += line(i);
  return sum / <f64>n;
}

function feature(i: i32, value: f64): void {
  store<f32>(FEATURES + ((<usize>i) << 2), <f32>min(max(value, -FEATURE_MAX), FEATURE_MAX));
}

/** Follow level and scale, and show the newest bin to the recurrent part. */
function perceive(s: usize, count: i32): void {
  const bins = load<i32>(s + S_BINS);
  const value = line(count - 1);
  const previous = count > 1 ? line(count - 2) : value;
  const rate = max(1.0 - Math.exp(-Math.LN2 / HALF_LIFE), 1.0 / <f64>bins);
  let level = <f64>load<f32>(s + S_LEVEL);
  let scale = <f64>load<f32>(s + S_SCALE);
  let still = <f64>load<f32>(s + S_STILL);
  level += rate * (value - level);
  scale += rate * (abs(value - level) - scale);
  still += rate * ((value === previous ? 1.0 : 0.0) - still);
  store<f32>(s + S_LEVEL, <f32>level);
  store<f32>(s + S_SCALE, <f32>scale);
  store<f32>(s + S_STILL, <f32>still);
  const unit = max(scale, 0.01 * abs(level)) + 1e-30;
  feature(0, Math.asinh((value - level) / unit));
  feature(1, Math.asinh((mean(count, 6) - level) / unit));
  feature(2, Math.asinh((mean(count, 36) - level) / unit));
  feature(3, Math.asinh((value - previous) / unit));
  const season = load<i32>(s + S_SEASON);
  const turn =
    season > 1 ? (2.0 * Math.PI * <f64>((bins + load<i32>(s + S_CLOCK)) % season)) / <f64>season : 0.0;
  feature(4, season > 1 ? Math.sin(turn) : 0.0);
  feature(5, season > 1 ? Math.cos(turn) : 0.0);
  feature(6, still);
  feature(7, Math.log(unit / (abs(level) + 1e-30)));
  cellStep(FEATURES, s + S_H, s + S_C, MODEL, INPUTS, HIDDEN, GATES);
}

/** Hold one knot's past forecast against the newest bin: the experts' lean, and the calibration. */
function review(s: usize, count: i32, knot: i32, every: i32): void {
  const step = knotStep(knot);
  const origin = count - step;
  if (origin < ORIGIN_MIN) return;
  const y = <f32>line(count - 1);
  const season = load<i32>(s + S_SEASON);
  locate(step);
  const found = findNeighbours(origin);
  gatherStill(origin, season);
  gatherStep(s, origin, season, step, found);
  orderAtoms();
  measure(y);
  weigh(s);
  weightsHere();
  spread();
  rank(y);
  const bins = load<i32>(s + S_BINS);
  const outcomes = origin / every + 1;
  follow(s, knot, outcomes);
  weighAlone(s);
  learnLean(s, knot, outcomes, bins < INFANT_BINS ? 1.0 : <f32>every / <f32>KNOTS);
}

/** Review the knots whose turn it is; more of them while there is little to go by. */
function reviewSome(s: usize, count: i32): void {
  const bins = load<i32>(s + S_BINS);
  const every = bins < min(YOUNG_BINS, capacityOf(s)) ? YOUNG_EVERY : KNOTS;
  for (let knot = bins % every; knot < KNOTS; knot += every) review(s, count, knot, every);
}

/** Take the next bin. @param value finite; a missing bin is told by repeating the last */
export function refresh(slot: i32, value: f32): void {
  assert(abs(value) < Infinity, 'a bin must be finite');
  const s = seriesAt(slot);
  const bins = load<i32>(s + S_BINS);
  store<f32>(s + S_RING + ((<usize>(bins % capacityOf(s))) << 2), value);
  store<i32>(s + S_BINS, bins + 1);
  straighten(s);
  const count = held(s);
  reviewSome(s, count);
  perceive(s, count);
}

/** Make one fit of the linear expert anew: work that needs no hurry. */
export function fit(slot: i32, fit: i32): void {
  assert(fit >= 0 && fit < FITS, 'fit must be in [0, FITS)');
  const s = seriesAt(slot);
  assert(!isShort(s), 'a series of the short track has no fits');
  straighten(s);
  fitLinear(s, held(s), load<i32>(s + S_SEASON), fit);
}

let count: i32 = 0;
let season: i32 = 0;
let found: i32 = 0;

/** Stand at the end of a series: what follows is asked of it. */
export function aim(slot: i32): void {
  const s = seriesAt(slot);
  count = held(s);
  assert(count > 0, 'a forecast needs a bin');
  season = load<i32>(s + S_SEASON);
  straighten(s);
  found = findNeighbours(count);
  gatherStill(count, season);
  weigh(s);
}

/** Quantiles of the steps in STEPS at the levels in LEVELS into QUANTILES, of the series aimed at. */
export function forecast(slot: i32, steps: i32, levels: i32): void {
  assert(steps > 0 && steps <= STEPS_MAX, 'steps must be in [1, STEPS_MAX]');
  assert(levels > 0 && levels <= LEVELS_MAX, 'levels must be in [1, LEVELS_MAX]');
  const s = seriesAt(slot);
  for (let i = 0; i < steps; ++i) {
    const step = load<i32>(STEPS + ((<usize>i) << 2));
    assert(step > 0, 'a step must be at least 1');
    locate(step);
    gatherStep(s, count, season, step, found);
    orderAtoms();
    weightsHere();
    spread();
    for (let l = 0; l < levels; ++l) {
      const level = load<f32>(LEVELS + ((<usize>l) << 2));
      store<f32>(asked + ((<usize>l) << 2), calibrated(s, level));
    }
    invert(asked, levels, QUANTILES + <usize>(i * LEVELS_MAX) * 4);
  }
}
const asked = memory.data(64);

/** Of the series aimed at: MATRIX of one step, held against its outcome. For training. */
export function compare(slot: i32, step: i32, y: f32): void {
  locate(step);
  gatherStep(seriesAt(slot), count, season, step, found);
  orderAtoms();
  measure(y);
}
