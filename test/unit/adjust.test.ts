// Goal: each rule of live adjustment, alone, decides the outcome. Method: one table, expectations worked by hand; all
// sizes in MiB, the policy's fractions chosen so that every product is a multiple of the 4 MiB grain.
import t from 'tap';
import { type AdjustPolicy, adjustField } from '../../orchestrator/core/adjust.ts';
import { MIB } from '../../orchestrator/core/profile.ts';

const policy: AdjustPolicy = {
  headroomFraction: 0.25,
  limitFraction: 0.95,
  emergencyFraction: 0.5,
  shrinkStepFraction: 0.1,
  deadbandFraction: 0.02,
  cooldownMs: 3000,
};
const interval = { q05: 300, q50: 400, q95: 500 };

for (const row of [
  { name: 'holds while usage is as forecast', usage: 480, recent: 640, kind: 'hold' },
  { name: 'grows at once above the forecast q95', usage: 720, recent: 720, kind: 'grow', target: 900 },
  {
    name: 'grows further at the limit: what was cut off is not known',
    usage: 784,
    recent: 784,
    kind: 'grow',
    target: 1176,
  },
  { name: 'stops at the ceiling', usage: 800, recent: 800, ceiling: 1000, kind: 'grow', target: 1000 },
  { name: 'holds at the ceiling', usage: 800, recent: 800, ceiling: 800, kind: 'hold' },
  { name: 'shrinks one step at most', usage: 100, recent: 100, kind: 'shrink', target: 720 },
  {
    name: 'shrinks no further than recent usage and its headroom',
    usage: 100,
    recent: 608,
    kind: 'shrink',
    target: 760,
  },
  {
    name: 'shrinks no further than the floor',
    usage: 100,
    recent: 100,
    floor: 760,
    kind: 'shrink',
    target: 760,
  },
  { name: 'waits for the cooldown before a shrink', usage: 100, recent: 100, since: 2999, kind: 'hold' },
  {
    name: 'does not wait for the cooldown to grow',
    usage: 784,
    recent: 784,
    since: 0,
    kind: 'grow',
    target: 1176,
  },
  { name: 'holds inside the deadband', usage: 100, recent: 632, kind: 'hold' },
  { name: 'waits for the share of time short to pass', usage: 100, recent: 100, short: 0.2, kind: 'hold' },
  {
    name: 'grows when it waits for the host just below its entitlement',
    usage: 680,
    recent: 680,
    delayed: true,
    kind: 'grow',
    target: 1020,
  },
  {
    name: 'a wait far below the entitlement is other guests doing',
    usage: 480,
    recent: 640,
    delayed: true,
    kind: 'hold',
  },
  {
    name: 'grows a small guest that has left what it cannot use',
    usage: 124,
    recent: 124,
    entitled: 136,
    kind: 'grow',
    target: 188, // 124 x 1.5 = 186, in grains
  },
  {
    name: 'leaves a small guest that has more left',
    usage: 123,
    recent: 123,
    entitled: 136,
    floor: 136,
    kind: 'hold',
  },
  {
    name: 'keeps more than a fraction above the usage of a small guest',
    usage: 40,
    recent: 40,
    entitled: 60,
    floor: 32,
    kind: 'shrink',
    target: 56, // 40 + 16, and not 40 x 1.25
  },
  { name: 'ignores a q95 it already covers', usage: 520, recent: 640, kind: 'hold' },
] as const) {
  t.test(row.name, async (t) => {
    const {
      floor = 128,
      ceiling = 4096,
      since = 60_000,
      short = 0,
      delayed = false,
      entitled = 800,
    } = row as {
      floor?: number;
      ceiling?: number;
      since?: number;
      short?: number;
      delayed?: boolean;
      entitled?: number;
    };
    const decision = adjustField(
      {
        field: 'memoryBytes',
        entitled: entitled * MIB,
        usage: row.usage * MIB,
        usageRecentMax: row.recent * MIB,
        predicted: { q05: interval.q05 * MIB, q50: interval.q50 * MIB, q95: interval.q95 * MIB },
        floor: floor * MIB,
        ceiling: ceiling * MIB,
        sinceChangeMs: since,
        isDelayed: delayed,
        shortShare: short,
        shortTarget: 0.1,
      },
      policy,
    );
    t.equal(decision.kind, row.kind);
    t.equal('target' in decision ? decision.target / MIB : undefined, (row as { target?: number }).target);
    if ('residual' in decision) t.equal(decision.residual / MIB, row.usage - interval.q50);
  });
}

t.test('without a forecast only the limit and calm count', async (t) => {
  const situation = {
    field: 'cpuMillicores' as const,
    entitled: 1000,
    usageRecentMax: 800,
    floor: 1000,
    ceiling: 4000,
    sinceChangeMs: 60_000,
    isDelayed: false,
    shortShare: 0,
    shortTarget: 0.1,
  };
  t.equal(adjustField({ ...situation, usage: 900 }, policy).kind, 'hold');
  t.match(adjustField({ ...situation, usage: 960 }, policy), { kind: 'grow', target: 1440, residual: 0 });
});
