import { doublings, EDGES, OWN_LEVELS } from './chance-edges.ts';
import {
  ACTUATORS,
  DAY_BINS,
  type Fleet,
  GUEST_RESOURCES,
  type GuestResource,
  type GuestSeries,
} from './guest-series.ts';
import { windowMax } from './window-max.ts';

const HOUR_BINS = 12;
const WEEK_BINS = 7 * DAY_BINS;
const PEAK_WINDOWS = [3, HOUR_BINS, 48, DAY_BINS, 3 * DAY_BINS, WEEK_BINS] as const;
const HOUR = PEAK_WINDOWS.indexOf(HOUR_BINS);
const DAY = PEAK_WINDOWS.indexOf(DAY_BINS);
/** Days back, and bins to either side, of the peak that the same time of day had. */
const DAYS_BACK = 5;
const AROUND_BINS = 3;
/** Levels of the forecast that the rest is told relative to, and whose misses are counted. */
const [MEDIAN, Q90, Q98, Q99, Q999] = [0.5, 0.9, 0.98, 0.99, 0.999].map((level) =>
  OWN_LEVELS.indexOf(level as (typeof OWN_LEVELS)[number]),
) as [number, number, number, number, number];
/** Bins over which misses of q0.9 and of q0.99 are forgotten. */
const Q90_MEMORY = 144;
const Q99_MEMORY = DAY_BINS;

/**
 * What is known at the end of each bin of one resource's demand `lead` bins later, all in doublings: where the newest values,
 * running peaks, the same time of earlier hours and days and the ceiling lie beside the forecast's quantiles, how often those
 * were exceeded of late, and how near the guest's other resources are to their peaks.
 * @param edges f32[bins - from, EDGES] of the bin `lead` ahead
 * @returns f32[bins - from, features]
 */
export function chanceFeatures(
  fleets: Readonly<Record<GuestResource, Fleet>>,
  place: number,
  resource: GuestResource,
  lead: number,
  edges: Float32Array,
  from: number,
): Float32Array {
  const seriesOf = (of: GuestResource): GuestSeries => fleets[of][place] as GuestSeries;
  const { ceiling, provisioned } = seriesOf(resource);
  const sizes = logsOf(seriesOf(resource), resource);
  const peaks = PEAK_WINDOWS.map((window) => peaksOf(sizes, window));
  const [hourPeak, dayPeak, weekPeak] = [peaks[HOUR], peaks[DAY], peaks.at(-1)] as [
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const lows = [HOUR_BINS, DAY_BINS].map((window) =>
    peaksOf(
      sizes.map((size) => -size),
      window,
    ).map((low) => -low),
  );
  const moves = sizes.map((size, bin) => Math.abs(size - (sizes[bin - 1] ?? size)));
  const means = [HOUR_BINS, DAY_BINS].map((window) => meansOf(sizes, window));
  const roughness = [HOUR_BINS, DAY_BINS].map((window) => meansOf(moves, window));
  const around = peaksOf(sizes, 2 * AROUND_BINS + 1);
  const others = GUEST_RESOURCES.filter((other) => other !== resource).map((other) => {
    const own = logsOf(seriesOf(other), other);
    return { own, peak: peaksOf(own, DAY_BINS) };
  });
  const at = (values: Float64Array | undefined, bin: number): number => values?.[Math.max(bin, 0)] as number;

  const misses = new MissCounts();
  const rows: number[][] = [];
  for (let bin = from; bin < sizes.length; bin += 1) {
    const row = bin - from;
    const edge = (e: number, of = row): number => edges[of * EDGES + e] as number;
    const size = at(sizes, bin);
    if (row >= lead) misses.add(size, (e) => edge(e, row - lead));
    const [q50, q99] = [edge(MEDIAN), edge(Q99)];
    const back = (bins: number): number => at(sizes, bin + lead - bins);
    const least = (bins: number, count: number): number =>
      Math.min(...Array.from({ length: count }, (_, i) => back((i + 1) * bins)));
    const days = sameTimes(around, bin, lead);
    rows.push([
      q50,
      edge(Q90) - q50,
      q99 - q50,
      edge(Q999) - q99,
      size - q50,
      at(sizes, bin - 1) - size,
      at(sizes, bin - 2) - size,
      ...peaks.map((peak) => at(peak, bin) - q99),
      at(hourPeak, bin) - q50,
      at(dayPeak, bin) - at(hourPeak, bin),
      ...[...lows, ...means].map((values) => at(values, bin) - q50),
      ...roughness.map((values) => at(values, bin)),
      ...misses.features,
      Math.max(...days) - q99,
      Math.min(...days) - q50,
      back(DAY_BINS) - q50,
      back(WEEK_BINS) - q50,
      (Number.isFinite(ceiling) ? doublings(provisioned, ACTUATORS[resource]) : at(weekPeak, bin)) - q99,
      back(6) - q99,
      back(HOUR_BINS) - q99,
      least(HOUR_BINS, 2) - q99,
      least(HOUR_BINS, 4) - q50,
      least(6, 3) - q50,
      back(4 * HOUR_BINS) - q99,
      back(6 * HOUR_BINS) - q99,
      back(12 * HOUR_BINS) - q99,
      least(DAY_BINS, 2) - q99,
      least(DAY_BINS, 3) - q50,
      ...others.flatMap(({ own, peak }) => [at(own, bin) - at(peak, bin), at(own, bin) - at(own, bin - 1)]),
    ]);
  }
  return Float32Array.from(rows.flat());
}

/** How often a guest exceeded its forecasts of late, and when. */
class MissCounts {
  #q90 = 1 - 0.9;
  #q99 = 1 - 0.99;
  #since = WEEK_BINS;
  #gap = WEEK_BINS;

  /** @param edge the forecast's, of this bin */
  add(size: number, edge: (e: number) => number): void {
    this.#q90 += ((size > edge(Q90) ? 1 : 0) - this.#q90) / Q90_MEMORY;
    this.#q99 += ((size > edge(Q99) ? 1 : 0) - this.#q99) / Q99_MEMORY;
    if (size <= edge(Q98)) {
      this.#since += 1;
    } else {
      if (this.#since > 0) this.#gap = this.#since;
      this.#since = 0;
    }
  }

  /** Shares of q0.9 and q0.99, bins since q0.98 was exceeded, and how many more the time before. */
  get features(): number[] {
    return [this.#q90, this.#q99, Math.log2(1 + this.#since), this.#gap - this.#since];
  }
}

/** Peaks around the same time on the days before. */
function sameTimes(around: Float64Array, bin: number, lead: number): number[] {
  const peaks: number[] = [];
  for (let day = 1; day <= DAYS_BACK; day += 1) {
    const end = bin + lead + AROUND_BINS - day * DAY_BINS;
    if (end >= 0) peaks.push(around[Math.min(end, bin)] as number);
  }
  return peaks;
}

function logsOf({ seen }: GuestSeries, resource: GuestResource): Float64Array {
  return seen.map((size) => doublings(size, ACTUATORS[resource]));
}

function peaksOf(values: Float64Array, window: number): Float64Array {
  const peaks = new Float64Array(values.length);
  windowMax(values, window, peaks);
  return peaks;
}

/** Running means over the last `window` values, fewer at the start. */
function meansOf(values: Float64Array, window: number): Float64Array {
  let sum = 0;
  return values.map((value, bin) => {
    sum += value - (values[bin - window] ?? 0);
    return sum / Math.min(window, bin + 1);
  });
}
