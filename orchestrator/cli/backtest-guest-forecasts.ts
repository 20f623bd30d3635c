import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { GUEST_RESOURCES } from '../../models/backtest/guests/guest-series.ts';
import type { GuestSet } from './backtest-guest-set.ts';
import type { GuestAnswer, GuestJob } from './backtest-guest-worker.ts';

/** What is forecast of every guest. */
export type ForecastPlan = Pick<GuestJob, 'weights' | 'from' | 'lead' | 'levels'>;

/**
 * Forecast every bin of every guest, in workers.
 * @param tell called after each guest, with how many are done
 * @returns f32[bins - from, levels], by guest and resource
 * @throws what a worker threw, or the signal's reason
 */
export async function forecastGuests(
  set: GuestSet,
  plan: ForecastPlan,
  signal: AbortSignal,
  tell: (done: number) => void,
): Promise<(readonly Float32Array[])[]> {
  signal.throwIfAborted();
  const count = set.guests.length;
  const answers = new Array<readonly Float32Array[]>(count);
  const workers = Array.from(
    { length: Math.min(availableParallelism(), count) },
    () => new Worker(new URL('./backtest-guest-worker.js', import.meta.url)),
  );
  let next = 0;
  let done = 0;
  const serve = (worker: Worker): Promise<void> =>
    new Promise((resolve, reject) => {
      const post = (): void => {
        if (next >= count) {
          resolve();
          return;
        }
        const place = next++;
        const demand = GUEST_RESOURCES.map(
          (resource) => set.fleets[resource][place]?.demand ?? new Float64Array(0),
        );
        worker.postMessage({ ...plan, place, demand } satisfies GuestJob);
      };
      worker.on('message', ({ place, forecasts }: GuestAnswer) => {
        answers[place] = forecasts;
        done += 1;
        tell(done);
        post();
      });
      worker.on('error', reject);
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      post();
    });
  try {
    await Promise.all(workers.map(serve));
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  return answers;
}
