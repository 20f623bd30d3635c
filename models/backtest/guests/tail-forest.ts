import { ANCHORS, FEATURES } from './tail-features.ts';

/** Edges of outcomes relative to a tree's anchor, in doublings: fine around it, coarse far above. */
const EDGES = [
  ...Array.from({ length: 48 }, (_, i) => -1 + i / 16),
  ...Array.from({ length: 17 }, (_, i) => 2 + i / 2),
];
const FINE_EDGES = 48;
/** Splits are judged from here on: what lies below is never short. */
const JUDGED_FROM = 10;
const TREES = 24;
const DEPTH = 8;
const ROWS_PER_TREE = 60_000;
const LEAF_ROWS_MIN = 250;
/** Places where a feature may be split. */
const CUTS = 20;
/** Features looked at in a node. */
const TRIED = 10;

interface Tree {
  readonly anchor: number;
  /** Feature of each node, -1 for a leaf; children of i are 2 i + 1 and 2 i + 2. */
  readonly feature: Int8Array;
  readonly cut: Float32Array;
  /** Share of a leaf's outcomes above each edge. */
  readonly above: Float32Array[];
}

/** Rows to learn from, by guest. */
export interface TailRows {
  /** f32[rows, FEATURES] */
  readonly features: Float32Array;
  /** f32[rows], in doublings; NaN: not recorded. */
  readonly outcomes: Float32Array;
}

/** Where an outcome lies among the edges: how many it exceeds. */
function exceeded(relative: number): number {
  if (relative <= -1) return 0;
  if (relative <= 2) return Math.ceil((relative + 1) * 16);
  return Math.min(FINE_EDGES + Math.ceil((relative - 2) * 2), EDGES.length);
}

/**
 * The distribution of the demand to come, as trees that were grown on other guests or another month: each leaf holds what
 * followed where things stood alike, and the trees' leaves are averaged. Each tree sees other guests and other bins.
 * Source: Meinshausen, "Quantile Regression Forests", JMLR 7, 2006.
 */
export class TailForest {
  readonly #trees: Tree[] = [];

  constructor(guests: readonly TailRows[], random: () => number) {
    for (let tree = 0; tree < TREES; tree += 1)
      this.#trees.push(grow(guests, ANCHORS[tree % ANCHORS.length] as number, random));
  }

  /** Leaves that a row falls into; for `above`. @param leaves i32[trees], filled */
  find(features: Float32Array, at: number, leaves: Int32Array): void {
    for (const [t, { anchor, feature, cut }] of this.#trees.entries()) {
      const base = features[at + anchor] as number;
      let node = 0;
      for (let f = feature[0] as number; f >= 0; f = feature[node] as number) {
        const value = (features[at + f] as number) - (f === anchor ? 0 : base);
        node = 2 * node + (value <= (cut[node] as number) ? 1 : 2);
      }
      leaves[t] = node;
    }
  }

  /** Chance that the demand exceeds a size. @param size in doublings */
  above(features: Float32Array, at: number, leaves: Int32Array, size: number): number {
    let sum = 0;
    for (let t = 0; t < this.#trees.length; t += 1) {
      const tree = this.#trees[t] as Tree;
      const above = tree.above[leaves[t] as number] as Float32Array;
      const relative = size - (features[at + tree.anchor] as number);
      const place = relative < 2 ? (relative + 1) * 16 : FINE_EDGES + (relative - 2) * 2;
      if (place <= 0) sum += 1;
      else if (place < EDGES.length - 1) {
        const low = Math.floor(place);
        const a = above[low] as number;
        sum += a + ((above[low + 1] as number) - a) * (place - low);
      }
    }
    return sum / this.#trees.length;
  }

  get size(): number {
    return this.#trees.length;
  }
}

function grow(guests: readonly TailRows[], anchor: number, random: () => number): Tree {
  // Guests of this tree, and rows of them.
  const own = guests.filter(() => random() < 0.6);
  const used = own.length > 0 ? own : guests;
  const perGuest = Math.ceil(ROWS_PER_TREE / used.length);
  const count = perGuest * used.length;
  const values = new Float32Array(count * FEATURES);
  const outcome = new Uint8Array(count);
  let rows = 0;
  for (const { features, outcomes } of used) {
    for (let i = 0; i < perGuest; i += 1) {
      const row = Math.floor(random() * outcomes.length);
      const value = outcomes[row] as number;
      if (Number.isNaN(value)) continue;
      const base = features[row * FEATURES + anchor] as number;
      for (let f = 0; f < FEATURES; f += 1)
        values[rows * FEATURES + f] = (features[row * FEATURES + f] as number) - (f === anchor ? 0 : base);
      outcome[rows] = exceeded(value - base);
      rows += 1;
    }
  }
  const cuts = Array.from({ length: FEATURES }, (_, f) => cutsOf(values, rows, f));
  const place = new Uint8Array(rows * FEATURES);
  for (let row = 0; row < rows; row += 1)
    for (let f = 0; f < FEATURES; f += 1) {
      const value = values[row * FEATURES + f] as number;
      const list = cuts[f] as Float32Array;
      let c = 0;
      while (c < list.length && value > (list[c] as number)) c += 1;
      place[row * FEATURES + f] = c;
    }
  const nodes = 2 ** (DEPTH + 1) - 1;
  const tree: Tree = {
    anchor,
    feature: new Int8Array(nodes).fill(-1),
    cut: new Float32Array(nodes),
    above: [],
  };
  const split = (node: number, members: Int32Array, depth: number): void => {
    const best =
      depth < DEPTH && members.length >= 2 * LEAF_ROWS_MIN
        ? bestSplit(members, place, outcome, cuts, random)
        : undefined;
    if (best === undefined) {
      tree.above[node] = aboveOf(members, outcome);
      return;
    }
    tree.feature[node] = best.feature;
    tree.cut[node] = (cuts[best.feature] as Float32Array)[best.cut] as number;
    const isLow = (row: number): boolean => (place[row * FEATURES + best.feature] as number) <= best.cut;
    split(2 * node + 1, members.filter(isLow), depth + 1);
    split(
      2 * node + 2,
      members.filter((row) => !isLow(row)),
      depth + 1,
    );
  };
  split(
    0,
    Int32Array.from({ length: rows }, (_, row) => row),
    0,
  );
  return tree;
}

function cutsOf(values: Float32Array, rows: number, feature: number): Float32Array {
  const sample = new Float32Array(Math.min(rows, 4000));
  for (let i = 0; i < sample.length; i += 1)
    sample[i] = values[Math.floor((i * rows) / sample.length) * FEATURES + feature] as number;
  sample.sort();
  const cuts = new Set<number>();
  for (let c = 1; c <= CUTS; c += 1)
    cuts.add(sample[Math.floor((c * (sample.length - 1)) / (CUTS + 1))] as number);
  return Float32Array.from([...cuts].sort((a, b) => a - b));
}

function bestSplit(
  members: Int32Array,
  place: Uint8Array,
  outcome: Uint8Array,
  cuts: readonly Float32Array[],
  random: () => number,
): { readonly feature: number; readonly cut: number } | undefined {
  const width = EDGES.length + 1;
  let best: { feature: number; cut: number } | undefined;
  let least = Number.POSITIVE_INFINITY;
  const counts = new Float64Array((CUTS + 1) * width);
  const low = new Float64Array(width);
  const all = new Float64Array(width);
  for (const row of members) all[outcome[row] as number] = (all[outcome[row] as number] as number) + 1;
  const whole = impurity(all, undefined, members.length);
  for (let f = 0; f < FEATURES; f += 1) {
    const list = cuts[f] as Float32Array;
    if (random() * FEATURES >= TRIED || list.length < 1) continue;
    counts.fill(0);
    for (const row of members) {
      const at = (place[row * FEATURES + f] as number) * width + (outcome[row] as number);
      counts[at] = (counts[at] as number) + 1;
    }
    low.fill(0);
    let below = 0;
    for (let c = 0; c < list.length; c += 1) {
      for (let o = 0; o < width; o += 1) {
        const n = counts[c * width + o] as number;
        low[o] = (low[o] as number) + n;
        below += n;
      }
      if (below < LEAF_ROWS_MIN || members.length - below < LEAF_ROWS_MIN) continue;
      const cost = impurity(low, undefined, below) + impurity(all, low, members.length - below);
      if (cost < least) {
        least = cost;
        best = { feature: f, cut: c };
      }
    }
  }
  return least < whole - 1e-6 ? best : undefined;
}

/** Sum over the judged edges of the log loss of "above it or not". @param without counts to take off first */
function impurity(counts: Float64Array, without: Float64Array | undefined, n: number): number {
  let above = 0;
  let sum = 0;
  for (let o = EDGES.length; o > JUDGED_FROM; o -= 1) {
    above += (counts[o] as number) - (without?.[o] ?? 0);
    if (above > 0 && above < n) {
      const p = above / n;
      sum -= above * Math.log(p) + (n - above) * Math.log(1 - p);
    }
  }
  return sum;
}

function aboveOf(members: Int32Array, outcome: Uint8Array): Float32Array {
  const above = new Float32Array(EDGES.length);
  for (const row of members) {
    const n = outcome[row] as number;
    for (let e = 0; e < n; e += 1) above[e] = (above[e] as number) + 1;
  }
  return above.map((n) => n / members.length);
}
