// Training of the cell: a forward pass that keeps what the backward pass needs, and back-propagation through its steps.
//
//   dh_t  = (loss's own gradient at h_t) + dgates_(t+1) Wh'
//   dc_t  = dh_t o (1 - tanh(c_t)^2) + dc_(t+1) f_(t+1)
//   di    = dc g i (1 - i)      df = dc c_(t-1) f (1 - f)
//   dg    = dc i (1 - g^2)      do = dh tanh(c_t) o (1 - o)
//   dWx  += x_t' dgates_t       dWh += h_(t-1)' dgates_t       dbias += sum of dgates
//
// The state before the first step is a constant: nothing flows back beyond it (truncated back-propagation). All rows of
// all steps stand together, [steps, rows, ...], so that whole stretches are one product of matrices.
// Source: P. J. Werbos, "Backpropagation through time: what it does and how to do it", 1990.
import { Four } from './activations';
import { isShape } from './cell';
import { fillRows, multiplyAccumulate, multiplyTransposedAccumulate, sumRows, transpose } from './matrix';

// A tape, in this order, all f32:
//   h     [steps + 1, rows, hidden]    slot 0 is the state before the first step, slot t + 1 the one after step t
//   c     [steps + 1, rows, hidden]
//   gates [steps, rows, 4 hidden]      i, f, g, o after their non-linearity; backwardTape leaves their gradients there
//   tanh  [steps, rows, hidden]        tanh of c

/** Bytes of one state of all rows. */
function bytesOfState(rows: i32, hidden: i32): usize {
  return (<usize>(rows * hidden)) << 2;
}

/** Bytes of a tape. */
export function bytesOfTape(steps: i32, rows: i32, hidden: i32): usize {
  return <usize>(7 * steps + 2) * bytesOfState(rows, hidden);
}

/** h of a tape, f32[rows, hidden], before step `slot`; `slot` is in [0, steps]. */
export function tapeHidden(tape: usize, slot: i32, rows: i32, hidden: i32): usize {
  return tape + <usize>slot * bytesOfState(rows, hidden);
}

/** c of a tape, f32[rows, hidden], before step `slot`; `slot` is in [0, steps]. */
export function tapeCell(tape: usize, slot: i32, steps: i32, rows: i32, hidden: i32): usize {
  return tape + <usize>(steps + 1 + slot) * bytesOfState(rows, hidden);
}

function tapeGates(tape: usize, steps: i32, rows: i32, hidden: i32): usize {
  return tape + <usize>(2 * steps + 2) * bytesOfState(rows, hidden);
}

/** Write the state after the last step where the next forward pass of this tape begins. */
export function carryTape(steps: i32, rows: i32, hidden: i32, tape: usize): void {
  const bytes = bytesOfState(rows, hidden);
  memory.copy(tapeHidden(tape, 0, rows, hidden), tapeHidden(tape, steps, rows, hidden), bytes);
  memory.copy(tapeCell(tape, 0, steps, rows, hidden), tapeCell(tape, steps, steps, rows, hidden), bytes);
}

/**
 * `steps` steps of `rows` rows from the state in the tape's slot 0; fills the rest of the tape. The numbers are those of
 * cell.ts up to rounding: there i and tanh(g) share a quotient, here each is kept.
 * @param x       f32[steps, rows, inputs], finite
 * @param weights f32[weightsSize]
 * @param tape    bytesOfTape; slot 0 of h and c read, all else written
 */
export function forwardTape(
  steps: i32,
  rows: i32,
  x: usize,
  weights: usize,
  inputs: i32,
  hidden: i32,
  tape: usize,
): void {
  assert(isShape(inputs, hidden), 'inputs must be a multiple of 4, hidden of 8');
  assert(steps > 0 && rows > 0, 'steps and rows must be positive');
  const columns = 4 * hidden;
  const line = (<usize>columns) << 2;
  const state = bytesOfState(rows, hidden);
  const recurrent = weights + <usize>inputs * line;
  let gates = tapeGates(tape, steps, rows, hidden);
  let h = tape;
  let c = tapeCell(tape, 0, steps, rows, hidden);
  let squashed = gates + <usize>(4 * steps) * state;
  fillRows(steps * rows, columns, recurrent + <usize>hidden * line, gates);
  multiplyAccumulate(steps * rows, columns, inputs, x, weights, gates);
  for (let t = 0; t < steps; ++t) {
    multiplyAccumulate(rows, columns, hidden, h, recurrent, gates);
    activateTape(rows, hidden, gates, c, c + state, h + state, squashed);
    gates += 4 * state;
    h += state;
    c += state;
    squashed += state;
  }
}

/** The gates' non-linearities in place, and the new c, its tanh and h, of all rows. */
function activateTape(
  rows: i32,
  hidden: i32,
  gates: usize,
  before: usize,
  c: usize,
  h: usize,
  squashed: usize,
): void {
  const block = (<usize>hidden) << 2;
  for (let r = 0; r < rows; ++r, gates += 3 * block) {
    for (const end = gates + block; gates < end; gates += 16) {
      const i = Four.sigmoid(v128.load(gates));
      const g = Four.tanh(v128.load(gates + 2 * block));
      v128.store(gates, i);
      v128.store(gates + 2 * block, g);
      const f = Four.sigmoid(v128.load(gates + block));
      v128.store(gates + block, f);
      const cell = Four.multiplyAdd(f, v128.load(before), f32x4.mul(i, g));
      v128.store(c, cell);
      const o = Four.sigmoid(v128.load(gates + 3 * block));
      v128.store(gates + 3 * block, o);
      const tanh = Four.tanh(cell);
      v128.store(squashed, tanh);
      v128.store(h, f32x4.mul(o, tanh));
      before += 16;
      c += 16;
      squashed += 16;
      h += 16;
    }
  }
}

/** Bytes of backwardTape's scratch. */
export function bytesOfBackwardScratch(rows: i32, hidden: i32): usize {
  return ((<usize>(4 * hidden * hidden)) << 2) + 2 * bytesOfState(rows, hidden);
}

/**
 * Gradients of a loss over a tape that forwardTape has filled; its gates are overwritten, so once per forward pass.
 * @param x        f32[steps, rows, inputs], as for the forward pass
 * @param weights  f32[weightsSize], as for the forward pass
 * @param dh       f32[steps, rows, hidden], the loss's own gradient with respect to h after each step; zero where none stands
 * @param gradient f32[weightsSize], accumulated
 * @param scratch  bytesOfBackwardScratch
 */
export function backwardTape(
  steps: i32,
  rows: i32,
  x: usize,
  weights: usize,
  inputs: i32,
  hidden: i32,
  tape: usize,
  dh: usize,
  gradient: usize,
  scratch: usize,
): void {
  assert(isShape(inputs, hidden), 'inputs must be a multiple of 4, hidden of 8');
  assert(steps > 0 && rows > 0, 'steps and rows must be positive');
  const columns = 4 * hidden;
  const line = (<usize>columns) << 2;
  const state = bytesOfState(rows, hidden);
  const allGates = tapeGates(tape, steps, rows, hidden);
  const transposed = scratch;
  const carriedH = transposed + <usize>hidden * line;
  const carriedC = carriedH + state;
  transpose(hidden, columns, weights + <usize>inputs * line, transposed);
  memory.fill(carriedH, 0, 2 * state);
  let gates = allGates + <usize>(4 * steps) * state;
  let squashed = gates + <usize>steps * state;
  let c = tapeCell(tape, steps, steps, rows, hidden);
  dh += <usize>steps * state;
  for (let t = steps - 1; t >= 0; --t) {
    gates -= 4 * state;
    squashed -= state;
    c -= state;
    dh -= state;
    differentiate(rows, hidden, gates, c, squashed, dh, carriedH, carriedC);
    if (t === 0) break;
    memory.fill(carriedH, 0, state);
    multiplyAccumulate(rows, hidden, columns, gates, transposed, carriedH);
  }
  const all = steps * rows;
  multiplyTransposedAccumulate(all, columns, inputs, x, allGates, gradient);
  multiplyTransposedAccumulate(all, columns, hidden, tape, allGates, gradient + <usize>inputs * line);
  sumRows(all, columns, allGates, gradient + <usize>(inputs + hidden) * line);
}

/** One step back, for all rows: gates become their gradients before the non-linearity, carriedC that of the c before. */
function differentiate(
  rows: i32,
  hidden: i32,
  gates: usize,
  before: usize,
  squashed: usize,
  dh: usize,
  carriedH: usize,
  carriedC: usize,
): void {
  const block = (<usize>hidden) << 2;
  const one = f32x4.splat(1.0);
  for (let r = 0; r < rows; ++r, gates += 3 * block) {
    for (const end = gates + block; gates < end; gates += 16) {
      const o = v128.load(gates + 3 * block);
      const tanh = v128.load(squashed);
      const d = f32x4.add(v128.load(dh), v128.load(carriedH));
      const through = f32x4.mul(f32x4.mul(d, o), f32x4.sub(one, f32x4.mul(tanh, tanh)));
      const dc = f32x4.add(v128.load(carriedC), through);
      v128.store(gates + 3 * block, f32x4.mul(f32x4.mul(d, tanh), f32x4.mul(o, f32x4.sub(one, o))));
      const f = v128.load(gates + block);
      v128.store(carriedC, f32x4.mul(dc, f));
      const df = f32x4.mul(f32x4.mul(dc, v128.load(before)), f32x4.mul(f, f32x4.sub(one, f)));
      v128.store(gates + block, df);
      const i = v128.load(gates);
      const g = v128.load(gates + 2 * block);
      v128.store(gates, f32x4.mul(f32x4.mul(dc, g), f32x4.mul(i, f32x4.sub(one, i))));
      v128.store(gates + 2 * block, f32x4.mul(f32x4.mul(dc, i), f32x4.sub(one, f32x4.mul(g, g))));
      before += 16;
      squashed += 16;
      dh += 16;
      carriedH += 16;
      carriedC += 16;
    }
  }
}
