// Goal: a series model goes out as ONNX, where others compute its logits to 1e-6, and comes back as it was; what does not fit
// is refused with the shape that is wrong. Method: the shipped model, its own kernels and onnxruntime on the same features.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type ModelParts, partsOf, readModel, saveModel } from '../../models/files/model-file.ts';
import { readOnnx } from '../../models/files/onnx-reader.ts';
import { writeOnnx } from '../../models/files/onnx-writer.ts';
import type { RecurrentModel } from '../../models/files/recurrent-model.ts';
import { loadModule } from '../../orchestrator/wasm/module.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { loadOnnxWeb } from '../bench/onnx-sessions.ts';
import type { LstmExports } from '../kernels/lstm-module.ts';
import { randomFrom } from '../random.ts';
import { runCaptured } from '../run-cli.ts';

const SEED = 2_246;
t.comment(`seed ${SEED}`);
const root = t.testdir();
const models = join(root, 'models');
const run = (...args: string[]) => runCaptured(['model', ...args, '--models', models]);
const parts = partsOf(await SeriesKernels.load());
const outputs = parts.knots.length * parts.groups;

/** A model whose every number differs, saved as m@1: the one that ships may be of another shape while it is retrained. */
const random = randomFrom(SEED);
const columns = parts.knots.length * parts.groupRow;
const cellSize = (parts.inputs + parts.hidden + 1) * 4 * parts.hidden;
const weights = new Float32Array(cellSize + (parts.hidden + 1) * columns + columns);
for (let i = 0; i < cellSize; i += 1) weights[i] = random() - 0.5;
weights[7] = -0; // a bit that a sum with zero would lose
weights[cellSize - 1] = -0;
for (let row = 0; row <= parts.hidden; row += 1)
  for (let knot = 0; knot < parts.knots.length; knot += 1)
    for (let g = 0; g < parts.groups; g += 1)
      weights[cellSize + row * columns + knot * parts.groupRow + g] = random() - 0.5;
weights.fill(0.25, cellSize + (parts.hidden + 1) * columns);
const { path: saved } = await saveModel(
  join(models, 'm'),
  { name: 'm', createdAt: '2026-01-01T00:00:00Z', ...parts, data: [] },
  parts,
  weights,
);
const exported = join(root, 'm.onnx');

/** Logits by our own kernels, without the columns that pad a row. */
async function ownLogits(xs: Float32Array, { inputs, hidden, groups, groupRow, knots }: ModelParts) {
  const call = await loadModule<LstmExports>('lstm');
  let free = call.freeAt();
  const place = (size: number, values?: Float32Array) => {
    const at = free;
    free += (size * 4 + 63) & ~63;
    const view = new Float32Array(call.memory.buffer, at, size);
    view.fill(0);
    if (values) view.set(values);
    return { at, view };
  };
  const x = place(xs.length, xs);
  const [h, c, gates] = [place(hidden), place(hidden), place(4 * hidden)];
  const cell = place(cellSize, weights.subarray(0, cellSize));
  const head = place((hidden + 1) * columns, weights.subarray(cellSize, cellSize + (hidden + 1) * columns));
  const y = place(columns);
  call.sequence(xs.length / inputs, x.at, h.at, c.at, cell.at, inputs, hidden, gates.at);
  call.dense(h.at, head.at, hidden, columns, y.at);
  return knots.flatMap((_, knot) => [...y.view.subarray(knot * groupRow, knot * groupRow + groups)]);
}

t.test('a model is exported, whole and with what it lacks', async (t) => {
  const { code, out, err } = await run('export', 'm', '--onnx', exported, '--json');
  t.equal(code, 0, err);
  const bytes = readFileSync(exported);
  t.match(JSON.parse(out), {
    model: 'm',
    version: 1,
    file: exported,
    bytes: bytes.length,
    knots: parts.knots,
    experts: parts.groups,
  });
  t.match(JSON.parse(out).not_exported.join(), /experts.*trust/);
  t.match(bytes.toString('latin1'), /Not in this file: the experts/, 'said in the file itself');
  t.strictSame(
    readdirSync(root).filter((name) => name.startsWith('m.onnx')),
    ['m.onnx'],
    'no draft is left',
  );
});

const ort = await loadOnnxWeb().catch(() => undefined);
const skip = ort === undefined && 'onnxruntime-web cannot be loaded';
t.test('onnxruntime gives the logits of our kernels', { skip }, async (t) => {
  if (ort === undefined) return;
  const bytes = readFileSync(exported);
  const session = await ort.InferenceSession.create(new Uint8Array(bytes), { intraOpNumThreads: 1 });
  for (let trial = 0; trial < 50; trial += 1) {
    const xs = Float32Array.from({ length: 60 * parts.inputs }, () => 6 * random() - 3);
    const empty = () => new ort.Tensor('float32', new Float32Array(parts.hidden), [1, 1, parts.hidden]);
    const x = new ort.Tensor('float32', xs, [60, 1, parts.inputs]);
    const { logits } = await session.run({ x, h: empty(), c: empty() });
    const theirs = logits?.data as Float32Array;
    const ours = await ownLogits(xs, parts);
    t.equal(theirs.length, outputs);
    const worst = Math.max(...ours.map((value, i) => Math.abs(value - (theirs[i] as number))));
    t.ok(worst < 1e-6, `trial ${trial}: ${worst}`);
  }
  await session.release();
});

t.test('what was exported comes back, bit for bit', async (t) => {
  const { code, out, err } = await run('import', exported, '--out', 'back', '--json');
  t.equal(code, 0, err);
  const { path, imported } = JSON.parse(out);
  t.equal(imported.file, 'm.onnx');
  const bits = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  const trust = weights.length - columns;
  const [before, after] = [await readModel(saved, parts), await readModel(path, parts)];
  t.ok(bits(before.weights.slice(0, trust)).equals(bits(after.weights.slice(0, trust))));
  t.notSame(before.weights.slice(trust), after.weights.slice(trust), 'the trust begins anew');
  const again = join(root, 'again.onnx');
  t.equal((await run('export', 'back', '--onnx', again)).code, 0);
  t.ok(readFileSync(again).equals(readFileSync(exported)), 'the same file');
  t.match((await run('show', 'back')).out, /imported from +m\.onnx/);
  const shown = JSON.parse((await run('show', 'back', '--json')).out);
  t.match(shown, { data: [], imported: { file: 'm.onnx' } });
  t.notOk('heldBackLoss' in shown, 'nobody told its losses');
  t.equal((await run('verify', 'back')).code, 0);
});

t.test('what does not fit is refused with what is wrong', async (t) => {
  const whole = readOnnx(readFileSync(exported));
  const random = randomFrom(SEED + 1);
  const newModel = (inputs: number, hidden: number, heads: Readonly<Record<string, number>>) =>
    ({
      inputs,
      hidden,
      cell: Float32Array.from({ length: (inputs + hidden + 1) * 4 * hidden }, random),
      heads: Object.entries(heads).map(([name, size]) => ({
        name,
        outputs: size,
        weights: Float32Array.from({ length: (hidden + 1) * size }, random),
      })),
    }) satisfies RecurrentModel;
  const { inputs, hidden } = parts;
  const cases: [string, Uint8Array, RegExp][] = [
    ['inputs', writeOnnx(newModel(inputs + 1, hidden, { y: outputs })), RegExp(`${inputs + 1} inputs; .*${inputs}`)],
    ['hidden', writeOnnx(newModel(inputs, 8, { y: outputs })), /the LSTM has 8 hidden/],
    ['outputs', writeOnnx(newModel(inputs, hidden, { y: 12 })), RegExp(`head y has 12 outputs.*${outputs}`)],
    ['heads', writeOnnx(newModel(inputs, hidden, { a: outputs, b: 2 })), /one must be called logits/],
    ['cut', readFileSync(exported).subarray(0, 5000), /damaged/],
    ['no model', Buffer.from('hello'), /INVALID_REQUEST/],
  ]; // biome-ignore format: a case a line
  for (const [name, file, expected] of cases) {
    writeFileSync(join(root, 'bad.onnx'), file);
    const { code, err } = await run('import', join(root, 'bad.onnx'), '--out', 'bad');
    t.equal(code, 1, name);
    t.match(err, expected, name);
  }
  t.notOk(existsSync(join(models, 'bad')), 'nothing is kept of them');
  writeFileSync(
    join(root, 'two.onnx'),
    writeOnnx({ ...whole, heads: [...newModel(inputs, hidden, { a: 3 }).heads, ...whole.heads] }),
  );
  t.equal((await run('import', join(root, 'two.onnx'), '--out', 'two')).code, 0, 'the head called logits');
  t.match((await run('import', join(root, 'none.onnx'), '--out', 'x')).err, /none\.onnx cannot be read/);
  t.match((await run('import', exported, '--out', '../x')).err, /a model name has letters/);
  mkdirSync(join(root, 'folder'));
  t.match((await run('export', 'm', '--onnx', join(root, 'folder'))).err, /cannot be written/);
  t.equal((await run('export', 'm')).code, 2);
  t.equal((await run('import', exported)).code, 2);
});
