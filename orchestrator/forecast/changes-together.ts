import { FIELDS, type Track } from '../core/forecast.ts';
import type { GuestId } from '../core/guest.ts';

/** The fields, then a duration, which a guest by itself does not have. */
const OUTPUTS = FIELDS + 1;
/** Guests that are kept; the one least recently read gives way. As many as have a course. */
const GUESTS_MAX = 1024;
/** Weight of the newest change once there are as many: some two minutes of seconds, half a day of five minutes. */
const WEIGHT_MIN = 1 / 128;
/** Changes that independence is worth. */
const PRIOR_CHANGES = 16;
/** Least time from one reading to the next that counts, ms: the bins of the tracks, less what a timer is early. */
const APART_MS: Readonly<Record<Track, number>> = { short: 900, long: 299_000 };

/** What one guest's fields did from reading to reading. */
class Changes {
  readonly #last = new Float64Array(FIELDS).fill(Number.NaN);
  /** f32[FIELDS, FIELDS], mean product of the signs of two fields' changes, and how many it is of; below the diagonal. */
  readonly #concord = new Float32Array(FIELDS * FIELDS);
  readonly #counts = new Float32Array(FIELDS * FIELDS);
  #atMs = Number.NEGATIVE_INFINITY;

  /** @param values f64[FIELDS]; NaN: not read */
  take(values: Float64Array, atMs: number, apartMs: number): void {
    if (atMs - this.#atMs < apartMs && atMs >= this.#atMs) return;
    this.#atMs = atMs;
    for (let i = 0; i < FIELDS; i += 1) {
      const own = Math.sign((values[i] as number) - (this.#last[i] as number));
      for (let j = 0; j < i; j += 1) {
        const both = own * Math.sign((values[j] as number) - (this.#last[j] as number));
        // What did not change, or was not read, says nothing of the two.
        if (both !== 1 && both !== -1) continue;
        const at = i * FIELDS + j;
        const count = (this.#counts[at] as number) + 1;
        this.#counts[at] = Math.min(count, 1 / WEIGHT_MIN);
        const mean = this.#concord[at] as number;
        this.#concord[at] = mean + Math.max(1 / count, WEIGHT_MIN) * (both - mean);
      }
    }
    this.#last.set(values);
  }

  /** f64[OUTPUTS, OUTPUTS] */
  correlations(): Float64Array {
    const out = new Float64Array(OUTPUTS * OUTPUTS);
    for (let i = 0; i < OUTPUTS; i += 1) out[i * OUTPUTS + i] = 1;
    for (let i = 0; i < FIELDS; i += 1)
      for (let j = 0; j < i; j += 1) {
        const count = this.#counts[i * FIELDS + j] as number;
        const known = count / (count + PRIOR_CHANGES);
        const r = known * Math.sin((Math.PI / 2) * (this.#concord[i * FIELDS + j] as number));
        out[i * OUTPUTS + j] = r;
        out[j * OUTPUTS + i] = r;
      }
    return out;
  }
}

/**
 * How a guest's fields move together by themselves: Kendall's tau of their changes from bin to bin, as the correlation of a
 * Gaussian copula, sin(pi tau / 2), shrunk towards independence. What a forecast of its course misses is made of such changes.
 * Source: Kruskal, "Ordinal measures of association", 1958, section 6.
 */
export class ChangesTogether {
  readonly #guests = new Map<GuestId, Readonly<Record<Track, Changes>>>();

  /** Take a full sample's readings. @param values f64[FIELDS]; NaN: not read */
  observe(guest: GuestId, values: Float64Array, atMs: number): void {
    const own = this.#guests.get(guest) ?? { short: new Changes(), long: new Changes() };
    this.#guests.delete(guest);
    this.#guests.set(guest, own);
    own.short.take(values, atMs, APART_MS.short);
    own.long.take(values, atMs, APART_MS.long);
    const [oldest] = this.#guests.keys();
    if (this.#guests.size > GUESTS_MAX && oldest !== undefined) this.#guests.delete(oldest);
  }

  forget(guest: GuestId): void {
    this.#guests.delete(guest);
  }

  /** As `Forecast.dependence`; undefined: the guest was never read. */
  of(guest: GuestId, track: Track): Float64Array | undefined {
    return this.#guests.get(guest)?.[track].correlations();
  }
}
