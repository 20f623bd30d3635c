// Allocate's latency while a heavy question over the record of samples runs, and while the record is sealed and merged, against
// the same without: p99 of a round, in interleaved rounds from one client process with few calls in flight, as clients have
// them. The server is that of the Allocate bench, its record FORESHADE_SAMPLES million rows. Prints one JSON document.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { recordFigure } from '../figures.ts';
import { allocateRequest, ask, start, stop } from './allocate-load.ts';
import type { LoadOrder, LoadReport } from './grpc-load.ts';
import { fillStore } from './store-fill.ts';

const GUESTS = 1000;
const ROUNDS = 7;
const WARM_UP_ROUNDS = 5;
const IN_FLIGHT = 2;
const MILLIONS = Number(process.env.FORESHADE_SAMPLES ?? 5);
const RATIO_MAX = 1.2;
const KINDS = ['rest', 'query', 'compact'] as const;
type Kind = (typeof KINDS)[number];

function quantile(values: readonly number[], level: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(level * sorted.length))] ?? Number.NaN;
}

const folder = mkdtempSync(join(tmpdir(), 'fs-disturbed-'));
const client = start('grpc-load');
try {
  await fillStore(join(folder, 'shadow'), MILLIONS * 1e6);
  const server = start('allocate-server', ['service', String(GUESTS), folder]);
  const [served] = (await once(server, 'message')) as [{ address: string; path: string }];
  const p99Ms: Record<Kind, number[]> = { rest: [], query: [], compact: [] };
  const p50Ms: Record<Kind, number[]> = { rest: [], query: [], compact: [] };
  for (let i = -WARM_UP_ROUNDS; i < ROUNDS; i += 1) {
    for (const kind of KINDS) {
      if (i < 0 && kind !== 'rest') continue;
      if (kind !== 'rest') await ask(server, kind);
      const requests = Array.from({ length: GUESTS }, (_, guest) => allocateRequest(guest));
      const order: LoadOrder = { ...served, requests, calls: GUESTS, inFlight: IN_FLIGHT };
      const { failed, latencyMs } = await ask<LoadReport>(client, order);
      if (failed > 0) throw new Error(`${failed} of ${GUESTS} calls failed`);
      await ask(server, 'rest');
      await ask(server, 'release');
      if (i < 0) continue;
      p99Ms[kind].push(quantile(latencyMs, 0.99));
      p50Ms[kind].push(quantile(latencyMs, 0.5));
    }
  }
  const ratios = Object.fromEntries(
    (['query', 'compact'] as const).map((kind) => {
      const ratio = quantile(p99Ms[kind], 0.5) / quantile(p99Ms.rest, 0.5);
      recordFigure({
        bar: `allocate-p99-under-${kind}`,
        value: Number(ratio.toFixed(2)),
        limit: `at most ${RATIO_MAX} times that without`,
        met: ratio <= RATIO_MAX,
      });
      return [kind, ratio];
    }),
  );
  await stop(server);
  const document = { bench: 'allocate-disturbed', millions: MILLIONS, rounds: ROUNDS, ratios };
  process.stdout.write(`${JSON.stringify({ ...document, p50Ms, p99Ms }, null, 2)}\n`);
} finally {
  client.kill();
  rmSync(folder, { recursive: true, force: true });
}
