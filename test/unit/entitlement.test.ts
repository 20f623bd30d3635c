// Goal: what no forecast speaks of, weights and operations a second, stays the baseline's through leases that do not
// state it. Method: the pure functions, expectations by hand.
import t from 'tap';
import { combine, differing, explainedBy, satisfies } from '../../orchestrator/core/entitlement.ts';
import type { Entitlement } from '../../orchestrator/core/profile.ts';

const baseline: Entitlement = {
  cpuMillicores: 1000,
  vcpuCount: 1,
  memoryBytes: 256e6,
  diskReadOpsPerS: 500,
  cpuWeight: 1.5,
};
const ceiling: Entitlement = { cpuMillicores: 4000, vcpuCount: 4, memoryBytes: 1e9 };
const lease: Entitlement = { cpuMillicores: 1500, vcpuCount: 2, memoryBytes: 256e6 };

t.test('a lease that states none leaves them; of those that do the highest counts', async (t) => {
  t.match(combine(baseline, [lease], ceiling), { diskReadOpsPerS: 500, cpuWeight: 1.5 });
  const stating = [{ ...lease, cpuWeight: 2 }, { ...lease, cpuWeight: 4, diskReadOpsPerS: 100 }, lease];
  t.match(combine(baseline, stating, ceiling), { diskReadOpsPerS: 100, cpuWeight: 4 });
});

t.test('a weight that nobody knows the way back from is not set', async (t) => {
  const { cpuWeight: _, ...unknown } = baseline;
  t.notMatch(combine(unknown, [{ ...lease, cpuWeight: 2 }], ceiling), { cpuWeight: Number });
  t.strictSame(differing(unknown, baseline), [], 'nor is it a difference');
  t.ok(satisfies(unknown, baseline));
  t.ok(explainedBy('cpu', baseline, [unknown], false));
});

t.test('a weight that is another is a difference, a shortfall and the doing of somebody else', async (t) => {
  const other = { ...baseline, cpuWeight: 1 };
  t.strictSame(differing(other, baseline), ['cpu']);
  t.notOk(satisfies(other, baseline));
  t.ok(satisfies(baseline, other));
  t.notOk(explainedBy('cpu', other, [baseline], true));
});
