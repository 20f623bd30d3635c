import assert from 'node:assert';
import { FIELDS, type Forecast, LEVELS, quantileAt } from './forecast.ts';
import { PROFILE_FIELDS, type ResourceProfile } from './profile.ts';

/** The fields, then the duration: the order of a forecast's dependence. */
const OUTPUTS = FIELDS + 1;
const DURATION = FIELDS;
/** Scenarios are ranked against each other, so at least this many are drawn, whatever is asked for. */
const BATCH_MIN = 256;
/** Least variance of an output that the ones before it leave: correlations of missing readings need not fit together. */
const REST_MIN = 1e-9;

/** One way a request may go, all resources together. NaN: the forecast says nothing of it. */
export interface Scenario {
  /** f64[FIELDS], largest usage while the request runs. */
  readonly peak: Float64Array;
  /** On the forecast's axis. */
  readonly duration: number;
  /** f64[FIELDS, knots], level of usage at each of the forecast's knots. */
  readonly values: Float64Array;
}

/**
 * Draw scenarios from a forecast. Each output alone, at each knot, is distributed as its quantiles say, constant beyond the
 * outermost; the ranks of a scenario's outputs hang together as the forecast's `dependence` says (a Gaussian copula). A
 * scenario keeps its rank from knot to knot, among those still running or among those that have ended by then. Pure.
 * @param count how many, from 1
 * @param seed  the same seed gives the same scenarios
 */
export function sampleScenarios(forecast: Forecast, count: number, seed: number): Scenario[] {
  assert(Number.isInteger(count) && count >= 1);
  const size = Math.max(count, BATCH_MIN);
  const random = randomFrom(seed);
  const factor = factorOf(forecast.dependence);
  const scores = Array.from({ length: OUTPUTS }, () => new Float64Array(size));
  const idle = Array.from({ length: FIELDS }, () => new Float64Array(size));
  for (let i = 0; i < size; i += 1) {
    const independent = Array.from({ length: OUTPUTS }, () => normalFrom(random));
    scores.forEach((row, o) => {
      row[i] = independent.reduce((sum, z, j) => sum + z * (factor[o * OUTPUTS + j] as number), 0);
    });
    for (const row of idle) row[i] = random();
  }
  const knots = forecast.knots.length;
  const durations = drawn(forecast.duration, 0, levelsOf(scores[DURATION] as Float64Array, random));
  const scenarios = Array.from({ length: count }, (_, i) => ({
    peak: new Float64Array(FIELDS),
    duration: durations[i] as number,
    values: new Float64Array(FIELDS * knots),
  }));
  for (let f = 0; f < FIELDS; f += 1) {
    const score = scores[f] as Float64Array;
    const peaks = drawn(forecast.peak, f * LEVELS, levelsOf(score, random));
    scenarios.forEach(({ peak }, i) => {
      peak[f] = peaks[i] as number;
    });
    const beforeEnd = levelsOf(score, random);
    for (const [k, knot] of forecast.knots.entries()) {
      // Whoever runs uses more than whoever has ended: levels are below 1. Work of unknown length is still running.
      const places = beforeEnd.map((level, i) =>
        (durations[i] as number) <= knot ? (idle[f]?.[i] as number) : 1 + level,
      );
      const at = f * knots + k;
      const levels = drawn(forecast.values, at * LEVELS, levelsOf(places, random));
      scenarios.forEach(({ values }, i) => {
        values[at] = levels[i] as number;
      });
    }
  }
  return scenarios;
}

/** Share of the scenarios that keep within every limit at their peak. A field without a limit keeps within any. Pure. */
export function shareWithin(scenarios: readonly Scenario[], limits: ResourceProfile): number {
  const bounds = PROFILE_FIELDS.map((field) => limits[field] ?? Number.POSITIVE_INFINITY);
  const within = scenarios.filter(({ peak }) => bounds.every((bound, f) => !((peak[f] as number) > bound)));
  return within.length / scenarios.length;
}

/**
 * Lower factor of the correlations, each row of length 1, so that no marginal is touched: f64[OUTPUTS, OUTPUTS].
 * The identity where nothing is known.
 */
function factorOf(dependence: Float64Array | undefined): Float64Array {
  const factor = new Float64Array(OUTPUTS * OUTPUTS);
  for (let i = 0; i < OUTPUTS; i += 1) {
    const row = factor.subarray(i * OUTPUTS, (i + 1) * OUTPUTS);
    for (let j = 0; j < i; j += 1) {
      let rest = dependence?.[i * OUTPUTS + j] ?? 0;
      for (let k = 0; k < j; k += 1) rest -= (row[k] as number) * (factor[j * OUTPUTS + k] as number);
      row[j] = rest / (factor[j * OUTPUTS + j] as number);
    }
    row[i] = Math.sqrt(Math.max(1 - row.reduce((sum, x) => sum + x * x, 0), REST_MIN));
    const length = Math.hypot(...row);
    for (let j = 0; j <= i; j += 1) row[j] = (row[j] as number) / length;
  }
  return factor;
}

/** Levels in (0, 1) in the order of the numbers, one in each of as many equal parts. */
function levelsOf(numbers: Float64Array, random: () => number): Float64Array {
  const order = Array.from(numbers.keys()).sort((a, b) => (numbers[a] as number) - (numbers[b] as number));
  const levels = new Float64Array(numbers.length);
  order.forEach((i, rank) => {
    levels[i] = (rank + random()) / numbers.length;
  });
  return levels;
}

function drawn(quantiles: Float64Array, offset: number, levels: Float64Array): Float64Array {
  return levels.map((level) => quantileAt(quantiles, offset, level));
}

/** Standard normal number. Source: Box & Muller, 1958. */
function normalFrom(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** Numbers in [0, 1) from a seed. Source: T. Ettinger, "mulberry32", public domain. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
