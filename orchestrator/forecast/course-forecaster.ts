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
import { PROFILE_FIELDS, type ResourceProfile } from '../core/profile.ts';
import type { GuestSample } from '../core/sample.ts';
import type { EffectKernels } from '../wasm/effect.ts';
import { ChangesTogether } from './changes-together.ts';
import { type Effect, EffectSum } from './effect.ts';
import { BINS_MIN, type GuestCourses } from './guest-courses.ts';
import { LifeShapes } from './life-shapes.ts';
import { keyOf, type RequestForecaster, type RequestQuery } from './parametric-forecaster.ts';
import { readingsOf } from './readings.ts';

const MEDIAN = QUANTILE_LEVELS.indexOf(0.5);
const INSTRUCTIONS = PROFILE_FIELDS.indexOf('instructionsPerS');
/** Run time of no request. Shared, and so never changed. */
const ENDLESS = new Float64Array(LEVELS).fill(Number.NaN);
const BIN_TEXT = { short: '1 s', long: '5 min' } as const;

/**
 * Forecasts a request by what its workload taught, and a guest without one by the guest's own course. While the course is too
 * young the other forecaster answers for it, and the reason says so.
 */
export class CourseForecaster implements Forecaster {
  readonly #requests: RequestForecaster;
  readonly #courses: GuestCourses;
  readonly #sum: EffectSum;
  readonly #shapes = new LifeShapes();
  readonly #together = new ChangesTogether();
  readonly #readings = new Float64Array(FIELDS);

  /** @param effects kernels; they are its own from here on */
  constructor(requests: RequestForecaster, courses: GuestCourses, effects: EffectKernels) {
    this.#requests = requests;
    this.#courses = courses;
    this.#sum = new EffectSum(effects);
  }

  observe(sample: GuestSample): void {
    this.#requests.observe(sample);
    this.#courses.observe(sample);
    if (sample.cadence !== 'full') return;
    readingsOf(sample, this.#readings);
    this.#shapes.observe(sample.guest, this.#readings, sample.atMs, sample.periodMs);
    this.#together.observe(sample.guest, this.#readings, sample.atMs);
  }

  /** @throws {AllocatorError} as the forecaster of requests */
  forecast(query: ForecastQuery): Forecast {
    const { running, ...alone } = query;
    if (running !== undefined) return onAxis(query, this.#combined({ ...alone, axis: 'seconds' }, running));
    if (query.workload !== undefined) return this.#requests.forecast(query);
    return onAxis(query, { ...this.#ownCourse(query), dependence: this.#dependence(query) });
  }

  /** How the guest's fields move together by themselves. */
  #dependence({ guest, track }: ForecastQuery): Float64Array | undefined {
    return this.#together.of(guest, track);
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
    const reason = `its own course: ${inThousands(bins)} bins of ${BIN_TEXT[track]}`;
    return { guest, axis: 'seconds', track, ...found, duration: ENDLESS, reason, runs: 0 };
  }

  learn(outcome: Outcome): void {
    this.#requests.learn(outcome);
    this.#shapes.learn(keyOf(outcome.tenant, outcome.workload), outcome);
  }

  forget(guest: GuestId): void {
    this.#requests.forget(guest);
    this.#courses.forget(guest);
    this.#shapes.forget(guest);
    this.#together.forget(guest);
  }

  /**
   * The guest's own course without what its requests use, and on it what each of them and the one that is asked for will use.
   * A request that began just now is not in the course yet: no more is taken off than the course has above what was before.
   */
  #combined(query: ForecastQuery, running: readonly RunningRequest[]): Forecast {
    const own = this.#ownCourse(query);
    const { originMs, workload, before = {} } = query;
    const effects = running.map((run) => {
      const ageS = Math.max(0, (originMs - run.startedAtMs) / 1000);
      return this.#effect({ ...query, workload: run.workload, before: run.before }, ageS);
    });
    const knots = own.knots.length;
    const sum = this.#sum.begin(own.knots, own.values);
    const [first] = running;
    const others = first === undefined ? '' : `; with ${running.length} running`;
    if (first !== undefined) this.#takeOff(sum, knots, effects, first.before);
    if (workload === undefined) {
      for (const effect of effects) this.#add(effect);
      const { values } = this.#sum.read();
      const dependence = this.#dependence(query);
      return { ...own, values, peak: largestOf(values, knots), dependence, reason: `${own.reason}${others}` };
    }
    const asked = this.#requests.need({ ...query, workload });
    const { dependence, runs } = asked;
    readFromNothing(sum, knots, asked.peak);
    let together = first && largestOf(sum, knots);
    for (const effect of effects) {
      this.#add(effect);
      together = together && this.#sum.addLargest(together);
    }
    const shares = this.#shapes.sharesOf(keyOf(workload.tenant, workload.name));
    this.#add({ peak: asked.peak, duration: asked.duration, before, shares, ageS: 0 });
    const { peak, duration, values } = this.#sum.read();
    return {
      guest: own.guest,
      axis: own.axis,
      track: own.track,
      originMs: own.originMs,
      knots: own.knots,
      values,
      peak: together ? this.#sum.addLargest(together) : peak,
      duration,
      dependence,
      reason: `${asked.reason}; over ${own.reason}${others}`,
      runs,
    };
  }

  #add(effect: Effect): void {
    this.#sum.aim(effect);
    this.#sum.add(effect.ageS);
  }

  /** What a request that runs will add. */
  #effect(query: RequestQuery & { readonly before: ResourceProfile }, ageS: number): Effect {
    const { workload, before } = query;
    const { peak, duration } = this.#requests.need(query);
    const shares = this.#shapes.sharesOf(keyOf(workload.tenant, workload.name));
    return { peak: peak.slice(), duration: duration.slice(), before, shares, ageS };
  }

  /** Take off a course what running requests are taken to use of it now. @param before usage before the first of them */
  #takeOff(values: Float64Array, knots: number, effects: readonly Effect[], before: ResourceProfile): void {
    const used = new Float64Array(FIELDS);
    for (const effect of effects) {
      this.#sum.aim(effect);
      for (let f = 0; f < FIELDS; f += 1) {
        const median = this.#sum.medianOf(f);
        if (!Number.isNaN(median))
          used[f] = (used[f] as number) + median * this.#sum.meanShare(f, effect.ageS, 0);
      }
    }
    for (const [f, field] of PROFILE_FIELDS.entries()) {
      const row = values.subarray(f * knots * LEVELS, (f + 1) * knots * LEVELS);
      const above = (row[MEDIAN] as number) - (before[field] ?? 0);
      const off = Math.max(0, Math.min(used[f] as number, above));
      for (let i = 0; i < row.length; i += 1) row[i] = Math.max(0, (row[i] as number) - off);
    }
  }

  #whyNone({ guest, track }: ForecastQuery): string {
    const bins = this.#courses.bins(guest, track);
    return bins < BINS_MIN
      ? `cold start: ${bins} of ${BINS_MIN} bins of ${BIN_TEXT[track]} of its own course`
      : 'its own course was read too long ago';
  }
}

/** A count with commas, as `toLocaleString` writes it, in a hundredth of its time. */
function inThousands(count: number): string {
  return String(count).replace(/\B(?=(?:\d{3})+$)/g, ',');
}

/** A field that was never read on the guest is taken to be unused where the request is known to use it. */
function readFromNothing(values: Float64Array, knots: number, peak: Float64Array): void {
  for (let f = 0; f < FIELDS; f += 1) {
    const row = values.subarray(f * knots * LEVELS, (f + 1) * knots * LEVELS);
    if (Number.isNaN(row[0]) && !Number.isNaN(peak[f * LEVELS])) row.fill(0);
  }
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
