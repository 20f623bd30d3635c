// Goal: a version serves only after it beat the one that does on what neither has learned from, and which one serves is read
// whole or refused. Method: verdicts by hand; models that trust one expert alone, the best and the worst of a small set as
// `evaluate` ranks them.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { judge, meanCrps } from '../../models/evaluate/challenge.ts';
import type { SeriesScore } from '../../models/evaluate/scores.ts';
import { type ModelManifest, partsOf, saveModel } from '../../models/files/model-file.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { randomFrom } from '../random.ts';
import { runCaptured } from '../run-cli.ts';

const SEED = 909;
t.comment(`seed ${SEED}`);
const root = t.testdir();

const scoreOf = (...pairs: (readonly [loss: number, size: number])[]): SeriesScore => ({
  series: 's',
  scored: 1,
  errors: new Float64Array(pairs.length),
  losses: Float64Array.from(pairs, ([loss]) => loss),
  sizes: Float64Array.from(pairs, ([, size]) => size),
  cells: [],
});

t.test('verdicts', async (t) => {
  const near = (value: number, expected: number, title: string) =>
    t.ok(Math.abs(value - expected) < 1e-6, `${title}: ${value}, expected ${expected}`);
  const champion = Array.from({ length: 20 }, (_, i) => scoreOf([1 + (i % 5), 10], [1000, 5000]));
  const scaled = (factor: (i: number, metric: number) => number) =>
    champion.map((one, i) => ({ ...one, losses: one.losses.map((loss, m) => loss * factor(i, m)) }));
  const ask = (challenger: readonly SeriesScore[]) =>
    judge([{ set: 's', champion, challenger }], randomFrom(SEED));
  // Half on one metric, as good on the other, whatever their units: the geometric mean is the root of a half.
  const better = ask(scaled((_, metric) => (metric === 0 ? 0.5 : 1)));
  near(better.ratio, Math.SQRT1_2, 'each metric counts alike');
  t.ok(better.isBetter);
  near(better.interval.low, Math.SQRT1_2, 'series drawn in pairs leave no doubt');
  t.notOk(ask(champion).isBetter, 'no better is not better');
  near(ask(champion).interval.high, 1, 'the same');
  t.notOk(ask(scaled(() => 2)).isBetter);
  // Better by a fifth on average, but by the grace of two of twenty series.
  const lucky = ask(scaled((i) => (i < 2 ? 0.01 : 1.01)));
  t.ok(lucky.ratio < 1 && !lucky.isBetter, `${lucky.ratio}, up to ${lucky.interval.high}`);
  const two = judge(
    [
      { set: 'a', champion, challenger: scaled(() => 0.25) },
      { set: 'b', champion: champion.slice(0, 3), challenger: champion.slice(0, 3) },
    ],
    randomFrom(SEED),
  );
  t.equal(two.series, 23);
  near(two.ratio, 0.5, 'each set counts alike');
  near(meanCrps([scoreOf([1, 10], [0, 0], [3, 10])]), 0.2, 'a metric that is zero throughout has none');
});

function newSet(name: string, letters: string, bins = 480): string {
  const folder = join(root, name);
  mkdirSync(folder);
  const next = randomFrom(SEED);
  writeFileSync(
    join(folder, 'dataset.json'),
    JSON.stringify({ name, kind: 'series', step_seconds: 300, season_steps: 24, licence: 'ours' }),
  );
  const rows = Array.from(letters).flatMap((series) =>
    Array.from({ length: bins }, (_, i) => `${series},${i * 300},${i % 24 < 8 ? 50 + next() : next()}\n`),
  );
  writeFileSync(join(folder, 'series.csv'), `series,t,cpu\n${rows.join('')}`);
  return folder;
}

const set = newSet('day', 'abcdefghijkl');
const models = join(root, 'models');
const run = (...args: string[]) => runCaptured([...args, '--models', models]);
const promote = (name: string, data: string, ...more: string[]) =>
  run('model', 'promote', name, '--data', data, '--horizon', '12', '--windows', '4', ...more);
const kernels = await SeriesKernels.load();
const parts = partsOf(kernels);

/** The next version of a model that trusts one expert alone. */
async function save(name: string, expert: number, facts: Partial<ModelManifest> = {}): Promise<void> {
  const weights = new Float32Array(kernels.model.length);
  const columns = parts.knots.length * parts.groupRow;
  for (const knot of parts.knots.keys())
    weights[weights.length - 2 * columns + knot * parts.groupRow + expert] = 40;
  const plain = { name, createdAt: '2026-01-01T00:00:00Z', ...parts, data: [] };
  await saveModel(join(models, name), { ...plain, ...facts }, parts, weights);
}

/** Which experts forecast this set best and worst: their order is the kernels' own affair. */
async function ranked(): Promise<{ best: number; worst: number }> {
  const plan = ['--metrics', 'cpu', '--horizon', '12', '--windows', '4', '--season', '24'];
  const { out } = await run('evaluate', '--data', set, ...plan, '--reference', 'experts', '--json');
  const crps = JSON.parse(out).reference.map((row: { CRPS: number }) => row.CRPS);
  return { best: crps.indexOf(Math.min(...crps)), worst: crps.indexOf(Math.max(...crps)) };
}
const { best, worst } = await ranked();
const share = { name: 'day', licence: 'ours', series: 12, bins: 5760 };

const serving = async (name: string) => {
  const { models: all } = JSON.parse((await run('model', 'ls', '--json')).out);
  return all
    .filter((m: { name: string; serves: boolean }) => m.name === name && m.serves)
    .map((m: { version: number }) => m.version);
};
const current = (name: string) => readFileSync(join(models, name, 'current'), 'utf8');

t.test('the better one serves, and stays', async (t) => {
  await save('m', worst);
  await save('m', best);
  await save('m', best);
  t.strictSame(await serving('m'), [3], 'the newest, before the first promotion');
  const lost = await promote('m@1', set, '--json');
  t.equal(lost.code, 1);
  t.match(JSON.parse(lost.out), { champion: 3, challenger: 1, promoted: false, serves: 3, series: 12 });
  t.ok(JSON.parse(lost.out).CRPS_ratio > 1);
  t.equal(current('m'), '3\n');
  const same = await promote('m@2', set);
  t.equal(same.code, 1, 'as good is not better');
  t.match(same.out, /m@3 goes on serving/);

  await save('n', worst);
  await save('n', best);
  await save('n', worst);
  const won = await promote('n@2', set, '--json');
  t.equal(won.code, 0, won.err);
  t.match(JSON.parse(won.out), {
    model: 'n', champion: 3, challenger: 2, promoted: true, serves: 2, sets: [{ name: 'day', series: 12, scored: 12 * 48 }],
  }); // biome-ignore format: the document
  t.ok(JSON.parse(won.out).CRPS_ratio_interval[1] < 1);
  t.strictSame(await serving('n'), [2]);
  t.match((await run('model', 'ls')).out, /n@2 +serves/);
  t.equal(JSON.parse((await run('model', 'show', 'n', '--json')).out).version, 2, 'NAME is what serves');
  t.equal(JSON.parse((await run('model', 'show', 'n@3', '--json')).out).version, 3);
  t.strictSame(readdirSync(join(models, 'n')).sort(), ['1', '2', '3', 'current'], 'no draft is left');
  await save('n', best);
  t.strictSame(await serving('n'), [2], 'a version that is made later waits');
});

t.test('only what neither has learned from is judged on', async (t) => {
  await save('whole', worst, { data: [share] });
  await save('whole', best);
  t.match(
    (await promote('whole@2', set)).err,
    /needs 5 series that neither has learned from; there are 1/,
    'the eighth of twelve was kept back',
  );
  t.equal((await promote('whole@2', newSet('other', 'abcdefgh'))).code, 0, 'nobody learned from it');
  await save('part', worst, { data: [share], untilStep: 450 });
  await save('part', best, { data: [share], untilStep: 432 });
  // Of 480 bins the last 48 are cut into windows that begin at 432, 444, 456 and 468: two of them at 450 or later.
  const { code, out } = await promote('part@2', set, '--json');
  t.equal(code, 0);
  t.match(JSON.parse(out), { series: 12, sets: [{ scored: 11 * 2 * 12 + 4 * 12 }] });
  await save('few', worst, { data: [{ ...share, name: 'seven' }] });
  await save('few', best);
  t.match((await promote('few@2', newSet('seven', 'abcdefg'))).err, /all of seven was learned from/);
});

t.test('what cannot be promoted or served is refused with the reason', async (t) => {
  await save('one', best);
  const cases: [string, RegExp][] = [
    ['one@1', /one has no other version: it serves already/],
    ['m@3', /m@3 serves already/],
    ['m@9', /there is no model m@9/],
    ['m', /name the version that is to serve: m@VERSION/],
    ['../m@1', /a model name has letters/],
  ];
  for (const [name, expected] of cases) {
    const { code, err } = await promote(name, set);
    t.equal(code, 1, name);
    t.match(err, expected, name);
  }
  for (const [text, expected] of [
    ['9\n', /names version 9, which is not there/],
    ['', /must hold one version/],
    ['latest', /must hold one version/],
  ] as const) {
    writeFileSync(join(models, 'm', 'current'), text);
    const { code, err } = await run('model', 'verify', 'm');
    t.equal(code, 1);
    t.match(err, expected);
  }
  t.equal((await run('model', 'verify', 'm@1')).code, 0, 'a version that is named is served all the same');
  t.equal((await run('model', 'promote', 'm@1')).code, 2, 'judged on nothing');
});

t.test('a training says which version goes on serving', async (t) => {
  const { code, err } = await run('train', '--data', set, '--out', 'n', '--epochs', '1');
  t.equal(code, 0, err);
  t.match(err, /n@2 goes on serving: see foreshade model promote n@5/);
});
