import { Worker } from 'node:worker_threads';

/** A job with its place among all, which the answer carries back. */
export interface Numbered<T> {
  readonly place: number;
  readonly content: T;
}

/**
 * Runs jobs in worker threads; the answers do not depend on how many there are. A worker answers each `Numbered<Job>` it is
 * sent by a `Numbered<Answer>` of the same place.
 */
export class WorkerPool<Job, Answer> {
  readonly #workers: readonly Worker[];

  /**
   * @param script  what a worker runs
   * @param workers at least 1
   */
  constructor(script: URL, workers: number) {
    this.#workers = Array.from({ length: workers }, () => new Worker(script));
  }

  /**
   * Run all jobs.
   * @param tell called after each, with how many are done
   * @returns one answer a job, in their order
   * @throws what a worker threw, or the signal's reason
   */
  async run(jobs: readonly Job[], signal: AbortSignal, tell: (done: number) => void): Promise<Answer[]> {
    const answers = new Array<Answer>(jobs.length);
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
          if (next >= jobs.length) {
            end(resolve);
            return;
          }
          const place = next++;
          worker.postMessage({ place, content: jobs[place] as Job } satisfies Numbered<Job>);
        };
        worker.on('message', ({ place, content }: Numbered<Answer>) => {
          answers[place] = content;
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
