import { EDGES, FORECAST_ODDS } from './chance-edges.ts';
import { FEATURE_BINS, FeatureBins } from './feature-bins.ts';

/** Rows to learn from. */
export interface ChanceRows {
  /** f32[rows, features] */
  readonly features: Float32Array;
  /** u8[rows]: how many of its edges each row's demand exceeded. */
  readonly exceeded: Uint8Array;
  /** u16[rows]: whose row it is, from 0. */
  readonly guest: Uint16Array;
}

const TREES = 120;
const DEPTH = 6;
const LEAVES = 2 ** DEPTH;
/** Share of what a leaf found that is believed. */
const RATE = 0.12;
/** Added to a leaf's weight: a few rows say little. */
const CALM = 4;
/** Most that a leaf may find, in log-odds. */
const FOUND_MAX = 3;
const SIDE_ROWS_MIN = 200;
/** What a tree sees: other guests, other rows of theirs, other features. */
const GUEST_SHARE = 0.6;
const ROW_SHARE = 0.35;
const FEATURE_SHARE = 0.6;
/** Edges that trees are split by: not those that all or none exceed. */
const FIRST_EDGE = 3;
const LAST_EDGE = EDGES - 4;

interface Tree {
  /** i16[LEAVES - 1], level by level; children of the w-th node of a level are 2 w and 2 w + 1. -1: all go to the first. */
  readonly feature: Int16Array;
  /** Last bin that goes to the first child. */
  readonly cut: Uint8Array;
  /** f32[LEAVES, EDGES], in log-odds. */
  readonly found: Float32Array;
}

/**
 * Chances of exceeding a forecast's quantiles and sizes above them: those the forecast claims, corrected by what followed
 * elsewhere where things stood alike. Trees are added one by one to the log-odds; each is split by what one edge, drawn at
 * random, still gets wrong, and its leaves correct all edges.
 * Source: Friedman, "Greedy function approximation: a gradient boosting machine", Annals of Statistics 29, 2001; Iosipoi
 * & Vakhrushev, "SketchBoost", NeurIPS 2022 (one output drawn for the splits).
 */
export class BoostedChances {
  readonly #bins: FeatureBins;
  readonly #trees: Tree[] = [];

  /** @param random draws from [0, 1) */
  constructor({ features, exceeded, guest }: ChanceRows, random: () => number) {
    const rows = exceeded.length;
    this.#bins = new FeatureBins(features, features.length / rows);
    const columns = this.#bins.place(features);
    const odds = forecastOdds(rows);
    const guests = guest.reduce((most, own) => Math.max(most, own), 0) + 1;
    for (let tree = 0; tree < TREES; tree += 1) {
      const isUsed = Array.from({ length: guests }, () => random() < GUEST_SHARE);
      const isDrawn = guest.map((own) => (isUsed[own] && random() < ROW_SHARE ? 1 : 0));
      const drawn = Int32Array.from(isDrawn.keys()).filter((row) => isDrawn[row] === 1);
      const grown = grow(columns, exceeded, odds, drawn, random);
      this.#trees.push(grown);
      correct(grown, columns, odds);
    }
  }

  /** @param features f32[rows, features] @returns f32[rows, EDGES], falling */
  of(features: Float32Array): Float32Array {
    const columns = this.#bins.place(features);
    const rows = columns[0]?.length ?? 0;
    const chances = forecastOdds(rows);
    for (const tree of this.#trees) correct(tree, columns, chances);
    for (let row = 0; row < rows; row += 1) {
      let least = 1;
      for (let at = row * EDGES; at < (row + 1) * EDGES; at += 1) {
        least = Math.min(least, chanceOf(chances[at] as number));
        chances[at] = least;
      }
    }
    return chances;
  }
}

function forecastOdds(rows: number): Float32Array {
  const odds = new Float32Array(rows * EDGES);
  for (let row = 0; row < rows; row += 1) odds.set(FORECAST_ODDS, row * EDGES);
  return odds;
}

function chanceOf(odds: number): number {
  return 1 / (1 + Math.exp(-odds));
}

function grow(
  columns: readonly Uint8Array[],
  exceeded: Uint8Array,
  odds: Float32Array,
  rows: Int32Array,
  random: () => number,
): Tree {
  const edge = FIRST_EDGE + Math.floor(random() * (LAST_EDGE - FIRST_EDGE + 1));
  const miss = new Float32Array(rows.length);
  const weight = new Float32Array(rows.length);
  for (let i = 0; i < rows.length; i += 1) {
    const row = rows[i] as number;
    const chance = chanceOf(odds[row * EDGES + edge] as number);
    miss[i] = ((exceeded[row] as number) > edge ? 1 : 0) - chance;
    weight[i] = chance * (1 - chance);
  }
  const looked = Array.from(columns.keys()).filter(() => random() < FEATURE_SHARE);
  const feature = new Int16Array(LEAVES - 1).fill(-1);
  const cut = new Uint8Array(LEAVES - 1);
  /** Place of each row in the level that is being split. */
  const place = new Uint8Array(rows.length);
  for (let level = 0; level < DEPTH; level += 1) {
    const first = 2 ** level - 1;
    splitLevel(columns, looked, rows, { miss, weight, place }, { first, feature, cut });
    for (let i = 0; i < rows.length; i += 1) {
      const node = first + (place[i] as number);
      const column = columns[feature[node] as number];
      const isSecond = column !== undefined && (column[rows[i] as number] as number) > (cut[node] as number);
      place[i] = 2 * (place[i] as number) + (isSecond ? 1 : 0);
    }
  }
  return { feature, cut, found: leavesOf(exceeded, odds, rows, place) };
}

interface RowStates {
  readonly miss: Float32Array;
  readonly weight: Float32Array;
  readonly place: Uint8Array;
}

/** Find the best split of each node of a level. */
function splitLevel(
  columns: readonly Uint8Array[],
  looked: readonly number[],
  rows: Int32Array,
  { miss, weight, place }: RowStates,
  { first, feature, cut }: { first: number; feature: Int16Array; cut: Uint8Array },
): void {
  const nodes = first + 1;
  const best = new Float64Array(nodes);
  const misses = new Float64Array(nodes * FEATURE_BINS);
  const weights = new Float64Array(nodes * FEATURE_BINS);
  const counts = new Float64Array(nodes * FEATURE_BINS);
  for (const f of looked) {
    const column = columns[f] as Uint8Array;
    for (const sums of [misses, weights, counts]) sums.fill(0);
    for (let i = 0; i < rows.length; i += 1) {
      const at = (place[i] as number) * FEATURE_BINS + (column[rows[i] as number] as number);
      misses[at] = (misses[at] as number) + (miss[i] as number);
      weights[at] = (weights[at] as number) + (weight[i] as number);
      counts[at] = (counts[at] as number) + 1;
    }
    for (let node = 0; node < nodes; node += 1) {
      const own = (sums: Float64Array) => sums.subarray(node * FEATURE_BINS, (node + 1) * FEATURE_BINS);
      const split = bestCut(own(misses), own(weights), own(counts));
      if (split === undefined || split.gain <= (best[node] as number)) continue;
      best[node] = split.gain;
      feature[first + node] = f;
      cut[first + node] = split.bin;
    }
  }
}

function bestCut(misses: Float64Array, weights: Float64Array, counts: Float64Array) {
  const sum = (values: Float64Array): number => values.reduce((total, value) => total + value, 0);
  const [miss, weight, count] = [sum(misses), sum(weights), sum(counts)];
  let best: { gain: number; bin: number } | undefined;
  let [lowMiss, lowWeight, lowCount] = [0, 0, 0];
  for (let bin = 0; bin < FEATURE_BINS - 1; bin += 1) {
    lowMiss += misses[bin] as number;
    lowWeight += weights[bin] as number;
    lowCount += counts[bin] as number;
    if (lowCount < SIDE_ROWS_MIN || count - lowCount < SIDE_ROWS_MIN) continue;
    const gain =
      lowMiss ** 2 / (lowWeight + CALM) +
      (miss - lowMiss) ** 2 / (weight - lowWeight + CALM) -
      miss ** 2 / (weight + CALM);
    if (gain > (best?.gain ?? 0)) best = { gain, bin };
  }
  return best;
}

/** One Newton step of each edge in each leaf. */
function leavesOf(
  exceeded: Uint8Array,
  odds: Float32Array,
  rows: Int32Array,
  place: Uint8Array,
): Float32Array {
  const misses = new Float64Array(LEAVES * EDGES);
  const weights = new Float64Array(LEAVES * EDGES);
  for (let i = 0; i < rows.length; i += 1) {
    const row = rows[i] as number;
    for (let edge = 0; edge < EDGES; edge += 1) {
      const at = (place[i] as number) * EDGES + edge;
      const chance = chanceOf(odds[row * EDGES + edge] as number);
      misses[at] = (misses[at] as number) + ((exceeded[row] as number) > edge ? 1 : 0) - chance;
      weights[at] = (weights[at] as number) + chance * (1 - chance);
    }
  }
  return Float32Array.from(misses, (miss, at) => {
    const found = miss / ((weights[at] as number) + CALM);
    return RATE * Math.min(Math.max(found, -FOUND_MAX), FOUND_MAX);
  });
}

/** Add a tree's findings to the log-odds of all rows. @param odds f32[rows, EDGES], changed */
function correct({ feature, cut, found }: Tree, columns: readonly Uint8Array[], odds: Float32Array): void {
  const rows = columns[0]?.length ?? 0;
  for (let row = 0; row < rows; row += 1) {
    let place = 0;
    for (let first = 0; first < LEAVES - 1; first = 2 * first + 1) {
      const node = first + place;
      const f = feature[node] as number;
      const isSecond = f >= 0 && ((columns[f] as Uint8Array)[row] as number) > (cut[node] as number);
      place = 2 * place + (isSecond ? 1 : 0);
    }
    for (let edge = 0; edge < EDGES; edge += 1)
      odds[row * EDGES + edge] =
        (odds[row * EDGES + edge] as number) + (found[place * EDGES + edge] as number);
  }
}
