// The LSTM cell, forward, in f32. Everything lives at the caller's addresses; nothing is allocated.
//
//   [i f g o] = bias + x Wx + h Wh        added in that order: bias, then x and h by growing index
//   i, f, o   = sigmoid, g = tanh
//   c'        = f c + i g
//   h'        = o Four.tanh(c')
//
// weights is f32[inputs + hidden, 4 hidden] row-major, Wx above Wh, then bias, f32[4 hidden]; gates in the order i, f, g,
// o. step, sequence and batch do the same operations in the same order on each number: they agree to the bit.
// Source: S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997, with the forget gate of F. Gers et al., 2000.
import { Four } from './activations';
import { fillRows, multiplyAccumulate } from './matrix';

/** Numbers of a cell's weights and bias. */
export function weightsSize(inputs: i32, hidden: i32): i32 {
  return (inputs + hidden + 1) * 4 * hidden;
}

/** Whether there are kernels for the shape: inputs in fours, hidden in eights. */
export function isShape(inputs: i32, hidden: i32): bool {
  return inputs > 0 && (inputs & 3) === 0 && hidden > 0 && (hidden & 7) === 0;
}

/** gates = bias + x Wx + h Wh for one row, sixteen columns at a time. */
function project(x: usize, h: usize, weights: usize, inputs: i32, hidden: i32, gates: usize): void {
  const line = (<usize>hidden) << 4;
  const xEnd = x + ((<usize>inputs) << 2);
  const hEnd = h + ((<usize>hidden) << 2);
  const bias = weights + <usize>(inputs + hidden) * line;
  for (let at: usize = 0; at < line; at += 64) {
    const b = bias + at;
    let s0 = v128.load(b);
    let s1 = v128.load(b, 16);
    let s2 = v128.load(b, 32);
    let s3 = v128.load(b, 48);
    let w = weights + at;
    // Two rows a turn: four sums, eight loads and two splats are what sixteen registers hold.
    for (let p = x; p < xEnd; p += 8) {
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
    for (let p = h; p < hEnd; p += 8) {
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
    const to = gates + at;
    v128.store(to, s0);
    v128.store(to, s1, 16);
    v128.store(to, s2, 32);
    v128.store(to, s3, 48);
  }
}

/** The gates' non-linearities and the new h and c of one row, in place. */
function activate(gates: usize, h: usize, c: usize, hidden: i32): void {
  const block = (<usize>hidden) << 2;
  for (let at: usize = 0; at < block; at += 16) {
    const gate = gates + at;
    const kept = Four.scaledSigmoid(v128.load(c + at), v128.load(gate + block));
    const cell = f32x4.add(kept, Four.sigmoidTanh(v128.load(gate), v128.load(gate + 2 * block)));
    v128.store(c + at, cell);
    v128.store(h + at, Four.sigmoidTanh(v128.load(gate + 3 * block), cell));
  }
}

/**
 * One step of one row; h and c become the new ones.
 * @param x       f32[inputs], finite
 * @param h       f32[hidden], read and written
 * @param c       f32[hidden], read and written
 * @param weights f32[weightsSize], see above
 * @param gates   f32[4 hidden], scratch; nothing else may overlap it
 */
export function step(
  x: usize,
  h: usize,
  c: usize,
  weights: usize,
  inputs: i32,
  hidden: i32,
  gates: usize,
): void {
  assert(isShape(inputs, hidden), 'inputs must be a multiple of 4, hidden of 8');
  project(x, h, weights, inputs, hidden, gates);
  activate(gates, h, c, hidden);
}

/**
 * `steps` steps of one row; h and c become those after the last.
 * @param x     f32[steps, inputs], oldest first, finite
 * @param gates f32[4 hidden], scratch; the others as for step
 */
export function sequence(
  steps: i32,
  x: usize,
  h: usize,
  c: usize,
  weights: usize,
  inputs: i32,
  hidden: i32,
  gates: usize,
): void {
  assert(isShape(inputs, hidden), 'inputs must be a multiple of 4, hidden of 8');
  const row = (<usize>inputs) << 2;
  for (let t = 0; t < steps; ++t, x += row) {
    project(x, h, weights, inputs, hidden, gates);
    activate(gates, h, c, hidden);
  }
}

/**
 * One step of each of `rows` rows; h and c become the new ones.
 * @param x     f32[rows, inputs], finite
 * @param h     f32[rows, hidden], read and written
 * @param c     f32[rows, hidden], read and written
 * @param gates f32[rows, 4 hidden], scratch; nothing else may overlap it
 */
export function batch(
  rows: i32,
  x: usize,
  h: usize,
  c: usize,
  weights: usize,
  inputs: i32,
  hidden: i32,
  gates: usize,
): void {
  assert(isShape(inputs, hidden), 'inputs must be a multiple of 4, hidden of 8');
  projectRows(rows, x, h, weights, inputs, hidden, gates);
  const block = (<usize>hidden) << 2;
  for (let r = 0; r < rows; ++r, gates += 4 * block, h += block, c += block) activate(gates, h, c, hidden);
}

/** gates = bias + x Wx + h Wh for every row, before the non-linearities. */
export function projectRows(
  rows: i32,
  x: usize,
  h: usize,
  weights: usize,
  inputs: i32,
  hidden: i32,
  gates: usize,
): void {
  const columns = 4 * hidden;
  const line = (<usize>columns) << 2;
  fillRows(rows, columns, weights + <usize>(inputs + hidden) * line, gates);
  multiplyAccumulate(rows, columns, inputs, x, weights, gates);
  multiplyAccumulate(rows, columns, hidden, h, weights + <usize>inputs * line, gates);
}

/**
 * Whether all of f32[size] are finite. The non-linearities turn NaN into a plausible number, so what comes from outside
 * passes here first.
 * @param size a multiple of 4
 */
export function areFinite(at: usize, size: i32): bool {
  assert((size & 3) === 0, 'size must be a multiple of 4');
  // x - x is zero for what is finite, NaN for the rest; zeros stay zero in a sum.
  let sum = f32x4.splat(0.0);
  for (const end = at + ((<usize>size) << 2); at < end; at += 16) {
    const value = v128.load(at);
    sum = f32x4.add(sum, f32x4.sub(value, value));
  }
  return !v128.any_true(f32x4.ne(sum, f32x4.splat(0.0)));
}
