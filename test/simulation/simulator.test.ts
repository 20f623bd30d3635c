// Goal: the production engine keeps every invariant of simulator/invariants.ts, whatever fails. Method: seeded lives of a simulated
// host under a virtual clock, with random clients and faults, judged at each tick, each write and each answer; the
// bugs of planted-bugs.ts must be found; a case that fails is shrunk, printed, and kept in kept-cases.json. FORESHADE_SEEDS lives so many
// seeds; FORESHADE_FLEETS so many hosts of FORESHADE_FLEET_GUESTS guests; FORESHADE_SEED one seed.
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import t, { type Test } from 'tap';
import { recordFigure } from '../figures.ts';
import { seeds } from './generator.ts';
import { type Case, caseOf, FAULTS } from './simulator/case.ts';
import { simulateAll } from './simulator/fleet.ts';
import { PLANTED_BUGS } from './simulator/planted-bugs.ts';
import { shrink } from './simulator/shrink.ts';
import { type SimulationOptions, simulate, type Verdict } from './simulator/simulation.ts';

const SEEDS_DEFAULT = 6;
const TICKS = Number(process.env.FORESHADE_TICKS ?? 1000);
/** A bug that is not found within so many seeds is not found. */
const SEEDS_PER_BUG = 1_000;
/** Of the log of a case that fails. */
const LINES_SHOWN = 20;
/** Ticks that a planted bug is given. */
const BUG_TICKS = 300;
const FLEETS = Number(process.env.FORESHADE_FLEETS ?? 0);
const FLEET_GUESTS = Number(process.env.FORESHADE_FLEET_GUESTS ?? 2_000);
const FLEET_TICKS = Number(process.env.FORESHADE_FLEET_TICKS ?? 10_000);
const KEPT = JSON.parse(readFileSync('test/simulation/kept-cases.json', 'utf8')) as Case[];

t.setTimeout(0);

t.test('the same case leaves the same log, to the byte', async (t) => {
  const one = { ...caseOf(7, 200), guests: 5, faults: FAULTS };
  const [first, second] = [await simulate(one), await simulate(one)];
  t.comment(`case ${JSON.stringify(one)}: ${first.lines} lines, sha256 ${first.hash}`);
  t.strictSame(second, first);
  t.not((await simulate({ ...one, seed: 8 })).hash, first.hash, 'another seed leaves another');
});

t.test('cases that failed once', async (t) => {
  for (const one of KEPT) t.equal((await simulate(one)).broken, undefined, JSON.stringify(one));
});

for (const [name, { invariant, wrap, patch }] of Object.entries(PLANTED_BUGS)) {
  t.test(`planted: ${name}`, async (t) => {
    const options: SimulationOptions = wrap === undefined ? {} : { wrap };
    const undo = patch?.();
    try {
      const found = await firstBroken(invariant, options);
      t.ok(found !== undefined, `${invariant} finds it at seed ${found?.seed}`);
    } finally {
      undo?.();
    }
  });
}

/** The first seed whose life breaks an invariant. */
async function firstBroken(invariant: string, options: SimulationOptions): Promise<Case | undefined> {
  for (let seed = 1; seed <= SEEDS_PER_BUG; seed += 1) {
    const one = { ...caseOf(seed, BUG_TICKS), faults: FAULTS };
    if ((await simulate(one, options)).broken?.invariant === invariant) return one;
  }
  return undefined;
}

t.test('no invariant is broken', async (t) => {
  const cases = seeds(SEEDS_DEFAULT).map((seed) => caseOf(seed, TICKS));
  await assertAllHold(t, cases, 'simulated-seeds');
});

t.test(
  'no invariant is broken on hosts of thousands',
  { skip: FLEETS === 0 && 'FORESHADE_FLEETS is not set' },
  async (t) => {
    const cases = Array.from({ length: FLEETS }, (_, i) => {
      return { ...caseOf(i + 1, FLEET_TICKS), guests: FLEET_GUESTS };
    });
    await assertAllHold(t, cases, 'simulated-fleets');
  },
);

async function assertAllHold(t: Test, cases: readonly Case[], bar: string): Promise<void> {
  const failed: { one: Case; verdict: Verdict }[] = [];
  let lived = 0;
  const sum = { leases: 0, writes: 0, lines: 0 };
  const threads = Math.min(availableParallelism(), cases.length);
  await simulateAll(cases, threads, (one, verdict) => {
    lived += 1;
    if (verdict.broken !== undefined) failed.push({ one, verdict });
    for (const key of ['leases', 'writes', 'lines'] as const) sum[key] += verdict[key];
  });
  t.comment(`${cases.length} lives: ${sum.leases} leases, ${sum.writes} writes, ${sum.lines} lines of log`);
  t.equal(lived, cases.length, 'each was lived to its end');
  t.ok(sum.leases > 0 && sum.writes > 0, 'something happened');
  recordFigure({
    bar,
    value: failed.length,
    limit: `0 of ${cases.length} break an invariant`,
    met: failed.length === 0,
  });
  for (const { one, verdict } of failed)
    t.fail(`${verdict.broken?.invariant}: ${verdict.broken?.said}`, { one });
  const [first] = failed;
  if (first === undefined) return;
  const { invariant } = first.verdict.broken ?? {};
  const smallest = await shrink(
    first.one,
    async (next) => (await simulate(next)).broken?.invariant === invariant,
  );
  t.comment(`the smallest that still breaks ${invariant}, for kept-cases.json: ${JSON.stringify(smallest)}`);
  const log: string[] = [];
  await simulate(smallest, { onLine: (line) => log.push(line) });
  t.comment(`its log ends:\n${log.slice(-LINES_SHOWN).join('\n')}`);
}
