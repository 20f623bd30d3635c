// What a guest did lately: a ring of readings per field, the same readings in order, and a short-term median.
import {
  FIELDS,
  G_BASE,
  G_COUNT,
  G_HEAD,
  G_RECENT,
  G_RECENT_COUNT,
  G_RECENT_HEAD,
  G_RING,
  G_SORTED,
  GUEST_BYTES,
  guestAt,
  I_LEVELS,
  I_SAMPLE,
  io,
  LEVELS,
  RECENT,
  RING,
} from './layout';

/** First place in sorted f64[n] whose element is not less than `value`. */
function lowerBound(sorted: usize, n: i32, value: f64): i32 {
  let low = 0;
  let high = n;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (load<f64>(sorted + ((<usize>middle) << 3)) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function keep(g: usize, field: i32, value: f64): void {
  const ring = g + G_RING + ((<usize>(field * RING)) << 3);
  const sorted = g + G_SORTED + ((<usize>(field * RING)) << 3);
  const countAt = g + G_COUNT + ((<usize>field) << 2);
  const headAt = g + G_HEAD + ((<usize>field) << 2);
  let n = load<i32>(countAt);
  const head = load<i32>(headAt);
  if (n === RING) {
    const oldest = load<f64>(ring + ((<usize>head) << 3));
    const at = sorted + ((<usize>lowerBound(sorted, n, oldest)) << 3);
    memory.copy(at, at + 8, sorted + ((<usize>(n - 1)) << 3) - at);
    n -= 1;
  }
  const at = sorted + ((<usize>lowerBound(sorted, n, value)) << 3);
  memory.copy(at + 8, at, sorted + ((<usize>n) << 3) - at);
  store<f64>(at, value);
  store<f64>(ring + ((<usize>head) << 3), value);
  store<i32>(countAt, n + 1);
  store<i32>(headAt, (head + 1) % RING);
}

/** Median of the last RECENT readings, kept by insertion into a copy. */
function settleBase(g: usize, field: i32, value: f64): void {
  const recent = g + G_RECENT + ((<usize>field) << 6);
  const countAt = g + G_RECENT_COUNT + ((<usize>field) << 2);
  const headAt = g + G_RECENT_HEAD + ((<usize>field) << 2);
  const head = load<i32>(headAt);
  store<f64>(recent + ((<usize>head) << 3), value);
  store<i32>(headAt, (head + 1) % RECENT);
  const n = min(load<i32>(countAt) + 1, RECENT);
  store<i32>(countAt, n);
  for (let i = 0; i < n; ++i) {
    const x = load<f64>(recent + ((<usize>i) << 3));
    let place = i;
    while (place > 0 && load<f64>(ordered + ((<usize>(place - 1)) << 3)) > x) {
      store<f64>(ordered + ((<usize>place) << 3), load<f64>(ordered + ((<usize>(place - 1)) << 3)));
      place -= 1;
    }
    store<f64>(ordered + ((<usize>place) << 3), x);
  }
  const upper = load<f64>(ordered + ((<usize>(n >> 1)) << 3));
  const lower = load<f64>(ordered + ((<usize>((n - 1) >> 1)) << 3));
  store<f64>(g + G_BASE + ((<usize>field) << 3), (lower + upper) * 0.5);
}
const ordered = memory.data(64);

/**
 * Take the reading in I_SAMPLE; a NaN field was not read and changes nothing.
 * @param full 1 to keep it in the ring too; fast readings only move the present usage
 */
export function observe(slot: i32, full: i32): void {
  const g = guestAt(slot);
  for (let f = 0; f < FIELDS; ++f) {
    const value = load<f64>(io(I_SAMPLE) + ((<usize>f) << 3));
    if (isNaN(value)) continue;
    assert(value >= 0.0 && value < Infinity, 'a reading must be finite and not negative');
    settleBase(g, f, value);
    if (full !== 0) keep(g, f, value);
  }
}

export function clearGuest(slot: i32): void {
  memory.fill(guestAt(slot), 0, GUEST_BYTES);
}

/** Present usage of a field; NaN: never read. */
export function baseOf(slot: i32, field: i32): f64 {
  if (slot < 0) return NaN;
  const g = guestAt(slot);
  if (load<i32>(g + G_RECENT_COUNT + ((<usize>field) << 2)) === 0) return NaN;
  return load<f64>(g + G_BASE + ((<usize>field) << 3));
}

/** Quantiles of a field's kept readings into f64[LEVELS]; of its present usage when none is kept; else NaN. */
export function recentQuantiles(slot: i32, field: i32, out: usize): void {
  const n = slot < 0 ? 0 : load<i32>(guestAt(slot) + G_COUNT + ((<usize>field) << 2));
  if (n === 0) {
    const base = baseOf(slot, field);
    for (let l = 0; l < LEVELS; ++l) store<f64>(out + ((<usize>l) << 3), base);
    return;
  }
  const sorted = guestAt(slot) + G_SORTED + ((<usize>(field * RING)) << 3);
  for (let l = 0; l < LEVELS; ++l) {
    const place = load<f64>(io(I_LEVELS) + ((<usize>l) << 3)) * <f64>(n - 1);
    const i = <i32>place;
    const lower = load<f64>(sorted + ((<usize>i) << 3));
    const upper = load<f64>(sorted + ((<usize>min(i + 1, n - 1)) << 3));
    store<f64>(out + ((<usize>l) << 3), lower + (upper - lower) * (place - <f64>i));
  }
}
