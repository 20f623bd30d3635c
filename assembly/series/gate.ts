// How far each expert is trusted at each horizon: softmax of a head over the recurrent state, plus what the expert's own
// record on this series says for it.
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
  locate,
  MERIT,
  MODEL,
  OUTPUTS,
  S_H,
  S_RECORD,
  WEIGHTS,
} from './layout';

const HEAD: usize = MODEL + <usize>CELL_SIZE * 4;
const TRUST: usize = HEAD + <usize>HEAD_SIZE * 4;
/** A record this many e-folds better than the others' is as good as it gets. */
const MERIT_MAX: f64 = 3.0;

/** Merit of each expert: how many e-folds its loss lies below the experts' geometric mean, at every knot. */
function appraise(s: usize): void {
  memory.fill(MERIT, 0, <usize>OUTPUTS * 4);
  for (let k = 0; k < KNOTS; ++k) {
    const record = s + S_RECORD + <usize>(k * GROUP_ROW) * 4;
    let worst = 0.0;
    for (let g = 0; g < GROUPS; ++g) worst = max(worst, <f64>load<f32>(record + ((<usize>g) << 2)));
    if (!(worst > 0.0)) continue;
    const floor = worst * 1e-4;
    let sum = 0.0;
    let count = 0.0;
    for (let g = 0; g < GROUPS; ++g) {
      const loss = <f64>load<f32>(record + ((<usize>g) << 2));
      if (loss < 0.0) continue;
      sum += Math.log(loss + floor);
      count += 1.0;
    }
    for (let g = 0; g < GROUPS; ++g) {
      const loss = <f64>load<f32>(record + ((<usize>g) << 2));
      if (loss < 0.0) continue;
      const merit = min(max(sum / count - Math.log(loss + floor), -MERIT_MAX), MERIT_MAX);
      store<f32>(MERIT + ((<usize>(k * GROUP_ROW + g)) << 2), <f32>merit);
    }
  }
}

/** Logits of every expert at every knot into LOGITS. */
export function weigh(s: usize): void {
  appraise(s);
  dense(s + S_H, HEAD, HIDDEN, OUTPUTS, LOGITS);
  for (let i: usize = 0; i < (<usize>OUTPUTS) << 2; i += 16) {
    v128.store(
      LOGITS + i,
      f32x4.add(v128.load(LOGITS + i), f32x4.mul(v128.load(MERIT + i), v128.load(TRUST + i))),
    );
  }
}

/** Weights at a step into WEIGHTS: logits read between knots, then made to sum to 1. */
export function weightsAt(step: i32): void {
  locate(step);
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
