// What a series' own outcomes say for and against each expert, learned while it runs: mirror descent on the pool's CRPS.
//
//   lean_g -= RATE clip(2 ((M w)_g - w' M w) / typical, STEP_MAX)      M of the outcome, w the pool's weights with its whole lean
//
// Neighbouring knots take a part of each step. A lean fades, so that without news the model's own weights come back.
//
// A lean that was learned from noise does harm, so how much of it counts is learned too: beside the pool without it stand those
// with SCALE_OF of it, each believed by how much less it has lost so far. The mean of the shares by belief is what is used.
import {
  GROUP_ROW,
  GROUPS,
  KNOTS,
  LOGITS,
  MATRIX,
  newsOf,
  S_LEAN,
  S_SCORES,
  S_TYPICAL,
  SCALES,
  VALID,
} from './layout';

const RATE: f32 = 0.03;
const FADING: f32 = 0.01;
/** Rare jumps carry most of a bursty guest's loss, so a step is cut only where a single outcome would turn everything over. */
const STEP_MAX: f32 = 10.0;
/** Rate at which a knot's typical loss is followed, once it has seen enough. */
const TYPICAL_RATE: f32 = 0.007;
/** Knots up to so far away learn with it, and how much. */
const REACH: i32 = 2;
const SHARES = memory.data<f32>([1.0, 0.6, 0.14]);
/** Shares of a lean that are tried beside none, and the logarithm of how much less each is believed before there is an outcome. */
const SCALE_OF = memory.data<f32>([0.5, 1.5]);
const BELIEF = memory.data<f32>([0.0, -1.0]);
/** How much a typical loss counts between them, the most that one outcome does, and how fast it is forgotten. */
const WORTH: f32 = 0.5;
const GAIN_MAX: f32 = 30.0;
const FORGETTING: f32 = 0.003;

const weights = memory.data(48); // f32[GROUP_ROW]
const slopes = memory.data(48);

function element(base: usize, i: i32): f32 {
  return load<f32>(base + ((<usize>i) << 2));
}

/** Share of a knot's lean that is used. */
export function shareOfLean(s: usize, knot: i32): f32 {
  const scores = s + S_SCORES + <usize>(knot * SCALES) * 4;
  let greatest: f32 = 0.0;
  for (let i = 0; i < SCALES; ++i) greatest = max(greatest, element(BELIEF, i) + element(scores, i));
  let total = <f32>Math.exp(<f64>-greatest);
  let share: f32 = 0.0;
  for (let i = 0; i < SCALES; ++i) {
    const belief = <f32>Math.exp(<f64>(element(BELIEF, i) + element(scores, i) - greatest));
    total += belief;
    share += belief * element(SCALE_OF, i);
  }
  return share / total;
}

/**
 * Learn from the outcome that measure() has held the experts against.
 * @param knot  whose logits without a lean stand in LOGITS
 * @param count outcomes of this knot, with this one
 * @param share part of a step to take, in (0, 1]: less where outcomes come more often
 */
export function learnLean(s: usize, knot: i32, count: i32, share: f32): void {
  const typicalAt = s + S_TYPICAL + ((<usize>knot) << 2);
  const before = load<f32>(typicalAt);
  const loss = steepness(s, knot, 1.0);
  const typical = before + max(TYPICAL_RATE, <f32>1.0 / <f32>count) * (loss - before);
  store<f32>(typicalAt, typical);
  const news = newsOf(knot);
  compareScales(s, knot, typical, share * news);
  steepness(s, knot, 1.0);
  const part = share * sqrt(news);
  fade(s, knot, part);
  if (!(typical > 0.0)) return;
  for (let k = max(knot - REACH, 0); k <= min(knot + REACH, KNOTS - 1); ++k) {
    const rate = f32x4.splat(part * RATE * element(SHARES, abs(k - knot)));
    for (let i: usize = 0; i < (<usize>GROUP_ROW) << 2; i += 16) {
      const slope = f32x4.div(v128.load(slopes + i), f32x4.splat(typical));
      const step = f32x4.max(f32x4.min(slope, f32x4.splat(STEP_MAX)), f32x4.splat(-STEP_MAX));
      const at = leanOf(s, k) + i;
      v128.store(at, f32x4.sub(v128.load(at), f32x4.mul(rate, step)));
    }
  }
}

function compareScales(s: usize, knot: i32, typical: f32, share: f32): void {
  if (!(typical > 0.0)) return;
  const scores = s + S_SCORES + <usize>(knot * SCALES) * 4;
  const none = steepness(s, knot, 0.0);
  for (let i = 0; i < SCALES; ++i) {
    const gain = (none - steepness(s, knot, element(SCALE_OF, i))) / typical;
    const score = element(scores, i) * (1.0 - share * FORGETTING);
    store<f32>(scores + ((<usize>i) << 2), score + share * WORTH * min(max(gain, -GAIN_MAX), GAIN_MAX));
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

/** Derivative of the loss by each logit, over its expert's weight, into `slopes`, with a share of the lean. @returns the loss */
function steepness(s: usize, knot: i32, scale: f32): f32 {
  memory.fill(weights, 0, 48);
  memory.fill(slopes, 0, 48);
  const logits = LOGITS + <usize>(knot * GROUP_ROW) * 4;
  const lean = leanOf(s, knot);
  let greatest: f32 = -Infinity;
  for (let g = 0; g < GROUPS; ++g)
    if (isKnown(g)) greatest = max(greatest, element(logits, g) + scale * element(lean, g));
  let total: f32 = 0.0;
  for (let g = 0; g < GROUPS; ++g) {
    if (!isKnown(g)) continue;
    const weight = <f32>Math.exp(<f64>(element(logits, g) + scale * element(lean, g) - greatest));
    store<f32>(weights + ((<usize>g) << 2), weight);
    total += weight;
  }
  for (let g = 0; g < GROUPS; ++g) store<f32>(weights + ((<usize>g) << 2), element(weights, g) / total);
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
