// Goal: each guest is read as often as it was asked for, finer under a lease, coarser when idle, within the budget; guests
// of one period together. Method: the plan alone, time handed to it; expectations worked by hand.
import t from 'tap';
import { SamplingPlan, type SamplingPolicy } from '../../libvirt-adapter/sampling-plan.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';

const POLICY: SamplingPolicy = {
  sampling: { fullMs: 1000, fastMs: 100, instructionStep: 0 },
  idleMs: 5000,
  cpuBudgetFraction: 0.1,
};

/** Times in [fromMs, toMs] at which a guest's complete sample is due, `spentMs` of the thread taken by each. */
function fullTimes(plan: SamplingPlan, guest: string, fromMs: number, toMs: number, spentMs = 0): number[] {
  const times: number[] = [];
  for (let nowMs = fromMs; nowMs <= toMs; nowMs += 50) {
    const { rich, plain } = plan.takeFull(nowMs);
    if ([...rich, ...plain].includes(guest)) {
      times.push(nowMs);
      plan.spent(spentMs, nowMs);
    }
    plan.takeFast(nowMs);
  }
  return times;
}

function sample(cpuMillicores: number): GuestSample {
  return { guest: 'a', atMs: 0, periodMs: 1000, cadence: 'full', usage: { cpuMillicores }, flags: [] };
}

t.test('at its period, from the first moment on, without drift', async (t) => {
  const plan = new SamplingPlan(POLICY);
  plan.watch('a', 'full', {}, 70);
  t.equal(plan.nextMs(), 70);
  t.strictSame(plan.takeFull(75), { rich: ['a'], plain: [] }, 'block statistics with the first');
  t.equal(plan.nextMs(), 1070, 'a late tick does not move the next');
  plan.takeFull(4000);
  t.equal(plan.nextMs(), 4070, 'what was missed is not made up for');
  t.strictSame(plan.takeFull(4069), { rich: [], plain: [] });
});

t.test('guests of one period fall due together, whenever they came', async (t) => {
  const plan = new SamplingPlan(POLICY);
  plan.watch('a', 'full', {}, 0);
  plan.takeFull(0);
  plan.watch('b', 'full', {}, 730);
  plan.watch('c', 'full', { fullMs: 2000 }, 900);
  t.strictSame(plan.takeFull(999), { rich: [], plain: [] });
  const at = (nowMs: number) => Object.values(plan.takeFull(nowMs)).flat().sort();
  t.strictSame(at(1000), ['a', 'b']);
  t.strictSame(at(2000), ['a', 'b', 'c'], 'a period of its own');
  t.strictSame(at(3000), ['a', 'b']);
});

t.test('fast under a lease only', async (t) => {
  const plan = new SamplingPlan(POLICY);
  plan.watch('a', 'full', {}, 0);
  t.strictSame(plan.takeFast(100), []);
  plan.watch('a', 'fast', { fastMs: 50 }, 110);
  t.strictSame(plan.takeFast(149), []);
  t.strictSame(plan.takeFast(150), ['a']);
  t.strictSame(plan.takeFast(150), []);
  t.strictSame(plan.takeFast(200), ['a']);
  plan.watch('a', 'full', {}, 210);
  t.strictSame(plan.takeFast(250), []);
});

t.test('idle after a minute of nothing, awake with the first thing it does', async (t) => {
  const plan = new SamplingPlan(POLICY);
  plan.watch('a', 'full', {}, 0);
  t.equal(fullTimes(plan, 'a', 0, 60_000).length, 61);
  t.strictSame(fullTimes(plan, 'a', 60_050, 80_000), [65_000, 70_000, 75_000, 80_000]);
  plan.saw(sample(49), 80_000);
  t.equal(plan.fullPeriodOf('a', 80_000), 5000);
  plan.saw(sample(51), 80_000);
  t.equal(plan.fullPeriodOf('a', 80_000), 1000);
  plan.watch('a', 'fast', {}, 200_000);
  t.equal(plan.fullPeriodOf('a', 900_000), 1000, 'never under a lease');
  t.equal(plan.fullPeriodOf('nobody', 0), 1000);
});

t.test('beyond the budget guests without a lease are read less often, and again when it fits', async (t) => {
  const plan = new SamplingPlan(POLICY);
  plan.watch('a', 'full', {}, 0);
  plan.watch('b', 'fast', {}, 0);
  const busy = () => plan.saw(sample(500), 0);
  busy();
  fullTimes(plan, 'a', 0, 10_000, 300);
  t.equal(plan.stretch, 2, '0.3 of a core');
  fullTimes(plan, 'a', 10_050, 40_000, 300);
  t.ok(plan.stretch >= 4, `stretched ${plan.stretch} times`);
  t.equal(plan.fullPeriodOf('b', 40_000), 1000, 'the lease is watched as before');
  const least = plan.stretch;
  fullTimes(plan, 'a', 40_050, 400_000, 0);
  t.equal(plan.stretch, 1, `back from ${least}`);
});

t.test('what costs more than half the budget is not tried again at once: no alternating', async (t) => {
  const plan = new SamplingPlan(POLICY);
  plan.watch('a', 'fast', {}, 0);
  const spend = (fraction: number, windows: number, fromMs: number): number => {
    for (let i = 1; i <= windows; i += 1) plan.spent(fraction * 10_000, fromMs + i * 10_000);
    return plan.stretch;
  };
  plan.spent(0, 0);
  t.equal(spend(0.2, 1, 0), 2);
  t.equal(spend(0.07, 5, 10_000), 2, '0.07 would be 0.14 unstretched');
  t.equal(spend(0.04, 1, 60_000), 1);
});

t.test('block statistics come as seldom as their measured cost demands', async (t) => {
  const plan = new SamplingPlan(POLICY);
  const guests = Array.from({ length: 1000 }, (_, i) => `g${i}`);
  for (const guest of guests) plan.watch(guest, 'full', {}, 0);
  const richAt = (fromMs: number, toMs: number): number[] => {
    const times: number[] = [];
    for (let nowMs = fromMs; nowMs <= toMs; nowMs += 1000)
      if (plan.takeFull(nowMs).rich.length > 0) times.push(nowMs);
    return times;
  };
  t.strictSame(richAt(0, 30_000), [0, 10_000, 20_000, 30_000], 'each ten seconds while they cost nothing');
  for (let i = 0; i < 100; i += 1) {
    plan.asked(100, false, 30);
    plan.asked(100, true, 500);
  }
  // 1,000 guests at 4.7 ms in a tenth of the lane: 47 s.
  t.strictSame(richAt(31_000, 200_000).slice(1), [47_000, 95_000, 145_000, 190_000]);
});

t.test('nothing watched, nothing due', async (t) => {
  const plan = new SamplingPlan(POLICY);
  t.equal(plan.nextMs(), Number.POSITIVE_INFINITY);
  plan.watch('a', 'full', {}, 0);
  plan.forget('a');
  t.equal(plan.nextMs(), Number.POSITIVE_INFINITY);
  t.strictSame(plan.takeFull(1e9), { rich: [], plain: [] });
});
