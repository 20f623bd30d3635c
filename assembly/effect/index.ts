// What a request adds to its guest at each knot of a horizon: how much of its largest use it takes by then, given how long it may
// last, joined with what the guest uses by itself. Everything lies at fixed places; nothing is allocated.
//
// Each quantile of the run time stands for one life. At a knot it is at some share of its largest use, or over. The lives' shares,
// sorted with their probabilities, give the quantiles q[l] of the share. Then, with m the median of the largest use and "r" a row of
// the guest's own quantiles:
//
//   out[l] = r[med] + m q[med] -+ sqrt((r[l] - r[med])^2 + (m (q[l] - q[med]))^2 + (q[l] (largest[l] - m))^2)
//
// so medians add, and deviations from them as the root of their squares, which is exact where all but one are certain, and for
// normal laws.
import { prepareNetwork, sortShares } from './network';

/** Resource fields, in the order of the core's PROFILE_FIELDS. */
const FIELDS: i32 = 7;
const LEVELS: i32 = 12;
/** Place of 0.5 among the levels; the pair of lanes that it ends is the last one below. */
const MEDIAN: i32 = 5;
/** Most knots of a horizon; shares of so many are worked out side by side. */
const KNOTS_MAX: i32 = 16;
/** Equal parts of a life whose shares are known. */
const PHASES: i32 = 8;
/** Share of its largest use that a run takes, where no run taught more: peaks are brief. */
const SHARE_UNTAUGHT: f64 = 0.9;
/** A level is reached short of it by this: sums of probabilities often meet a level, but for a rounding. */
const SHORT: f64 = 1e-6;
/** Place behind the phases and a second last one: of a life that is over. */
const OVER: i32 = PHASES + 1;

const ROW: usize = <usize>LEVELS * 8;
/** Bytes of one share at each knot, f32. */
const LINE: usize = <usize>KNOTS_MAX * 4;

const levels = memory.data(96); //     f64[LEVELS]
const weights = memory.data(96); //    f64[LEVELS], probability that each quantile stands for
const knots = memory.data(128); //     f64[KNOTS_MAX], s
const largest = memory.data(672); //   f64[FIELDS, LEVELS]
const shares = memory.data(448); //    f64[FIELDS, PHASES]
const before = memory.data(56); //     f64[FIELDS]
/** f64: peak [FIELDS, LEVELS], duration [LEVELS] in s, values [FIELDS, knots, LEVELS]: together, so that they are copied out at once. */
const peak = memory.data(11520);
const duration = peak + <usize>FIELDS * ROW;
const values = duration + ROW;
const curve = memory.data(88); //      f64[PHASES + 3], the shares of one field; the last again; two of nothing
const places = memory.data(768); //    i32[LEVELS, KNOTS_MAX], where in the curve each life is, bytes
const fractions = memory.data(1536); // f64[LEVELS, KNOTS_MAX], and how far on its way to the next place
const chances = memory.data(96); //    f64[LEVELS], probability of each life
const taken = memory.data(768); //     f32[LEVELS, KNOTS_MAX], shares
const mass = memory.data(768); //      f32[LEVELS, KNOTS_MAX], their probabilities
const read = memory.data(1536); //     f64[KNOTS_MAX, LEVELS], quantiles of the share
const whole = memory.data(96); //      f64[LEVELS], all of it

function element(base: usize, i: i32): f64 {
  return load<f64>(base + ((<usize>i) << 3));
}
function put(base: usize, i: i32, value: f64): void {
  store<f64>(base + ((<usize>i) << 3), value);
}

export function levelsAt(): usize {
  return levels;
}
export function knotsAt(): usize {
  return knots;
}
/** Quantiles of a request's largest use; NaN: not known, and so nothing. */
export function largestAt(): usize {
  return largest;
}
/** Quantiles of its run time; NaN: not known, and so without end. */
export function durationAt(): usize {
  return duration;
}
/** Shares of its largest use by phase; a field whose first is NaN was taught by no run. */
export function sharesAt(): usize {
  return shares;
}
/** Usage just before the request, f64[FIELDS]. */
export function beforeAt(): usize {
  return before;
}
/** Quantiles of use that `addLargest` adds to. */
export function peakAt(): usize {
  return peak;
}
/** Quantiles of use that `addEffect` adds to; of a field never read NaN, which stays. */
export function valuesAt(): usize {
  return values;
}

/** Make ready, once the levels are written: each stands for what is nearer to it than to its neighbours. */
export function prepare(): void {
  for (let l = 0; l < LEVELS; ++l) {
    const level = element(levels, l);
    const from = l === 0 ? 0.0 : (level + element(levels, l - 1)) / 2.0;
    const to = l === LEVELS - 1 ? 1.0 : (level + element(levels, l + 1)) / 2.0;
    put(weights, l, to - from);
    put(whole, l, 1.0);
  }
  prepareNetwork();
}

/** One that outlasted all that was foreseen of it, or of which nothing was, is taken to go on as it is. */
function isOpen(ageS: f64): bool {
  return !(element(duration, LEVELS - 1) > ageS);
}

/** Probability of each life, given that the request runs since `ageS`. */
function weighLives(ageS: f64): void {
  const open = isOpen(ageS);
  let left = 0.0;
  for (let l = 0; l < LEVELS; ++l) {
    const lasts = open || element(duration, l) > ageS;
    put(chances, l, lasts ? element(weights, l) : 0.0);
    left += element(chances, l);
  }
  for (let l = 0; l < LEVELS; ++l) put(chances, l, element(chances, l) / left);
}

/** Where in its life the request is at a knot, by each run time. */
function placeLives(knot: i32, aheadS: f64, ageS: f64): void {
  const open = isOpen(ageS);
  for (let l = 0; l < LEVELS; ++l) {
    const moment = open ? 1.0 : (ageS + aheadS) / element(duration, l);
    const lives = open || moment < 1.0;
    // Read between the middles of the phases.
    const at = lives ? min(max(moment * <f64>PHASES - 0.5, 0.0), <f64>(PHASES - 1)) : 0.0;
    const before = i32(at);
    const cell = l * KNOTS_MAX + knot;
    store<i32>(places + ((<usize>cell) << 2), (lives ? before : OVER) << 3);
    put(fractions, cell, at - <f64>before);
  }
}

/** The curve of a field's shares, with what a life that is over takes behind it. */
function drawCurve(field: i32): void {
  const taught = shares + <usize>(field * PHASES) * 8;
  const untaught = isNaN(element(taught, 0));
  for (let p = 0; p < PHASES; ++p) put(curve, p, untaught ? SHARE_UNTAUGHT : element(taught, p));
  put(curve, PHASES, element(curve, PHASES - 1));
  put(curve, OVER, 0.0);
  put(curve, OVER + 1, 0.0);
}

function shareOf(cell: i32): f64 {
  const at = curve + <usize>load<i32>(places + ((<usize>cell) << 2));
  const from = load<f64>(at);
  return from + (load<f64>(at, 8) - from) * element(fractions, cell);
}

/** Quantiles of the share at the first `count` knots, a multiple of four, into `read`. */
function readShares(count: i32): void {
  for (let l = 0; l < LEVELS; ++l) {
    const chance = f32x4.splat(<f32>element(chances, l));
    const line = <usize>l * LINE;
    for (let k = 0; k < count; ++k)
      store<f32>(taken + line + ((<usize>k) << 2), <f32>shareOf(l * KNOTS_MAX + k));
    for (let at: usize = 0; at < LINE; at += 16) v128.store(mass + line + at, chance);
  }
  const bytes = (<usize>count) << 2;
  sortShares(taken, mass, bytes);
  for (let at: usize = 0; at < bytes; at += 16) {
    for (let l: usize = LINE; l < <usize>LEVELS * LINE; l += LINE)
      v128.store(mass + l + at, f32x4.add(v128.load(mass + l + at), v128.load(mass + l + at - LINE)));
    for (let l = 0; l < LEVELS; ++l) readLevel(at, l);
  }
}

/** At four knots: the least share whose mass reaches a level; the largest where none does. */
function readLevel(at: usize, l: i32): void {
  const level = f32x4.splat(<f32>(element(levels, l) - SHORT));
  let found = v128.load(taken + <usize>(LEVELS - 1) * LINE + at);
  for (let from: isize = <isize>(LEVELS - 2) * <isize>LINE; from >= 0; from -= <isize>LINE) {
    const reached = f32x4.ge(v128.load(mass + <usize>from + at), level);
    found = v128.bitselect(v128.load(taken + <usize>from + at), found, reached);
  }
  const out = read + (at >> 2) * ROW + ((<usize>l) << 3);
  store<f64>(out, <f64>f32x4.extract_lane(found, 0));
  store<f64>(out + ROW, <f64>f32x4.extract_lane(found, 1));
  store<f64>(out + 2 * ROW, <f64>f32x4.extract_lane(found, 2));
  store<f64>(out + 3 * ROW, <f64>f32x4.extract_lane(found, 3));
}

/** Let no level of a row lie under a lower one, nor below 0. */
function straighten(row: usize): void {
  let least = 0.0;
  for (let l = 0; l < LEVELS; ++l) {
    least = max(element(row, l), least);
    put(row, l, least);
  }
}

/**
 * Add a share of the largest use to a row of quantiles, in place. A level below the median may come out under a lower one: that is
 * set right.
 * @param row  f64[LEVELS]
 * @param most f64[LEVELS], the largest use
 * @param q    f64[LEVELS], quantiles of the share
 */
function addRow(row: usize, most: usize, q: usize): void {
  const own = f64x2.splat(element(row, MEDIAN));
  const size = f64x2.splat(element(most, MEDIAN));
  const share = f64x2.splat(element(q, MEDIAN));
  const middle = f64x2.add(own, f64x2.mul(size, share));
  for (let at: usize = 0; at < ROW; at += 16) {
    const taking = v128.load(q + at);
    const a = f64x2.sub(v128.load(row + at), own);
    const b = f64x2.mul(size, f64x2.sub(taking, share));
    // How far off the size is counts as far as it is used: not at all where the request is over.
    const c = f64x2.mul(taking, f64x2.sub(v128.load(most + at), size));
    const away = f64x2.sqrt(f64x2.add(f64x2.add(f64x2.mul(a, a), f64x2.mul(b, b)), f64x2.mul(c, c)));
    const isBelow = at < <usize>(MEDIAN + 1) * 8;
    v128.store(row + at, isBelow ? f64x2.sub(middle, away) : f64x2.add(middle, away));
  }
  straighten(row);
}

/**
 * Add the request in `largest`, `duration` and `shares` to the guest's use in `values`. How large it is, how long it lasts and the
 * guest's own use are taken to be independent.
 * @param count knots in use
 * @param ageS  how long it runs already
 */
export function addEffect(count: i32, ageS: f64): void {
  assert(count > 0 && count <= KNOTS_MAX, 'count must be in [1, KNOTS_MAX]');
  assert(ageS >= 0.0, 'ageS must not be negative');
  weighLives(ageS);
  const longestS = isOpen(ageS) ? Infinity : element(duration, LEVELS - 1) - ageS;
  let alive = 0;
  while (alive < count && element(knots, alive) < longestS) alive += 1;
  for (let k = 0; k < alive; ++k) placeLives(k, element(knots, k), ageS);
  for (let f = 0; f < FIELDS; ++f) {
    const most = largest + <usize>f * ROW;
    if (isNaN(element(most, MEDIAN))) continue;
    drawCurve(f);
    readShares((alive + 3) & ~3);
    for (let k = 0; k < count; ++k) {
      const row = values + <usize>(f * count + k) * ROW;
      if (k < alive) addRow(row, most, read + <usize>k * ROW);
      else straighten(row);
    }
  }
}

/** Take what the request adds at most, into `largest`, from the largest usage while it runs in `peak` and that in `before`. */
export function takeLargest(): void {
  for (let f = 0; f < FIELDS; ++f) {
    const from = f64x2.splat(element(before, f));
    for (let at: usize = <usize>f * ROW; at < <usize>(f + 1) * ROW; at += 16) {
      const rise = f64x2.sub(v128.load(peak + at), from);
      v128.store(largest + at, f64x2.max(f64x2.splat(0.0), rise));
    }
  }
}

/** Add the whole of the largest use to `peak`. */
export function addLargest(): void {
  for (let f = 0; f < FIELDS; ++f) {
    const most = largest + <usize>f * ROW;
    if (!isNaN(element(most, MEDIAN))) addRow(peak + <usize>f * ROW, most, whole);
  }
}

/** Mean share of its largest use that the request takes of a field in `aheadS`. */
export function meanShare(field: i32, ageS: f64, aheadS: f64): f64 {
  assert(field >= 0 && field < FIELDS, 'field must be one');
  weighLives(ageS);
  placeLives(0, aheadS, ageS);
  drawCurve(field);
  let mean = 0.0;
  for (let l = 0; l < LEVELS; ++l) mean += element(chances, l) * shareOf(l * KNOTS_MAX);
  return mean;
}

export function fieldsSize(): i32 {
  return FIELDS;
}
export function levelsSize(): i32 {
  return LEVELS;
}
export function knotsMax(): i32 {
  return KNOTS_MAX;
}
export function phasesSize(): i32 {
  return PHASES;
}
