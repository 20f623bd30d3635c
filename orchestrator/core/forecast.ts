import type { GuestId } from './guest.ts';
import { PROFILE_FIELDS, type ProfileField, type ResourceProfile } from './profile.ts';
import type { Params } from './request.ts';

/** Quantile levels of every forecast, increasing. The outer ones are what admission and alarms read. */
export const QUANTILE_LEVELS = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99] as const;
export const LEVELS = QUANTILE_LEVELS.length;
export const FIELDS = PROFILE_FIELDS.length;
/** Knots of a horizon at most; spaced closer near the origin, read in between. */
export const KNOTS_MAX = 16;

export type Axis = 'seconds' | 'instructions';
export type Track = 'short' | 'long';

/**
 * Quantiles of every resource of one guest, conditioned on a request (or on none). All arrays are row-major:
 * values f64[FIELDS, knots, LEVELS], peak f64[FIELDS, LEVELS], duration f64[LEVELS].
 */
export interface Forecast {
  readonly guest: GuestId;
  readonly axis: Axis;
  readonly track: Track;
  /** Last time known to the forecast, ms since epoch. */
  readonly originMs: number;
  /** Ahead of the work's start, in seconds or instructions; increasing, at most KNOTS_MAX. */
  readonly knots: readonly number[];
  /** Level of usage at each knot. NaN where the field has never been read on this guest. */
  readonly values: Float64Array;
  /** Largest usage while the request runs. What needs are taken from. */
  readonly peak: Float64Array;
  /** Seconds (or instructions) the request's work lasts. NaN: not known. */
  readonly duration: Float64Array;
  /**
   * How the fields and, last, the duration miss together: correlations f64[FIELDS + 1, FIELDS + 1] of what earlier forecasts of
   * this work missed, or, without a request, of how the guest's fields change by themselves. Absent: not known, and so
   * independent. What `sampleScenarios` draws by.
   */
  readonly dependence?: Float64Array | undefined;
  /** Which forecaster answered and from what, in words: "parameters of 14 runs", "cold start: no run of this workload". */
  readonly reason: string;
  /** Finished requests of this workload that the forecast rests on. */
  readonly runs: number;
}

/**
 * A forecast as far as `horizon`, on its own axis: the knots before it, and one at it, read between its neighbours. One
 * that does not reach so far is given as it is.
 * @param horizon above 0
 */
export function withinHorizon(forecast: Forecast, horizon: number): Forecast {
  const { knots, values } = forecast;
  const within = knots.filter((knot) => knot < horizon).length;
  if (within === knots.length) return forecast;
  const upper = knots[within] as number;
  // Before the first knot the level is that of the first.
  const lower = within === 0 ? upper : (knots[within - 1] as number);
  const share = upper === lower ? 1 : (horizon - lower) / (upper - lower);
  const kept = within + 1;
  const cut = new Float64Array(FIELDS * kept * LEVELS);
  for (let f = 0; f < FIELDS; f += 1) {
    const row = values.subarray(f * knots.length * LEVELS, (f + 1) * knots.length * LEVELS);
    const out = cut.subarray(f * kept * LEVELS, (f + 1) * kept * LEVELS);
    out.set(row.subarray(0, kept * LEVELS));
    for (let l = 0; l < LEVELS; l += 1) {
      const after = row[within * LEVELS + l] as number;
      const before = within === 0 ? after : (row[(within - 1) * LEVELS + l] as number);
      out[within * LEVELS + l] = before + (after - before) * share;
    }
  }
  return { ...forecast, knots: [...knots.slice(0, within), horizon], values: cut };
}

/** One request to forecast, or a guest's own course when `workload` is absent. */
export interface ForecastQuery {
  readonly guest: GuestId;
  readonly axis: Axis;
  readonly track: Track;
  readonly originMs: number;
  readonly workload?: { readonly tenant: string; readonly name: string; readonly params: Params };
  /** Client's own estimate of the run time, s. */
  readonly durationS?: number;
  /** Guest's usage just before the request; a field that is absent is taken from the guest's recent samples. */
  readonly before?: ResourceProfile;
  /**
   * Requests that run on the guest already, oldest first: what they will use on joins what the guest uses by itself, and so does
   * this one's effect over its life. Absent: the request by itself, over `before`.
   */
  readonly running?: readonly RunningRequest[];
  /** The most the guest can be given: what an unknown workload may need. */
  readonly ceiling: ResourceProfile;
}

/** A request whose work has begun. */
export interface RunningRequest {
  readonly workload: { readonly tenant: string; readonly name: string; readonly params: Params };
  readonly startedAtMs: number;
  /** Guest's usage just before it. */
  readonly before: ResourceProfile;
}

/** What a forecast is read on. */
export type ForecastScale = Pick<ForecastQuery, 'axis' | 'track'>;

/** What a finished lease taught: the request, what the guest did before it, and what it used at most. */
export interface Outcome {
  readonly leaseId: string;
  readonly guest: GuestId;
  readonly tenant: string;
  readonly workload: string;
  readonly params: Params;
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  /** Guest's usage just before the work, so that the request's own share can be told. */
  readonly before: ResourceProfile;
  /** Largest usage of each field while the work ran. */
  readonly peak: ResourceProfile;
  /** Fields that stood at their limit: the peak says "at least". */
  readonly censored: readonly ProfileField[];
  /** False when the work failed or was killed: its duration and peaks are not those of a full run. */
  readonly completed: boolean;
}

/** Index of a field's quantiles in `peak`. */
export function quantileOf(row: Float64Array, field: ProfileField, level: number): number {
  return quantileAt(row, PROFILE_FIELDS.indexOf(field) * LEVELS, level);
}

/**
 * Read a quantile between the stored levels, linearly; beyond them the outermost is returned.
 * @param offset index of the row's first level
 * @param level  in (0, 1)
 */
export function quantileAt(row: Float64Array, offset: number, level: number): number {
  for (let i = 0; i < LEVELS; i += 1) {
    const upper = QUANTILE_LEVELS[i] as number;
    if (level > upper) continue;
    const value = row[offset + i] as number;
    if (i === 0) return value;
    const lower = QUANTILE_LEVELS[i - 1] as number;
    const below = row[offset + i - 1] as number;
    return below + ((value - below) * (level - lower)) / (upper - lower);
  }
  return row[offset + LEVELS - 1] as number;
}
