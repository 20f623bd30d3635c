// A bitonic sort of 128 keys, four to a vector: the same operations for every input.
import { ATOMS, KEYS } from './layout';

/** Order of a float as an integer: negative ones turned round. */
export function orderOf(value: f32): i32 {
  const bits = reinterpret<i32>(value);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

/** Sort KEYS, i32[ATOMS], increasing. */
export function sortKeys(): void {
  for (let k = 2; k <= ATOMS; k <<= 1) {
    for (let j = k >> 1; j >= 4; j >>= 1) {
      const far = (<usize>j) << 2;
      for (let i = 0; i < ATOMS; i += 4) {
        if ((i & j) !== 0) continue;
        const at = KEYS + ((<usize>i) << 2);
        const a = v128.load(at);
        const b = v128.load(at + far);
        const low = i32x4.min_s(a, b);
        const high = i32x4.max_s(a, b);
        if ((i & k) === 0) {
          v128.store(at, low);
          v128.store(at + far, high);
        } else {
          v128.store(at, high);
          v128.store(at + far, low);
        }
      }
    }
    inVectors(k);
  }
}

/** The last two rounds of a merge of k: partners two and one apart. */
function inVectors(k: i32): void {
  const upper2 = i32x4(0, 0, -1, -1);
  const upper1 = i32x4(0, -1, 0, -1);
  for (let i = 0; i < ATOMS; i += 4) {
    const at = KEYS + ((<usize>i) << 2);
    let v = v128.load(at);
    if (k === 2) {
      // Pairs alternate in direction inside one vector.
      const p = v128.shuffle<i32>(v, v, 1, 0, 3, 2);
      v = v128.bitselect(i32x4.max_s(v, p), i32x4.min_s(v, p), i32x4(0, -1, -1, 0));
      v128.store(at, v);
      continue;
    }
    const down = i32x4.splat((i & k) === 0 ? 0 : -1);
    const p2 = v128.shuffle<i32>(v, v, 2, 3, 0, 1);
    v = v128.bitselect(i32x4.max_s(v, p2), i32x4.min_s(v, p2), v128.xor(upper2, down));
    const p1 = v128.shuffle<i32>(v, v, 1, 0, 3, 2);
    v = v128.bitselect(i32x4.max_s(v, p1), i32x4.min_s(v, p1), v128.xor(upper1, down));
    v128.store(at, v);
  }
}
