// Goal: the record of a service teaches a model that serves only when it is better, once a day, and nothing is left of what lost.
// Method: a record written here, whose means are worked by hand; `train --shadow --promote` on it; and the service's part with
// programs that answer as a training would.
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { SeriesSet } from '../../models/data/series-set.ts';
import { serveVersion } from '../../models/files/current-version.ts';
import { partsOf, saveModel } from '../../models/files/model-file.ts';
import { recordedSet } from '../../orchestrator/cli/shadow-set.ts';
import { nextAtMs, Retraining } from '../../orchestrator/retraining.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { randomFrom } from '../random.ts';
import { runCaptured } from '../run-cli.ts';
import { newFolder, newStore, pointAt } from './store-fixture.ts';

const SEED = 31;
t.comment(`seed ${SEED}`);
const BIN_MS = 300_000;
const START_MS = Date.UTC(2026, 0, 5);
const { signal } = new AbortController();

t.test('a record as a set: means of five minutes, a guest a series', async (t) => {
  const directory = newFolder(t);
  const store = newStore(t, { directory });
  const record = (atMs: number, guest: string, cpuMillicores: number, cadence: 'full' | 'fast' = 'full') =>
    store.record(pointAt(0, { atMs, guest, cadence, profile: { cpuMillicores } }));
  // Minute 1 has two samples, minute 3 one; a fast reading does not count; the bin of b is the third.
  record(START_MS + 61_000, 'a', 100);
  record(START_MS + 62_000, 'a', 200);
  record(START_MS + 62_100, 'a', 9000, 'fast');
  record(START_MS + 181_000, 'a', 600);
  record(START_MS + 2 * BIN_MS + 1000, 'b', 50);
  record(START_MS + 3 * BIN_MS + 1000, 'b', 70);
  await store.flush();
  const set = await recordedSet(directory, signal);
  t.equal(set.steps, 3, 'the bin that goes on is left out');
  const series = await SeriesSet.open(set.folder);
  t.match(series.facts, {
    stepS: 300,
    grid: { startS: START_MS / 1000, steps: 3 },
    name: /^shadow until 2026-01-05T00:15/,
  });
  const found = new Map<string, { readonly times: readonly number[]; readonly values: readonly number[] }>();
  for await (const { series: name, times, columns } of (await series.read(['cpu_millicores'])).series)
    found.set(name, { times, values: columns[0] ?? [] });
  series.close();
  t.strictSame(found.get('a'), { times: [START_MS / 1000], values: [300] });
  t.strictSame(found.get('b'), { times: [START_MS / 1000 + 600], values: [50] });
  set.remove();
  t.notOk(existsSync(set.folder));
  await t.rejects(recordedSet(join(directory, 'none'), signal), { code: 'STORE_UNAVAILABLE' });
});

t.test('a model of the record challenges the one that serves', async (t) => {
  const directory = newFolder(t);
  const models = newFolder(t);
  const store = newStore(t, { directory });
  const random = randomFrom(SEED);
  for (let bin = 0; bin < 640; bin += 1)
    for (const guest of 'abcdefgh') {
      const cpuMillicores = (bin % 24 < 8 ? 900 : 20) + 50 * random();
      const profile = { cpuMillicores, memoryBytes: 1e8 };
      store.record(pointAt(0, { atMs: START_MS + bin * BIN_MS + 1000, guest, cadence: 'full', profile }));
    }
  await store.flush();
  const train = (...more: string[]) =>
    runCaptured(['train', '--shadow', directory, '--models', models, '--epochs', '1', '--json', ...more]);
  const ran = await train('--out', 'default', '--promote');
  const answer = JSON.parse(ran.out);
  const { promoted, serves } = answer.promotion;
  t.equal(ran.code, promoted ? 0 : 1, ran.err);
  t.match(answer, { version: 2, promotion: { champion: 1, challenger: 2, series: 8 } });
  t.equal(serves, promoted ? 2 : 1);
  t.equal(
    readFileSync(join(models, 'default', 'current'), 'utf8'),
    `${serves}\n`,
    'the one that ships is held against it',
  );
  const { untilStep } = JSON.parse(readFileSync(join(answer.path, 'manifest.json'), 'utf8'));
  t.equal(untilStep, 639 - 288, 'the last day is kept back');
  const first = JSON.parse((await train('--out', 'other', '--promote')).out);
  t.equal(first.promotion, undefined, 'nothing serves that it could be held against');
  t.match((await runCaptured(['train', '--out', 'x', '--models', models])).err, /give --data or --shadow/);
});

t.test('the next time of the day', async (t) => {
  const at = (hour: number, minute: number) => new Date(2026, 0, 5, hour, minute).getTime();
  t.equal(nextAtMs(at(3, 29), '03:30'), at(3, 30));
  t.equal(nextAtMs(at(3, 30), '03:30'), new Date(2026, 0, 6, 3, 30).getTime(), 'not twice');
  t.equal(nextAtMs(at(23, 0), '00:05'), new Date(2026, 0, 6, 0, 5).getTime());
});

/** A retraining whose program prints this, or does that, and what it logs. */
function retrainingOf(stateDir: string, code: string) {
  const said: string[] = [];
  const say = (_: unknown, message: string) => said.push(message);
  const log = { debug: say, info: say, warn: say, error: say };
  const program = [process.execPath, '-e', code, '--'] as const;
  const config = { model: { name: 'default', folder: undefined, retrainAt: undefined }, stateDir };
  return { retraining: new Retraining({ config, log, program: [...program] }), said };
}

t.test('in the service', async (t) => {
  const stateDir = newFolder(t);
  const home = join(stateDir, 'models', 'default');
  mkdirSync(home, { recursive: true });
  const parts = partsOf(await SeriesKernels.load());
  const weights = new Float32Array((await SeriesKernels.load()).model.length);
  const learned = (name: string) => [{ name, licence: '', series: 1, bins: 1 }];
  const save = (set: string) =>
    saveModel(
      home,
      {
        name: 'default',
        createdAt: '',
        ...parts,
        data: learned(set),
        dataSha256: '',
        seed: 1,
        epochs: 1,
        heldBackLoss: 1,
        heldBackLossNoLstm: 1,
      },
      parts,
      weights,
    );
  await save('web');
  await serveVersion(home, 1);
  await save('shadow until 2026-01-05');
  await save('batch');
  const promotion = { promoted: false, champion: 1, CRPS_ratio: 1.25 };
  const document = JSON.stringify({ model: 'default', version: 2, promotion });
  const lost = retrainingOf(stateDir, `console.log(${JSON.stringify(document)}); process.exitCode = 1`);
  t.strictSame(await lost.retraining.run(), { kind: 'not-better', label: 'default@2', ratio: 1.25 });
  t.strictSame(lost.said, ['a model was trained on the record']);
  t.strictSame(
    readdirSync(home).sort(),
    ['1', '3', 'current'],
    'what lost is removed, what others trained is not',
  );

  const told = retrainingOf(stateDir, 'console.log(JSON.stringify(process.argv.slice(1)))');
  await told.retraining.run();
  t.strictSame(told.said, ['the model was not trained on the record'], 'an answer that tells of no model');
  const failed = retrainingOf(stateDir, 'console.error("so\\nthe record is too short"); process.exit(3)');
  t.strictSame(await failed.retraining.run(), { kind: 'failed', reason: 'the record is too short' });

  const file = join(stateDir, 'niceness');
  const slow = retrainingOf(
    stateDir,
    `setTimeout(() => require('fs').writeFileSync(${JSON.stringify(file)}, String(require('os').getPriority())), 300); setTimeout(() => {}, 60000)`,
  );
  const running = slow.retraining.run();
  while (!existsSync(file)) await sleep(50);
  t.equal(readFileSync(file, 'utf8'), '19', 'below all others');
  await slow.retraining.stop();
  t.match(await running, { kind: 'failed', reason: /aborted/ });
});
