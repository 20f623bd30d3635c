import { LINE } from './layout';

/**
 * Dot product of two vectors.
 * @param n even, or the element after the last is zero in `a` and finite in `b`
 */
export function dot(a: usize, b: usize, n: i32): f64 {
  let sum = f64x2.splat(0.0);
  const end = a + ((<usize>n) << 3);
  for (; a < end; a += 16, b += 16) sum = f64x2.add(sum, f64x2.mul(v128.load(a), v128.load(b)));
  return f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1);
}

/** y += scale * x over `n` elements; may write zero-scaled noise one past an odd end, so pad with zeros. */
export function addScaled(y: usize, scale: f64, x: usize, n: i32): void {
  const s = f64x2.splat(scale);
  const end = x + ((<usize>n) << 3);
  for (; x < end; x += 16, y += 16) v128.store(y, f64x2.add(v128.load(y), f64x2.mul(s, v128.load(x))));
}

/** Least pivot: a matrix this close to singular is treated as if it had this much noise. */
const PIVOT_MIN: f64 = 1e-12;

/**
 * Lower Cholesky factor: A = L L'.
 *
 *   L[i][j] = (A[i][j] - sum_{k<j} L[i][k] L[j][k]) / L[j][j],   L[i][i] = sqrt(A[i][i] - sum_{k<i} L[i][k]^2)
 *
 * @param a f64[n, RUNS_MAX], lower triangle read
 * @param l f64[n, RUNS_MAX], lower triangle written; may be `a` itself, since A[i][j] is read before L[i][j] is written
 */
export function factor(n: i32, a: usize, l: usize): void {
  for (let i = 0; i < n; ++i) {
    const rowA = a + <usize>i * LINE;
    const rowL = l + <usize>i * LINE;
    for (let j = 0; j <= i; ++j) {
      const other = l + <usize>j * LINE;
      let sum = f64x2.splat(0.0);
      let k = 0;
      for (; k + 2 <= j; k += 2) {
        const at = (<usize>k) << 3;
        sum = f64x2.add(sum, f64x2.mul(v128.load(rowL + at), v128.load(other + at)));
      }
      let total = f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1);
      if (k < j) total += load<f64>(rowL + ((<usize>k) << 3)) * load<f64>(other + ((<usize>k) << 3));
      const at = (<usize>j) << 3;
      const rest = load<f64>(rowA + at) - total;
      if (i === j) store<f64>(rowL + at, Math.sqrt(max(rest, PIVOT_MIN)));
      else store<f64>(rowL + at, rest / load<f64>(other + at));
    }
  }
}

/**
 * Inverse of a lower triangular matrix, row by row; the upper triangle of `inverse` becomes zero.
 *
 *   inverse[i] = (e_i - sum_{k<i} L[i][k] inverse[k]) / L[i][i]
 *
 * @param l       f64[n, RUNS_MAX]
 * @param inverse f64[n, RUNS_MAX], written; must not overlap `l`
 */
export function invertLower(n: i32, l: usize, inverse: usize): void {
  memory.fill(inverse, 0, <usize>n * LINE);
  for (let i = 0; i < n; ++i) {
    const rowL = l + <usize>i * LINE;
    const row = inverse + <usize>i * LINE;
    for (let k = 0; k < i; ++k) {
      addScaled(row, -load<f64>(rowL + ((<usize>k) << 3)), inverse + <usize>k * LINE, k + 1);
    }
    const scale = 1.0 / load<f64>(rowL + ((<usize>i) << 3));
    const s = f64x2.splat(scale);
    for (let at: usize = 0; at < (<usize>i) << 3; at += 16) {
      v128.store(row + at, f64x2.mul(v128.load(row + at), s));
    }
    store<f64>(row + ((<usize>i) << 3), scale);
  }
}
