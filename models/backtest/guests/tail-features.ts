import { type Actuator, DAY_BINS, type GuestSeries } from './guest-series.ts';
import { windowMax } from './window-max.ts';

/** Levels of the forecast that the tail is judged from. */
export const FORECAST_LEVELS = [0.5, 0.9, 0.99, 0.999] as const;
const WINDOWS = [3, 12, 48, 288, 864, 2016] as const;
/** Days back, and bins to either side, of the peak that the same time of day had. */
const DAYS_BACK = 5;
const AROUND_BINS = 3;
const SAME_DAYS = [1, 7] as const;

/** Sizes that trees see: forecasts, the newest values, running peaks, peaks of the same time of day, the ceiling. */
export const FEATURES = FORECAST_LEVELS.length + 3 + WINDOWS.length + 2 + SAME_DAYS.length + 1;
/** Features that outcomes may be told relative to: q0.5, q0.9, the last value, and peaks of an hour, 4 h and a day. */
export const ANCHORS = [
  0,
  1,
  FORECAST_LEVELS.length,
  FORECAST_LEVELS.length + 4,
  FORECAST_LEVELS.length + 5,
  FORECAST_LEVELS.length + 6,
] as const;

/** Sizes in doublings, even near zero: what lies below the floor hardly counts. */
export function doublings(size: number, { floor }: Actuator): number {
  return Math.log2(Math.max(size, 0) + floor);
}

/**
 * What is known at the end of each bin of the demand `lead` bins later.
 * @param forecasts f32[bins - from, FORECAST_LEVELS] of the bin `lead` ahead
 * @returns f32[bins - from, FEATURES], in doublings
 */
export function tailFeatures(
  { seen, provisioned, ceiling }: GuestSeries,
  actuator: Actuator,
  lead: number,
  forecasts: Float32Array,
  from: number,
): Float32Array {
  const bins = seen.length;
  const levels = FORECAST_LEVELS.length;
  const peaks = WINDOWS.map((window) => {
    const peak = new Float64Array(bins);
    windowMax(seen, window, peak);
    return peak;
  });
  const around = new Float64Array(bins);
  windowMax(seen, 2 * AROUND_BINS + 1, around);
  const out = new Float32Array((bins - from) * FEATURES);
  for (let bin = from; bin < bins; bin += 1) {
    let at = (bin - from) * FEATURES;
    const put = (size: number): void => {
      out[at++] = doublings(size, actuator);
    };
    for (let l = 0; l < levels; l += 1) put(forecasts[(bin - from) * levels + l] as number);
    for (let back = 0; back < 3; back += 1) put(seen[Math.max(bin - back, 0)] as number);
    for (const peak of peaks) put(peak[bin] as number);
    let most = 0;
    let least = Number.POSITIVE_INFINITY;
    for (let day = 1; day <= DAYS_BACK; day += 1) {
      const end = bin + lead + AROUND_BINS - day * DAY_BINS;
      if (end < 0) break;
      most = Math.max(most, around[Math.min(end, bin)] as number);
      least = Math.min(least, around[Math.min(end, bin)] as number);
    }
    put(most);
    put(least);
    for (const day of SAME_DAYS) put(seen[Math.max(bin + lead - day * DAY_BINS, 0)] as number);
    put(Number.isFinite(ceiling) ? provisioned : (peaks.at(-1)?.[bin] as number));
  }
  return out;
}
