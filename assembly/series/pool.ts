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

/** Give each atom its part of its expert's weight; experts without an atom leave theirs to the others. */
export function spread(): void {
  let total: f32 = 0.0;
  for (let g = 0; g < GROUPS; ++g) if (validOf(g) > 0) total += load<f32>(WEIGHTS + ((<usize>g) << 2));
  memory.fill(ATOM_WEIGHTS, 0, <usize>ATOMS * 4);
  for (let g = 0; g < GROUPS; ++g) {
    const count = validOf(g);
    const share = load<f32>(WEIGHTS + ((<usize>g) << 2)) / (total * <f32>max(count, 1));
    const start = startOf(g);
    for (let i = start; i < start + count; ++i) store<f32>(ATOM_WEIGHTS + ((<usize>i) << 2), share);
  }
}

/**
 * Quantiles of the ordered, weighted atoms: out[l] = min { x : F(x) >= level[l] }.
 * @param levels f32[count], increasing; at or above 1 gives the greatest atom
 */
export function invert(levels: usize, count: i32, out: usize): void {
  let level = 0;
  let mass: f32 = 0.0;
  let top: f32 = -Infinity;
  for (let i = 0; i < ATOMS; ++i) {
    const atom = load<i32>(KEYS + ((<usize>i) << 2)) & PLACE;
    const share = load<f32>(ATOM_WEIGHTS + ((<usize>atom) << 2));
    if (share === 0.0) continue;
    mass += share;
    top = max(top, valueAt(atom)); // keys are ordered to 17 bits of the value
    while (level < count && load<f32>(levels + ((<usize>level) << 2)) <= mass) {
      store<f32>(out + ((<usize>level) << 2), top);
      level += 1;
    }
  }
  for (; level < count; ++level) store<f32>(out + ((<usize>level) << 2), top);
}

// Mass of the pool below an outcome and at it, set by rank().
export let massBelow: f32 = 0.0;
export let massAt: f32 = 0.0;
export function rank(y: f32): void {
  massBelow = 0.0;
  massAt = 0.0;
  for (let i = 0; i < ATOMS; ++i) {
    const share = load<f32>(ATOM_WEIGHTS + ((<usize>i) << 2));
    const value = valueAt(i);
    if (value < y) massBelow += share;
    else if (value === y) massAt += share;
  }
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
