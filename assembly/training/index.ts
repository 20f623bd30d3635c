// Training of a series model: one call takes a batch of stretches forward and back and moves the weights.
//
// A stretch is STEPS bins of one series. At each bin stands at most one lesson: how the pool's weights at one knot would
// have scored, as the matrix of series/pool.ts:
//
//   logit_g = (h W + b)[knot, g] + trust[knot, g] lean_g,   w = softmax(logit),   loss = weight w' M w   (the CRPS)
//   dloss/dlogit_g = 2 weight w_g ((M w)_g - w' M w)
import { adamStep, clipFactor, sumOfSquares } from '../lstm/adam';
import { backwardTape, bytesOfBackwardScratch, bytesOfTape, forwardTape, tapeHidden } from '../lstm/backward';
import {
  CELL_SIZE,
  GROUP_ROW,
  GROUPS,
  HEAD_SIZE,
  HIDDEN,
  INPUTS,
  MODEL_SIZE,
  OUTPUTS,
} from '../series/layout';

/** Bins of a stretch; the first ones only settle the state, which begins at zero. */
export const STEPS: i32 = 96;
/** Stretches of a batch. */
export const ROWS: i32 = 32;
/** Numbers of a lesson: knot, weight (0: none), leans, then the upper triangle of M; a diagonal < 0: no such expert. */
export const LESSON: i32 = 2 + GROUPS + (GROUPS * (GROUPS + 1)) / 2;
/** Greatest norm of a step's gradient. */
const NORM_MAX: f64 = 1.0;

const BASE: usize = (__heap_base + 63) & ~63;
const MODEL: usize = BASE;
const GRADIENT: usize = MODEL + <usize>MODEL_SIZE * 4;
const FIRST: usize = GRADIENT + <usize>MODEL_SIZE * 4;
const SECOND: usize = FIRST + <usize>MODEL_SIZE * 4;
const INPUT: usize = (SECOND + <usize>MODEL_SIZE * 4 + 63) & ~63;
const LESSONS: usize = INPUT + <usize>(STEPS * ROWS * INPUTS) * 4;
const STATE_GRADIENT: usize = LESSONS + <usize>(STEPS * ROWS * LESSON) * 4;
const TAPE: usize = (STATE_GRADIENT + <usize>(STEPS * ROWS * HIDDEN) * 4 + 63) & ~63;

function scratch(): usize {
  return TAPE + ((bytesOfTape(STEPS, ROWS, HIDDEN) + 63) & ~63);
}

export function modelAt(): usize {
  return MODEL;
}
export function gradientAt(): usize {
  return GRADIENT;
}
/** Moments of Adam, f32[2, MODEL_SIZE]. */
export function momentsAt(): usize {
  return FIRST;
}
export function inputAt(): usize {
  return INPUT;
}
export function lessonsAt(): usize {
  return LESSONS;
}
export function modelSize(): i32 {
  return MODEL_SIZE;
}
export function stepsSize(): i32 {
  return STEPS;
}
export function rowsSize(): i32 {
  return ROWS;
}
export function lessonSize(): i32 {
  return LESSON;
}
export function cellSize(): i32 {
  return CELL_SIZE;
}
export function headSize(): i32 {
  return HEAD_SIZE;
}

/** Make ready, once. */
export function prepare(): void {
  const end = scratch() + bytesOfBackwardScratch(ROWS, HIDDEN);
  assert(end <= (<usize>memory.size()) << 16, 'the fixed memory must hold the layout');
}

const weights = memory.data(48);
const moved = memory.data(48); // M w

/** M[g][h] of a lesson's upper triangle, g <= h. */
function corner(lesson: usize, g: i32, h: i32): f32 {
  const place = (g * (2 * GROUPS - g + 1)) / 2 + (h - g);
  return load<f32>(lesson + ((<usize>(2 + GROUPS + place)) << 2));
}

/** Loss of one lesson; with `learn`, its gradients are added. */
function study(lesson: usize, h: usize, dh: usize, learn: bool): f64 {
  const weight = load<f32>(lesson, 4);
  if (weight === 0.0) return 0.0;
  const knot = <i32>load<f32>(lesson);
  const column = (<usize>(knot * GROUP_ROW)) << 2;
  const head = MODEL + <usize>CELL_SIZE * 4;
  const line = (<usize>OUTPUTS) << 2;
  const bias = head + <usize>HIDDEN * line + column;
  const trust = head + <usize>HEAD_SIZE * 4 + column;
  let greatest: f32 = -Infinity;
  for (let g = 0; g < GROUPS; ++g) {
    const place = (<usize>g) << 2;
    if (corner(lesson, g, g) < 0.0) continue;
    let logit = load<f32>(bias + place) + load<f32>(trust + place) * load<f32>(lesson + place, 8);
    for (let i = 0; i < HIDDEN; ++i) {
      logit += load<f32>(h + ((<usize>i) << 2)) * load<f32>(head + <usize>i * line + column + place);
    }
    store<f32>(weights + place, logit);
    greatest = max(greatest, logit);
  }
  let total: f32 = 0.0;
  for (let g = 0; g < GROUPS; ++g) {
    const place = (<usize>g) << 2;
    const w: f32 =
      corner(lesson, g, g) < 0.0 ? 0.0 : <f32>Math.exp(<f64>(load<f32>(weights + place) - greatest));
    store<f32>(weights + place, w);
    total += w;
  }
  let loss: f32 = 0.0;
  for (let g = 0; g < GROUPS; ++g)
    store<f32>(weights + ((<usize>g) << 2), load<f32>(weights + ((<usize>g) << 2)) / total);
  for (let g = 0; g < GROUPS; ++g) {
    let sum: f32 = 0.0;
    for (let k = 0; k < GROUPS; ++k)
      sum += corner(lesson, min(g, k), max(g, k)) * load<f32>(weights + ((<usize>k) << 2));
    store<f32>(moved + ((<usize>g) << 2), sum);
    loss += sum * load<f32>(weights + ((<usize>g) << 2));
  }
  if (!learn) return <f64>(loss * weight);
  const headGradient = GRADIENT + <usize>CELL_SIZE * 4;
  for (let g = 0; g < GROUPS; ++g) {
    const place = (<usize>g) << 2;
    const d = <f32>2.0 * weight * load<f32>(weights + place) * (load<f32>(moved + place) - loss);
    if (d === 0.0) continue;
    const b = headGradient + <usize>HIDDEN * line + column + place;
    store<f32>(b, load<f32>(b) + d);
    const t = headGradient + <usize>HEAD_SIZE * 4 + column + place;
    store<f32>(t, load<f32>(t) + d * load<f32>(lesson + place, 8));
    for (let i = 0; i < HIDDEN; ++i) {
      const at = (<usize>i) << 2;
      const w = <usize>i * line + column + place;
      store<f32>(headGradient + w, load<f32>(headGradient + w) + d * load<f32>(h + at));
      store<f32>(dh + at, load<f32>(dh + at) + d * load<f32>(head + w));
    }
  }
  return <f64>(loss * weight);
}

/** Forward over the batch in INPUT and LESSONS; with `learn`, gradients into GRADIENT. @returns sum of the losses */
export function pass(learn: i32): f64 {
  const state = (<usize>(ROWS * HIDDEN)) << 2;
  memory.fill(TAPE, 0, bytesOfTape(STEPS, ROWS, HIDDEN));
  forwardTape(STEPS, ROWS, INPUT, MODEL, INPUTS, HIDDEN, TAPE);
  memory.fill(STATE_GRADIENT, 0, <usize>STEPS * state);
  memory.fill(GRADIENT, 0, <usize>MODEL_SIZE * 4);
  let loss = 0.0;
  for (let t = 0; t < STEPS; ++t) {
    const h = tapeHidden(TAPE, t + 1, ROWS, HIDDEN);
    for (let r = 0; r < ROWS; ++r) {
      const lesson = LESSONS + ((<usize>((t * ROWS + r) * LESSON)) << 2);
      const row = (<usize>(r * HIDDEN)) << 2;
      loss += study(lesson, h + row, STATE_GRADIENT + <usize>t * state + row, learn !== 0);
    }
  }
  if (learn !== 0) {
    backwardTape(STEPS, ROWS, INPUT, MODEL, INPUTS, HIDDEN, TAPE, STATE_GRADIENT, GRADIENT, scratch());
  }
  return loss;
}

/** Move the weights against GRADIENT. @param count steps with this one, from 1 @returns 0 when the gradient was not finite */
export function descend(count: i32, rate: f64): i32 {
  const factor = clipFactor(sumOfSquares(GRADIENT, MODEL_SIZE), NORM_MAX);
  if (factor === 0.0) return 0;
  adamStep(MODEL, GRADIENT, FIRST, SECOND, MODEL_SIZE, count, rate, factor);
  return 1;
}
