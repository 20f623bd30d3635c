import { Worker } from 'node:worker_threads';
import type { NumberedJob, StretchAnswer } from './stretch-worker.ts';
import type { StretchJob } from './stretches.ts';

/** Cuts stretches in workers; the answers do not depend on how many there are. */
export class StretchPool {
  readonly #workers: readonly Worker[];

  /** @param workers at least 1 */
  constructor(workers: number) {
    this.#workers = Array.from(
      { length: workers },
      () => new Worker(new URL('./stretch-worker.js', import.meta.url)),
    );
  }

  /**
   * Run all jobs.
   * @param tell called after each, with how many are done
   * @returns one answer a job, in their order
   * @throws what a worker threw, or the signal's reason
   */
  async run(
    jobs: readonly StretchJob[],
    signal: AbortSignal,
    tell: (done: number) => void,
  ): Promise<Float32Array[]> {
    const answers = new Array<Float32Array>(jobs.length);
    let next = 0;
    let done = 0;
    const serve = (worker: Worker): Promise<void> =>
      new Promise((resolve, reject) => {
        const stop = (): void => reject(signal.reason);
        const end = (settle: () => void): void => {
          worker.removeAllListeners();
          signal.removeEventListener('abort', stop);
          settle();
        };
        const post = (): void => {
          const job = jobs[next];
          if (job === undefined) end(resolve);
          else worker.postMessage({ ...job, place: next++ } satisfies NumberedJob);
        };
        worker.on('message', ({ place, stretches }: StretchAnswer) => {
          answers[place] = stretches;
          done += 1;
          tell(done);
          post();
        });
        worker.on('error', (error) => end(() => reject(error)));
        signal.addEventListener('abort', stop, { once: true });
        post();
      });
    signal.throwIfAborted();
    await Promise.all(this.#workers.map(serve));
    return answers;
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
