import { Worker } from 'node:worker_threads';
import type { Case } from './case.ts';
import type { Verdict } from './simulation.ts';

/** Live many cases on so many threads. @param onVerdict called as each ends, in no order */
export async function simulateAll(
  cases: readonly Case[],
  threads: number,
  onVerdict: (one: Case, verdict: Verdict) => void,
): Promise<void> {
  const shares = Array.from({ length: threads }, (_, i) => cases.filter((_, at) => at % threads === i));
  await Promise.all(shares.map((share) => liveShare(share, onVerdict)));
}

function liveShare(cases: readonly Case[], onVerdict: (one: Case, verdict: Verdict) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./seeds-worker.js', import.meta.url), { workerData: { cases } });
    worker.on('message', ({ one, verdict }: { one: Case; verdict: Verdict }) => onVerdict(one, verdict));
    worker.on('error', reject);
    worker.on('exit', () => resolve());
  });
}
