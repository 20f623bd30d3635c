// Goal: `foreshade train` makes the same model twice, keeps it whole, and refuses what it cannot learn from. Method: a small
// set written here.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { randomFrom } from '../random.ts';
import { runCaptured } from '../run-cli.ts';

const root = t.testdir();

function newSet(name: string, kind: string, bins: number): string {
  const folder = join(root, name);
  mkdirSync(folder);
  const next = randomFrom(9);
  writeFileSync(
    join(folder, 'dataset.json'),
    JSON.stringify({ name, kind, step_seconds: 300, season_steps: 24, licence: 'ours' }),
  );
  const rows = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'].flatMap((series) =>
    Array.from({ length: bins }, (_, i) => `${series},${i * 300},${i % 24 < 8 ? 50 + next() : next()}\n`),
  );
  writeFileSync(join(folder, 'series.csv'), `series,t,cpu\n${rows.join('')}`);
  return folder;
}

const run = (...args: string[]) => runCaptured([...args, '--models', join(root, 'models')]);

t.test('the same set gives the same weights, and the model can be evaluated', async (t) => {
  const set = newSet('day', 'series', 400);
  const requests = newSet('asked', 'requests', 1);
  const first = await run('train', '--data', `${set},${requests}`, '--out', 'm', '--epochs', '2', '--json');
  t.equal(first.code, 0, first.err);
  t.match(first.err, /sets of requests, left out: .*asked/);
  const report = JSON.parse(first.out);
  t.match(report, {
    model: 'm',
    version: 1,
    sets: [{ name: 'day', licence: 'ours', series: 9, bins: 3600 }],
  });
  t.ok(report.held_back_loss < 1, `held-back loss ${report.held_back_loss}`);
  const second = JSON.parse((await run('train', '--data', set, '--out', 'm', '--epochs', '2', '--json')).out);
  t.equal(second.version, 2);
  const [one, two] = [report, second].map(({ path }) => readFileSync(join(path, 'weights.safetensors')));
  t.ok(one !== undefined && two !== undefined && one.equals(two), 'bit for bit');
  t.strictSame(readdirSync(join(root, 'models', 'm')).sort(), ['1', '2'], 'no draft is left');
  const plan = ['--metrics', 'cpu', '--horizon', '24', '--windows', '2', '--season', '24'];
  const scored = await run('evaluate', '--data', set, ...plan, '--model', 'm@1', '--json');
  t.equal(scored.code, 0, scored.err);
  t.ok(JSON.parse(scored.out).CRPS < 0.2);
});

t.test('models are listed, shown and verified', async (t) => {
  const listed = await run('model', 'ls', '--json');
  const names = JSON.parse(listed.out).models.map(
    (m: { name: string; version: number }) => `${m.name}@${m.version}`,
  );
  t.strictSame(names.slice(0, 2), ['m@1', 'm@2']);
  t.match(names.at(-1), /^default@/);
  t.match(JSON.parse((await run('model', 'show', 'm@1', '--json')).out), {
    name: 'm',
    version: 1,
    epochs: 2,
  });
  t.match((await run('model', 'verify', 'default')).out, /default@\d+ is whole/);
  const file = join(root, 'models', 'm', '2', 'weights.safetensors');
  writeFileSync(file, readFileSync(file).subarray(0, -4));
  const broken = await run('model', 'verify', 'm');
  t.equal(broken.code, 1);
  t.match(broken.err, /checksums differ/);
  t.match((await run('model', 'show', 'm@7')).err, /there is no model m@7/);
});

t.test('a card says what a model learned from, how well, and what it is not for', async (t) => {
  const card = JSON.parse((await run('model', 'show', 'm@1', '--json')).out);
  t.match(card, {
    data: [{ name: 'day', licence: 'ours', series: 9, bins: 3600, stepS: 300 }],
    serves: false,
    format: /^foreshade/,
  });
  const { stretches, loss, lossNoLstm } = card.data[0].heldBack;
  t.ok(stretches > 0);
  t.ok(Math.abs(loss - card.heldBackLoss) < 1e-9, 'of a single set the losses are those of all');
  t.ok(Math.abs(card.lstmGain - (1 - loss / lossNoLstm)) < 1e-9);
  const { out } = await run('model', 'show', 'm@1');
  t.match(out, /m@1\n[\s\S]*Data\n[\s\S]*day +9 +3,600 +300 s +ours[\s\S]*Scores\n[\s\S]*Limits\n/);
  t.ok(out.includes(`${((1 - loss) * 100).toFixed(2)} % below the pool before training`));
  t.ok(out.includes(`${(card.lstmGain * 100).toFixed(2)} % of the loss without it`), 'the ablation');
  for (const limit of card.limits) t.ok(out.includes(`- ${limit}`));
  t.notMatch(out, /undefined|NaN|[ \t]$/m);
  t.match((await run('model', 'show', 'm')).out, /m@2, which serves/);
});

t.test('what cannot be learned from is refused', async (t) => {
  const cases: [string, string[], RegExp][] = [
    ['short', ['--data', newSet('short', 'series', 50), '--out', 'x'], /needed to learn from it/],
    ['absent', ['--data', join(root, 'none'), '--out', 'x'], /dataset\.json cannot be used/],
    ['name', ['--data', newSet('named', 'series', 10), '--out', '../x'], /a model name has letters/],
  ];
  for (const [name, args, expected] of cases) {
    const { code, err } = await run('train', ...args);
    t.equal(code, 1, name);
    t.match(err, expected, name);
  }
  t.equal((await run('train', '--data', 'x')).code, 2);
});

t.test('on the axis of instructions', async (t) => {
  const folder = join(root, 'cuts');
  mkdirSync(folder);
  const next = randomFrom(10);
  writeFileSync(
    join(folder, 'dataset.json'),
    JSON.stringify({ name: 'cuts', kind: 'series', licence: 'ours' }),
  );
  // A row is half a step, and two rows are one: 400 steps of 800 rows.
  const rows = ['a', 'b'].flatMap((series) =>
    Array.from({ length: 800 }, (_, i) => `${series},${i},500,${i % 8 < 4 ? 50 + next() : next()}\n`),
  );
  writeFileSync(join(folder, 'series.csv'), `series,t,instructions,time_us\n${rows.join('')}`);
  const axis = ['--axis', 'instructions', '--resample', '1000'];
  const trained = await run('train', '--data', folder, ...axis, '--out', 'cut', '--epochs', '1', '--json');
  t.equal(trained.code, 0, trained.err);
  // Two series of one metric: the count itself is not learned.
  t.match(JSON.parse(trained.out).sets, [{ name: 'cuts', series: 2, bins: 800 }]);
  const mixed = async (...more: string[]) =>
    (await run('train', '--data', folder, '--out', 'no', ...more)).err;
  t.match(await mixed('--axis', 'instructions'), /go together/);
  t.match(await mixed('--resample', '10'), /go together/);
  t.match(await mixed(...axis, '--promote'), /are of seconds/);
});
