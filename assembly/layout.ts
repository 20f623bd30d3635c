// Shapes and addresses. Everything lives at fixed places above the heap base: nothing is ever allocated.

/** Resource fields, in the order of the core's PROFILE_FIELDS. */
export const FIELDS: i32 = 7;
/** What a model predicts of a run: the fields, then its duration. */
export const OUTPUTS: i32 = 8;
export const DURATION: i32 = 7;
/** Levels of a quantile row. */
export const LEVELS: i32 = 12;
/** Most knots of a horizon. */
export const KNOTS_MAX: i32 = 16;

/** Coordinates of a request that are standardised; NaN is a number that was not given. */
export const NUMERIC: i32 = 16;
/** All coordinates of a request: numeric, then categories and words, then indicators. */
export const DIMS: i32 = 48;
/** Finished runs a workload remembers; the newest replace the oldest. A fit is cubic in it. */
export const RUNS_MAX: i32 = 64;
/** Workloads remembered at once. */
export const WORKLOADS_MAX: i32 = 112;

/** Guests remembered at once. */
export const GUESTS_MAX: i32 = 1024;
/** Full samples kept per guest and field: about two minutes at 1 s. */
export const RING: i32 = 128;
/** Readings whose median is a guest's present usage: odd, and two outliers do not move it. */
export const RECENT: i32 = 5;

export const ROW_BYTES: usize = <usize>DIMS * 8;
/** Bytes of one line of a RUNS_MAX x RUNS_MAX matrix. */
export const LINE: usize = <usize>RUNS_MAX * 8;
export const MATRIX: usize = <usize>RUNS_MAX * LINE;
/** Rows of a packed lower triangle that are stored alike long, so that four are multiplied at once. */
export const BAND: i32 = 4;
/** Bytes of a packed lower triangle: see packLower in linear.ts. */
export const TRIANGLE: usize = <usize>(RUNS_MAX * (RUNS_MAX + BAND)) * 4;
/** Bytes of a row of quantiles, with room for whole vectors. */
export const QUANTILES: usize = 128;

// One workload. `param` is f64[OUTPUTS, 8]: see process.ts.
export const W_COUNT: usize = 0; //                                    i32, runs held
export const W_HEAD: usize = 4; //                                     i32, place of the next run
export const W_MEAN: usize = 64; //                                    f64[NUMERIC]
export const W_SCALE: usize = W_MEAN + <usize>NUMERIC * 8; //          f64[NUMERIC]
export const W_BEFORE: usize = W_SCALE + <usize>NUMERIC * 8; //        f64[8], usage before the newest run
export const W_PARAM: usize = W_BEFORE + 64; //                        f64[OUTPUTS, 8]
export const W_RAW: usize = W_PARAM + <usize>OUTPUTS * 64; //          f64[RUNS_MAX, DIMS], as given
export const W_Z: usize = W_RAW + <usize>RUNS_MAX * ROW_BYTES; //      f64[RUNS_MAX, DIMS], standardised
export const W_Y: usize = W_Z + <usize>RUNS_MAX * ROW_BYTES; //        f64[OUTPUTS, RUNS_MAX], NaN: not learned
export const W_ALPHA: usize = W_Y + <usize>OUTPUTS * LINE; //          f64[OUTPUTS, RUNS_MAX]
export const W_LINV: usize = W_ALPHA + <usize>OUTPUTS * LINE; //       a packed lower triangle an output
// What the experts remember beside the runs: see experts.ts.
export const W_SEEN: usize = W_LINV + <usize>OUTPUTS * TRIANGLE; //    f64[NUMERIC, 2], least and most, as given
export const W_NORM: usize = W_SEEN + <usize>NUMERIC * 16; //          f64[RUNS_MAX], |z|^2
export const W_NEAR: usize = W_NORM + LINE; //                         f64[DIMS], weights of squared differences
export const W_MISS: usize = W_NEAR + ROW_BYTES; //                    f64[OUTPUTS, RUNS_MAX], NaN: none
export const W_COURSE: usize = W_MISS + <usize>OUTPUTS * LINE; //      f64[OUTPUTS, 2, RUNS_MAX], usage before each run
export const W_NOW: usize = W_COURSE + <usize>(OUTPUTS * 2) * LINE; // f64[OUTPUTS, 2], the same before the next
export const W_LOSS: usize = W_NOW + <usize>OUTPUTS * 16; //           f64[OUTPUTS, 8]
export const W_APART: usize = W_LOSS + <usize>OUTPUTS * 64; //         f64[OUTPUTS, RUNS_MAX], distance of the courses
export const W_STANDING: usize = W_APART + <usize>OUTPUTS * LINE; //   quantiles [OUTPUTS, 3], asked of no request
export const W_DEPENDENCE: usize = W_STANDING + <usize>(OUTPUTS * 3) * QUANTILES; // f64[OUTPUTS, OUTPUTS]
export const W_ORDER: usize = W_DEPENDENCE + <usize>(OUTPUTS * OUTPUTS) * 8; // u8[OUTPUTS, RUNS_MAX], runs by size
export const W_ORDER_SIZE: usize = W_ORDER + <usize>(OUTPUTS * RUNS_MAX); // i32[OUTPUTS]
export const W_MISS_SIZE: usize = W_ORDER_SIZE + 32; //                i32[OUTPUTS]
export const W_RECENT: usize = (W_MISS_SIZE + 32 + 63) & ~63; //       f64[OUTPUTS, RUNS_MAX], newer runs more, adding up to 1
export const WORKLOAD_BYTES: usize = W_RECENT + <usize>OUTPUTS * LINE;

// One guest.
export const G_COUNT: usize = 0; //                                    i32[8], readings in the ring, by field
export const G_HEAD: usize = 32; //                                    i32[8]
export const G_RECENT_COUNT: usize = 64; //                            i32[8], readings ever, capped at RECENT
export const G_RECENT_HEAD: usize = 96; //                             i32[8]
export const G_BASE: usize = 128; //                                   f64[8], median of the recent readings
export const G_RECENT: usize = 192; //                                 f64[FIELDS, 8]
export const G_RING: usize = G_RECENT + <usize>FIELDS * 64; //         f64[FIELDS, RING], in order of arrival
export const G_SORTED: usize = G_RING + <usize>(FIELDS * RING) * 8; // f64[FIELDS, RING], increasing
export const GUEST_BYTES: usize = G_SORTED + <usize>(FIELDS * RING) * 8;

// Inputs and outputs, all f64.
export const I_LEVELS: usize = 0; //    [16], written once by the host
export const I_NORMAL: usize = 128; //  [16], standard normal quantiles of the levels
export const I_FLOORS: usize = 256; //  [8], smallest increment of each field that means something
export const I_ROW: usize = 320; //     [DIMS], a request's coordinates
export const I_PEAK: usize = 704; //    [8]
export const I_BEFORE: usize = 768; //  [8]
export const I_CEILING: usize = 832; // [8]
export const I_SAMPLE: usize = 896; //  [8]
export const I_KNOTS: usize = 960; //   [KNOTS_MAX], s
export const O_PEAK: usize = 1088; //   [FIELDS, LEVELS]
export const O_DURATION: usize = O_PEAK + <usize>(FIELDS * LEVELS) * 8; // [LEVELS]
export const O_VALUES: usize = O_DURATION + <usize>LEVELS * 8; //          [FIELDS, knots, LEVELS]
export const O_END: usize = O_VALUES + <usize>(FIELDS * KNOTS_MAX * LEVELS) * 8;

// Scratch of a fit and of a prediction.
const S_GRAM: usize = (O_END + 63) & ~63; //       matrix
const S_KERNEL: usize = S_GRAM + MATRIX; //        matrix
const S_FACTOR: usize = S_KERNEL + MATRIX; //      matrix
const S_INVERSE: usize = S_FACTOR + MATRIX; //     matrix
const S_VECTORS: usize = S_INVERSE + MATRIX; //    f64[17, RUNS_MAX]
const S_END: usize = S_VECTORS + 17 * LINE;

const BASE: usize = (__heap_base + 63) & ~63;
const WORKLOADS: usize = BASE + ((S_END + 63) & ~63);
const GUESTS: usize = WORKLOADS + <usize>WORKLOADS_MAX * WORKLOAD_BYTES;
/** First byte past all that is used. */
export const END: usize = GUESTS + <usize>GUESTS_MAX * GUEST_BYTES;

export function io(offset: usize): usize {
  return BASE + offset;
}
export function gramMatrix(): usize {
  return BASE + S_GRAM;
}
export function kernelMatrix(): usize {
  return BASE + S_KERNEL;
}
export function factorMatrix(): usize {
  return BASE + S_FACTOR;
}
export function inverseMatrix(): usize {
  return BASE + S_INVERSE;
}
/** Scratch vector `index` of 17, f64[RUNS_MAX]. */
export function vector(index: i32): usize {
  return BASE + S_VECTORS + <usize>index * LINE;
}
export function workloadAt(slot: i32): usize {
  assert(slot >= 0 && slot < WORKLOADS_MAX, 'workload slot must be in [0, WORKLOADS_MAX)');
  return WORKLOADS + <usize>slot * WORKLOAD_BYTES;
}
export function guestAt(slot: i32): usize {
  assert(slot >= 0 && slot < GUESTS_MAX, 'guest slot must be in [0, GUESTS_MAX)');
  return GUESTS + <usize>slot * GUEST_BYTES;
}
