// Adam with bias correction, in f32 with f32 state, and clipping by the norm of all gradients together.
//
//   m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
//   parameter -= rate (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + epsilon)
//
// Source: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1;
// R. Pascanu et al., "On the difficulty of training recurrent neural networks", 2013, for the clipping.
import { Four } from './activations';

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/** Sum of the squares of f32[size] in f64, in one order; size a multiple of 4. Of several tensors: the sum of their sums. */
export function sumOfSquares(at: usize, size: i32): f64 {
  assert((size & 3) === 0, 'size must be a multiple of 4');
  let low = f64x2.splat(0.0);
  let high = f64x2.splat(0.0);
  for (const end = at + ((<usize>size) << 2); at < end; at += 16) {
    const a = f64x2.promote_low_f32x4(v128.load64_zero(at));
    const b = f64x2.promote_low_f32x4(v128.load64_zero(at, 8));
    low = f64x2.add(low, f64x2.mul(a, a));
    high = f64x2.add(high, f64x2.mul(b, b));
  }
  const both = f64x2.add(low, high);
  return f64x2.extract_lane(both, 0) + f64x2.extract_lane(both, 1);
}

/**
 * What gradients are multiplied by so that their norm is at most `most`.
 * @param squares sum of their squares
 * @param most    positive
 * @returns       in (0, 1]; 0 when the sum is not finite: then no step must be taken
 */
export function clipFactor(squares: f64, most: f64): f64 {
  assert(most > 0.0, 'the largest norm must be positive');
  if (!(squares <= f64.MAX_VALUE)) return 0.0;
  return min(1.0, most / Math.sqrt(squares));
}

/**
 * One step over one tensor.
 * @param parameters f32[size], updated
 * @param gradient   f32[size], read
 * @param m          f32[size], first moment, updated; zero before the first step
 * @param v          f32[size], second moment, updated; zero before the first step
 * @param size       a multiple of 4
 * @param count      steps with this one, from 1
 * @param rate       learning rate, positive
 * @param factor     of clipFactor, positive
 */
export function adamStep(
  parameters: usize,
  gradient: usize,
  m: usize,
  v: usize,
  size: i32,
  count: i32,
  rate: f64,
  factor: f64,
): void {
  assert((size & 3) === 0, 'size must be a multiple of 4');
  assert(count > 0, 'steps count from 1');
  assert(rate > 0.0 && factor > 0.0 && factor <= 1.0, 'rate must be positive, factor in (0, 1]');
  // The corrections leave the loop: rate m' / (sqrt(v') + e) is corrected m / (sqrt(v) + e root).
  const root = Math.sqrt(1.0 - BETA2 ** <f64>count);
  const corrected = f32x4.splat(<f32>((rate * root) / (1.0 - BETA1 ** <f64>count)));
  const epsilon = f32x4.splat(<f32>(EPSILON * root));
  const scale = f32x4.splat(<f32>factor);
  const keep1 = f32x4.splat(<f32>BETA1);
  const keep2 = f32x4.splat(<f32>BETA2);
  const take1 = f32x4.splat(<f32>(1.0 - BETA1));
  const take2 = f32x4.splat(<f32>(1.0 - BETA2));
  for (let at: usize = 0; at < (<usize>size) << 2; at += 16) {
    const g = f32x4.mul(v128.load(gradient + at), scale);
    const first = Four.multiplyAdd(keep1, v128.load(m + at), f32x4.mul(take1, g));
    const second = Four.multiplyAdd(keep2, v128.load(v + at), f32x4.mul(take2, f32x4.mul(g, g)));
    v128.store(m + at, first);
    v128.store(v + at, second);
    const step = f32x4.div(f32x4.mul(corrected, first), f32x4.add(f32x4.sqrt(second), epsilon));
    v128.store(parameters + at, f32x4.sub(v128.load(parameters + at), step));
  }
}
