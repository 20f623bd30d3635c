import { BAND, DIMS, LINE, ROW_BYTES } from './layout';

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

/** Place of row i of a packed lower triangle: rows of one band lie together, each as long as the longest, zeros behind. */
export function packedRow(i: i32): usize {
  const band = i / BAND;
  return (<usize>(((BAND * BAND * band * (band + 1)) >> 1) + (i % BAND) * BAND * (band + 1))) << 3;
}

/**
 * Pack a lower triangular matrix.
 * @param l      f64[n, RUNS_MAX]
 * @param packed written; rows up to the end of the last band
 */
export function packLower(n: i32, l: usize, packed: usize): void {
  const rows = ((n + BAND - 1) / BAND) * BAND;
  for (let i = 0; i < rows; ++i) {
    const row = packed + packedRow(i);
    memory.fill(row, 0, (<usize>((i / BAND + 1) * BAND)) << 3);
    if (i < n) memory.copy(row, l + <usize>i * LINE, (<usize>(i + 1)) << 3);
  }
}

/**
 * |L x|^2 of a packed lower triangle.
 * @param x f64[n], zeros up to the next whole band
 */
export function packedNorm(n: i32, packed: usize, x: usize): f64 {
  let squares = f64x2.splat(0.0);
  let row = packed;
  for (let i = 0; i < n; i += BAND) {
    const length = (<usize>(i + BAND)) << 3;
    let a = f64x2.splat(0.0);
    let b = f64x2.splat(0.0);
    let c = f64x2.splat(0.0);
    let d = f64x2.splat(0.0);
    for (let at: usize = 0; at < length; at += 16) {
      const factor = v128.load(x + at);
      a = f64x2.add(a, f64x2.mul(v128.load(row + at), factor));
      b = f64x2.add(b, f64x2.mul(v128.load(row + length + at), factor));
      c = f64x2.add(c, f64x2.mul(v128.load(row + 2 * length + at), factor));
      d = f64x2.add(d, f64x2.mul(v128.load(row + 3 * length + at), factor));
    }
    const ab = sumPairs(a, b);
    const cd = sumPairs(c, d);
    squares = f64x2.add(squares, f64x2.add(f64x2.mul(ab, ab), f64x2.mul(cd, cd)));
    row += 4 * length;
  }
  return f64x2.extract_lane(squares, 0) + f64x2.extract_lane(squares, 1);
}

/**
 * Inner products of rows of coordinates with one of them, four at a time.
 * @param rows f64[n, DIMS], readable up to the next whole band
 * @param out  f64[n], written up to the next whole band
 */
export function innerProducts(n: i32, rows: usize, x: usize, out: usize): void {
  const end = (<usize>DIMS) << 3;
  for (let i = 0; i < n; i += BAND) {
    const row = rows + <usize>i * ROW_BYTES;
    let a = f64x2.splat(0.0);
    let b = f64x2.splat(0.0);
    let c = f64x2.splat(0.0);
    let d = f64x2.splat(0.0);
    for (let at: usize = 0; at < end; at += 16) {
      const factor = v128.load(x + at);
      a = f64x2.add(a, f64x2.mul(v128.load(row + at), factor));
      b = f64x2.add(b, f64x2.mul(v128.load(row + at + ROW_BYTES), factor));
      c = f64x2.add(c, f64x2.mul(v128.load(row + at + 2 * ROW_BYTES), factor));
      d = f64x2.add(d, f64x2.mul(v128.load(row + at + 3 * ROW_BYTES), factor));
    }
    v128.store(out + ((<usize>i) << 3), sumPairs(a, b));
    v128.store(out + ((<usize>i) << 3), sumPairs(c, d), 16);
  }
}

/**
 * Weighted squared distances of rows of coordinates from one of them; as `innerProducts` does.
 * @param weights f64[DIMS]
 */
export function squaredDistances(n: i32, rows: usize, weights: usize, x: usize, out: usize): void {
  const end = (<usize>DIMS) << 3;
  for (let i = 0; i < n; i += BAND) {
    const row = rows + <usize>i * ROW_BYTES;
    let a = f64x2.splat(0.0);
    let b = f64x2.splat(0.0);
    let c = f64x2.splat(0.0);
    let d = f64x2.splat(0.0);
    for (let at: usize = 0; at < end; at += 16) {
      const from = v128.load(x + at);
      const weight = v128.load(weights + at);
      const p = f64x2.sub(v128.load(row + at), from);
      const q = f64x2.sub(v128.load(row + at + ROW_BYTES), from);
      const r = f64x2.sub(v128.load(row + at + 2 * ROW_BYTES), from);
      const s = f64x2.sub(v128.load(row + at + 3 * ROW_BYTES), from);
      a = f64x2.add(a, f64x2.mul(weight, f64x2.mul(p, p)));
      b = f64x2.add(b, f64x2.mul(weight, f64x2.mul(q, q)));
      c = f64x2.add(c, f64x2.mul(weight, f64x2.mul(r, r)));
      d = f64x2.add(d, f64x2.mul(weight, f64x2.mul(s, s)));
    }
    v128.store(out + ((<usize>i) << 3), sumPairs(a, b));
    v128.store(out + ((<usize>i) << 3), sumPairs(c, d), 16);
  }
}

/** (sum of a, sum of b). */
export function sumPairs(a: v128, b: v128): v128 {
  return f64x2.add(v128.shuffle<f64>(a, b, 0, 2), v128.shuffle<f64>(a, b, 1, 3));
}
