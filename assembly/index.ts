// The module's one face. Addresses are given out by name, so the host knows no layout.
import { prepareExperts } from './experts';
import * as layout from './layout';
import { prepareDrift } from './process';
import { normalQuantile, prepareStudent } from './student';

// Single kernels, for the tests that hold them against an independent implementation.
export { exponentials } from './exponential';
export { clearWorkload, forecastGuest, forecastRequest, learn, processQuantilesAt } from './forecast';
export { clearGuest, observe } from './guests';
export { factor, invertLower } from './linear';
export { mixQuantiles } from './mixture';
export { matern52 } from './process';
export { normalCdf, normalQuantile, studentCdf, studentQuantile } from './student';

export function levelsAt(): usize {
  return layout.io(layout.I_LEVELS);
}
export function floorsAt(): usize {
  return layout.io(layout.I_FLOORS);
}
export function rowAt(): usize {
  return layout.io(layout.I_ROW);
}
export function peakAt(): usize {
  return layout.io(layout.I_PEAK);
}
export function beforeAt(): usize {
  return layout.io(layout.I_BEFORE);
}
export function ceilingAt(): usize {
  return layout.io(layout.I_CEILING);
}
export function sampleAt(): usize {
  return layout.io(layout.I_SAMPLE);
}
export function knotsAt(): usize {
  return layout.io(layout.I_KNOTS);
}
export function forecastPeakAt(): usize {
  return layout.io(layout.O_PEAK);
}
export function forecastDurationAt(): usize {
  return layout.io(layout.O_DURATION);
}
export function forecastValuesAt(): usize {
  return layout.io(layout.O_VALUES);
}
/** Coordinates of the runs a workload holds, f64[RUNS_MAX, DIMS], as they were given. */
export function runRowsAt(slot: i32): usize {
  return layout.workloadAt(slot) + layout.W_RAW;
}
/** What the runs taught, f64[OUTPUTS, RUNS_MAX], logarithms; NaN: nothing. */
export function runOutputsAt(slot: i32): usize {
  return layout.workloadAt(slot) + layout.W_Y;
}
/** f64[OUTPUTS, 8]: candidate, runs, mean, s2, owner of the inverse, mask, noise deviation, free. */
export function fittedAt(slot: i32): usize {
  return layout.workloadAt(slot) + layout.W_PARAM;
}
/** How the outputs of a workload miss together, f64[OUTPUTS, OUTPUTS], rank correlations; zeros before its first run. */
export function dependenceAt(slot: i32): usize {
  return layout.workloadAt(slot) + layout.W_DEPENDENCE;
}
/** Runs a workload holds. */
export function runsOf(slot: i32): i32 {
  return load<i32>(layout.workloadAt(slot) + layout.W_COUNT);
}
/** Matrices of scratch for the tests, f64[RUNS_MAX, RUNS_MAX]. */
export function scratchAt(index: i32): usize {
  assert(index >= 0 && index < 4, 'there are four scratch matrices');
  return layout.gramMatrix() + <usize>index * layout.MATRIX;
}

export function fieldsSize(): i32 {
  return layout.FIELDS;
}
export function levelsSize(): i32 {
  return layout.LEVELS;
}
export function knotsMax(): i32 {
  return layout.KNOTS_MAX;
}
export function numericSize(): i32 {
  return layout.NUMERIC;
}
export function dimsSize(): i32 {
  return layout.DIMS;
}
export function runsMax(): i32 {
  return layout.RUNS_MAX;
}
export function workloadsMax(): i32 {
  return layout.WORKLOADS_MAX;
}
export function guestsMax(): i32 {
  return layout.GUESTS_MAX;
}

/** Make ready, once the levels are written: their normal quantiles, and no loss of any expert over the workloads. */
export function prepare(): void {
  assert(layout.END <= (<usize>memory.size()) << 16, 'the fixed memory must hold the layout');
  for (let l = 0; l < layout.LEVELS; ++l) {
    const level = load<f64>(layout.io(layout.I_LEVELS) + ((<usize>l) << 3));
    store<f64>(layout.io(layout.I_NORMAL) + ((<usize>l) << 3), normalQuantile(level));
  }
  prepareStudent();
  prepareDrift();
  prepareExperts();
}
