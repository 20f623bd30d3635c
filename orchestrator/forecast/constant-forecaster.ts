import { FIELDS, type Forecast, type ForecastQuery, KNOTS_MAX, LEVELS } from '../core/forecast.ts';
import type { GuestId } from '../core/guest.ts';
import type { Forecaster } from '../core/ports.ts';
import { PROFILE_FIELDS, type ProfileField, type ResourceProfile } from '../core/profile.ts';
import type { GuestSample } from '../core/sample.ts';
import { KNOTS_S } from './parametric-forecaster.ts';

/** Guests whose idle usage is remembered. As many as the real forecaster holds. */
const GUESTS_MAX = 1024;
/** Idle of a guest that reads nothing: this share of its ceiling, for a geometric middle needs a start above zero. */
const IDLE_FRACTION = 0.01;

/**
 * The ablation: whatever is asked, the geometric middle between a guest's idle usage (the least seen) and its
 * ceiling, at every level. It learns nothing, so whatever works with it does not work because of a forecast.
 */
export class ConstantForecaster implements Forecaster {
  readonly #idle = new Map<GuestId, ResourceProfile>();

  observe(sample: GuestSample): void {
    const held = this.#idle.get(sample.guest) ?? {};
    const idle: { [F in ProfileField]?: number } = { ...held };
    for (const field of PROFILE_FIELDS) {
      const value = sample.usage[field];
      if (value !== undefined && value >= 0) idle[field] = Math.min(value, held[field] ?? value);
    }
    this.#idle.delete(sample.guest);
    this.#idle.set(sample.guest, idle);
    if (this.#idle.size > GUESTS_MAX) this.#dropOldest();
  }

  forecast(query: ForecastQuery): Forecast {
    const idle = this.#idle.get(query.guest) ?? {};
    const peak = new Float64Array(FIELDS * LEVELS);
    const values = new Float64Array(FIELDS * KNOTS_MAX * LEVELS);
    PROFILE_FIELDS.forEach((field, f) => {
      const ceiling = query.ceiling[field] ?? Number.NaN;
      const from = Math.max(idle[field] ?? 0, ceiling * IDLE_FRACTION);
      const middle = Math.sqrt(from * ceiling);
      peak.fill(middle, f * LEVELS, (f + 1) * LEVELS);
      values.fill(middle, f * KNOTS_MAX * LEVELS, (f + 1) * KNOTS_MAX * LEVELS);
    });
    return {
      guest: query.guest,
      axis: 'seconds',
      track: 'short',
      originMs: query.originMs,
      knots: KNOTS_S,
      values,
      peak,
      duration: new Float64Array(LEVELS).fill(query.durationS ?? Number.NaN),
      reason: "constant: the middle between the guest's idle usage and its ceiling",
      runs: 0,
    };
  }

  learn(): void {
    // Learning nothing is what this forecaster is for.
  }

  forget(guest: GuestId): void {
    this.#idle.delete(guest);
  }

  #dropOldest(): void {
    for (const guest of this.#idle.keys()) {
      this.#idle.delete(guest);
      return;
    }
  }
}
