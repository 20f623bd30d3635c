// One series: taking its bins, and forecasting it.
import { step as cellStep } from '../lstm/cell';
import { calibrated, follow } from './calibrate';
import { gatherStep, gatherStill } from './experts';
import { weigh, weightsAt } from './gate';
import {
  CAPACITY,
  FEATURES,
  GATES,
  GROUP_ROW,
  GROUPS,
  HIDDEN,
  INPUTS,
  KNOTS,
  knotStep,
  LEVELS,
  LEVELS_MAX,
  LINE,
  MATRIX,
  MODEL,
  OUTPUTS,
  QUANTILES,
  S_BINS,
  S_C,
  S_CLOCK,
  S_H,
  S_LEVEL,
  S_RECORD,
  S_RING,
  S_SCALE,
  S_SEASON,
  S_STILL,
  SERIES_BYTES,
  STEPS,
  STEPS_MAX,
  seriesAt,
  VALID,
} from './layout';
import { fitLinear } from './linear';
import { findNeighbours } from './neighbours';
import { invert, measure, orderAtoms, rank, spread } from './pool';

/** Half-life, in bins, of the level and scale a series is seen in. */
const HALF_LIFE: f64 = 288.0;
/** Half-life, in outcomes, of an expert's record. */
const RECORD_HALF: f64 = 48.0;
/** Bins before an origin from which an expert's record is taken. */
const ORIGIN_MIN: i32 = 8;
/** What the recurrent part sees stays within this. */
const FEATURE_MAX: f64 = 8.0;

/** Begin a series. @param season bins after which it may repeat; 0: none @param clock where in it the first bin lies */
export function open(slot: i32, season: i32, clock: i32): void {
  assert(season >= 0 && season <= CAPACITY, 'a season must be in [0, CAPACITY]');
  const s = seriesAt(slot);
  memory.fill(s, 0, SERIES_BYTES);
  store<i32>(s + S_SEASON, season);
  store<i32>(s + S_CLOCK, clock);
  for (let i = 0; i < OUTPUTS; ++i) store<f32>(s + S_RECORD + ((<usize>i) << 2), -1.0);
}

function held(s: usize): i32 {
  return min(load<i32>(s + S_BINS), CAPACITY);
}

/** Copy the ring into LINE, oldest first. */
function straighten(s: usize): void {
  const bins = load<i32>(s + S_BINS);
  const ring = s + S_RING;
  if (bins <= CAPACITY) {
    memory.copy(LINE, ring, (<usize>bins) << 2);
    return;
  }
  const head = (<usize>(bins % CAPACITY)) << 2;
  const size = (<usize>CAPACITY) << 2;
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

/** Hold one knot's past forecast against the newest bin: each expert's record, and the calibration. */
function review(s: usize, count: i32): void {
  const knot = load<i32>(s + S_BINS) % KNOTS;
  const step = knotStep(knot);
  const origin = count - step;
  if (origin < ORIGIN_MIN) return;
  const y = <f32>line(count - 1);
  const season = load<i32>(s + S_SEASON);
  const found = findNeighbours(origin);
  gatherStill(origin, season);
  gatherStep(s, origin, season, step, found);
  orderAtoms();
  measure(y);
  const record = s + S_RECORD + <usize>(knot * GROUP_ROW) * 4;
  const rate = <f32>(1.0 - Math.exp(-Math.LN2 / RECORD_HALF));
  for (let g = 0; g < GROUPS; ++g) {
    if (load<i32>(VALID + ((<usize>g) << 2)) === 0) continue;
    const at = record + ((<usize>g) << 2);
    const loss = load<f32>(MATRIX + ((<usize>(g * GROUP_ROW + g)) << 2));
    const before = load<f32>(at);
    store<f32>(at, before < 0.0 ? loss : before + rate * (loss - before));
  }
  weigh(s);
  weightsAt(step);
  spread();
  rank(y);
  follow(s, knot);
}

/** Take the next bin. @param value finite; a missing bin is told by repeating the last */
export function refresh(slot: i32, value: f32): void {
  assert(abs(value) < Infinity, 'a bin must be finite');
  const s = seriesAt(slot);
  const bins = load<i32>(s + S_BINS);
  store<f32>(s + S_RING + ((<usize>(bins % CAPACITY)) << 2), value);
  store<i32>(s + S_BINS, bins + 1);
  straighten(s);
  const count = held(s);
  review(s, count);
  perceive(s, count);
}

/** Fit one knot of the linear expert anew: work that needs no hurry. */
export function fit(slot: i32, knot: i32): void {
  assert(knot >= 0 && knot < KNOTS, 'knot must be in [0, KNOTS)');
  const s = seriesAt(slot);
  straighten(s);
  fitLinear(s, held(s), load<i32>(s + S_SEASON), knot);
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
    gatherStep(s, count, season, step, found);
    orderAtoms();
    weightsAt(step);
    spread();
    for (let l = 0; l < levels; ++l) {
      const level = load<f32>(LEVELS + ((<usize>l) << 2));
      store<f32>(asked + ((<usize>l) << 2), calibrated(s, step, level));
    }
    invert(asked, levels, QUANTILES + <usize>(i * LEVELS_MAX) * 4);
  }
}
const asked = memory.data(64);

/** Of the series aimed at: MATRIX of one step, held against its outcome. For training. */
export function compare(slot: i32, step: i32, y: f32): void {
  gatherStep(seriesAt(slot), count, season, step, found);
  orderAtoms();
  measure(y);
}
