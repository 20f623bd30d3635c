import { parentPort } from 'node:worker_threads';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { cutStretches, type StretchJob } from './stretches.ts';
import type { Numbered } from './worker-pool.ts';

const port = parentPort;
if (port === null) throw new Error('this file runs as a worker');
const kernels = await SeriesKernels.load();
port.on('message', ({ place, content }: Numbered<StretchJob>) => {
  const stretches = cutStretches(kernels, content);
  port.postMessage({ place, content: stretches } satisfies Numbered<Float32Array>, [
    stretches.buffer as ArrayBuffer,
  ]);
});
