// Goal: the anomaly score rises where something is wrong, uses nothing of the future, and is the same in both builds.
// Method: a course of correlated noise with planted faults.
import t from 'tap';
import { Anomalies } from '../../orchestrator/wasm/anomaly.ts';
import { randomFrom } from '../random.ts';

const HISTORY = 2000;

/** Two metrics that move together, and a third by itself. */
function course(rows: number, seed: number): number[][] {
  const next = randomFrom(seed);
  return Array.from({ length: rows }, () => {
    const common = next();
    return [common + 0.1 * next(), 2 * common + 0.1 * next(), next()];
  });
}

async function taught(build: 'release' | 'debug' = 'release') {
  const guest = (await Anomalies.load(build)).open(3);
  guest.learn(course(HISTORY, 1));
  return guest;
}

t.test('planted faults stand out', async (t) => {
  const guest = await taught();
  const usual = course(500, 2).map((row) => guest.score(row));
  const median = usual.toSorted((a, b) => a - b)[250] as number;
  t.ok(usual.every((score) => score >= 0 && score <= 1));
  t.ok(guest.score([0.5, 1, 40]) > 0.75, 'one metric far out');
  t.equal(guest.evidence().indexOf(Math.max(...guest.evidence())), 2, 'and that metric is named');
  for (const row of course(50, 3)) guest.score(row);
  t.ok(guest.score([0.1, 2, 0.5]) > median + 0.2, 'both in their range, and never so together');
});

t.test('what comes later changes no score', async (t) => {
  const rows = course(200, 4);
  const [one, other] = [await taught(), await taught()];
  const scores = rows.map((row) => one.score(row));
  const changed = rows.map((row, i) => other.score(i < 150 ? row : [900, -3, 7]));
  t.strictSame(changed.slice(0, 150), scores.slice(0, 150));
  t.not(changed[150], scores[150]);
});

t.test('a missing reading scores nothing, and an infinite one is refused', async (t) => {
  const guest = await taught();
  t.ok(Number.isNaN(guest.score([Number.NaN, Number.NaN, Number.NaN])));
  t.ok(guest.score([Number.NaN, 1, 0.5]) >= 0);
  t.throws(() => guest.score([Number.POSITIVE_INFINITY, 1, 1]), /finite or NaN/);
  t.throws(() => guest.score([1]), /one reading a metric/);
  t.throws(() => guest.learn(course(10, 1)), /100 rows at least/);
  guest.close();
  t.throws(() => guest.score([1, 1, 1]), /open/);
});

t.test('debug and release give the same bits', async (t) => {
  const rows = course(300, 5);
  const scores = [];
  for (const build of ['release', 'debug'] as const) {
    const guest = await taught(build);
    scores.push(rows.map((row) => guest.score(row)));
  }
  t.strictSame(scores[0], scores[1]);
});
