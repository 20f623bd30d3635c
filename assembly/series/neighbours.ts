// The analog expert's search: stretches of the past that ended like the present one.
//
// Every fourth position is looked at. Its features are its last value, the means of its last 4, 12 and 36 bins, and for how
// long the series had gone without a jump, each over its deviation.
import { FEATURE_ROWS, featureRow, LINE, NEAREST, NEAREST_DISTANCE, NEIGHBOURS, P_DISTANCE } from './layout';

const STRIDE: i32 = 4;
const LAST: i32 = 0;
const BLOCK: i32 = 1;
const NEAR: i32 = 2;
const FAR: i32 = 3;
const QUIET: i32 = 4;
const NEAR_BLOCKS: i32 = 3;
const FAR_BLOCKS: i32 = 9;
/** What a deviation in each feature weighs. */
const WEIGHTS = memory.data<f32>([1.0, 1.0, 1.0, 0.7, 0.5]);
/** A jump is a change of more than this share of the values' deviation. */
const JUMP: f32 = 0.1;

/**
 * Find the ends of the stretches before `origin` most like the one that ends there, into NEAREST, nearest first.
 * @param origin bins known; the present stretch ends with bin origin - 1
 * @returns how many were found, 0 to NEIGHBOURS
 */
export function findNeighbours(origin: i32): i32 {
  const blocks = origin / STRIDE;
  const first = origin - blocks * STRIDE;
  if (blocks <= FAR_BLOCKS) return 0; // no position but the present one has a full past
  const base = LINE + ((<usize>first) << 2);
  readLevels(base, blocks);
  const inverse = inverseDeviation(LAST, blocks);
  readQuiet(base, blocks, inverse > 0.0 ? JUMP / inverse : Infinity);
  memory.fill(P_DISTANCE, 0, (<usize>blocks + 3) << 2);
  for (let row = 0; row < FEATURE_ROWS; ++row) addDistance(row, blocks);
  return select(first, blocks);
}

function feature(row: i32, block: i32): f32 {
  return load<f32>(featureRow(row) + ((<usize>block) << 2));
}
function put(row: i32, block: i32, value: f32): void {
  store<f32>(featureRow(row) + ((<usize>block) << 2), value);
}

/** Last value and means of every position; places behind the last one repeat it. */
function readLevels(base: usize, blocks: i32): void {
  let near: f64 = 0.0;
  let far: f64 = 0.0;
  for (let i = 0; i < blocks; ++i) {
    const v = v128.load(base + ((<usize>i) << 4));
    const pair = f32x4.add(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
    const sum = f32x4.extract_lane(pair, 0) + f32x4.extract_lane(pair, 1);
    put(LAST, i, f32x4.extract_lane(v, 3));
    put(BLOCK, i, sum);
    near += <f64>sum;
    far += <f64>sum;
    if (i >= NEAR_BLOCKS) near -= <f64>feature(BLOCK, i - NEAR_BLOCKS);
    if (i >= FAR_BLOCKS) far -= <f64>feature(BLOCK, i - FAR_BLOCKS);
    put(NEAR, i, <f32>near);
    put(FAR, i, <f32>far);
  }
  for (let row = LAST; row <= FAR; ++row) repeatLast(row, blocks);
}

/** Bins since the last jump at every position, as a rough logarithm. */
function readQuiet(base: usize, blocks: i32, jump: f32): void {
  const limit = f32x4.splat(jump);
  let quiet = 3;
  put(QUIET, 0, roughLog2(quiet));
  for (let i = 1; i < blocks; ++i) {
    const at = base + ((<usize>i) << 4);
    const change = f32x4.abs(f32x4.sub(v128.load(at), v128.load(at - 4)));
    const jumps = i32x4.bitmask(f32x4.gt(change, limit));
    quiet = jumps === 0 ? quiet + STRIDE : clz(jumps) - 28;
    put(QUIET, i, roughLog2(quiet));
  }
  repeatLast(QUIET, blocks);
}

/** About log2(1 + count): right at powers of two, straight between them. */
function roughLog2(count: i32): f32 {
  return <f32>(reinterpret<i32>(<f32>(count + 1)) - 0x3f800000) * <f32>(1.0 / 8388608.0);
}

function repeatLast(row: i32, blocks: i32): void {
  for (let i = blocks; i < blocks + 3; ++i) put(row, i, feature(row, blocks - 1));
}

/** 1 / deviation of a feature over all positions; 0: it does not vary. */
function inverseDeviation(row: i32, blocks: i32): f32 {
  const from = featureRow(row);
  const present = f32x4.splat(feature(row, blocks - 1));
  let sums = f32x4.splat(0.0);
  let squares = f32x4.splat(0.0);
  for (let i: usize = 0; i < (<usize>blocks) << 2; i += 16) {
    const d = f32x4.sub(v128.load(from + i), present);
    sums = f32x4.add(sums, d);
    squares = f32x4.add(squares, f32x4.mul(d, d));
  }
  const n = <f32>blocks;
  const mean = total(sums) / n;
  const square = total(squares) / n;
  const variance = square - mean * mean;
  return variance > <f32>1e-6 * square ? <f32>1.0 / sqrt(variance) : 0.0;
}

function total(v: v128): f32 {
  const pair = f32x4.add(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(pair, 0) + f32x4.extract_lane(pair, 1);
}

/** Add what a feature contributes to the squared distance of every position from the present one. */
function addDistance(row: i32, blocks: i32): void {
  const from = featureRow(row);
  const present = f32x4.splat(feature(row, blocks - 1));
  const weight = f32x4.splat(load<f32>(WEIGHTS + ((<usize>row) << 2)) * inverseDeviation(row, blocks));
  for (let i: usize = 0; i < (<usize>blocks) << 2; i += 16) {
    const d = f32x4.mul(f32x4.sub(v128.load(from + i), present), weight);
    v128.store(P_DISTANCE + i, f32x4.add(v128.load(P_DISTANCE + i), f32x4.mul(d, d)));
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
