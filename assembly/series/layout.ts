// Shapes and addresses of the series module. Everything lives at fixed places above the heap base: nothing is allocated.

/** Bins a series remembers: four weeks of five minutes. */
export const CAPACITY: i32 = 8064;
/** Experts whose distributions are pooled. */
export const GROUPS: i32 = 9;
/** A row of experts: padded to whole vectors. */
export const GROUP_ROW: i32 = 12;
/** Atoms of all experts together; a power of two, for the sort. */
export const ATOMS: i32 = 128;
/** Horizons at which weights, losses and calibration are kept; read in between. */
export const KNOTS: i32 = 16;
/** Steps of a forecast asked for at once. */
export const STEPS_MAX: i32 = 16;
export const LEVELS_MAX: i32 = 16;
/** Neighbours of the analog expert. */
export const NEIGHBOURS: i32 = 24;
/** Regressors of the linear expert, and atoms of its residual. */
export const REGRESSORS: i32 = 24;
export const RESIDUALS: i32 = 8;
/** What the recurrent part sees of a bin, and its state. */
export const INPUTS: i32 = 8;
export const HIDDEN: i32 = 32;
/** Outputs of the head: a logit an expert and knot. */
export const OUTPUTS: i32 = KNOTS * GROUP_ROW;
/** Levels whose calibration is followed. */
export const FOLLOWED: i32 = 4;

/** Series held at once. */
export const SLOTS: i32 = 64;

// Weights of a model, f32: the cell, the head over its state, then how far an expert's own record moves its logit.
export const CELL_SIZE: i32 = (INPUTS + HIDDEN + 1) * 4 * HIDDEN;
export const HEAD_SIZE: i32 = (HIDDEN + 1) * OUTPUTS;
export const MODEL_SIZE: i32 = CELL_SIZE + HEAD_SIZE + OUTPUTS;

// One series.
export const S_BINS: usize = 0; //      i32, bins ever taken
export const S_SEASON: usize = 4; //    i32, bins; 0: none
export const S_LEVEL: usize = 8; //     f32, decaying mean
export const S_SCALE: usize = 12; //    f32, decaying mean distance from it
export const S_STILL: usize = 16; //    f32, decaying share of bins that repeat the one before
export const S_FITTED: usize = 20; //   i32, bit k: the linear expert has a fit for knot k
export const S_CLOCK: usize = 24; //    i32, where in the season bin 0 lies
export const S_H: usize = 64; //        f32[HIDDEN]
export const S_C: usize = S_H + <usize>HIDDEN * 4;
export const S_RECORD: usize = S_C + <usize>HIDDEN * 4; //     f32[KNOTS, GROUP_ROW], decaying CRPS of each expert; < 0: none
export const S_SHIFT: usize = S_RECORD + <usize>OUTPUTS * 4; // f32[KNOTS, FOLLOWED], what is added to a level
export const S_LINEAR: usize = S_SHIFT + <usize>(KNOTS * FOLLOWED) * 4; // f32[KNOTS, REGRESSORS + RESIDUALS]
export const S_RING: usize = S_LINEAR + <usize>(KNOTS * (REGRESSORS + RESIDUALS)) * 4; // f32[CAPACITY]
export const SERIES_BYTES: usize = S_RING + <usize>CAPACITY * 4;

const BASE: usize = (__heap_base + 63) & ~63;

// Inputs and outputs.
/** f32[MODEL_SIZE] */
export const MODEL: usize = BASE;
/** i32[STEPS_MAX], increasing, from 1 */
export const STEPS: usize = MODEL + <usize>MODEL_SIZE * 4;
/** f32[LEVELS_MAX], increasing, in (0, 1) */
export const LEVELS: usize = STEPS + <usize>STEPS_MAX * 4;
/** f32[STEPS_MAX, LEVELS_MAX] */
export const QUANTILES: usize = LEVELS + <usize>LEVELS_MAX * 4;
/** f32[INPUTS]: what the recurrent part saw of the newest bin. */
export const FEATURES: usize = QUANTILES + <usize>(STEPS_MAX * LEVELS_MAX) * 4;
/** f32[16, GROUP_ROW]: distances of the experts' distributions from an outcome, pairwise. */
export const MATRIX: usize = FEATURES + <usize>INPUTS * 4;
/** f32[OUTPUTS]: what the record of each expert says for it. */
export const MERIT: usize = MATRIX + 16 * <usize>GROUP_ROW * 4;
/** i32[GROUP_ROW]: atoms of each expert that have a value. */
export const VALID: usize = MERIT + <usize>OUTPUTS * 4;

// Scratch.
/** f32[OUTPUTS]: logits of every knot. */
export const LOGITS: usize = VALID + <usize>GROUP_ROW * 4;
/** f32[GROUP_ROW]: weights of the experts at one step. */
export const WEIGHTS: usize = LOGITS + <usize>OUTPUTS * 4;
/** f32[4 HIDDEN] */
export const GATES: usize = WEIGHTS + <usize>GROUP_ROW * 4;
/** f32[CAPACITY]: the history of the series at hand, oldest first. */
export const LINE: usize = (GATES + <usize>HIDDEN * 16 + 63) & ~63;
/** f32[ATOMS], by expert. */
export const ATOM_VALUES: usize = LINE + <usize>(CAPACITY + 64) * 4;
/** f32[ATOMS] */
export const ATOM_WEIGHTS: usize = ATOM_VALUES + <usize>ATOMS * 4;
/** i32[ATOMS]: sort keys. */
export const KEYS: usize = ATOM_WEIGHTS + <usize>ATOMS * 4;
/** i32[NEIGHBOURS], f32[NEIGHBOURS]: ends of the stretches most like the present, and how far they are. */
export const NEAREST: usize = KEYS + <usize>ATOMS * 4;
export const NEAREST_DISTANCE: usize = NEAREST + 128;
// f32[CAPACITY / 4 + 16] each: features of every fourth position.
const POSITION_BYTES: usize = <usize>(CAPACITY / 4 + 16) * 4;
export const P_LAST: usize = NEAREST_DISTANCE + 128;
export const P_NEAR: usize = P_LAST + POSITION_BYTES;
export const P_FAR: usize = P_NEAR + POSITION_BYTES;
export const P_DISTANCE: usize = P_FAR + POSITION_BYTES;
// A fit of the linear expert: f64[ROW], f64[ROW, ROW], f32[FIT_ORIGINS].
export const FIT_ORIGINS: i32 = 512;
export const R_ROW: usize = (P_DISTANCE + POSITION_BYTES + 63) & ~63;
export const R_MOMENT: usize = R_ROW + <usize>REGRESSORS * 8;
export const R_GRAM: usize = R_MOMENT + <usize>REGRESSORS * 8;
export const R_ERRORS: usize = R_GRAM + <usize>(REGRESSORS * REGRESSORS) * 8;

const SERIES: usize = (R_ERRORS + <usize>FIT_ORIGINS * 4 + 63) & ~63;
/** First byte past all that is used. */
export const END: usize = SERIES + <usize>SLOTS * SERIES_BYTES;

export function seriesAt(slot: i32): usize {
  assert(slot >= 0 && slot < SLOTS, 'series slot must be in [0, SLOTS)');
  return SERIES + <usize>slot * SERIES_BYTES;
}

/** Steps of the knots. */
const KNOT_STEPS = memory.data<i32>([1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 96, 192, 288, 480, 720]);
export function knotStep(knot: i32): i32 {
  return load<i32>(KNOT_STEPS + ((<usize>knot) << 2));
}

// Place of a step between knots, set by locate().
export let knotBelow: i32 = 0;
/** Share of the knot above, in [0, 1]. */
export let knotShare: f32 = 0.0;
/** Find the knots around a step; beyond the last, the last one. */
export function locate(step: i32): void {
  let k = 0;
  while (k < KNOTS - 2 && knotStep(k + 1) <= step) k += 1;
  knotBelow = k;
  const low = <f64>knotStep(k);
  const high = <f64>knotStep(k + 1);
  knotShare = <f32>min(max(Math.log(<f64>step / low) / Math.log(high / low), 0.0), 1.0);
}
