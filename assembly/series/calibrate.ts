// Adaptive conformal calibration: a level is asked for a little higher or lower than it is named, by what would have made
// its past coverage right.
//
//   shift_l += RATE (level_l - covered_l),   covered in {0, 1/2, 1}: an outcome equal to the quantile counts half
//
// Source: Gibbs & Candes, "Adaptive conformal inference under distribution shift", 2021.
import { FOLLOWED, KNOTS, knotBelow, knotShare, newsOf, S_SHIFT } from './layout';
import { coveredBy } from './pool';

const RATE: f32 = 0.02;
/** The first outcomes move more: the n-th by FIRST / (n + 4), until that is less than RATE. */
const FIRST: f32 = 0.3;
const SHIFT_MAX: f32 = 0.25;
const NAMES = memory.data<f32>([0.1, 0.5, 0.9, 0.95]);

function nameOf(i: i32): f32 {
  return load<f32>(NAMES + ((<usize>i) << 2));
}
function shiftAt(s: usize, knot: i32, i: i32): usize {
  return s + S_SHIFT + ((<usize>(knot * FOLLOWED + i)) << 2);
}

/** A young pool is too narrow: where its upper levels begin. */
const BEGIN = memory.data<f32>([0.0, 0.0, 0.05, 0.03]);
export function beginCalibration(s: usize): void {
  for (let k = 0; k < KNOTS; ++k)
    for (let i = 0; i < FOLLOWED; ++i) store<f32>(shiftAt(s, k, i), load<f32>(BEGIN + ((<usize>i) << 2)));
}

/** Learn from an outcome that rank() has placed in the forecast of a knot. The median is not followed. */
export function follow(s: usize, knot: i32, outcomes: i32): void {
  const rate = max(RATE, FIRST / <f32>(outcomes + 4)) * newsOf(knot);
  for (let i = 0; i < FOLLOWED; ++i) {
    if (i === 1) continue;
    const at = shiftAt(s, knot, i);
    const shift = load<f32>(at);
    const covered = coveredBy(nameOf(i) + shift);
    store<f32>(at, min(max(shift + rate * (nameOf(i) - covered), -SHIFT_MAX), SHIFT_MAX));
  }
}

/** The level to ask for, so that `level` holds at the located step: shifts are read between knots and followed levels. */
export function calibrated(s: usize, level: f32): f32 {
  let i = 0;
  while (i < FOLLOWED - 2 && nameOf(i + 1) <= level) i += 1;
  const share = min(max((level - nameOf(i)) / (nameOf(i + 1) - nameOf(i)), 0.0), 1.0);
  const low = between(s, knotBelow, i, share);
  const shift = knotShare > 0.0 ? low + (between(s, knotBelow + 1, i, share) - low) * knotShare : low;
  return level + shift;
}

function between(s: usize, knot: i32, i: i32, share: f32): f32 {
  const low = load<f32>(shiftAt(s, knot, i));
  return low + (load<f32>(shiftAt(s, knot, i + 1)) - low) * share;
}
