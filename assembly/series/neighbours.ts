// The analog expert's search: stretches of the past that ended like the present one.
//
// A position's features are its last value, the mean of its last 8 and of its last 36 bins, each over its deviation;
// every fourth position is looked at.
import { LINE, NEAREST, NEAREST_DISTANCE, NEIGHBOURS, P_DISTANCE, P_FAR, P_LAST, P_NEAR } from './layout';

const STRIDE: i32 = 4;
const NEAR_BLOCKS: i32 = 2;
const FAR_BLOCKS: i32 = 9;
const FAR_WEIGHT: f32 = 0.7;

/**
 * Find the ends of the stretches before `origin` most like the one that ends there, into NEAREST, nearest first.
 * @param origin bins known; the present stretch ends with bin origin - 1
 * @returns how many were found, 0 to NEIGHBOURS
 */
export function findNeighbours(origin: i32): i32 {
  const blocks = origin / STRIDE;
  const first = origin - blocks * STRIDE;
  const usable = blocks - FAR_BLOCKS; // positions with a full past, the present one not counted
  if (usable < 1) return 0;
  let near: f64 = 0.0;
  let far: f64 = 0.0;
  let s1: f64 = 0.0;
  let s2: f64 = 0.0;
  let s3: f64 = 0.0;
  let q1: f64 = 0.0;
  let q2: f64 = 0.0;
  let q3: f64 = 0.0;
  const base = LINE + ((<usize>first) << 2);
  for (let i = 0; i < blocks; ++i) {
    const at = base + ((<usize>i) << 4);
    const sum = blockSum(at);
    near += sum;
    far += sum;
    if (i >= NEAR_BLOCKS) near -= blockSum(at - 16 * <usize>NEAR_BLOCKS);
    if (i >= FAR_BLOCKS) far -= blockSum(at - 16 * <usize>FAR_BLOCKS);
    const last = load<f32>(at + 12);
    const place = (<usize>i) << 2;
    store<f32>(P_LAST + place, last);
    store<f32>(P_NEAR + place, <f32>near);
    store<f32>(P_FAR + place, <f32>far);
    const l = <f64>last;
    s1 += l;
    q1 += l * l;
    s2 += near;
    q2 += near * near;
    s3 += far;
    q3 += far * far;
  }
  const n = <f64>blocks;
  const w1 = inverseDeviation(s1, q1, n);
  const w2 = inverseDeviation(s2, q2, n);
  const w3 = inverseDeviation(s3, q3, n) * FAR_WEIGHT;
  distances(blocks, w1, w2, w3);
  return select(first, blocks);
}

function blockSum(at: usize): f64 {
  const v = v128.load(at);
  const pair = f32x4.add(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return <f64>f32x4.extract_lane(pair, 0) + <f64>f32x4.extract_lane(pair, 1);
}

function inverseDeviation(sum: f64, squares: f64, n: f64): f32 {
  const mean = sum / n;
  const variance = squares / n - mean * mean;
  return variance > 1e-12 * (squares / n) ? <f32>(1.0 / Math.sqrt(variance)) : 0.0;
}

function distances(blocks: i32, w1: f32, w2: f32, w3: f32): void {
  const present = (<usize>(blocks - 1)) << 2;
  const l0 = f32x4.splat(load<f32>(P_LAST + present));
  const n0 = f32x4.splat(load<f32>(P_NEAR + present));
  const f0 = f32x4.splat(load<f32>(P_FAR + present));
  const a = f32x4.splat(w1);
  const b = f32x4.splat(w2);
  const c = f32x4.splat(w3);
  for (let i: usize = 0; i < (<usize>blocks) << 2; i += 16) {
    const x = f32x4.mul(f32x4.sub(v128.load(P_LAST + i), l0), a);
    const y = f32x4.mul(f32x4.sub(v128.load(P_NEAR + i), n0), b);
    const z = f32x4.mul(f32x4.sub(v128.load(P_FAR + i), f0), c);
    v128.store(P_DISTANCE + i, f32x4.add(f32x4.add(f32x4.mul(x, x), f32x4.mul(y, y)), f32x4.mul(z, z)));
  }
}

function select(first: i32, blocks: i32): i32 {
  let held = 0;
  let limit: f32 = Infinity;
  for (let i = blocks - 2; i >= FAR_BLOCKS - 1; --i) {
    const d = load<f32>(P_DISTANCE + ((<usize>i) << 2));
    if (d >= limit) continue;
    let place = held < NEIGHBOURS ? held : NEIGHBOURS - 1;
    while (place > 0 && load<f32>(NEAREST_DISTANCE + ((<usize>(place - 1)) << 2)) > d) {
      store<f32>(
        NEAREST_DISTANCE + ((<usize>place) << 2),
        load<f32>(NEAREST_DISTANCE + ((<usize>(place - 1)) << 2)),
      );
      store<i32>(NEAREST + ((<usize>place) << 2), load<i32>(NEAREST + ((<usize>(place - 1)) << 2)));
      place -= 1;
    }
    store<f32>(NEAREST_DISTANCE + ((<usize>place) << 2), d);
    store<i32>(NEAREST + ((<usize>place) << 2), first + (i + 1) * STRIDE);
    if (held < NEIGHBOURS) held += 1;
    if (held === NEIGHBOURS) limit = load<f32>(NEAREST_DISTANCE + ((<usize>(NEIGHBOURS - 1)) << 2));
  }
  return held;
}
