// Goal: no demand makes live adjustment flap, or fall short for more than twice the share that is allowed. Method: demands
// that come and go at many periods, duties and ratios, played second by second against the rules; the worst is searched for.
// What falls short is counted here, from the demand, which the rules never see.
import t from 'tap';
import {
  type AdjustPolicy,
  adjustField,
  type FieldDecision,
  fallsShort,
} from '../../orchestrator/core/adjust.ts';
import { shortShareAfter } from '../../orchestrator/core/short-share.ts';

const policy: AdjustPolicy = {
  headroomFraction: 0.1,
  limitFraction: 0.95,
  emergencyFraction: 0.5,
  shrinkStepFraction: 0.2,
  deadbandFraction: 0.05,
  cooldownMs: 3000,
};
const SAMPLE_MS = 1000;
const LASTS_MS = 3_600_000;
const LOW = 1000;
const COOLDOWNS = LASTS_MS / policy.cooldownMs;

interface Play {
  /** Share of the time in which the demand was above the entitlement. */
  readonly violation: number;
  readonly grown: number;
  readonly shrunk: number;
  readonly last: number;
}

/**
 * @param demandAt millicores, by time
 * @param lagMs    from a decision to its being in force
 */
function play(
  demandAt: (ms: number) => number,
  target: number,
  { lagMs = 0, ceiling = 1e6, lastsMs = LASTS_MS } = {},
): Play {
  let held = LOW;
  let pending: { readonly atMs: number; readonly target: number } | undefined;
  let changedAtMs = 0;
  let share = 0;
  let violations = 0;
  const changes = { grow: 0, shrink: 0 };
  const recent: number[] = [];
  for (let ms = SAMPLE_MS; ms <= lastsMs; ms += SAMPLE_MS) {
    const demand = demandAt(ms);
    if (demand > held) violations += 1;
    const usage = Math.min(demand, held);
    recent.push(usage);
    if (recent.length > policy.cooldownMs / SAMPLE_MS) recent.shift();
    const present = { field: 'cpuMillicores' as const, entitled: held, usage, isDelayed: false };
    if (held < ceiling) share = shortShareAfter(share, fallsShort(present, policy), SAMPLE_MS, target);
    if (pending !== undefined && ms < pending.atMs) continue;
    if (pending !== undefined) {
      held = pending.target;
      changedAtMs = ms;
      pending = undefined;
      continue;
    }
    const decision: FieldDecision = adjustField(
      {
        ...present,
        field: 'cpuMillicores',
        usageRecentMax: Math.max(...recent),
        floor: 100,
        ceiling,
        sinceChangeMs: ms - changedAtMs,
        shortShare: share,
        shortTarget: target,
      },
      policy,
    );
    if (decision.kind === 'hold') continue;
    changes[decision.kind] += 1;
    if (lagMs > 0) pending = { atMs: ms + lagMs, target: decision.target };
    else {
      held = decision.target;
      changedAtMs = ms;
    }
  }
  return {
    violation: violations / (lastsMs / SAMPLE_MS),
    grown: changes.grow,
    shrunk: changes.shrink,
    last: held,
  };
}

const PERIODS_S = [3, 5, 8, 12, 20, 40, 70, 150];
const DUTIES = [0.1, 0.25];
const RATIOS = [4, 8];

function square(periodS: number, duty: number, ratio: number): (ms: number) => number {
  const high = Math.max(1, Math.round(periodS * duty));
  return (ms) => (Math.round(ms / 1000) % periodS < high ? LOW * ratio : LOW);
}

for (const target of [0.1, 0.01]) {
  for (const lagMs of [0, 2000]) {
    t.test(`target ${target}, ${lagMs} ms from decision to effect`, async (t) => {
      let violation = 0;
      let changes = 0;
      let shrunk = 0;
      let worst = '';
      for (const periodS of PERIODS_S)
        for (const duty of DUTIES)
          for (const ratio of RATIOS) {
            const played = play(square(periodS, duty, ratio), target, { lagMs });
            if (played.violation > violation) worst = `${periodS} s, ${duty} of it high, ${ratio} times low`;
            violation = Math.max(violation, played.violation);
            changes = Math.max(changes, played.grown + played.shrunk);
            shrunk = Math.max(shrunk, played.shrunk);
          }
      t.comment(`worst: ${violation.toFixed(4)} at ${worst}; at most ${changes} changes an hour`);
      t.ok(violation < 2 * target, 'short for less than twice what is allowed');
      t.ok(shrunk <= COOLDOWNS, 'no more than one shrink a cooldown');
      t.ok(changes <= 2 * COOLDOWNS, 'and no more than one growth for each');
    });
  }
}

t.test('a long time at the ceiling leaves nothing behind', async (t) => {
  const lastsMs = 660_000;
  const played = play((ms) => (ms < 600_000 ? 9000 : LOW), 0.05, { ceiling: 4000, lastsMs });
  t.ok(played.last < 1.2 * LOW, `back at ${played.last} a minute after ten minutes above the ceiling`);
});

t.test('a demand that stays is met within its headroom, with no integral part', async (t) => {
  for (const demand of [300, 1000, 1700, 5000]) {
    const { last } = play(() => demand, 0.05);
    const most = demand * (1 + policy.headroomFraction) * (1 + policy.deadbandFraction);
    t.ok(last >= demand && last <= most + 20, `${demand} is given ${last}`);
  }
});
