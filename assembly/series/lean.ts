// What a series' own outcomes say for and against each expert, learned while it runs: mirror descent on the pool's CRPS.
//
//   lean_g -= RATE clip(2 ((M w)_g - w' M w) / typical, STEP_MAX)      M of the outcome, w the pool's weights
//
// Neighbouring knots take a part of each step. A lean fades, so that without news the model's own weights come back.
import { GROUP_ROW, GROUPS, KNOTS, MATRIX, S_LEAN, S_TYPICAL, VALID, WEIGHTS } from './layout';

const RATE: f32 = 0.05;
const FADING: f32 = 0.01;
const STEP_MAX: f32 = 3.0;
/** Rate at which a knot's typical loss is followed, once it has seen enough. */
const TYPICAL_RATE: f32 = 0.007;
/** Knots up to so far away learn with it, and how much. */
const REACH: i32 = 2;
const SHARES = memory.data<f32>([1.0, 0.6, 0.14]);

const weights = memory.data(48); // f32[GROUP_ROW]
const slopes = memory.data(48);

function element(base: usize, i: i32): f32 {
  return load<f32>(base + ((<usize>i) << 2));
}

/**
 * Learn from the outcome that measure() has held the experts against.
 * @param knot  whose weights stand in WEIGHTS
 * @param count outcomes of this knot, with this one
 * @param share part of a step to take, in (0, 1]: less where outcomes come more often
 */
export function learnLean(s: usize, knot: i32, count: i32, share: f32): void {
  const loss = steepness();
  const typicalAt = s + S_TYPICAL + ((<usize>knot) << 2);
  const before = load<f32>(typicalAt);
  const typical = before + max(TYPICAL_RATE, <f32>1.0 / <f32>count) * (loss - before);
  store<f32>(typicalAt, typical);
  fade(s, knot, share);
  if (!(typical > 0.0)) return;
  for (let k = max(knot - REACH, 0); k <= min(knot + REACH, KNOTS - 1); ++k) {
    const rate = f32x4.splat(share * RATE * element(SHARES, abs(k - knot)));
    for (let i: usize = 0; i < (<usize>GROUP_ROW) << 2; i += 16) {
      const slope = f32x4.div(v128.load(slopes + i), f32x4.splat(typical));
      const step = f32x4.max(f32x4.min(slope, f32x4.splat(STEP_MAX)), f32x4.splat(-STEP_MAX));
      const at = leanOf(s, k) + i;
      v128.store(at, f32x4.sub(v128.load(at), f32x4.mul(rate, step)));
    }
  }
}

/** f32[GROUP_ROW] */
function leanOf(s: usize, knot: i32): usize {
  return s + S_LEAN + ((<usize>(knot * GROUP_ROW)) << 2);
}

function fade(s: usize, knot: i32, share: f32): void {
  const keep = f32x4.splat(1.0 - share * FADING);
  const lean = leanOf(s, knot);
  for (let i: usize = 0; i < (<usize>GROUP_ROW) << 2; i += 16)
    v128.store(lean + i, f32x4.mul(v128.load(lean + i), keep));
}

/** Derivative of the loss by each logit, over its expert's weight, into `slopes`. @returns the loss */
function steepness(): f32 {
  memory.fill(weights, 0, 48);
  memory.fill(slopes, 0, 48);
  let total: f32 = 0.0;
  for (let g = 0; g < GROUPS; ++g) if (isKnown(g)) total += element(WEIGHTS, g);
  for (let g = 0; g < GROUPS; ++g)
    if (isKnown(g)) store<f32>(weights + ((<usize>g) << 2), element(WEIGHTS, g) / total);
  let loss: f32 = 0.0;
  for (let g = 0; g < GROUPS; ++g) {
    if (!isKnown(g)) continue;
    const row = MATRIX + ((<usize>(g * GROUP_ROW)) << 2);
    let sum = f32x4.splat(0.0);
    for (let i: usize = 0; i < (<usize>GROUP_ROW) << 2; i += 16)
      sum = f32x4.add(sum, f32x4.mul(v128.load(row + i), v128.load(weights + i)));
    const moved =
      f32x4.extract_lane(sum, 0) +
      f32x4.extract_lane(sum, 1) +
      (f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3));
    store<f32>(slopes + ((<usize>g) << 2), moved);
    loss += moved * element(weights, g);
  }
  for (let g = 0; g < GROUPS; ++g)
    if (isKnown(g)) store<f32>(slopes + ((<usize>g) << 2), 2.0 * (element(slopes, g) - loss));
  return loss;
}

function isKnown(g: i32): bool {
  return load<i32>(VALID + ((<usize>g) << 2)) > 0;
}
