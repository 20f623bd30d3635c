import { availableParallelism } from 'node:os';
import { GUEST_RESOURCES } from '../../models/backtest/guests/guest-series.ts';
import { WorkerPool } from '../../models/train/worker-pool.ts';
import type { GuestForecasts, GuestJob } from './backtest-guest-forecast-worker.ts';
import type { GuestSet } from './backtest-guest-set.ts';

/** What is forecast of every guest. */
export type ForecastPlan = Omit<GuestJob, 'demand'>;

/**
 * Forecast every bin of every guest, in workers.
 * @param tell called after each guest, with how many are done
 * @throws what a worker threw, or the signal's reason
 */
export async function forecastGuests(
  { guests, fleets }: GuestSet,
  plan: ForecastPlan,
  signal: AbortSignal,
  tell: (done: number) => void,
): Promise<GuestForecasts[]> {
  const jobs = guests.map((_, place) => ({
    ...plan,
    demand: GUEST_RESOURCES.map((resource) => fleets[resource][place]?.demand ?? new Float64Array(0)),
  }));
  const script = new URL('./backtest-guest-forecast-worker.js', import.meta.url);
  return await runInWorkers<GuestJob, GuestForecasts>(script, jobs, signal, tell);
}

/** Run jobs in as many workers as there are processors. @throws what a worker threw, or the signal's reason */
export async function runInWorkers<Job, Answer>(
  script: URL,
  jobs: readonly Job[],
  signal: AbortSignal,
  tell: (done: number) => void,
): Promise<Answer[]> {
  const pool = new WorkerPool<Job, Answer>(script, Math.min(availableParallelism(), jobs.length));
  try {
    return await pool.run(jobs, signal, tell);
  } finally {
    await pool.close();
  }
}
