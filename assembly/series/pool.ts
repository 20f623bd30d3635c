// The pool: distributions are mixed, never quantiles averaged. F(x) = sum_g w_g F_g(x).
import { ownerOf, startOf } from './experts';
import { ATOM_VALUES, ATOM_WEIGHTS, ATOMS, GROUP_ROW, GROUPS, KEYS, MATRIX, VALID, WEIGHTS } from './layout';
import { orderOf, sortKeys } from './sort';

const PLACE: i32 = ATOMS - 1;

function valueAt(atom: i32): f32 {
  return load<f32>(ATOM_VALUES + ((<usize>atom) << 2));
}
function validOf(group: i32): i32 {
  return load<i32>(VALID + ((<usize>group) << 2));
}

/** Order the atoms: the low bits of KEYS hold the atoms' places, from the least value to the greatest. */
export function orderAtoms(): void {
  for (let i = 0; i < ATOMS; ++i) store<i32>(KEYS + ((<usize>i) << 2), (orderOf(valueAt(i)) & ~PLACE) | i);
  sortKeys();
}

/** An expert of less weight has none: its atoms are not to stretch the pool's range. */
const LEAST_WEIGHT: f32 = 1e-6;

/** Give each atom its part of its expert's weight; experts without an atom leave theirs to the others. */
export function spread(): void {
  let total: f32 = 0.0;
  for (let g = 0; g < GROUPS; ++g) if (validOf(g) > 0) total += load<f32>(WEIGHTS + ((<usize>g) << 2));
  memory.fill(ATOM_WEIGHTS, 0, <usize>ATOMS * 4);
  for (let g = 0; g < GROUPS; ++g) {
    const count = validOf(g);
    const weight = load<f32>(WEIGHTS + ((<usize>g) << 2)) / total;
    if (count === 0 || weight < LEAST_WEIGHT) continue;
    const share = weight / <f32>count;
    const start = startOf(g);
    for (let i = start; i < start + count; ++i) store<f32>(ATOM_WEIGHTS + ((<usize>i) << 2), share);
  }
}

// Outermost atoms that weigh anything, set by invert() and rank().
let least: f32 = 0.0;
let greatest: f32 = 0.0;
/** Quantiles of levels outside of (0, 1]: as far beyond the atoms as the level is, in units of their range, and never on one. */
function under(level: f32): f32 {
  return least + level * (greatest - least) - apart(least);
}
function over(level: f32): f32 {
  return greatest + (level - 1.0) * (greatest - least) + apart(greatest);
}
function apart(value: f32): f32 {
  return abs(value) * 1e-6 + <f32>1e-30;
}

/**
 * Quantiles of the ordered, weighted atoms: out[l] = min { x : F(x) >= level[l] }.
 * @param levels f32[count], increasing; outside of (0, 1] they lie beyond the atoms
 */
export function invert(levels: usize, count: i32, out: usize): void {
  let low = 0;
  while (low < count && load<f32>(levels + ((<usize>low) << 2)) <= 0.0) low += 1;
  let level = low;
  let mass: f32 = 0.0;
  greatest = -Infinity;
  for (let i = 0; i < ATOMS; ++i) {
    const atom = load<i32>(KEYS + ((<usize>i) << 2)) & PLACE;
    const share = load<f32>(ATOM_WEIGHTS + ((<usize>atom) << 2));
    if (share === 0.0) continue;
    if (mass === 0.0) least = valueAt(atom);
    mass += share;
    greatest = max(greatest, valueAt(atom)); // keys are ordered to 17 bits of the value
    while (level < count && load<f32>(levels + ((<usize>level) << 2)) <= mass) {
      store<f32>(out + ((<usize>level) << 2), greatest);
      level += 1;
    }
  }
  for (let l = 0; l < low; ++l)
    store<f32>(out + ((<usize>l) << 2), under(load<f32>(levels + ((<usize>l) << 2))));
  for (; level < count; ++level) {
    const asked = load<f32>(levels + ((<usize>level) << 2));
    store<f32>(out + ((<usize>level) << 2), asked > 1.0 ? over(asked) : greatest);
  }
}

// An outcome, and the mass of the pool below it and at it.
let outcome: f32 = 0.0;
let massBelow: f32 = 0.0;
let massAt: f32 = 0.0;
/** Place an outcome among the weighted atoms. */
export function rank(y: f32): void {
  outcome = y;
  massBelow = 0.0;
  massAt = 0.0;
  least = Infinity;
  greatest = -Infinity;
  for (let i = 0; i < ATOMS; ++i) {
    const share = load<f32>(ATOM_WEIGHTS + ((<usize>i) << 2));
    if (share === 0.0) continue;
    const value = valueAt(i);
    least = min(least, value);
    greatest = max(greatest, value);
    if (value < y) massBelow += share;
    else if (value === y) massAt += share;
  }
}

/** Share in which the outcome of rank() lies under the quantile that invert() gives for a level; a tie counts half. */
export function coveredBy(level: f32): f32 {
  if (level <= 0.0) return outcome < under(level) ? 1.0 : 0.0;
  if (level > 1.0) return outcome < over(level) ? 1.0 : 0.0;
  return massBelow + massAt < level ? 1.0 : massBelow < level ? 0.5 : 0.0;
}

/** f32[GROUP_ROW]: mass of each expert at or below the present place of measure(). */
const reached = memory.data(48);

/**
 * MATRIX[g][h] = integral of (F_g - 1{x >= y}) (F_h - 1{x >= y}) dx, so that the pool's CRPS is w' MATRIX w, and each
 * expert's own is on the diagonal. Rows of experts without atoms mean nothing.
 */
export function measure(y: f32): void {
  memory.fill(MATRIX, 0, 16 * <usize>GROUP_ROW * 4);
  memory.fill(reached, 0, 48);
  let before = min(valueAt(load<i32>(KEYS) & PLACE), y);
  for (let i = 0; i < ATOMS; ++i) {
    const atom = load<i32>(KEYS + ((<usize>i) << 2)) & PLACE;
    const value = valueAt(atom);
    if (value > before) {
      const split = min(max(y, before), value);
      if (split > before) addGap(split - before, 0.0);
      if (value > split) addGap(value - split, 1.0);
      before = value;
    }
    const g = ownerOf(atom);
    const count = validOf(g);
    if (atom >= startOf(g) + count) continue;
    const at = reached + ((<usize>g) << 2);
    store<f32>(at, load<f32>(at) + <f32>1.0 / <f32>count);
  }
  if (y > before) addGap(y - before, 0.0);
}

function addGap(gap: f32, outcome: f32): void {
  const one = f32x4.splat(outcome);
  const a = f32x4.sub(v128.load(reached), one);
  const b = f32x4.sub(v128.load(reached, 16), one);
  const c = f32x4.sub(v128.load(reached, 32), one);
  for (let g = 0; g < GROUPS; ++g) {
    const d = f32x4.splat((load<f32>(reached + ((<usize>g) << 2)) - outcome) * gap);
    const at = MATRIX + <usize>(g * GROUP_ROW) * 4;
    v128.store(at, f32x4.add(v128.load(at), f32x4.mul(d, a)));
    v128.store(at, f32x4.add(v128.load(at, 16), f32x4.mul(d, b)), 16);
    v128.store(at, f32x4.add(v128.load(at, 32), f32x4.mul(d, c)), 32);
  }
}
