// Shapes and addresses of the anomaly module. Everything lives at fixed places above the heap base.

/** Metrics of a guest at most: host exporters give some forty. */
export const METRICS_MAX: i32 = 64;
/** Guests remembered at once. */
export const GUESTS_MAX: i32 = 256;
/** What is looked at of a metric: its level, its step, its departure from the recent past. */
export const VIEWS: i32 = 3;
/** Surprises that are combined into one. */
export const TRACKS: i32 = 4;
/** Values of a tail's table: evenly spaced in decades, from everything to the start of the tail. */
export const KNOTS: i32 = 33;

/** Bytes of one value a metric. */
export const ROW: usize = <usize>METRICS_MAX * 8;
/** Bytes of a lower triangle, row after row. */
const TRIANGLE: usize = <usize>((METRICS_MAX * (METRICS_MAX + 1)) / 2) * 8;
/** Bytes of one tail: its table, then its start in decades and its inverse index. */
export const TAIL: usize = <usize>(KNOTS + 2) * 8;

// One guest.
export const G_METRICS: usize = 0; //                              i32
export const G_RELATED: usize = 4; //                              i32, rows in the triangles
export const G_SMOOTH: usize = 8; //                               f64[TRACKS], NaN before the first row
export const G_TAILS: usize = G_SMOOTH + <usize>TRACKS * 8; //     [TRACKS] tails
export const G_COUNT: usize = G_TAILS + <usize>TRACKS * TAIL; //   f64[VIEWS, METRICS_MAX], values in the moments
export const G_MEAN: usize = G_COUNT + <usize>VIEWS * ROW; //      f64[VIEWS, METRICS_MAX]
export const G_SCALE: usize = G_MEAN + <usize>VIEWS * ROW; //      f64[VIEWS, METRICS_MAX], first squares, then deviations; 0: never moved
export const G_LARGEST: usize = G_SCALE + <usize>VIEWS * ROW; //   f64[METRICS_MAX], of the levels' sizes
export const G_FARTHEST: usize = G_LARGEST + ROW; //               f64[METRICS_MAX], of the levels from their mean, since they are scored
export const G_PAST: usize = G_FARTHEST + ROW; //                  f64[VIEWS, METRICS_MAX], means of the past; NaN: none yet
export const G_JOINT: usize = G_PAST + <usize>VIEWS * ROW; //      [2] triangles: of the levels, of the departures
const GUEST_BYTES: usize = G_JOINT + 2 * TRIANGLE;

const BASE: usize = (__heap_base + 63) & ~63;
/** f64[METRICS_MAX]: the row at hand; NaN is a reading that is missing. */
export const SAMPLE: usize = BASE;
/** f64[VIEWS, METRICS_MAX]: the row at hand, standardised. */
export const Z: usize = SAMPLE + ROW;
/** f64[2, METRICS_MAX]: L^-1 z of the joint views. */
export const SOLVED: usize = Z + <usize>VIEWS * ROW;
/** f64[TRACKS]: measures of the row at hand, before their tails. */
export const MEASURES: usize = SOLVED + 2 * ROW;
/** f64[TRACKS]: the same in decades. */
export const DECADES: usize = MEASURES + <usize>TRACKS * 8;
/** f64[METRICS_MAX]: shares of the metrics. */
export const EVIDENCE: usize = DECADES + <usize>TRACKS * 8;
/** f64[METRICS_MAX]: scratch of an explanation. */
export const WORK: usize = EVIDENCE + ROW;
const GUESTS: usize = (WORK + ROW + 63) & ~63;
/** First byte past all that is used. */
export const END: usize = GUESTS + <usize>GUESTS_MAX * GUEST_BYTES;

export function guestAt(slot: i32): usize {
  assert(slot >= 0 && slot < GUESTS_MAX, 'guest slot must be in [0, GUESTS_MAX)');
  return GUESTS + <usize>slot * GUEST_BYTES;
}
export function metricsOf(guest: usize): i32 {
  const metrics = load<i32>(guest + G_METRICS);
  assert(metrics > 0, 'the guest must be opened first');
  return metrics;
}
export function tailAt(guest: usize, track: i32): usize {
  assert(track >= 0 && track < TRACKS, 'track must be in [0, TRACKS)');
  return guest + G_TAILS + <usize>track * TAIL;
}
/** The triangle of joint view 0 or 1. */
export function jointAt(guest: usize, joint: i32): usize {
  return guest + G_JOINT + <usize>joint * TRIANGLE;
}
/** Element i of the f64 array at `at`. */
export function get(at: usize, i: i32): f64 {
  return load<f64>(at + ((<usize>i) << 3));
}
export function put(at: usize, i: i32, value: f64): void {
  store<f64>(at + ((<usize>i) << 3), value);
}
