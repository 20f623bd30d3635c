// Goal: a model file is served whole or refused with a reason. Method: save one, then damage it in every way a disk or a
// hand can.
import { readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readModel, saveModel, versionsIn } from '../../models/files/model-file.ts';

const PARTS = { inputs: 8, hidden: 8, groups: 9, groupRow: 12, knots: [1, 2] };
const SIZE = (8 + 8 + 1) * 32 + (8 + 1) * 24 + 24;
const FACTS = {
  name: 'm',
  createdAt: '2026-01-01T00:00:00Z',
  inputs: 8,
  hidden: 8,
  groups: 9,
  knots: [1, 2],
  data: [],
  dataSha256: '0'.repeat(64),
  seed: 1,
  epochs: 1,
  heldBackLoss: 1,
  heldBackLossNoLstm: 1,
};
const weights = Float32Array.from({ length: SIZE }, (_, i) => Math.sin(i));
const save = (folder: string) => saveModel(folder, FACTS, PARTS, weights);

t.test('what was saved is read again, version by version', async (t) => {
  const folder = join(t.testdir(), 'm');
  t.strictSame(await versionsIn(folder), []);
  t.equal((await save(folder)).version, 1);
  const { path, version } = await save(folder);
  t.equal(version, 2);
  t.strictSame(await versionsIn(folder), [1, 2]);
  const model = await readModel(path, PARTS);
  t.strictSame(model.weights, weights);
  t.equal(model.manifest.version, 2);
});

t.test('a damaged, truncated or foreign file is refused', async (t) => {
  const folder = join(t.testdir(), 'm');
  const { path } = await save(folder);
  const file = join(path, 'weights.safetensors');
  const manifest = join(path, 'manifest.json');
  const whole = readFileSync(file);
  const text = readFileSync(manifest, 'utf8');
  const refuses = (rule: RegExp, message: string) =>
    t.rejects(readModel(path, PARTS), { code: 'INVALID_REQUEST', message: rule }, message);
  for (const at of [0, 7, 8, 100, whole.length - 1]) {
    const bad = Buffer.from(whole);
    bad[at] = (bad[at] as number) ^ 0x40;
    writeFileSync(file, bad);
    await refuses(/checksums differ/, `byte ${at}`);
  }
  writeFileSync(file, whole);
  for (const length of [0, 8, whole.length - 1]) {
    truncateSync(file, length);
    await refuses(/checksums differ/, `${length} bytes`);
    writeFileSync(file, whole);
  }
  for (const bad of [
    '',
    '{',
    'null',
    '[]',
    '{"format":"other"}',
    text.replace('"groups": 9', '"groups": "9"'),
  ]) {
    writeFileSync(manifest, bad);
    await refuses(/manifest/, bad.slice(0, 20));
  }
  writeFileSync(manifest, text.replace('"hidden": 8', '"hidden": 64'));
  await refuses(/64 hidden/, 'another shape');
  writeFileSync(manifest, text);
  renameSync(file, `${file}.gone`);
  await refuses(/no readable weights/, 'weights missing');
  rmSync(path, { recursive: true });
  await refuses(/no readable manifest/, 'nothing there');
});

t.test('a weight that is no number is refused', async (t) => {
  const folder = join(t.testdir(), 'm');
  const { path } = await saveModel(folder, FACTS, PARTS, weights.slice().fill(Number.NaN, 3, 4));
  await t.rejects(readModel(path, PARTS), { message: /tensor cell .* not finite/ });
});
