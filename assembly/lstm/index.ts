// The kernels of assembly/lstm with buffers of their own, for the tests and the bench. Other modules import the kernels.
import { Four } from './activations';

export { adamStep, clipFactor, sumOfSquares } from './adam';
export {
  backwardTape,
  bytesOfBackwardScratch,
  bytesOfTape,
  carryTape,
  forwardTape,
  tapeCell,
  tapeHidden,
} from './backward';
export { areFinite, batch, isShape, sequence, step, weightsSize } from './cell';
export { bytesOfDenseScratch, dense, denseBackward, denseRows, denseSize } from './dense';

const BASE: usize = (__heap_base + 63) & ~63;

/** First byte that is free for the caller, a multiple of 64. */
export function freeAt(): usize {
  return BASE;
}
/** Bytes from there to the end of the memory. */
export function freeBytes(): usize {
  return ((<usize>memory.size()) << 16) - BASE;
}

/** Each of f32[size] becomes its sigmoid; size a multiple of 4. */
export function sigmoids(at: usize, size: i32): void {
  for (const end = at + ((<usize>size) << 2); at < end; at += 16) v128.store(at, Four.sigmoid(v128.load(at)));
}
/** Each of f32[size] becomes its hyperbolic tangent; size a multiple of 4. */
export function tanhs(at: usize, size: i32): void {
  for (const end = at + ((<usize>size) << 2); at < end; at += 16) v128.store(at, Four.tanh(v128.load(at)));
}
