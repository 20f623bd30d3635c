import { parentPort } from 'node:worker_threads';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { cutStretches, type StretchJob } from './stretches.ts';

/** A job with its place among all, which the answer carries back. */
export interface NumberedJob extends StretchJob {
  readonly place: number;
}

export interface StretchAnswer {
  readonly place: number;
  readonly stretches: Float32Array;
}

const port = parentPort;
if (port === null) throw new Error('this file runs as a worker');
const kernels = await SeriesKernels.load();
port.on('message', (job: NumberedJob) => {
  const stretches = cutStretches(kernels, job);
  port.postMessage({ place: job.place, stretches } satisfies StretchAnswer, [
    stretches.buffer as ArrayBuffer,
  ]);
});
