// Shapes and addresses of the series module. Everything lives at fixed places above the heap base: nothing is allocated.

/** Bins that a series of the long track remembers: four weeks of five minutes. */
export const CAPACITY: i32 = 8064;
/** Bins that one of the short track remembers: four minutes of seconds. */
const SHORT_CAPACITY: i32 = 240;
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

/** Shares of a lean that are tried beside none. */
export const SCALES: i32 = 2;
/** Fits of the linear expert: one for every other knot. */
export const FITS: i32 = KNOTS / 2;

/** Series held at once: first those of the long track, behind them as many of the short one. */
export const SLOTS: i32 = 64;

// Weights of a model, f32: the cell, the head over its state, then how much of its lean an expert is given.
export const CELL_SIZE: i32 = (INPUTS + HIDDEN + 1) * 4 * HIDDEN;
export const HEAD_SIZE: i32 = (HIDDEN + 1) * OUTPUTS;
export const MODEL_SIZE: i32 = CELL_SIZE + HEAD_SIZE + OUTPUTS;

// One series.
export const S_BINS: usize = 0; //      i32, bins ever taken
export const S_SEASON: usize = 4; //    i32, bins; 0: none
export const S_LEVEL: usize = 8; //     f32, decaying mean
export const S_SCALE: usize = 12; //    f32, decaying mean distance from it
export const S_STILL: usize = 16; //    f32, decaying share of bins that repeat the one before
export const S_FITTED: usize = 20; //   i32, bit f: the linear expert has its fit f
export const S_CLOCK: usize = 24; //    i32, where in the season bin 0 lies
export const S_H: usize = 64; //        f32[HIDDEN]
export const S_C: usize = S_H + <usize>HIDDEN * 4;
export const S_LEAN: usize = S_C + <usize>HIDDEN * 4; //       f32[KNOTS, GROUP_ROW], what the outcomes so far add to a logit
export const S_TYPICAL: usize = S_LEAN + <usize>OUTPUTS * 4; // f32[KNOTS], decaying CRPS of the pool
export const S_SCORES: usize = S_TYPICAL + <usize>KNOTS * 4; // f32[KNOTS, SCALES], how much less the pool lost with it, in typical losses
export const S_SHIFT: usize = S_SCORES + <usize>(KNOTS * SCALES) * 4; // f32[KNOTS, FOLLOWED], what is added to a level
export const S_RING: usize = S_SHIFT + <usize>(KNOTS * FOLLOWED) * 4; // f32[capacity]
export const S_LINEAR: usize = S_RING + <usize>CAPACITY * 4; // f32[FITS, REGRESSORS + RESIDUALS]; the long track's only
export const SERIES_BYTES: usize = S_LINEAR + <usize>(FITS * (REGRESSORS + RESIDUALS)) * 4;
export const SHORT_BYTES: usize = S_RING + <usize>SHORT_CAPACITY * 4;

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
/** i32[GROUP_ROW]: atoms of each expert that have a value. */
export const VALID: usize = MATRIX + 16 * <usize>GROUP_ROW * 4;

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
// f32[CAPACITY / 4 + 16] each: features of every fourth position, and how far it is from the present one.
const POSITION_BYTES: usize = <usize>(CAPACITY / 4 + 16) * 4;
export const FEATURE_ROWS: i32 = 5;
const P_FEATURES: usize = NEAREST_DISTANCE + 128;
export function featureRow(row: i32): usize {
  return P_FEATURES + <usize>row * POSITION_BYTES;
}
export const P_DISTANCE: usize = P_FEATURES + <usize>FEATURE_ROWS * POSITION_BYTES;
// A fit of the linear expert: f64[ROW], f64[ROW, ROW], f32[FIT_ORIGINS].
export const FIT_ORIGINS: i32 = 512;
export const R_ROW: usize = (P_DISTANCE + POSITION_BYTES + 63) & ~63;
export const R_MOMENT: usize = R_ROW + <usize>REGRESSORS * 8;
export const R_GRAM: usize = R_MOMENT + <usize>REGRESSORS * 8;
export const R_ERRORS: usize = R_GRAM + <usize>(REGRESSORS * REGRESSORS) * 8;

const SERIES: usize = (R_ERRORS + <usize>FIT_ORIGINS * 4 + 63) & ~63;
const SHORT_SERIES: usize = SERIES + <usize>SLOTS * SERIES_BYTES;
/** First byte past all that is used. */
export const END: usize = SHORT_SERIES + <usize>SLOTS * SHORT_BYTES;

/** @param slot in [0, SLOTS) of the long track, in [SLOTS, 2 SLOTS) of the short one */
export function seriesAt(slot: i32): usize {
  assert(slot >= 0 && slot < 2 * SLOTS, 'series slot must be in [0, 2 SLOTS)');
  return slot < SLOTS
    ? SERIES + <usize>slot * SERIES_BYTES
    : SHORT_SERIES + <usize>(slot - SLOTS) * SHORT_BYTES;
}
export function isShort(s: usize): bool {
  return s >= SHORT_SERIES;
}
/** Bins a series remembers. */
export function capacityOf(s: usize): i32 {
  return isShort(s) ? SHORT_CAPACITY : CAPACITY;
}

/** Steps of the knots. */
const KNOT_STEPS = memory.data<i32>([1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 96, 192, 288, 480, 720]);
export function knotStep(knot: i32): i32 {
  return load<i32>(KNOT_STEPS + ((<usize>knot) << 2));
}

/** Steps that overlap by more than all but so many bins tell the same again. */
const APART: i32 = 16;
/** How much of an outcome of a knot is news beside its last one, in (0, 1]. */
export function newsOf(knot: i32): f32 {
  return min(<f32>1.0, <f32>APART / <f32>knotStep(knot));
}

// Place of a step between knots, set by locate().
export let knotBelow: i32 = 0;
/** Share of the knot above, in [0, 1]. */
export let knotShare: f32 = 0.0;
/** Find the knots around a step; beyond the last, the last one. What is asked next of a knot is asked of this place. */
export function locate(step: i32): void {
  let k = 0;
  while (k < KNOTS - 2 && knotStep(k + 1) <= step) k += 1;
  knotBelow = k;
  const low = <f64>knotStep(k);
  const high = <f64>knotStep(k + 1);
  if (step >= <i32>high) knotShare = 1.0;
  else knotShare = step <= <i32>low ? 0.0 : <f32>(Math.log(<f64>step / low) / Math.log(high / low));
}
