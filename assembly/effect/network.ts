// Twelve shares with their probabilities, sorted at several knots at once: the same comparisons whatever they are.
//
// Source: Bert Dobbelaere, "Smallest and fastest sorting networks for a given number of inputs": 12 inputs, 39 comparisons, 9 layers.

const COMPARISONS: i32 = 39;
/** Bytes from one of the twelve to the next: 16 knots, f32. */
const LINE: usize = 64;

const pairs = memory.data<u8>([
  0, 8, 1, 7, 2, 6, 3, 11, 4, 10, 5, 9, 0, 1, 2, 5, 3, 4, 6, 9, 7, 8, 10, 11, 0, 2, 1, 6, 5, 10, 9, 11, 0, 3,
  1, 2, 4, 6, 5, 7, 8, 11, 9, 10, 1, 4, 3, 5, 6, 8, 7, 10, 1, 3, 2, 5, 6, 9, 8, 10, 2, 3, 4, 5, 6, 7, 8, 9, 4,
  6, 5, 7, 3, 4, 5, 6, 7, 8,
]);
const offsets = memory.data(624); // i64[COMPARISONS, 2], bytes

/** Fill the table; once. */
export function prepareNetwork(): void {
  for (let i = 0; i < 2 * COMPARISONS; ++i)
    store<usize>(offsets + ((<usize>i) << 3), <usize>load<u8>(pairs + <usize>i) * LINE);
}

/**
 * Sort by share, increasing, at each knot by itself.
 * @param shares f32[12, 16], not NaN
 * @param mass   f32[12, 16], moved along
 * @param bytes  of the knots in use, a multiple of 16
 */
export function sortShares(shares: usize, mass: usize, bytes: usize): void {
  for (let i = 0; i < COMPARISONS; ++i) {
    const a = load<usize>(offsets + ((<usize>i) << 4));
    const b = load<usize>(offsets + ((<usize>i) << 4), 8);
    for (let at: usize = 0; at < bytes; at += 16) {
      const x = v128.load(shares + a + at);
      const y = v128.load(shares + b + at);
      const p = v128.load(mass + a + at);
      const q = v128.load(mass + b + at);
      const swaps = f32x4.lt(y, x);
      v128.store(shares + a + at, v128.bitselect(y, x, swaps));
      v128.store(shares + b + at, v128.bitselect(x, y, swaps));
      v128.store(mass + a + at, v128.bitselect(q, p, swaps));
      v128.store(mass + b + at, v128.bitselect(p, q, swaps));
    }
  }
}
