// Goal: a rate is only given where the time it is divided by is known. Method: readings whose calls took a while, with a
// guest that burns exactly one core.
import t from 'tap';
import type { DomainStatValues } from '../../libvirt-adapter/domain-stats.ts';
import { type FullReading, FullTrack } from '../../libvirt-adapter/full-track.ts';

/** A reading taken `takenMs` after the start by a call that began at `askedMs` and took `waitMs`. */
function reading(askedMs: number, waitMs: number, takenMs: number): FullReading {
  const values: Record<string, number> = {
    'state.state': 1,
    'cpu.time': takenMs * 1e6,
    'balloon.current': 1024,
  };
  const middleMs = askedMs + waitMs / 2;
  return {
    wallMs: middleMs,
    monotonicMs: middleMs,
    waitMs,
    nominalMs: 1_000,
    runId: 1,
    values: { number: (name: string) => values[name] } as DomainStatValues,
    host: undefined,
  };
}

function track(readings: readonly FullReading[]) {
  const full = new FullTrack('guest');
  return readings.map((one) => full.take(one)?.usage.cpuMillicores);
}

t.test('prompt answers give the rate', async (t) => {
  t.strictSame(track([reading(0, 10, 5), reading(1_000, 10, 1_005), reading(2_000, 10, 2_005)]), [
    undefined,
    1_000,
    1_000,
  ]);
});

t.test('a late answer gives no rate, before or after it, and the one after spans both', async (t) => {
  const rates = track([
    reading(0, 10, 5),
    reading(1_000, 990, 1_001), // looked at once, answered late
    reading(1_991, 10, 1_996),
  ]);
  t.equal(rates[1], undefined);
  t.equal(rates[2]?.toFixed(0), '1000');
});

t.test('a first reading that was late is not compared with', async (t) => {
  const rates = track([reading(0, 900, 890), reading(1_000, 10, 1_005), reading(2_000, 10, 2_005)]);
  t.strictSame(rates, [undefined, undefined, 1_000]);
});

t.test('a daemon that is always slow gives rates over as long a time as they need', async (t) => {
  const rates = track([0, 1_000, 2_000, 3_000, 4_000].map((askedMs) => reading(askedMs, 600, askedMs + 300)));
  t.strictSame(rates, [undefined, undefined, undefined, 1_000, undefined]);
});

t.test('a sample without rates still says how much memory the guest holds', async (t) => {
  const full = new FullTrack('guest');
  full.take(reading(0, 10, 5));
  t.equal(full.take(reading(1_000, 990, 1_001))?.memory?.balloonBytes, 1024 * 1024);
});
