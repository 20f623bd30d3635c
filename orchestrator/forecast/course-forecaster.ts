import {
  FIELDS,
  type Forecast,
  type ForecastQuery,
  LEVELS,
  type Outcome,
  QUANTILE_LEVELS,
  type RunningRequest,
} from '../core/forecast.ts';
import type { GuestId } from '../core/guest.ts';
import type { Forecaster } from '../core/ports.ts';
import { PROFILE_FIELDS, type ProfileField, type ResourceProfile } from '../core/profile.ts';
import type { GuestSample } from '../core/sample.ts';
import { addEffect, addIndependent, type Effect, meanShareAt } from './effect.ts';
import { BINS_MIN, type GuestCourses } from './guest-courses.ts';
import { LifeShapes } from './life-shapes.ts';
import { keyOf } from './parametric-forecaster.ts';
import { readingsOf } from './readings.ts';

const MEDIAN = QUANTILE_LEVELS.indexOf(0.5);
const INSTRUCTIONS = PROFILE_FIELDS.indexOf('instructionsPerS');
const BIN_TEXT = { short: '1 s', long: '5 min' } as const;

/**
 * Forecasts a request by what its workload taught, and a guest without one by the guest's own course. While the course is too
 * young the other forecaster answers for it, and the reason says so.
 */
export class CourseForecaster implements Forecaster {
  readonly #requests: Forecaster;
  readonly #courses: GuestCourses;
  readonly #shapes = new LifeShapes();
  readonly #readings = new Float64Array(FIELDS);

  constructor(requests: Forecaster, courses: GuestCourses) {
    this.#requests = requests;
    this.#courses = courses;
  }

  observe(sample: GuestSample): void {
    this.#requests.observe(sample);
    this.#courses.observe(sample);
    if (sample.cadence !== 'full') return;
    readingsOf(sample, this.#readings);
    this.#shapes.observe(sample.guest, this.#readings, sample.atMs, sample.periodMs);
  }

  /** @throws {AllocatorError} as the forecaster of requests */
  forecast(query: ForecastQuery): Forecast {
    const { running, ...alone } = query;
    if (running !== undefined) return onAxis(query, this.#combined({ ...alone, axis: 'seconds' }, running));
    return query.workload === undefined
      ? onAxis(query, this.#ownCourse(query))
      : this.#requests.forecast(query);
  }

  /** The guest's own course, in seconds. */
  #ownCourse(query: ForecastQuery): Forecast {
    const { guest, track, originMs } = query;
    const course = this.#courses.forecast(guest, track, originMs);
    if (course === undefined) {
      const { workload: _, ...bare } = query;
      const cheaper = this.#requests.forecast({ ...bare, axis: 'seconds' });
      return { ...cheaper, reason: `${this.#whyNone(query)}; ${cheaper.reason}` };
    }
    const { bins, ...found } = course;
    const reason = `its own course: ${bins.toLocaleString('en-US')} bins of ${BIN_TEXT[track]}`;
    const duration = new Float64Array(LEVELS).fill(Number.NaN);
    return { guest, axis: 'seconds', track, ...found, duration, reason, runs: 0 };
  }

  learn(outcome: Outcome): void {
    this.#requests.learn(outcome);
    this.#shapes.learn(keyOf(outcome.tenant, outcome.workload), outcome);
  }

  forget(guest: GuestId): void {
    this.#requests.forget(guest);
    this.#courses.forget(guest);
    this.#shapes.forget(guest);
  }

  /**
   * The guest's own course without what its requests use, and on it what each of them and the one that is asked for will use.
   * A request that began just now is not in the course yet: no more is taken off than the course has above what was before.
   */
  #combined(query: ForecastQuery, running: readonly RunningRequest[]): Forecast {
    const own = this.#ownCourse(query);
    const { originMs, workload, before = {} } = query;
    const onRequest: ForecastQuery = { ...query, track: 'short' };
    const effects = running.map((run) => {
      const forecast = this.#requests.forecast({ ...onRequest, workload: run.workload, before: run.before });
      const ageS = Math.max(0, (originMs - run.startedAtMs) / 1000);
      return this.#effect(run.workload, forecast, run.before, ageS);
    });
    const knots = own.knots.length;
    const values = own.values.slice();
    const [first] = running;
    if (first !== undefined) takeOff(values, knots, effects, first.before);
    const others = first === undefined ? '' : `; with ${running.length} running`;
    if (workload === undefined) {
      for (const effect of effects) addEffect(values, own.knots, effect);
      return { ...own, values, peak: largestOf(values, knots), reason: `${own.reason}${others}` };
    }
    const asked = this.#requests.forecast(onRequest);
    readFromNothing(values, knots, asked.peak);
    const together = largestOf(values, knots);
    effects.push(this.#effect(workload, asked, before, 0));
    for (const effect of effects) {
      addEffect(values, own.knots, effect);
      addAll(together, effect.largest);
    }
    const peak = first === undefined ? asked.peak : together;
    const reason = `${asked.reason}; over ${own.reason}${others}`;
    const { duration, dependence, runs } = asked;
    return { ...own, values, peak, duration, dependence, runs, reason };
  }

  #effect(
    { tenant, name }: RunningRequest['workload'],
    { peak, duration }: Forecast,
    before: ResourceProfile,
    ageS: number,
  ): Effect {
    const largest = peak.map((level, i) =>
      Math.max(0, level - (before[PROFILE_FIELDS[Math.floor(i / LEVELS)] as ProfileField] ?? 0)),
    );
    const shares = (field: number) => this.#shapes.sharesOf(keyOf(tenant, name), field);
    return { largest, duration, shares, ageS };
  }

  #whyNone({ guest, track }: ForecastQuery): string {
    const bins = this.#courses.bins(guest, track);
    return bins < BINS_MIN
      ? `cold start: ${bins} of ${BINS_MIN} bins of ${BIN_TEXT[track]} of its own course`
      : 'its own course was read too long ago';
  }
}

/** Take off a course what running requests are taken to use of it now. @param before usage before the first of them */
function takeOff(
  values: Float64Array,
  knots: number,
  effects: readonly Effect[],
  before: ResourceProfile,
): void {
  for (const [f, field] of PROFILE_FIELDS.entries()) {
    const row = values.subarray(f * knots * LEVELS, (f + 1) * knots * LEVELS);
    const above = (row[MEDIAN] as number) - (before[field] ?? 0);
    let used = 0;
    for (const effect of effects) {
      const median = effect.largest[f * LEVELS + MEDIAN] as number;
      if (!Number.isNaN(median)) used += median * meanShareAt(effect, f, 0);
    }
    const off = Math.max(0, Math.min(used, above));
    for (let i = 0; i < row.length; i += 1) row[i] = Math.max(0, (row[i] as number) - off);
  }
}

/** A field that was never read on the guest is taken to be unused where the request is known to use it. */
function readFromNothing(values: Float64Array, knots: number, peak: Float64Array): void {
  for (let f = 0; f < FIELDS; f += 1) {
    const row = values.subarray(f * knots * LEVELS, (f + 1) * knots * LEVELS);
    if (Number.isNaN(row[0]) && !Number.isNaN(peak[f * LEVELS])) row.fill(0);
  }
}

/** Add an effect's largest use to quantiles of usage, f64[FIELDS, LEVELS], in place. */
function addAll(peak: Float64Array, largest: Float64Array): void {
  for (let at = 0; at < peak.length; at += LEVELS)
    addIndependent(peak.subarray(at, at + LEVELS), largest.subarray(at, at + LEVELS));
}

/** Level by level, the largest of the knots: f64[FIELDS, LEVELS]. */
function largestOf(values: Float64Array, knots: number): Float64Array {
  const largest = new Float64Array(FIELDS * LEVELS);
  for (let f = 0; f < FIELDS; f += 1)
    for (let l = 0; l < LEVELS; l += 1)
      for (let k = 0; k < knots; k += 1) {
        const at = f * LEVELS + l;
        largest[at] = Math.max(largest[at] as number, values[(f * knots + k) * LEVELS + l] as number);
      }
  return largest;
}

/** Instructions ahead are seconds ahead at the foreseen rate; where none is known it stays in seconds. */
function onAxis({ axis }: ForecastQuery, forecast: Forecast): Forecast {
  if (axis === 'seconds') return forecast;
  const rate = forecast.peak[INSTRUCTIONS * LEVELS + MEDIAN] as number;
  if (!(rate > 0))
    return { ...forecast, reason: `${forecast.reason}; in seconds, for no instruction rate is known` };
  const knots = forecast.knots.map((seconds) => seconds * rate);
  const duration = forecast.duration.map((seconds) => seconds * rate);
  const reason = `${forecast.reason}; instructions are seconds at the predicted rate`;
  return { ...forecast, axis, knots, duration, reason };
}
