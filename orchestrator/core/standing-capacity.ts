import assert from 'node:assert';
import { type Forecast, LEVELS, quantileAt, withinHorizon } from './forecast.ts';
import { PROFILE_FIELDS, type ProfileField } from './profile.ts';

/** A mean of many equal sizes is off by rounding; a millionth of a guest is none. */
const ROUNDING = 1e-6;

/**
 * How many guests of a group are to run: those at work and the spare ones beside them, or as many as the foreseen demand takes,
 * where that is more. Growth is foreseen, never shrinkage: who is at work stays. Pure.
 * @param sizes    of the group's guests in the order in which they are given work, each > 0
 * @param atWork   guests that have leases or are waited for
 * @param foreseen demand over the time that a start takes and lasts, in the unit of the sizes; absent: not known
 */
export function standingGuests(
  sizes: readonly number[],
  atWork: number,
  spare: number,
  foreseen: number | undefined,
): number {
  assert(spare >= 0 && atWork >= 0);
  let needed = 0;
  for (let held = 0; foreseen !== undefined && needed < sizes.length; needed += 1) {
    if (held >= foreseen * (1 - ROUNDING)) break;
    held += sizes[needed] as number;
  }
  return Math.min(sizes.length, Math.max(atWork + spare, needed));
}

/**
 * The largest level of a field until `horizonMs` after `nowMs`, at a quantile; undefined where the forecast is not of the long
 * track, or knows nothing of the field.
 */
export function foreseenLevel(
  forecast: Forecast,
  field: ProfileField,
  level: number,
  nowMs: number,
  horizonMs: number,
): number | undefined {
  if (forecast.track !== 'long' || forecast.axis !== 'seconds') return undefined;
  const { knots, values } = withinHorizon(forecast, (nowMs - forecast.originMs + horizonMs) / 1000);
  const row = PROFILE_FIELDS.indexOf(field) * knots.length;
  const levels = knots.map((_, k) => quantileAt(values, (row + k) * LEVELS, level));
  const most = Math.max(...levels);
  return Number.isFinite(most) ? most : undefined;
}
