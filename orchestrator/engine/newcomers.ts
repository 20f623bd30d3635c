import { addStretch, HOURS } from '../core/day-profile.ts';
import { type Forecast, quantileAt } from '../core/forecast.ts';
import { planOf } from '../core/plan.ts';
import type { Clock, Forecaster } from '../core/ports.ts';
import { vcpusFor } from '../core/profile.ts';
import type { GuestDemand, Newcomer } from '../core/rank-hosts.ts';
import { lesser, roomOf } from '../core/room.ts';
import type { Tenancy } from './tenancy.ts';
import type { WorkloadPasts } from './workload-pasts.ts';

/** A guest that is not there has no baseline: what it is promised is its need alone. */
const NOTHING = { cpuMillicores: 0, vcpuCount: 1, memoryBytes: 0 };
const DAY_MS = 86_400_000;

/** Foresees guests that are not there yet. Changes nothing. */
export class Newcomers {
  readonly #clock: Clock;
  readonly #forecaster: Forecaster;
  readonly #tenancy: Tenancy;
  readonly #pasts: WorkloadPasts;

  constructor(parts: { clock: Clock; forecaster: Forecaster; tenancy: Tenancy; pasts: WorkloadPasts }) {
    this.#clock = parts.clock;
    this.#forecaster = parts.forecaster;
    this.#tenancy = parts.tenancy;
    this.#pasts = parts.pasts;
  }

  /**
   * A workload that was never seen counts with all its guest may use, as a guest without a history does.
   * @throws {AllocatorError} INVALID_REQUEST when a parameter is not what a forecaster reads
   */
  foresee(newcomer: Newcomer): GuestDemand {
    const { tenant, workload, ceiling } = newcomer;
    const forecast = workload === '' ? undefined : this.#forecast(newcomer);
    if (forecast === undefined || forecast.runs === 0) {
      const why = forecast === undefined ? 'no workload is named' : 'no run of this workload';
      return { mean: ceiling, peak: ceiling, ceiling, reason: `${why}: all it may use`, runs: 0 };
    }
    const bound = { ...ceiling, vcpuCount: vcpusFor(ceiling.cpuMillicores) };
    const { needs } = this.#tenancy.policy(tenant);
    const plan = planOf(forecast, newcomer.priority, NOTHING, { ceiling: bound }, needs);
    // A resource that no run has a reading of counts in full.
    const peak = roomOf((field) => plan.requested[field] || ceiling[field]);
    const mean = roomOf((field) => (plan.requested[field] > 0 ? plan.least[field] : ceiling[field]));
    const hours = this.#hours(newcomer, forecast);
    return {
      mean: lesser(mean, peak),
      peak,
      ceiling,
      ...(hours === undefined ? {} : { cpuByHour: hours.map((share) => share * mean.cpuMillicores) }),
      reason: forecast.reason,
      runs: forecast.runs,
    };
  }

  #forecast({ tenant, workload, params, ceiling, durationMs }: Newcomer): Forecast {
    return this.#forecaster.forecast({
      guest: '',
      axis: 'seconds',
      track: 'short',
      originMs: this.#clock.nowMs(),
      workload: { tenant, name: workload, params },
      before: this.#pasts.before(tenant, workload),
      ceiling,
      ...(durationMs === undefined ? {} : { durationS: durationMs / 1000 }),
    });
  }

  /**
   * Shares of the busiest hour: one run's own hours where the caller says when it is or for how long, else those in which such
   * work has run. Undefined: not known.
   */
  #hours({ tenant, workload, startMs, durationMs }: Newcomer, { duration }: Forecast): number[] | undefined {
    if (startMs === undefined && durationMs === undefined) return this.#pasts.hours(tenant, workload);
    const lastsMs = durationMs ?? quantileAt(duration, 0, 0.5) * 1000;
    if (!(lastsMs > 0)) return this.#pasts.hours(tenant, workload);
    const beginsMs = startMs ?? this.#clock.nowMs();
    const hours = new Float64Array(HOURS);
    addStretch(hours, beginsMs, beginsMs + Math.min(lastsMs, DAY_MS));
    const most = Math.max(...hours);
    return [...hours].map((hour) => hour / most);
  }
}
