import {
  type Forecast,
  type ForecastQuery,
  LEVELS,
  type Outcome,
  QUANTILE_LEVELS,
} from '../core/forecast.ts';
import type { GuestId } from '../core/guest.ts';
import type { Forecaster } from '../core/ports.ts';
import { PROFILE_FIELDS } from '../core/profile.ts';
import type { GuestSample } from '../core/sample.ts';
import { BINS_MIN, type GuestCourses } from './guest-courses.ts';

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

  constructor(requests: Forecaster, courses: GuestCourses) {
    this.#requests = requests;
    this.#courses = courses;
  }

  observe(sample: GuestSample): void {
    this.#requests.observe(sample);
    this.#courses.observe(sample);
  }

  /** @throws {AllocatorError} as the forecaster of requests */
  forecast(query: ForecastQuery): Forecast {
    if (query.workload !== undefined) return this.#requests.forecast(query);
    const { guest, track, originMs } = query;
    const course = this.#courses.forecast(guest, track, originMs);
    if (course === undefined) {
      const cheaper = this.#requests.forecast(query);
      return { ...cheaper, reason: `${this.#whyNone(query)}; ${cheaper.reason}` };
    }
    const { bins, ...found } = course;
    const reason = `its own course: ${bins.toLocaleString('en-US')} bins of ${BIN_TEXT[track]}`;
    const duration = new Float64Array(LEVELS).fill(Number.NaN);
    return onAxis(query, { guest, axis: 'seconds', track, ...found, duration, reason, runs: 0 });
  }

  learn(outcome: Outcome): void {
    this.#requests.learn(outcome);
  }

  forget(guest: GuestId): void {
    this.#requests.forget(guest);
    this.#courses.forget(guest);
  }

  #whyNone({ guest, track }: ForecastQuery): string {
    const bins = this.#courses.bins(guest, track);
    return bins < BINS_MIN
      ? `cold start: ${bins} of ${BINS_MIN} bins of ${BIN_TEXT[track]} of its own course`
      : 'its own course was read too long ago';
  }
}

/** Instructions ahead are seconds ahead at the foreseen rate; where none is known it stays in seconds. */
function onAxis({ axis }: ForecastQuery, forecast: Forecast): Forecast {
  if (axis === 'seconds') return forecast;
  const rate = forecast.peak[INSTRUCTIONS * LEVELS + MEDIAN] as number;
  if (!(rate > 0))
    return { ...forecast, reason: `${forecast.reason}; in seconds, for no instruction rate is known` };
  const knots = forecast.knots.map((seconds) => seconds * rate);
  const reason = `${forecast.reason}; instructions are seconds at the predicted rate`;
  return { ...forecast, axis, knots, reason };
}
