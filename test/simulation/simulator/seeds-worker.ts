import { parentPort, workerData } from 'node:worker_threads';
import type { Case } from './case.ts';
import { simulate } from './simulation.ts';

// Lives the cases it is sent, one after another, each when the one before has ended.
const { cases } = workerData as { cases: readonly Case[] };
for (const one of cases) parentPort?.postMessage({ one, verdict: await simulate(one) });
