// How far a row lies from the history when all metrics are seen together: Mahalanobis' distance.
import { get, put } from './layout';

/** Added to the diagonal of the correlations: metrics that copy each other would make the matrix singular. */
const RIDGE: f64 = 0.1;

/** Bytes from a triangle's start to its row i. */
function rowOf(i: i32): usize {
  return (<usize>((i * (i + 1)) / 2)) << 3;
}

/** triangle += z z', the lower half. */
export function addProducts(triangle: usize, z: usize, n: i32): void {
  for (let i = 0; i < n; ++i) {
    const line = triangle + rowOf(i);
    const zi = get(z, i);
    for (let j = 0; j <= i; ++j) put(line, j, get(line, j) + zi * get(z, j));
  }
}

/**
 * The sum of products over `count` rows becomes the lower Cholesky factor of its mean plus the ridge, in place:
 *
 *   L[i][j] = (A[i][j] - sum_{k<j} L[i][k] L[j][k]) / L[j][j],   L[i][i] = sqrt(A[i][i] - sum_{k<i} L[i][k]^2)
 */
export function factorMean(triangle: usize, n: i32, count: i32): void {
  for (let i = 0; i < n; ++i) {
    const line = triangle + rowOf(i);
    for (let j = 0; j <= i; ++j) {
      const other = triangle + rowOf(j);
      let rest = get(line, j) / <f64>count + (i === j ? RIDGE : 0.0);
      for (let k = 0; k < j; ++k) rest -= get(line, k) * get(other, k);
      // The ridge bounds every pivot from below but for rounding.
      put(line, j, i === j ? Math.sqrt(max(rest, RIDGE * 1e-6)) : rest / get(other, j));
    }
  }
}

/**
 * y = L^-1 z, forward.
 * @returns |y|^2 / n = z' (L L')^-1 z / n, about 1 over the history
 */
export function distance(triangle: usize, z: usize, n: i32, y: usize): f64 {
  let total = 0.0;
  for (let i = 0; i < n; ++i) {
    const line = triangle + rowOf(i);
    let sum = f64x2.splat(0.0);
    let k = 0;
    for (; k + 2 <= i; k += 2) {
      const at = (<usize>k) << 3;
      sum = f64x2.add(sum, f64x2.mul(v128.load(line + at), v128.load(y + at)));
    }
    let known = f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1);
    if (k < i) known += get(line, k) * get(y, k);
    const value = (get(z, i) - known) / get(line, i);
    put(y, i, value);
    total += value * value;
  }
  return total / <f64>n;
}

/** w = L'^-1 y, backward: with y of distance(), z[i] w[i] are the parts of the distance. `w` must not overlap `y`. */
export function unfold(triangle: usize, y: usize, n: i32, w: usize): void {
  for (let i = n - 1; i >= 0; --i) {
    let rest = get(y, i);
    for (let k = i + 1; k < n; ++k) rest -= get(triangle + rowOf(k), i) * get(w, k);
    put(w, i, rest / get(triangle + rowOf(i), i));
  }
}
