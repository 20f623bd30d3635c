// Goal: each kind of anomaly is raised once by its signs, not by what looks like it, and clears when its cause has gone.
// Method: samples of one guest second by second, worked by hand; and whole days of guests that idle, work and swing, by seed.
import t from 'tap';
import {
  GuestWatch,
  MISSES_MAX,
  type Misses,
  missesAfter,
  type Turn,
} from '../../orchestrator/core/anomaly.ts';
import type { Outcome } from '../../orchestrator/core/forecast.ts';
import type { Lease } from '../../orchestrator/core/lease.ts';
import { MIB, type ResourceProfile } from '../../orchestrator/core/profile.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';
import { randomFrom } from '../random.ts';

const HELD = { cpuMillicores: 1000, vcpuCount: 1, memoryBytes: 1024 * MIB };
const CEILING = { cpuMillicores: 4000, vcpuCount: 4, memoryBytes: 2048 * MIB };
const MINUTE_S = 60;

/** A lease foreseen to use 400 to 600 millicores and 100 to 200 MiB for 10 to 30 s, in place at 0. */
const LEASE = {
  id: 'lease',
  startMs: 0,
  inPlaceAtMs: 0,
  predicted: {
    fields: {
      cpuMillicores: { q05: 400, q50: 500, q95: 600 },
      memoryBytes: { q05: 100 * MIB, q50: 150 * MIB, q95: 200 * MIB },
    },
    durationS: { q05: 10, q50: 20, q95: 30 },
    reason: 'parameters of 14 runs',
    runs: 14,
  },
} as unknown as Lease;

interface Play {
  readonly watch?: GuestWatch;
  readonly fromS?: number;
  readonly lease?: Lease;
  readonly classes?: GuestSample['classes'];
  readonly cadence?: GuestSample['cadence'];
  readonly stepS?: number;
}

/** What a course of usage begins and ends: `leak@12` and `-leak@90`, at the second they are told. */
function play(lastsS: number, usage: (s: number) => ResourceProfile, how: Play = {}): string[] {
  const { watch = new GuestWatch(), fromS = 0, lease, classes, cadence = 'full', stepS = 1 } = how;
  const told: string[] = [];
  for (let s = fromS + stepS; s <= fromS + lastsS; s += stepS) {
    const sample: GuestSample = {
      guest: 'g',
      atMs: s * 1000,
      periodMs: stepS * 1000,
      cadence,
      usage: usage(s),
      ...(classes && { classes }),
      flags: [],
    };
    const turns = watch.note({ sample, held: HELD, ceiling: CEILING, lease });
    told.push(...turns.map((turn: Turn) => `${turn.finding ? '' : '-'}${turn.kind}@${s}`));
  }
  return told;
}

t.test('a leak is memory that keeps growing beyond the forecast', async (t) => {
  const grows = (s: number) => ({ cpuMillicores: 500, memoryBytes: (190 + 0.5 * s) * MIB });
  // Beyond the 200 MiB from second 21 on; five minutes of signs, the first of them counted.
  const watch = new GuestWatch();
  t.strictSame(play(600, grows, { watch, lease: LEASE }), ['leak@320']);
  const freed = () => ({ cpuMillicores: 500, memoryBytes: 150 * MIB });
  t.strictSame(play(900, freed, { watch, lease: LEASE, fromS: 600 }), ['-leak@900']);

  t.strictSame(play(600, grows), [], 'no lease, no forecast to be beyond of');
  t.strictSame(play(40, grows, { lease: LEASE }), [], 'not for long');
  const plateau = (s: number) => ({ cpuMillicores: 500, memoryBytes: Math.min(300, 190 + s) * MIB });
  t.strictSame(play(1800, plateau, { lease: LEASE }), [], 'a plateau is a wrong forecast, no leak');
  const sawTooth = (s: number) => ({ cpuMillicores: 500, memoryBytes: (210 + (s % 60)) * MIB });
  t.strictSame(play(1800, sawTooth, { lease: LEASE }), [], 'a collector gives it back');
});

t.test('a runaway stands at its entitlement beyond the forecast and beyond its time', async (t) => {
  const spins = () => ({ cpuMillicores: 990, netRxBytesPerS: 1e6 });
  const watch = new GuestWatch();
  // From second 31 on, for two minutes.
  t.strictSame(play(600, spins, { watch, lease: LEASE }), ['runaway@150']);
  const ends = () => ({ cpuMillicores: 20 });
  t.match(play(60, ends, { watch, lease: LEASE, fromS: 600 }), ['-runaway@660']);
  t.strictSame(
    play(600, () => ({ cpuMillicores: 590 }), { lease: LEASE }),
    [],
    'as foreseen',
  );
  t.strictSame(
    play(600, () => ({ cpuMillicores: 700 }), { lease: LEASE }),
    [],
    'not at its entitlement',
  );
  const long = { ...LEASE, predicted: { ...LEASE.predicted, durationS: { q05: 60, q50: 600, q95: 900 } } };
  t.strictSame(play(600, spins, { lease: long }), [], 'its time is not over');
});

t.test('a lease is stuck whose guest uses next to nothing', async (t) => {
  const still = () => ({ cpuMillicores: 5, diskReadBytesPerS: 100 });
  const watch = new GuestWatch();
  t.strictSame(play(400, still, { watch, lease: LEASE }), ['stuck@180']);
  const works = () => ({ cpuMillicores: 500 });
  t.strictSame(play(60, works, { watch, lease: LEASE, fromS: 400 }), ['-stuck@430']);
  t.strictSame(play(400, still), [], 'without a lease it idles');
  const loads = () => ({ cpuMillicores: 5, netRxBytesPerS: 1e6 });
  t.strictSame(play(400, loads, { lease: LEASE }), [], 'it loads something');
  t.strictSame(play(400, still, { lease: LEASE, cadence: 'fast' }), [], 'a fast sample tells too little');
  const ahead = { ...LEASE, startMs: 500_000 };
  t.strictSame(play(400, still, { lease: ahead }), [], 'its work is to start later');
  t.strictSame(
    play(400, (s) => (s % 10 < 2 ? works() : still()), { lease: LEASE }),
    [],
    'it works a fifth of the time',
  );
});

t.test('a miner computes, steadily, without anybody asking', async (t) => {
  const mines = () => ({ cpuMillicores: 980, diskReadBytesPerS: 0, netTxBytesPerS: 300 });
  const watch = new GuestWatch();
  t.strictSame(play(130 * MINUTE_S, mines, { watch }), ['miner@7200'], 'by its behaviour');
  const stops = () => ({ cpuMillicores: 20 });
  t.strictSame(play(130 * MINUTE_S, stops, { watch, fromS: 7800 }), ['-miner@8100']);
  const proofOfWork = { crypto: 50, vector: 10, other: 40 };
  t.strictSame(play(130 * MINUTE_S, mines, { classes: proofOfWork }), ['miner@7200']);
  const ordinary = { branch: 20, memory: 30, other: 50 };
  t.strictSame(
    play(130 * MINUTE_S, mines, { classes: ordinary }),
    [],
    'what it executes is no proof of work',
  );
  t.strictSame(play(119 * MINUTE_S, mines), [], 'a computation is over by then');
  const writes = () => ({ ...mines(), diskWriteBytesPerS: 1e6 });
  t.strictSame(play(130 * MINUTE_S, writes), [], 'it writes what it computed');
  const fields = { cpuMillicores: { q05: 900, q50: 950, q95: 1000 } };
  const explains = { ...LEASE, predicted: { ...LEASE.predicted, fields } };
  t.strictSame(play(130 * MINUTE_S, mines, { lease: explains }), [], 'a lease explains it');
});

t.test('the evidence of a miner says what it rests on', async (t) => {
  const findingWith = (classes?: GuestSample['classes']) => {
    const watch = new GuestWatch();
    for (let s = 1; ; s += 1) {
      const usage = { cpuMillicores: 1000 };
      const at = { guest: 'g', atMs: s * 1000, periodMs: 1000, cadence: 'full', usage, flags: [] } as const;
      const sample = { ...at, ...(classes && { classes }) };
      const [turn] = watch.note({ sample, held: HELD, ceiling: CEILING, lease: undefined });
      if (turn !== undefined) return turn.finding;
    }
  };
  t.match(findingWith(), { severity: 'warning', reason: /not counted/ });
  const counted = findingWith({ crypto: 30, other: 70 });
  t.match(counted, { severity: 'critical', evidence: { cryptoAndVectorFraction: 0.3 } });
});

t.test('a profile has changed when runs keep missing alike', async (t) => {
  const run = (changes: Partial<Outcome>, durationS = 20): Outcome =>
    ({
      startedAtMs: 0,
      finishedAtMs: durationS * 1000,
      peak: { cpuMillicores: 500, memoryBytes: 150 * MIB },
      censored: [],
      completed: true,
      ...changes,
    }) as unknown as Outcome;
  const usual = run({});
  const large = run({ peak: { cpuMillicores: 500, memoryBytes: 300 * MIB } });
  const small = run({ peak: { cpuMillicores: 50, memoryBytes: 150 * MIB } });
  const count = (runs: readonly Outcome[], lease = LEASE): number =>
    runs.reduce<Misses | undefined>((before, one) => missesAfter(before, lease, one), undefined)?.count ?? 0;
  t.equal(count([large, large, large]), MISSES_MAX);
  t.equal(count([small, small, small]), MISSES_MAX);
  t.equal(count([run({}, 60), run({}, 60), run({}, 60)]), MISSES_MAX);
  t.equal(count([large, large, usual]), 0, 'one as foreseen ends it');
  t.equal(count([large, small, large]), 1, 'missed in different ways');
  t.equal(count([large, run({ completed: false }), large]), 2, 'a failed run says nothing');
  const cut = { ...small, censored: ['cpuMillicores'] } as Outcome;
  t.equal(count([cut, cut, cut]), 0, 'what was cut off says "at least"');
  const cold = { ...LEASE, predicted: { ...LEASE.predicted, runs: 4 } };
  t.equal(count([large, large, large], cold), 0, 'a forecast of few runs is to blame itself');
});

t.test('a clean day raises at most one', async (t) => {
  const told: string[] = [];
  for (let seed = 1; seed <= 12; seed += 1) {
    const random = randomFrom(seed);
    const noise = () => 0.7 + 0.6 * random();
    const periodS = 120 + random() * 7200;
    const courses: Record<string, (s: number) => ResourceProfile> = {
      idle: () => ({ cpuMillicores: 10 * noise(), memoryBytes: 100 * MIB, netRxBytesPerS: 200 }),
      busy: () => ({
        cpuMillicores: Math.min(1000, 850 * noise()),
        memoryBytes: 150 * MIB * noise(),
        diskWriteBytesPerS: 1e6 * noise(),
      }),
      periodic: (s) => ({
        cpuMillicores: (s % periodS) / periodS < 0.5 ? 990 : 10,
        memoryBytes: (120 + (60 * (s % periodS)) / periodS) * MIB,
      }),
    };
    for (const [name, course] of Object.entries(courses)) {
      const lease = name === 'busy' ? LEASE : undefined;
      const turns = play(86_400, course, { stepS: 5, ...(lease && { lease }) });
      told.push(...turns.map((turn) => `${name} of seed ${seed}: ${turn}`));
    }
  }
  t.ok(told.length <= 1, told.join(', ') || 'none');
});
