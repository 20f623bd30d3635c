// Experts: each answers a question about bin `origin - 1 + step` by atoms, values that were seen.
import { ATOM_VALUES, GROUPS, LINE, NEAREST, RESIDUALS, VALID } from './layout';
import { linearPoint, residualAt } from './linear';

export const LAST: i32 = 0;
export const HALF_HOUR: i32 = 1;
export const HOURS: i32 = 2;
export const DAY: i32 = 3;
export const MONTH: i32 = 4;
export const ANALOG: i32 = 5;
/** As ANALOG, but what is taken from a neighbour is its change, not its level. */
export const ANALOG_CHANGE: i32 = 6;
export const SEASONAL: i32 = 7;
export const LINEAR: i32 = 8;

// Atoms of each expert, and where they begin.
export const STARTS = memory.data<i32>([0, 1, 7, 19, 35, 51, 75, 99, 120, 128]);
const DAY_BINS: i32 = 288;

export function startOf(group: i32): i32 {
  return load<i32>(STARTS + ((<usize>group) << 2));
}
const owners = memory.data(128); // u8[ATOMS]
/** Fill the table of owners; once. */
export function prepareExperts(): void {
  for (let g = 0; g < GROUPS; ++g) {
    for (let i = startOf(g); i < startOf(g + 1); ++i) store<u8>(owners + <usize>i, <u8>g);
  }
}
/** Expert an atom belongs to. */
export function ownerOf(atom: i32): i32 {
  return <i32>load<u8>(owners + <usize>atom);
}
function line(i: i32): f32 {
  return load<f32>(LINE + ((<usize>i) << 2));
}
function put(atom: i32, value: f32): void {
  store<f32>(ATOM_VALUES + ((<usize>atom) << 2), value);
}
function settle(group: i32, count: i32): void {
  store<i32>(VALID + ((<usize>group) << 2), count);
  // Places without an atom weigh nothing; the last value keeps the sort free of noise.
  const start = startOf(group);
  for (let i = start + count; i < startOf(group + 1); ++i) put(i, load<f32>(ATOM_VALUES));
}

/** Atoms that do not depend on the step. @param origin bins known, at least 1 */
export function gatherStill(origin: i32, season: i32): void {
  put(0, line(origin - 1));
  settle(LAST, 1);
  window(HALF_HOUR, origin, min(6, origin));
  window(HOURS, origin, min(36, origin));
  window(DAY, origin, min(season >= 16 ? season : DAY_BINS, origin));
  window(MONTH, origin, origin);
}

/** Atoms of an even sample of the last `width` bins. */
function window(group: i32, origin: i32, width: i32): void {
  const start = startOf(group);
  const size = startOf(group + 1) - start;
  const count = min(size, width);
  for (let i = 0; i < count; ++i) {
    const back = ((2 * i + 1) * width) / (2 * count);
    put(start + i, line(origin - 1 - back));
  }
  settle(group, count);
}

/**
 * Atoms of one step.
 * @param s     the series, whose linear fit answers
 * @param found neighbours in NEAREST
 */
export function gatherStep(s: usize, origin: i32, season: i32, step: i32, found: i32): void {
  const last = line(origin - 1);
  let count = 0;
  const level = startOf(ANALOG);
  const change = startOf(ANALOG_CHANGE);
  for (let i = 0; i < found; ++i) {
    const end = load<i32>(NEAREST + ((<usize>i) << 2));
    const target = end - 1 + step;
    if (target >= origin) continue;
    const value = line(target);
    put(level + count, value);
    put(change + count, last + (value - line(end - 1)));
    count += 1;
  }
  settle(ANALOG, count);
  settle(ANALOG_CHANGE, count);
  seasonal(origin, season, step);
  linear(s, origin, season, step);
}

function linear(s: usize, origin: i32, season: i32, step: i32): void {
  const start = startOf(LINEAR);
  const point = linearPoint(s, origin, season, step);
  if (isNaN(point)) {
    settle(LINEAR, 0);
    return;
  }
  for (let i = 0; i < RESIDUALS; ++i) put(start + i, point + residualAt(s, i));
  settle(LINEAR, RESIDUALS);
}

function seasonal(origin: i32, season: i32, step: i32): void {
  const start = startOf(SEASONAL);
  let count = 0;
  if (season > 1) {
    const nearest = (step + season - 1) / season;
    for (let d = nearest; d < nearest + 7; ++d) {
      const at = origin - 1 + step - d * season;
      for (let j = -1; j <= 1; ++j) {
        const i = at + j;
        if (i < 0 || i >= origin) continue;
        put(start + count, line(i));
        count += 1;
      }
    }
  }
  settle(SEASONAL, count);
}
