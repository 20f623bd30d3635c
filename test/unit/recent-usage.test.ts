/**
 * Goal: of what a guest used in the last seconds nothing is lost, whatever the cadence of its samples.
 * Method: random cadences from 50 ms to 2 s, each for a while, against a plain list of the last 64 samples.
 */
import t from 'tap';
import type { ResourceProfile } from '../../orchestrator/core/profile.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';
import { RecentUsage } from '../../orchestrator/engine/recent-usage.ts';
import { randomFrom } from '../random.ts';

const ROWS = 64;
const ascending = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);

function sampleAt(atMs: number, usage: ResourceProfile): GuestSample {
  return { guest: 'a', atMs, periodMs: 1000, cadence: 'full', usage, flags: [] };
}

t.test('what was used within ten seconds is what the last 64 samples say', async (t) => {
  const random = randomFrom(7);
  const recent = new RecentUsage();
  const all: GuestSample[] = [];
  let nowMs = 0;
  for (let stretch = 0; stretch < 40; stretch += 1) {
    const periodMs = Math.round(50 * 40 ** random());
    for (let i = 0; i < 50; i += 1) {
      nowMs += periodMs;
      const cpu = random() < 0.8 ? { cpuMillicores: random() } : {};
      const sample = sampleAt(nowMs, { ...cpu, memoryBytes: Math.floor(random() * 1e10) });
      recent.note(sample);
      all.push(sample);
      const sinceMs = nowMs - Math.floor(random() * 10_000);
      for (const field of ['cpuMillicores', 'memoryBytes', 'netTxBytesPerS'] as const) {
        const expected = all
          .slice(-ROWS)
          .filter(({ atMs }) => atMs > sinceMs)
          .flatMap(({ usage }) => usage[field] ?? []);
        t.strictSame(ascending(recent.of(field, sinceMs)), ascending(expected));
      }
    }
  }
});

t.test('nothing was used before the first sample, and a missing reading is none', async (t) => {
  const recent = new RecentUsage();
  t.strictSame(recent.of('cpuMillicores', 0), []);
  recent.note(sampleAt(1000, { cpuMillicores: 0 }));
  t.strictSame(recent.of('cpuMillicores', 0), [0]);
  t.strictSame(recent.of('memoryBytes', 0), []);
});
