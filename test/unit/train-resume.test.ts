// Goal: a training that was stopped, by Ctrl-C or by kill -9, and goes on gives the weights of one that was not, to the bit;
// a checkpoint of anything else is refused with what differs. Method: a small set, a child process that is killed as soon as
// its first epoch is kept, and trainings in this process.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { randomFrom } from '../random.ts';
import { runCaptured } from '../run-cli.ts';

const SEED = 77;
t.comment(`seed ${SEED}`);
t.setTimeout(240_000); // half a dozen trainings, on a machine that others use
const root = t.testdir();
const models = join(root, 'models');

function newSet(name: string, seed: number): string {
  const folder = join(root, name);
  mkdirSync(folder);
  const next = randomFrom(seed);
  writeFileSync(
    join(folder, 'dataset.json'),
    JSON.stringify({ name: 'day', kind: 'series', step_seconds: 300, season_steps: 24, licence: 'ours' }),
  );
  const rows = Array.from('abcdefghi').flatMap((series) =>
    Array.from({ length: 300 }, (_, i) => `${series},${i * 300},${i % 24 < 8 ? 50 + next() : next()}\n`),
  );
  writeFileSync(join(folder, 'series.csv'), `series,t,cpu\n${rows.join('')}`);
  return folder;
}

const EPOCHS = 4;
const set = newSet('set', SEED);
const argsFor = (name: string, ...more: string[]): string[] => [
  'train', '--data', set, '--out', name, '--epochs', String(EPOCHS), '--models', models, '--json', ...more,
]; // biome-ignore format: as a person types it
const checkpointOf = (name: string): string => join(models, name, 'checkpoint.safetensors');

/** What does not depend on when a training ran. */
const outcome = (out: string) => {
  const { path, epochs, held_back_loss, held_back_loss_no_lstm } = JSON.parse(out);
  const weights = readFileSync(join(path, 'weights.safetensors')).toString('base64');
  return { weights, epochs, held_back_loss, held_back_loss_no_lstm };
};

let whole: ReturnType<typeof outcome>;
t.test('uninterrupted: nothing but the version is left', async (t) => {
  const { code, out, err } = await runCaptured(argsFor('whole'));
  t.equal(code, 0, err);
  whole = outcome(out);
  t.equal(whole.epochs.length, EPOCHS);
  t.strictSame(readdirSync(join(models, 'whole')), ['1']);
});

t.test('killed and resumed', async (t) => {
  const child = spawn(process.execPath, ['bin/foreshade.js', ...argsFor('killed')], { stdio: 'ignore' });
  const ended = once(child, 'exit');
  while (!existsSync(checkpointOf('killed')) && child.exitCode === null)
    await new Promise((resolve) => setTimeout(resolve, 5));
  child.kill('SIGKILL');
  t.strictSame(await ended, [null, 'SIGKILL'], 'it was killed before it was done');
  t.notOk(existsSync(join(models, 'killed', '1')));
  copyFileSync(checkpointOf('killed'), join(root, 'kept'));
  const { code, out, err } = await runCaptured(argsFor('killed', '--resume'));
  t.equal(code, 0, err);
  const after = Number(/going on after epoch (\d+)/.exec(err)?.[1]);
  t.ok(after >= 1 && after < EPOCHS, `after epoch ${after}`);
  t.strictSame(outcome(out), whole, 'bit for bit, and the same epochs');
  t.strictSame(
    readdirSync(join(models, 'killed')).filter((name) => !/\.\d+$/.test(name)),
    ['1'],
    'the checkpoint is gone',
  );
});

/** Train in this process and interrupt it once the given epoch has been told. */
async function interrupted(name: string, epoch: number, ...more: string[]) {
  const interrupt = new AbortController();
  return await runCaptured(argsFor(name, ...more), {
    errIsTerminal: true,
    signal: interrupt.signal,
    err: (text) => {
      if (text.includes(`epoch ${epoch},`)) interrupt.abort();
    },
  });
}

t.test('interrupted twice and resumed', async (t) => {
  const first = await interrupted('stopped', 2);
  t.equal(first.code, 1);
  t.match(first.err, /the training was stopped, epoch 2 is kept: --resume goes on with it/);
  const second = await interrupted('stopped', 3, '--resume');
  t.match(second.err, /going on after epoch 2\n[\s\S]*stopped, epoch 3 is kept/);
  const { out, err } = await runCaptured(argsFor('stopped', '--resume'));
  t.match(err, /going on after epoch 3/);
  t.strictSame(outcome(out), whole);
});

t.test(
  'with nothing to go on from it begins at the beginning; without --resume too, and says so',
  async (t) => {
    const { out, err } = await runCaptured(argsFor('fresh', '--resume'));
    t.match(err, /no training of this name was stopped/);
    t.strictSame(outcome(out), whole);
    mkdirSync(join(models, 'over'));
    copyFileSync(join(root, 'kept'), checkpointOf('over'));
    const over = await runCaptured(argsFor('over'));
    t.match(over.err, /a stopped training of this name is given up/);
    t.strictSame(outcome(over.out), whole);
  },
);

t.test('a checkpoint of another training is refused, and stays', async (t) => {
  mkdirSync(join(models, 'other'));
  copyFileSync(join(root, 'kept'), checkpointOf('other'));
  const cases: [string[], RegExp][] = [
    [['--seed', '2'], /another training: it has another --seed \(1, not 2\)/],
    [['--epochs', '9'], /it has another --epochs \(4, not 9\)/],
    [['--until-step', '299'], /it has another --until-step \(none, not 299\)/],
    [['--data', newSet('changed', SEED + 1)], /a set has changed since/],
    [['--data', `${set},${set}`], /it is of other sets \(day, not day,day\)/],
  ];
  for (const [more, expected] of cases) {
    const { code, err } = await runCaptured(argsFor('other', ...more, '--resume'));
    t.equal(code, 1, more.join(' '));
    t.match(err, expected, more.join(' '));
  }
  const bytes = readFileSync(checkpointOf('other'));
  t.ok(bytes.equals(readFileSync(join(root, 'kept'))));
  bytes[bytes.length - 9] = (bytes[bytes.length - 9] as number) ^ 1;
  writeFileSync(checkpointOf('other'), bytes);
  t.match(
    (await runCaptured(argsFor('other', '--resume'))).err,
    /checkpoint is damaged: its checksum differs/,
  );
  writeFileSync(checkpointOf('other'), bytes.subarray(0, 100));
  t.match((await runCaptured(argsFor('other', '--resume'))).err, /INVALID_REQUEST/);
});
