// Goal: a workload that has drifted is told within a stated number of runs, once, and one that has not is left alone. Method:
// runs as foreseen and not by hand; 200 runs of a calibrated forecast for each of 40 seeds.
import t from 'tap';
import { type Drift, driftAfter } from '../../orchestrator/core/drift.ts';
import type { Outcome } from '../../orchestrator/core/forecast.ts';
import type { Lease } from '../../orchestrator/core/lease.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import { randomFrom } from '../random.ts';

const SEEDS = 40;
const RUNS = 200;
t.comment(`seeds 1 to ${SEEDS}`);

const LEASE = {
  id: 'lease',
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

function run(cpuMillicores: number, more: Partial<Outcome> = {}): Outcome {
  return {
    leaseId: 'lease',
    guest: 'g',
    tenant: '',
    workload: 'w',
    params: {},
    startedAtMs: 0,
    finishedAtMs: 20_000,
    before: {},
    peak: { cpuMillicores, memoryBytes: 150 * MIB },
    censored: [],
    completed: true,
    ...more,
  };
}

/** @returns 1-based runs at which an alarm was given, and the last state */
function follow(runs: readonly Outcome[], lease = LEASE): { alarms: number[]; last: Drift | undefined } {
  let last: Drift | undefined;
  const alarms = runs.flatMap((one, i) => {
    const before = last;
    last = driftAfter(before, lease, one);
    return last !== before && last?.alarm !== undefined ? [i + 1] : [];
  });
  return { alarms, last };
}

const times = (count: number, one: Outcome): Outcome[] => Array.from({ length: count }, () => one);
const [usual, large, small] = [run(500), run(900), run(100)];

t.test('how many runs raise it, and how many end it', async (t) => {
  t.strictSame(follow(times(4, large)).alarms, []);
  const { alarms, last } = follow(times(5, large));
  t.strictSame(alarms, [5]);
  t.match(last?.alarm, {
    severity: 'info',
    reason: "5 of the last 5 runs of workload w had cpuMillicores above the forecast's interval",
    evidence: { cpuMillicores: 900, forecastQ95: 600, outside: 5, runs: 5 },
  });
  t.strictSame(
    follow([large, ...Array.from({ length: 5 }, () => [usual, large]).flat()]).alarms,
    [11],
    '6 of 11',
  );
  t.strictSame(
    follow([large, small, large, small, large, small]).alarms,
    [],
    'wide on both sides is not one drift yet',
  );
  t.equal(follow([...times(9, large), ...times(21, usual)]).last?.rises.size, 1);
  t.equal(
    follow([...times(9, large), ...times(22, usual)]).last?.rises.size,
    0,
    'over, however long it lasted',
  );
});

t.test('what says nothing of the forecast changes nothing', async (t) => {
  t.strictSame(follow(times(9, { ...large, completed: false })).alarms, []);
  t.strictSame(follow(times(9, large), { ...LEASE, predicted: { ...LEASE.predicted, runs: 4 } }).alarms, []);
  t.strictSame(follow(times(9, { ...small, censored: ['cpuMillicores'] })).alarms, []);
});

/** Uniform in q05 to q95 nine times of ten, and well outside for the rest, each side alike. */
function calibrated(random: () => number, q05: number, q95: number): number {
  const level = random();
  if (level < 0.05) return q05 / 2;
  return level < 0.95 ? q05 + (q95 - q05) * random() : 2 * q95;
}

t.test(
  'a calibrated workload of 200 runs raises none, a planted drift of half its runs within 40',
  async (t) => {
    let wrongly = 0;
    let slowest = 0;
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const random = randomFrom(seed);
      const draw = (): Outcome =>
        run(calibrated(random, 400, 600), {
          peak: {
            cpuMillicores: calibrated(random, 400, 600),
            memoryBytes: calibrated(random, 100, 200) * MIB,
          },
          finishedAtMs: 1000 * calibrated(random, 10, 30),
        });
      const clean = Array.from({ length: RUNS }, draw);
      if (follow(clean).alarms.length > 0) wrongly += 1;
      const drifted = Array.from({ length: 60 }, () => (random() < 0.5 ? large : draw()));
      slowest = Math.max(slowest, follow(drifted).alarms[0] ?? Number.POSITIVE_INFINITY);
    }
    t.comment(
      `${wrongly} of ${SEEDS} calibrated workloads raised one; a planted drift took ${slowest} runs at most`,
    );
    t.equal(wrongly, 0);
    t.ok(slowest <= 40);
  },
);
