// Adaptive conformal calibration: a level is asked for a little higher or lower than it is named, by what would have made
// its past coverage right.
//
//   shift_l += RATE (level_l - covered_l),   covered in {0, 1/2, 1}: an outcome equal to the quantile counts half
//
// Source: Gibbs & Candes, "Adaptive conformal inference under distribution shift", 2021.
import { FOLLOWED, knotBelow, knotShare, locate, S_SHIFT } from './layout';
import { massAt, massBelow } from './pool';

const RATE: f32 = 0.015;
const SHIFT_MAX: f32 = 0.15;
const NAMES = memory.data<f32>([0.1, 0.5, 0.9, 0.95]);

function nameOf(i: i32): f32 {
  return load<f32>(NAMES + ((<usize>i) << 2));
}
function shiftAt(s: usize, knot: i32, i: i32): usize {
  return s + S_SHIFT + ((<usize>(knot * FOLLOWED + i)) << 2);
}

/** Learn from an outcome that rank() has placed in the forecast of a knot. The median is not followed. */
export function follow(s: usize, knot: i32): void {
  for (let i = 0; i < FOLLOWED; ++i) {
    if (i === 1) continue;
    const at = shiftAt(s, knot, i);
    const shift = load<f32>(at);
    const level = nameOf(i) + shift;
    // min { x : F(x) >= level } lies above y when the mass up to y falls short of the level.
    const covered: f32 = massBelow + massAt < level ? 1.0 : massBelow < level ? 0.5 : 0.0;
    store<f32>(at, min(max(shift + RATE * (nameOf(i) - covered), -SHIFT_MAX), SHIFT_MAX));
  }
}

/** The level to ask for, so that `level` holds at a step: shifts are read between knots and followed levels. */
export function calibrated(s: usize, step: i32, level: f32): f32 {
  locate(step);
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
