// Goal: needs, admission and the arithmetic of entitlements follow their rules. Method: tables worked by hand.
import t from 'tap';
import { admit, capacityOf } from '../../orchestrator/core/admit.ts';
import {
  combine,
  differing,
  explainedBy,
  satisfies,
  withResource,
} from '../../orchestrator/core/entitlement.ts';
import {
  FIELDS,
  type Forecast,
  LEVELS,
  QUANTILE_LEVELS,
  quantileAt,
  withinHorizon,
} from '../../orchestrator/core/forecast.ts';
import {
  type NeedsPolicy,
  needsOf,
  predictedNeed,
  RATE_FLOOR_BYTES_PER_S,
} from '../../orchestrator/core/needs.ts';
import { type Entitlement, MIB, PROFILE_FIELDS, type ProfileField } from '../../orchestrator/core/profile.ts';

const baseline: Entitlement = { cpuMillicores: 1000, vcpuCount: 1, memoryBytes: 128 * MIB };
const ceiling: Entitlement = { cpuMillicores: 4000, vcpuCount: 4, memoryBytes: 768 * MIB };
const policy: NeedsPolicy = {
  levels: { low: 0.8, normal: 0.9, high: 0.95, critical: 0.99 },
  headroomFraction: { cpu: 0.1, memory: 0.1, disk: 0.5, net: 0.5 },
  rateLimitRunsMin: 3,
  cpuWeight: 1,
};

/** A forecast whose quantile at level q is `scale x q` for the fields given, and NaN for the others. */
function forecastOf(scales: Partial<Record<ProfileField, number>>, runs = 10): Forecast {
  const peak = new Float64Array(FIELDS * LEVELS).fill(Number.NaN);
  PROFILE_FIELDS.forEach((field, row) => {
    const scale = scales[field];
    if (scale === undefined) return;
    QUANTILE_LEVELS.forEach((level, column) => {
      peak[row * LEVELS + column] = scale * level;
    });
  });
  return {
    guest: 'g',
    axis: 'seconds',
    track: 'short',
    originMs: 0,
    knots: [1],
    values: new Float64Array(FIELDS * LEVELS).fill(Number.NaN),
    peak,
    duration: new Float64Array(LEVELS).fill(Number.NaN),
    reason: 'made by hand',
    runs,
  };
}

t.test('quantiles are read between levels and clipped outside them', async (t) => {
  const row = Float64Array.from(QUANTILE_LEVELS);
  for (const [level, expected] of [
    [0.5, 0.5],
    [0.25, 0.25],
    [0.97, 0.97],
    [0.01, 0.05],
    [0.999, 0.99],
  ] as const) {
    t.ok(Math.abs(quantileAt(row, 0, level) - expected) < 1e-12, `${level}`);
  }
});

t.test('needs', async (t) => {
  const bounds = { baseline, ceiling };
  const scales = { cpuMillicores: 2000, memoryBytes: 400 * MIB };
  const need = needsOf(forecastOf(scales), 'normal', bounds, policy);
  t.equal(need.cpuMillicores, 1980, '2000 x 0.9 x 1.1');
  t.equal(need.vcpuCount, 2);
  t.equal(need.memoryBytes, 396 * MIB, '400 x 0.9 x 1.1 = 396, a multiple of 4 MiB');
  t.equal(need.diskReadBytesPerS, undefined, 'never read: not limited');
  t.equal(
    needsOf(forecastOf(scales), 'critical', bounds, policy).cpuMillicores,
    2180,
    'priority chooses the level',
  );
  t.strictSame(
    needsOf(forecastOf({ cpuMillicores: 100, memoryBytes: MIB }), 'normal', bounds, policy),
    { ...baseline },
    'never below the baseline',
  );
  const huge = needsOf(forecastOf({ cpuMillicores: 1e6, memoryBytes: 1e12 }), 'normal', bounds, policy);
  t.strictSame(huge, { ...ceiling }, 'never above the ceiling');
  t.strictSame(
    needsOf(forecastOf({}), 'normal', bounds, policy),
    { ...baseline },
    'no forecast: the baseline',
  );
});

t.test('rate limits wait for a forecast that has seen runs', async (t) => {
  const bounds = { baseline, ceiling };
  const scales = { diskReadBytesPerS: 100 * MIB, netTxBytesPerS: 1 };
  t.equal(needsOf(forecastOf(scales, 2), 'normal', bounds, policy).diskReadBytesPerS, undefined);
  const trusted = needsOf(forecastOf(scales, 3), 'normal', bounds, policy);
  t.equal(trusted.diskReadBytesPerS, 135 * MIB, '100 x 0.9 x 1.5');
  t.equal(trusted.netTxBytesPerS, RATE_FLOOR_BYTES_PER_S, 'no limit makes the unforeseen crawl');
  const limited = { baseline: { ...baseline, diskReadBytesPerS: 10 * MIB }, ceiling };
  t.equal(
    needsOf(forecastOf(scales, 0), 'normal', limited, policy).diskReadBytesPerS,
    135 * MIB,
    'a limit that was there is raised',
  );
  t.equal(needsOf(forecastOf({}), 'normal', limited, policy).diskReadBytesPerS, 10 * MIB);
});

t.test("a tenant's say multiplies its guest's own CPU weight", async (t) => {
  const weightOf = (own: number | undefined, cpuWeight: number) =>
    needsOf(
      forecastOf({}),
      'normal',
      { baseline: { ...baseline, ...(own !== undefined && { cpuWeight: own }) }, ceiling },
      { ...policy, cpuWeight },
    ).cpuWeight;
  t.equal(weightOf(1, 2), 2);
  t.equal(weightOf(1.5, 1), 1.5);
  t.equal(weightOf(60, 2), 100, 'no more than the kernel takes');
  t.equal(weightOf(undefined, 2), undefined, 'where nobody knows what to go back to, none is set');
});

t.test('what a lease keeps of a forecast', async (t) => {
  const kept = predictedNeed(forecastOf({ cpuMillicores: 1000 }));
  t.strictSame(kept.fields, { cpuMillicores: { q05: 50, q50: 500, q95: 950 } });
  t.notOk('durationS' in kept);
});

t.test('admission', async (t) => {
  const capacity = capacityOf(
    { name: 'h', cpuMillicores: 2000, memoryBytes: 3000 },
    { overcommit: { cpu: 3, memory: 1 }, reserved: { cpuMillicores: 200, memoryBytes: 1000 } },
  );
  t.strictSame(capacity, { cpuMillicores: 5400, memoryBytes: 2000 });
  const size = (cpuMillicores: number, memoryBytes: number): Entitlement => ({
    cpuMillicores,
    vcpuCount: 1,
    memoryBytes,
  });
  const committed = { cpuMillicores: 5000, memoryBytes: 1500 };
  const held = size(1000, 100);
  for (const { name, wanted, least, expected } of [
    {
      name: 'what fits exactly is granted',
      wanted: size(1400, 600),
      least: size(1100, 200),
      expected: { kind: 'grant', entitlement: size(1400, 600) },
    },
    {
      name: 'with the median covered the rest is granted in part',
      wanted: size(2000, 600),
      least: size(1400, 200),
      expected: { kind: 'grant-part', entitlement: size(1400, 600) },
    },
    {
      name: 'both resources can be short',
      wanted: size(2000, 900),
      least: size(1200, 300),
      expected: { kind: 'grant-part', entitlement: size(1400, 600) },
    },
    {
      name: 'without the median it would rather wait',
      wanted: size(2000, 600),
      least: size(1401, 200),
      expected: { kind: 'no-room' },
    },
    {
      name: 'memory alone can be in the way',
      wanted: size(1000, 900),
      least: size(1000, 601),
      expected: { kind: 'no-room' },
    },
    {
      name: 'shrinking always fits',
      wanted: size(500, 50),
      least: size(500, 50),
      expected: { kind: 'grant', entitlement: size(500, 50) },
    },
  ]) {
    t.match(admit(capacity, committed, held, wanted, least), expected, name);
  }
  const overdrawn = { cpuMillicores: 9000, memoryBytes: 9000 };
  t.match(
    admit(capacity, overdrawn, held, size(1000, 100), held),
    { kind: 'grant' },
    'what is held already is not taken away',
  );
});

t.test('combining leases', async (t) => {
  const ask = (cpuMillicores: number, mib: number, rate?: number): Entitlement => ({
    cpuMillicores,
    vcpuCount: 1,
    memoryBytes: mib * MIB,
    ...(rate === undefined ? {} : { diskReadBytesPerS: rate }),
  });
  t.strictSame(combine(baseline, [], ceiling), baseline);
  t.match(combine(baseline, [ask(1500, 228), ask(1700, 178)], ceiling), {
    cpuMillicores: 2200,
    vcpuCount: 3,
    memoryBytes: 278 * MIB,
  });
  t.match(combine(baseline, [ask(500, 64)], ceiling), {
    cpuMillicores: 1000,
    vcpuCount: 1,
    memoryBytes: 128 * MIB,
  });
  t.match(combine(baseline, [ask(3000, 700), ask(3000, 700)], ceiling), {
    cpuMillicores: 4000,
    vcpuCount: 4,
    memoryBytes: 768 * MIB,
  });
  t.equal(combine(baseline, [ask(1000, 128, 5), ask(1000, 128, 7)], ceiling).diskReadBytesPerS, 12);
  t.equal(
    combine(baseline, [ask(1000, 128, 5), ask(1000, 128)], ceiling).diskReadBytesPerS,
    undefined,
    'one unlimited lease lifts the limit',
  );
});

t.test('comparing and replacing', async (t) => {
  const held = { ...baseline, diskReadBytesPerS: 1e6 };
  t.strictSame(differing(held, { ...held }), []);
  t.strictSame(
    differing(held, { ...held, memoryBytes: held.memoryBytes + MIB }),
    [],
    'the balloon stops within a MiB',
  );
  t.strictSame(differing(held, { ...held, vcpuCount: 2, memoryBytes: 256 * MIB }), ['cpu', 'memory']);
  t.strictSame(differing(held, baseline), ['disk'], 'a limit and no limit differ');
  t.ok(satisfies(baseline, { ...baseline, diskReadBytesPerS: 1e6 }), 'no limit satisfies any');
  t.notOk(satisfies({ ...baseline, diskReadBytesPerS: 1e6 }, baseline), 'a limit does not satisfy none');
  t.notOk(satisfies(baseline, { ...baseline, vcpuCount: 2 }));
  t.strictSame(withResource(held, 'disk', {}), baseline, 'an absent rate means its limit is gone');
  t.equal(withResource(held, 'cpu', {}).cpuMillicores, 1000, 'an absent size was not read');
});

t.test('telling our doing from somebody else’s', async (t) => {
  const known = [baseline, { ...baseline, cpuMillicores: 2200, vcpuCount: 3, memoryBytes: 256 * MIB }];
  for (const { name, resource, read, moving, ours } of [
    {
      name: 'a quota we set',
      resource: 'cpu',
      read: { cpuMillicores: 2200, vcpuCount: 3 },
      moving: false,
      ours: true,
    },
    {
      name: 'a quota between ours: quotas jump',
      resource: 'cpu',
      read: { cpuMillicores: 1700, vcpuCount: 3 },
      moving: true,
      ours: false,
    },
    {
      name: 'a vCPU that was plugged and not limited yet',
      resource: 'cpu',
      read: { cpuMillicores: 2000, vcpuCount: 1 },
      moving: true,
      ours: true,
    },
    {
      name: 'a vCPU without our limit, long after',
      resource: 'cpu',
      read: { cpuMillicores: 2000, vcpuCount: 2 },
      moving: false,
      ours: false,
    },
    {
      name: 'vCPUs coming online one by one',
      resource: 'cpu',
      read: { cpuMillicores: 2200, vcpuCount: 2 },
      moving: false,
      ours: true,
    },
    {
      name: 'a balloon on its way',
      resource: 'memory',
      read: { memoryBytes: 200 * MIB },
      moving: true,
      ours: true,
    },
    {
      name: 'a balloon that should have arrived',
      resource: 'memory',
      read: { memoryBytes: 200 * MIB },
      moving: false,
      ours: false,
    },
    {
      name: 'a balloon beyond anything asked',
      resource: 'memory',
      read: { memoryBytes: 300 * MIB },
      moving: true,
      ours: false,
    },
    {
      name: 'a disk limit out of nowhere',
      resource: 'disk',
      read: { diskReadBytesPerS: 1e6 },
      moving: false,
      ours: false,
    },
  ] as const) {
    t.equal(explainedBy(resource, { ...baseline, ...read }, known, moving), ours, name);
  }
});

t.test('a forecast within a horizon ends there, read between its knots', async (t) => {
  const values = new Float64Array(FIELDS * 3 * LEVELS);
  for (let f = 0; f < FIELDS; f += 1)
    for (let k = 0; k < 3; k += 1)
      values.fill(100 * f + 10 * k, (f * 3 + k) * LEVELS, (f * 3 + k + 1) * LEVELS);
  const forecast: Forecast = { ...forecastOf({}), knots: [1, 2, 4], values };
  const levelsAt = (cut: Forecast, field: number): number[] =>
    cut.knots.map((_, k) => cut.values[(field * cut.knots.length + k) * LEVELS + 3] as number);
  const cut = withinHorizon(forecast, 3);
  t.strictSame(cut.knots, [1, 2, 3]);
  t.strictSame(levelsAt(cut, 0), [0, 10, 15]);
  t.strictSame(levelsAt(cut, 2), [200, 210, 215]);
  t.strictSame(levelsAt(withinHorizon(forecast, 2), 1), [100, 110], 'at a knot');
  t.strictSame(withinHorizon(forecast, 0.5).knots, [0.5]);
  t.strictSame(levelsAt(withinHorizon(forecast, 0.5), 1), [100], 'before the first it is as at the first');
  t.equal(withinHorizon(forecast, 5), forecast, 'one that does not reach so far is given as it is');
});
