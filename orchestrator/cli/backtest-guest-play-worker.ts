import { parentPort } from 'node:worker_threads';
import type { AllocationScore } from '../../models/backtest/guests/allocation-sheet.ts';
import { type ForecastFleet, learnChances, playOurs } from '../../models/backtest/guests/play-ours.ts';
import { Random } from '../../models/train/random.ts';
import type { Numbered } from '../../models/train/worker-pool.ts';

/** One resource of two months: what is learned from the one is played on the other. */
export interface PlayJob {
  readonly fit: ForecastFleet;
  readonly judged: ForecastFleet;
  readonly targets: readonly number[];
}

/** Seed of what learning draws: the same sets give the same rows. */
const SEED = 1;

const port = parentPort;
if (port === null) throw new Error('this file runs as a worker');
port.on('message', ({ place, content: { fit, judged, targets } }: Numbered<PlayJob>) => {
  const random = new Random(SEED);
  const scores = playOurs(
    judged,
    learnChances(fit, () => random.next()),
    targets,
  );
  port.postMessage({ place, content: scores } satisfies Numbered<AllocationScore[]>);
});
