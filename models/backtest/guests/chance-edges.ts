import type { Actuator } from './guest-series.ts';

/** Levels of the forecast that are asked for. */
export const OWN_LEVELS = [
  0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999, 0.9995,
] as const;
/** Doublings above the highest level: sizes that the forecast has no quantile for. */
const ABOVE = [0.25, 0.5, 1, 1.5, 2, 3, 4, 6] as const;
/** Sizes that chances of falling short are told of: the forecast's quantiles, and some above them. */
export const EDGES = OWN_LEVELS.length + ABOVE.length;

/** f32[EDGES]: log-odds of exceeding each edge as the forecast itself has them; above it a doubling halves the chance. */
export const FORECAST_ODDS = Float32Array.from({ length: EDGES }, (_, edge) => {
  const level = OWN_LEVELS[edge];
  const rest = 1 - (OWN_LEVELS.at(-1) as number);
  const chance = level === undefined ? rest / 2 ** (ABOVE[edge - OWN_LEVELS.length] as number) : 1 - level;
  return Math.log(chance / (1 - chance));
});

/** Sizes in doublings, even near zero: what lies below the floor hardly counts. */
export function doublings(size: number, { floor }: Actuator): number {
  return Math.log2(Math.max(size, 0) + floor);
}

/**
 * The edges of each row.
 * @param forecasts f32[rows, OWN_LEVELS], in the actuator's unit; quantiles that cross are raised to the one below
 * @returns f32[rows, EDGES] in doublings, rising
 */
export function edgesOf(forecasts: Float32Array, actuator: Actuator): Float32Array {
  const levels = OWN_LEVELS.length;
  const rows = forecasts.length / levels;
  const edges = new Float32Array(rows * EDGES);
  for (let row = 0; row < rows; row += 1) {
    let top = Number.NEGATIVE_INFINITY;
    for (let l = 0; l < levels; l += 1) {
      top = Math.max(top, doublings(forecasts[row * levels + l] as number, actuator));
      edges[row * EDGES + l] = top;
    }
    for (const [a, above] of ABOVE.entries()) edges[row * EDGES + levels + a] = top + above;
  }
  return edges;
}

/**
 * How many edges of each row the demand exceeded.
 * @param outcomes f64[rows]; NaN: not recorded
 * @returns u8[rows]; UNKNOWN where there was no demand
 */
export function exceededOf(edges: Float32Array, outcomes: Float64Array, actuator: Actuator): Uint8Array {
  return Uint8Array.from(outcomes, (outcome, row) => {
    if (Number.isNaN(outcome)) return UNKNOWN;
    const log = doublings(outcome, actuator) - ROUNDING;
    let count = 0;
    while (count < EDGES && log > (edges[row * EDGES + count] as number)) count += 1;
    return count;
  });
}

export const UNKNOWN = 255;
/** Edges are single precision. */
const ROUNDING = 2e-6;
