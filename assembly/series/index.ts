// The face of the series module. Addresses are given out by name, so the host knows no layout.
import { prepareExperts } from './experts';
import * as layout from './layout';
import { shareOfLean } from './lean';

export { aim, compare, fit, forecast, open, refresh } from './series';

export function modelAt(): usize {
  return layout.MODEL;
}
export function stepsAt(): usize {
  return layout.STEPS;
}
export function levelsAt(): usize {
  return layout.LEVELS;
}
export function quantilesAt(): usize {
  return layout.QUANTILES;
}
export function featuresAt(): usize {
  return layout.FEATURES;
}
export function matrixAt(): usize {
  return layout.MATRIX;
}
/** f32[KNOTS, GROUP_ROW] of a series: what its outcomes so far add to the experts' logits. */
export function leanAt(slot: i32): usize {
  return layout.seriesAt(slot) + layout.S_LEAN;
}
/** How much of a knot's lean is used, in [0, 2]. */
export function leanShare(slot: i32, knot: i32): f32 {
  assert(knot >= 0 && knot < layout.KNOTS, 'knot must be in [0, KNOTS)');
  return shareOfLean(layout.seriesAt(slot), knot);
}
export function validAt(): usize {
  return layout.VALID;
}
/** Bytes of a series' whole state, from seriesAt(slot): what is paged out and back. */
export function seriesBytes(slot: i32): usize {
  return layout.isShort(layout.seriesAt(slot)) ? layout.SHORT_BYTES : layout.SERIES_BYTES;
}
export function seriesAt(slot: i32): usize {
  return layout.seriesAt(slot);
}
export function modelSize(): i32 {
  return layout.MODEL_SIZE;
}
export function groupsSize(): i32 {
  return layout.GROUPS;
}
export function groupRow(): i32 {
  return layout.GROUP_ROW;
}
export function knotsSize(): i32 {
  return layout.KNOTS;
}
export function knotStep(knot: i32): i32 {
  assert(knot >= 0 && knot < layout.KNOTS, 'knot must be in [0, KNOTS)');
  return layout.knotStep(knot);
}
export function stepsMax(): i32 {
  return layout.STEPS_MAX;
}
export function levelsMax(): i32 {
  return layout.LEVELS_MAX;
}
export function inputsSize(): i32 {
  return layout.INPUTS;
}
export function hiddenSize(): i32 {
  return layout.HIDDEN;
}
/** Fits of the linear expert that a series of the long track keeps. */
export function fitsSize(): i32 {
  return layout.FITS;
}
/** Slots of each track: the long one's are [0, slotsSize), the short one's [slotsSize, 2 slotsSize). */
export function slotsSize(): i32 {
  return layout.SLOTS;
}

/** Make ready, once. */
export function prepare(): void {
  assert(layout.END <= (<usize>memory.size()) << 16, 'the fixed memory must hold the layout');
  prepareExperts();
}
