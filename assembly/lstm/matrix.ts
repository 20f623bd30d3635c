// Products of matrices in f32, row-major. Each element of a result is one chain of additions by growing inner index, so
// that its bits do not depend on how many rows are worked on at once.
import { Four } from './activations';

/** Every one of `rows` rows of `to`, f32[rows, columns], becomes `row`, f32[columns]. */
export function fillRows(rows: i32, columns: i32, row: usize, to: usize): void {
  const line = (<usize>columns) << 2;
  for (let r = 0; r < rows; ++r, to += line) memory.copy(to, row, line);
}

/**
 * C += A B.
 * @param columns of B and C, a multiple of 4
 * @param inner   columns of A, rows of B
 * @param a       f32[rows, inner]
 * @param b       f32[inner, columns]
 * @param c       f32[rows, columns], read and written; must not overlap A or B
 */
export function multiplyAccumulate(rows: i32, columns: i32, inner: i32, a: usize, b: usize, c: usize): void {
  assert((columns & 3) === 0, 'columns must be a multiple of 4');
  const line = (<usize>inner) << 2;
  const lineC = (<usize>columns) << 2;
  const wide = lineC & ~(<usize>31);
  let r = 0;
  for (; r + 4 <= rows; r += 4, a += 4 * line, c += 4 * lineC) {
    for (let at: usize = 0; at < wide; at += 32) fourByEight(line, lineC, a, b + at, c + at);
    if (wide < lineC) fourByFour(line, lineC, a, b + wide, c + wide);
  }
  for (; r < rows; ++r, a += line, c += lineC) {
    for (let at: usize = 0; at < lineC; at += 16) oneByFour(line, lineC, a, b + at, c + at);
  }
}

/** Four rows by eight columns: eight sums, two loads and four splats are what sixteen registers hold. */
function fourByEight(line: usize, lineC: usize, a: usize, b: usize, c0: usize): void {
  const c1 = c0 + lineC;
  const c2 = c1 + lineC;
  const c3 = c2 + lineC;
  const line2 = 2 * line;
  const line3 = 3 * line;
  let s00 = v128.load(c0);
  let s01 = v128.load(c0, 16);
  let s10 = v128.load(c1);
  let s11 = v128.load(c1, 16);
  let s20 = v128.load(c2);
  let s21 = v128.load(c2, 16);
  let s30 = v128.load(c3);
  let s31 = v128.load(c3, 16);
  for (const end = a + line; a < end; a += 4, b += lineC) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    const a0 = v128.load32_splat(a);
    s00 = Four.multiplyAdd(a0, b0, s00);
    s01 = Four.multiplyAdd(a0, b1, s01);
    const a1 = v128.load32_splat(a + line);
    s10 = Four.multiplyAdd(a1, b0, s10);
    s11 = Four.multiplyAdd(a1, b1, s11);
    const a2 = v128.load32_splat(a + line2);
    s20 = Four.multiplyAdd(a2, b0, s20);
    s21 = Four.multiplyAdd(a2, b1, s21);
    const a3 = v128.load32_splat(a + line3);
    s30 = Four.multiplyAdd(a3, b0, s30);
    s31 = Four.multiplyAdd(a3, b1, s31);
  }
  v128.store(c0, s00);
  v128.store(c0, s01, 16);
  v128.store(c1, s10);
  v128.store(c1, s11, 16);
  v128.store(c2, s20);
  v128.store(c2, s21, 16);
  v128.store(c3, s30);
  v128.store(c3, s31, 16);
}

function fourByFour(line: usize, lineC: usize, a: usize, b: usize, c: usize): void {
  for (let r = 0; r < 4; ++r, a += line, c += lineC) oneByFour(line, lineC, a, b, c);
}

function oneByFour(line: usize, lineC: usize, a: usize, b: usize, c: usize): void {
  let sum = v128.load(c);
  for (const end = a + line; a < end; a += 4, b += lineC) {
    sum = Four.multiplyAdd(v128.load32_splat(a), v128.load(b), sum);
  }
  v128.store(c, sum);
}

/**
 * C += A' B, the sum of outer products of A's and B's rows: growing row index.
 * @param columns of B and C, a multiple of 4
 * @param width   columns of A, rows of C, a multiple of 4
 * @param a       f32[rows, width]
 * @param b       f32[rows, columns]
 * @param c       f32[width, columns], read and written; must not overlap A or B
 */
export function multiplyTransposedAccumulate(
  rows: i32,
  columns: i32,
  width: i32,
  a: usize,
  b: usize,
  c: usize,
): void {
  assert((columns & 3) === 0 && (width & 3) === 0, 'columns and width must be multiples of 4');
  const line = (<usize>width) << 2;
  const lineC = (<usize>columns) << 2;
  const wide = lineC & ~(<usize>31);
  // A block of rows stays in the first cache while every tile of C is brought forward by it.
  for (let r = 0; r < rows; r += BLOCK_ROWS) {
    const count = min(BLOCK_ROWS, rows - r);
    let to = c;
    for (let i: usize = 0; i < line; i += 16, to += 4 * lineC) {
      for (let at: usize = 0; at < wide; at += 32) outerByEight(count, line, lineC, a + i, b + at, to + at);
      if (wide < lineC) outerByFour(count, line, lineC, a + i, b + wide, to + wide);
    }
    a += <usize>count * line;
    b += <usize>count * lineC;
  }
}

/** Rows of A and B worked on together: 32 rows of 256 columns are 32 KiB. */
const BLOCK_ROWS: i32 = 32;

function outerByEight(rows: i32, line: usize, lineC: usize, a: usize, b: usize, c0: usize): void {
  const c1 = c0 + lineC;
  const c2 = c1 + lineC;
  const c3 = c2 + lineC;
  let s00 = v128.load(c0);
  let s01 = v128.load(c0, 16);
  let s10 = v128.load(c1);
  let s11 = v128.load(c1, 16);
  let s20 = v128.load(c2);
  let s21 = v128.load(c2, 16);
  let s30 = v128.load(c3);
  let s31 = v128.load(c3, 16);
  for (let r = 0; r < rows; ++r, a += line, b += lineC) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    const a0 = v128.load32_splat(a);
    s00 = Four.multiplyAdd(a0, b0, s00);
    s01 = Four.multiplyAdd(a0, b1, s01);
    const a1 = v128.load32_splat(a, 4);
    s10 = Four.multiplyAdd(a1, b0, s10);
    s11 = Four.multiplyAdd(a1, b1, s11);
    const a2 = v128.load32_splat(a, 8);
    s20 = Four.multiplyAdd(a2, b0, s20);
    s21 = Four.multiplyAdd(a2, b1, s21);
    const a3 = v128.load32_splat(a, 12);
    s30 = Four.multiplyAdd(a3, b0, s30);
    s31 = Four.multiplyAdd(a3, b1, s31);
  }
  v128.store(c0, s00);
  v128.store(c0, s01, 16);
  v128.store(c1, s10);
  v128.store(c1, s11, 16);
  v128.store(c2, s20);
  v128.store(c2, s21, 16);
  v128.store(c3, s30);
  v128.store(c3, s31, 16);
}

function outerByFour(rows: i32, line: usize, lineC: usize, a: usize, b: usize, c: usize): void {
  let s0 = v128.load(c);
  let s1 = v128.load(c + lineC);
  let s2 = v128.load(c + 2 * lineC);
  let s3 = v128.load(c + 3 * lineC);
  for (let r = 0; r < rows; ++r, a += line, b += lineC) {
    const b0 = v128.load(b);
    s0 = Four.multiplyAdd(v128.load32_splat(a), b0, s0);
    s1 = Four.multiplyAdd(v128.load32_splat(a, 4), b0, s1);
    s2 = Four.multiplyAdd(v128.load32_splat(a, 8), b0, s2);
    s3 = Four.multiplyAdd(v128.load32_splat(a, 12), b0, s3);
  }
  v128.store(c, s0);
  v128.store(c + lineC, s1);
  v128.store(c + 2 * lineC, s2);
  v128.store(c + 3 * lineC, s3);
}

/** to = from', f32[rows, columns] to f32[columns, rows]; they must not overlap. */
export function transpose(rows: i32, columns: i32, from: usize, to: usize): void {
  const line = (<usize>rows) << 2;
  for (let r = 0; r < rows; ++r, to += 4) {
    let at = to;
    for (let j = 0; j < columns; ++j, from += 4, at += line) store<f32>(at, load<f32>(from));
  }
}

/** sums += the rows of `a`, f32[rows, columns], in order; columns a multiple of 4. */
export function sumRows(rows: i32, columns: i32, a: usize, sums: usize): void {
  const line = (<usize>columns) << 2;
  for (let at: usize = 0; at < line; at += 16) {
    let sum = v128.load(sums + at);
    for (let r = 0, p = a + at; r < rows; ++r, p += line) sum = f32x4.add(sum, v128.load(p));
    v128.store(sums + at, sum);
  }
}
