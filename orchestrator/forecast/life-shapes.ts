import { FIELDS, type Outcome } from '../core/forecast.ts';
import type { GuestId } from '../core/guest.ts';
import { PROFILE_FIELDS } from '../core/profile.ts';
import { FLOORS } from './parametric-forecaster.ts';
import { RecentPast } from './recent-past.ts';

/** Equal parts of a run, from its start to its end. */
export const PHASES = 8;
/** Workloads whose shapes are kept; the one least recently learned gives way. As many as have a model. */
const WORKLOADS_MAX = 112;
/** Guests whose recent past is kept; the one least recently read gives way. */
const GUESTS_MAX = 1024;
/** A new run's weight once as many were seen; until then all weigh alike. */
const WEIGHT_MIN = 1 / 8;
/** Shortest run of which phases can be told from full samples of a second. */
const RUN_MS_MIN = 4_000;

interface Life {
  /** f64[FIELDS, PHASES], mean use in a phase over the largest: in [0, 1]; NaN: no run taught the field. */
  readonly shares: Float64Array;
  /** f64[FIELDS], runs that taught each. */
  readonly runs: Float64Array;
}

/** The ramps, plateaus and ends of workloads: what share of its largest use a run takes, from its start to its end. */
export class LifeShapes {
  readonly #lives = new Map<string, Life>();
  readonly #pasts = new Map<GuestId, RecentPast>();
  readonly #phases = new Float64Array(PHASES);

  /** Take a guest's readings. @param values f64[FIELDS]; NaN: not read */
  observe(guest: GuestId, values: Float64Array, atMs: number, periodMs: number): void {
    const past = this.#pasts.get(guest) ?? new RecentPast();
    past.take(values, atMs, Math.max(1, periodMs));
    this.#pasts.delete(guest);
    this.#pasts.set(guest, past);
    dropOldest(this.#pasts, GUESTS_MAX);
  }

  forget(guest: GuestId): void {
    this.#pasts.delete(guest);
  }

  /**
   * Learn what a guest did while a completed run lasted. Fields that were cut off, or hardly used, teach nothing.
   */
  learn(key: string, outcome: Outcome): void {
    const { startedAtMs, finishedAtMs, before, peak, censored, completed } = outcome;
    const past = this.#pasts.get(outcome.guest);
    if (past === undefined || !completed || finishedAtMs - startedAtMs < RUN_MS_MIN) return;
    const life = this.#claim(key);
    for (const [f, field] of PROFILE_FIELDS.entries()) {
      const from = before[field] ?? 0;
      const largest = (peak[field] ?? Number.NaN) - from;
      if (!(largest > FLOORS[field]) || censored.includes(field)) continue;
      if (!past.means(f, startedAtMs, finishedAtMs, this.#phases)) continue;
      const runs = (life.runs[f] as number) + 1;
      life.runs[f] = runs;
      const weight = Math.max(1 / runs, WEIGHT_MIN);
      for (let p = 0; p < PHASES; p += 1) {
        const at = f * PHASES + p;
        const share = Math.min(1, Math.max(0, ((this.#phases[p] as number) - from) / largest));
        const known = runs === 1 ? share : (life.shares[at] as number);
        life.shares[at] = known + weight * (share - known);
      }
    }
  }

  /** The shares of all fields, f64[FIELDS, PHASES]; a field is NaN, and all of it absent, where no run taught it. */
  sharesOf(key: string): Float64Array | undefined {
    return this.#lives.get(key)?.shares;
  }

  #claim(key: string): Life {
    const life = this.#lives.get(key) ?? {
      shares: new Float64Array(FIELDS * PHASES).fill(Number.NaN),
      runs: new Float64Array(FIELDS),
    };
    this.#lives.delete(key);
    this.#lives.set(key, life);
    dropOldest(this.#lives, WORKLOADS_MAX);
    return life;
  }
}

function dropOldest<K>(map: Map<K, unknown>, most: number): void {
  const [oldest] = map.keys();
  if (map.size > most && oldest !== undefined) map.delete(oldest);
}
