// How far each expert is trusted at each horizon: softmax of a head over the recurrent state, plus what the series'
// own outcomes have taught of it.
import { dense } from '../lstm/dense';
import {
  CELL_SIZE,
  GROUP_ROW,
  GROUPS,
  HEAD_SIZE,
  HIDDEN,
  KNOTS,
  knotBelow,
  knotShare,
  LOGITS,
  MODEL,
  OUTPUTS,
  S_H,
  S_LEAN,
  WEIGHTS,
} from './layout';
import { shareOfLean } from './lean';

const HEAD: usize = MODEL + <usize>CELL_SIZE * 4;
const TRUST: usize = HEAD + <usize>HEAD_SIZE * 4;
/** Logits of every expert at every knot by the model alone, into LOGITS. */
export function weighAlone(s: usize): void {
  dense(s + S_H, HEAD, HIDDEN, OUTPUTS, LOGITS);
}

/** The same with what is used of the series' leans. */
export function weigh(s: usize): void {
  weighAlone(s);
  for (let knot = 0; knot < KNOTS; ++knot) {
    const share = f32x4.splat(shareOfLean(s, knot));
    const row = <usize>(knot * GROUP_ROW) * 4;
    for (let i = row; i < row + <usize>GROUP_ROW * 4; i += 16) {
      const lean = f32x4.mul(share, f32x4.mul(v128.load(s + S_LEAN + i), v128.load(TRUST + i)));
      v128.store(LOGITS + i, f32x4.add(v128.load(LOGITS + i), lean));
    }
  }
}

/** Weights at the located step into WEIGHTS: logits read between knots, then made to sum to 1. */
export function weightsHere(): void {
  const low = LOGITS + <usize>(knotBelow * GROUP_ROW) * 4;
  const high = low + <usize>GROUP_ROW * 4;
  let greatest: f32 = -Infinity;
  for (let g: usize = 0; g < (<usize>GROUPS) << 2; g += 4) {
    const below = load<f32>(low + g);
    const logit = below + (load<f32>(high + g) - below) * knotShare;
    store<f32>(WEIGHTS + g, logit);
    greatest = max(greatest, logit);
  }
  let total: f32 = 0.0;
  for (let g: usize = 0; g < (<usize>GROUPS) << 2; g += 4) {
    const weight = <f32>Math.exp(<f64>(load<f32>(WEIGHTS + g) - greatest));
    store<f32>(WEIGHTS + g, weight);
    total += weight;
  }
  for (let g: usize = 0; g < (<usize>GROUPS) << 2; g += 4)
    store<f32>(WEIGHTS + g, load<f32>(WEIGHTS + g) / total);
}
