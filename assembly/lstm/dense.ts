// A linear head in f32: y = h W + b. weights is f32[inputs, outputs] row-major, then bias, f32[outputs].
import { Four } from './activations';
import { fillRows, multiplyAccumulate, multiplyTransposedAccumulate, sumRows, transpose } from './matrix';

/** Numbers of a head's weights and bias. */
export function denseSize(inputs: i32, outputs: i32): i32 {
  return (inputs + 1) * outputs;
}

/**
 * y = h W + b for one row, sixteen outputs at a time.
 * @param h       f32[inputs], inputs even
 * @param weights f32[denseSize]
 * @param outputs a multiple of 4
 * @param y       f32[outputs], written; must not overlap h or the weights
 */
export function dense(h: usize, weights: usize, inputs: i32, outputs: i32, y: usize): void {
  assert((inputs & 1) === 0 && (outputs & 3) === 0, 'inputs must be even, outputs a multiple of 4');
  const line = (<usize>outputs) << 2;
  const end = h + ((<usize>inputs) << 2);
  const bias = weights + <usize>inputs * line;
  const wide = line & ~(<usize>63);
  let at: usize = 0;
  for (; at < wide; at += 64) {
    const b = bias + at;
    let s0 = v128.load(b);
    let s1 = v128.load(b, 16);
    let s2 = v128.load(b, 32);
    let s3 = v128.load(b, 48);
    let w = weights + at;
    for (let p = h; p < end; p += 8) {
      const v = w + line;
      const a0 = v128.load32_splat(p);
      const a1 = v128.load32_splat(p, 4);
      s0 = Four.multiplyAdd(a0, v128.load(w), s0);
      s0 = Four.multiplyAdd(a1, v128.load(v), s0);
      s1 = Four.multiplyAdd(a0, v128.load(w, 16), s1);
      s1 = Four.multiplyAdd(a1, v128.load(v, 16), s1);
      s2 = Four.multiplyAdd(a0, v128.load(w, 32), s2);
      s2 = Four.multiplyAdd(a1, v128.load(v, 32), s2);
      s3 = Four.multiplyAdd(a0, v128.load(w, 48), s3);
      s3 = Four.multiplyAdd(a1, v128.load(v, 48), s3);
      w = v + line;
    }
    v128.store(y + at, s0);
    v128.store(y + at, s1, 16);
    v128.store(y + at, s2, 32);
    v128.store(y + at, s3, 48);
  }
  for (; at < line; at += 16) {
    let sum = v128.load(bias + at);
    let w = weights + at;
    for (let p = h; p < end; p += 4, w += line)
      sum = Four.multiplyAdd(v128.load32_splat(p), v128.load(w), sum);
    v128.store(y + at, sum);
  }
}

/** y = h W + b for `rows` rows, to the bit as dense() gives them: h f32[rows, inputs], y f32[rows, outputs]. */
export function denseRows(rows: i32, h: usize, weights: usize, inputs: i32, outputs: i32, y: usize): void {
  fillRows(rows, outputs, weights + <usize>(inputs * outputs) * 4, y);
  multiplyAccumulate(rows, outputs, inputs, h, weights, y);
}

/** Bytes of denseBackward's scratch. */
export function bytesOfDenseScratch(inputs: i32, outputs: i32): usize {
  return <usize>(inputs * outputs) * 4;
}

/**
 * Gradients of a head over `rows` rows.
 *
 *   dW += h' dy,   db += sum of dy's rows,   dh = dy W'
 *
 * @param h        f32[rows, inputs], inputs a multiple of 4
 * @param dy       f32[rows, outputs], the loss's gradient with respect to y
 * @param weights  f32[denseSize]
 * @param gradient f32[denseSize], accumulated
 * @param dh       f32[rows, inputs], written
 * @param scratch  bytesOfDenseScratch
 */
export function denseBackward(
  rows: i32,
  h: usize,
  dy: usize,
  weights: usize,
  inputs: i32,
  outputs: i32,
  gradient: usize,
  dh: usize,
  scratch: usize,
): void {
  assert((inputs & 3) === 0 && (outputs & 3) === 0, 'inputs and outputs must be multiples of 4');
  multiplyTransposedAccumulate(rows, outputs, inputs, h, dy, gradient);
  sumRows(rows, outputs, dy, gradient + <usize>(inputs * outputs) * 4);
  transpose(inputs, outputs, weights, scratch);
  memory.fill(dh, 0, (<usize>(rows * inputs)) << 2);
  multiplyAccumulate(rows, inputs, outputs, dy, scratch, dh);
}
