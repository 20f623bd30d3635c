// Goal: a model goes out as ONNX that others run with our numbers, comes back as it was, and every file of another kind is
// refused with its rule, never a crash. Method: onnxruntime runs what was written, beside an f64 oracle; files of other
// exporters' shapes, put together field by field; a cut at every byte; random damage.
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import t from 'tap';
import { readOnnx } from '../../models/files/onnx-reader.ts';
import { writeOnnx } from '../../models/files/onnx-writer.ts';
import type { RecurrentModel } from '../../models/files/recurrent-model.ts';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import { loadOnnxWeb, OnnxSession } from '../bench/onnx-sessions.ts';
import { headOf, lstmStep, randomModel } from '../kernels/lstm-oracle.ts';
import { randomFrom } from '../random.ts';

const SEED = 1_410;
t.comment(`seed ${SEED}`);
const [INPUTS, HIDDEN, OUTPUTS] = [4, 8, 12];

/** The oracle's model and the same as a file holds it. */
function modelOf(random: () => number) {
  const oracle = randomModel(INPUTS, HIDDEN, OUTPUTS, random);
  const file: RecurrentModel = {
    inputs: INPUTS,
    hidden: HIDDEN,
    cell: Float32Array.from(oracle.cell),
    heads: [{ name: 'y', outputs: OUTPUTS, weights: Float32Array.from(oracle.head) }],
  };
  return { oracle, file };
}
const model = modelOf(randomFrom(SEED)).file;

/** The rule a file is refused with; undefined when it is read. */
function refusalOf(file: Uint8Array): string | undefined {
  try {
    readOnnx(file);
    return undefined;
  } catch (error) {
    if (error instanceof AllocatorError && error.code === 'INVALID_REQUEST') return error.message;
    throw error;
  }
}

t.test('onnxruntime runs the file with our numbers', async (t) => {
  const random = randomFrom(SEED + 1);
  const ort = await loadOnnxWeb();
  for (let trial = 0; trial < 20; trial += 1) {
    const { oracle, file } = modelOf(random);
    const session = await OnnxSession.open(ort, writeOnnx(file), INPUTS, HIDDEN);
    const steps = 30;
    const xs = Float32Array.from({ length: steps * INPUTS }, () => 4 * random() - 2);
    const draw = () => Float32Array.from({ length: HIDDEN }, () => 2 * random() - 1);
    const [h, c] = [draw(), draw()];
    let state = { h: Float64Array.from(h), c: Float64Array.from(c) };
    for (let s = 0; s < steps; s += 1) {
      state = lstmStep(oracle, xs.subarray(s * INPUTS, (s + 1) * INPUTS), state) as typeof state;
    }
    const result = await session.run(session.feeds(xs, h, c));
    const worst = (got: Float32Array, expected: Float64Array) =>
      Math.max(...expected.map((value, i) => Math.abs(value - (got[i] as number))));
    t.ok(worst(result.y, headOf(oracle, state.h)) < 1e-6);
    t.ok(worst(result.h, state.h) < 1e-6);
    t.ok(worst(result.c, state.c) < 1e-6);
    await session.release();
  }
});

t.test('what was written is read', async (t) => {
  const random = randomFrom(SEED + 2);
  const { file } = modelOf(random);
  const second = { name: 'z', outputs: 3, weights: Float32Array.from({ length: (HIDDEN + 1) * 3 }, random) };
  for (const written of [file, { ...file, heads: [...file.heads, second] }]) {
    t.strictSame(readOnnx(writeOnnx(written)), written);
    t.strictSame(readOnnx(Buffer.from(writeOnnx(written))), written, 'as a file is read');
  }
});

// Files of other shapes, put together here from the format's own field numbers.
type Part = (writer: BinaryWriter) => unknown;
const bytesOf = (part: Part): Uint8Array => {
  const writer = new BinaryWriter();
  part(writer);
  return writer.finish();
};
const blob =
  (field: number, value: Uint8Array): Part =>
  (w) =>
    w.tag(field, WireType.LengthDelimited).bytes(value);
const text =
  (field: number, value: string): Part =>
  (w) =>
    w.tag(field, WireType.LengthDelimited).string(value);
const whole =
  (field: number, value: number): Part =>
  (w) =>
    w.tag(field, WireType.Varint).int64(value);
const real =
  (field: number, value: number): Part =>
  (w) =>
    w.tag(field, WireType.Bit32).float(value);
const all =
  (...parts: readonly Part[]): Part =>
  (w) => {
    for (const part of parts) part(w);
  };
const inner = (field: number, ...parts: readonly Part[]): Part => blob(field, bytesOf(all(...parts)));

const node = (
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
  ...attributes: readonly Part[]
) =>
  inner(
    1,
    ...inputs.map((name) => text(1, name)),
    ...outputs.map((name) => text(2, name)),
    text(4, op),
    ...attributes,
  );
const attribute = (name: string, ...value: readonly Part[]) => inner(5, text(1, name), ...value);
const tensor = (name: string, dims: readonly number[], values: Float32Array, ...more: readonly Part[]) =>
  inner(
    5,
    ...dims.map((dim) => whole(1, dim)),
    whole(2, 1),
    text(8, name),
    blob(9, new Uint8Array(values.slice().buffer)),
    ...more,
  );
const file = (graph: readonly Part[], version = 14) =>
  bytesOf(all(whole(1, 8), inner(8, whole(2, version)), inner(7, ...graph)));

// One unit, one input; ONNX's order of gates is i, o, f, c. The weights of x are 1 to 4, those of h 5 to 8.
const W = tensor('W', [1, 4, 1], Float32Array.of(1, 2, 3, 4));
const R = tensor('R', [1, 4, 1], Float32Array.of(5, 6, 7, 8));
const B = tensor('B', [1, 8], Float32Array.of(10, 20, 30, 40, 1, 2, 3, 4));
const V = tensor('V', [2, 1], Float32Array.of(0.5, -0.5)); // of two outputs, as Gemm takes it turned
const V2 = tensor('V', [1, 2], Float32Array.of(0.5, -0.5));
const D = tensor('D', [2], Float32Array.of(7, 9));
const Y = inner(12, text(1, 'y'));
const lstm = (...attributes: readonly Part[]) =>
  node('LSTM', ['x', 'W', 'R', 'B'], ['', 'last'], ...attributes);
const turned = node('Gemm', ['last', 'V', 'D'], ['y'], attribute('transB', whole(3, 1)));
const known: RecurrentModel = {
  inputs: 1,
  hidden: 1,
  cell: Float32Array.of(...[1, 3, 4, 2], ...[5, 7, 8, 6], ...[11, 33, 44, 22]), // gates i, f, g, o
  heads: [{ name: 'y', outputs: 2, weights: Float32Array.of(0.5, -0.5, 7, 9) }],
};

t.test('gates by hand, and the shapes other exporters write', async (t) => {
  for (const { name, graph } of [
    { name: 'Gemm that turns its weights', graph: [lstm(), turned, W, R, B, V, D, Y] },
    {
      name: 'MatMul and Add, behind shapes',
      graph: [
        node('Constant', [], ['axis']),
        lstm(attribute('hidden_size', whole(3, 1)), attribute('direction', text(4, 'forward'))),
        node('Squeeze', ['last', 'axis'], ['flat']),
        node('Identity', ['flat'], ['same']),
        node('MatMul', ['same', 'V'], ['product']),
        node('Add', ['D', 'product'], ['y']),
        ...[W, R, B, V2, D, Y],
      ],
    },
    {
      name: 'activations that are said',
      graph: [
        lstm(attribute('activations', text(9, 'Sigmoid'), text(9, 'Tanh'), text(9, 'Tanh'))),
        ...[turned, W, R, B, V, D, Y],
      ],
    },
  ])
    t.strictSame(readOnnx(file(graph)), known, name);
  const bare = node('LSTM', ['x', 'W', 'R'], ['', 'last']);
  const read = readOnnx(file([bare, node('Gemm', ['last', 'V'], ['y']), W, R, V2, Y]));
  t.strictSame(read.cell.subarray(8), new Float32Array(4), 'no bias is a bias of zero');
  t.strictSame(read.heads[0]?.weights, Float32Array.of(0.5, -0.5, 0, 0));
});

const rest = [turned, W, R, B, V, D, Y];
for (const { name, bytes, rule } of [
  { name: 'nothing', bytes: new Uint8Array(), rule: /no ONNX model/ },
  { name: 'a text', bytes: Buffer.from('not a model at all'), rule: /damaged|no ONNX model/ },
  { name: 'an old opset', bytes: file([lstm(), ...rest], 6), rule: /opset must be/ },
  { name: 'an opset to come', bytes: file([lstm(), ...rest], 99), rule: /opset must be/ },
  { name: 'no layer', bytes: file(rest), rule: /exactly one LSTM/ },
  { name: 'two layers', bytes: file([lstm(), lstm(), ...rest]), rule: /exactly one LSTM/ },
  {
    name: 'another operator',
    bytes: file([lstm(), node('Relu', ['last'], ['z']), ...rest]),
    rule: /linear heads on Y_h only/,
  },
  {
    name: 'operators of others',
    bytes: file([lstm(text(7, 'com.example')), ...rest]),
    rule: /those of ONNX itself/,
  },
  {
    name: 'both directions',
    bytes: file([lstm(attribute('direction', text(4, 'bidirectional'))), ...rest]),
    rule: /plain forward/,
  },
  {
    name: 'clipped cells',
    bytes: file([lstm(attribute('clip', real(2, 3))), ...rest]),
    rule: /plain forward/,
  },
  {
    name: 'coupled gates',
    bytes: file([lstm(attribute('input_forget', whole(3, 1))), ...rest]),
    rule: /plain forward/,
  },
  {
    name: 'rows first',
    bytes: file([lstm(attribute('layout', whole(3, 1))), ...rest]),
    rule: /plain forward/,
  },
  {
    name: 'other activations',
    bytes: file([lstm(attribute('activations', text(9, 'Relu'))), ...rest]),
    rule: /default activations/,
  },
  {
    name: 'a size of its own',
    bytes: file([lstm(attribute('hidden_size', whole(3, 2))), ...rest]),
    rule: /hidden_size/,
  },
  {
    name: 'peepholes',
    bytes: file([node('LSTM', ['x', 'W', 'R', 'B', '', '', '', 'P'], ['', 'last']), ...rest]),
    rule: /peepholes/,
  },
  {
    name: 'lengths',
    bytes: file([node('LSTM', ['x', 'W', 'R', 'B', 'lengths'], ['', 'last']), ...rest]),
    rule: /sequence lengths/,
  },
  {
    name: 'weights elsewhere',
    bytes: file([lstm(), turned, R, B, V, D, Y]),
    rule: /weights of x must stand in the file/,
  },
  {
    name: 'weights beside the file',
    bytes: file([lstm(), turned, tensor('W', [1, 4, 1], new Float32Array(4), whole(14, 1)), R, B, V, D, Y]),
    rule: /not beside it/,
  },
  {
    name: 'doubles',
    bytes: file([lstm(), turned, tensor('W', [1, 4, 1], new Float32Array(4), whole(2, 11)), R, B, V, D, Y]),
    rule: /must be f32/,
  },
  {
    name: 'weights that are not finite',
    bytes: file([
      lstm(),
      turned,
      tensor('W', [1, 4, 1], Float32Array.of(1, Number.NaN, 3, 4)),
      R,
      B,
      V,
      D,
      Y,
    ]),
    rule: /must be finite/,
  },
  {
    name: 'fewer numbers than said',
    bytes: file([lstm(), turned, tensor('W', [1, 4, 1], new Float32Array(3)), R, B, V, D, Y]),
    rule: /as its shape says/,
  },
  {
    name: 'a size below zero',
    bytes: file([lstm(), turned, tensor('W', [1, -4, -1], new Float32Array(4)), R, B, V, D, Y]),
    rule: /as its shape says/,
  },
  {
    name: 'weights of another size',
    bytes: file([lstm(), turned, tensor('W', [1, 8, 1], new Float32Array(8)), R, B, V, D, Y]),
    rule: /weights of x must be of shape/,
  },
  {
    name: 'a head on all steps',
    bytes: file([
      node('LSTM', ['x', 'W', 'R', 'B'], ['all', 'last']),
      node('Gemm', ['all', 'V'], ['y']),
      W,
      R,
      B,
      V,
      Y,
    ]),
    rule: /must read the last h/,
  },
  { name: 'no head', bytes: file([lstm(), W, R, B, Y]), rule: /must have a linear head/ },
  {
    name: 'a head that nobody sees',
    bytes: file([lstm(), turned, W, R, B, V, D]),
    rule: /output of the graph/,
  },
  {
    name: 'a head that is scaled',
    bytes: file([
      lstm(),
      node('Gemm', ['last', 'V', 'D'], ['y'], attribute('alpha', real(2, 2))),
      W,
      R,
      B,
      V,
      D,
      Y,
    ]),
    rule: /alpha must be 1/,
  },
  {
    name: 'a MatMul without its Add',
    bytes: file([
      lstm(),
      turned,
      node('MatMul', ['last', 'V2'], ['z']),
      W,
      R,
      B,
      V,
      D,
      Y,
      tensor('V2', [1, 2], new Float32Array(2)),
    ]),
    rule: /must have its Add/,
  },
  { name: 'a field of another type', bytes: bytesOf(all(whole(7, 1))), rule: /not of its type/ },
]) {
  t.test(`${name}: refused`, async (t) => {
    t.match(refusalOf(bytes) ?? 'it was read', rule);
  });
}

t.test('a cut at any byte is refused', async (t) => {
  const whole = writeOnnx(model);
  for (let length = 0; length < whole.length; length += 1)
    if (refusalOf(whole.subarray(0, length)) === undefined)
      t.fail(`${length} of ${whole.length} bytes were read`);
  t.equal(refusalOf(whole), undefined);
});

t.test('damage is refused or read, and nothing else', async (t) => {
  const random = randomFrom(SEED + 3);
  const whole = writeOnnx(model);
  let refused = 0;
  for (let i = 0; i < 5000; i += 1) {
    const damaged = whole.slice();
    for (let hits = 0; hits <= i % 8; hits += 1)
      damaged[Math.floor(random() * whole.length)] = Math.floor(random() * 256);
    if (refusalOf(damaged) !== undefined) refused += 1;
  }
  t.ok(refused > 500, `${refused} of 5000 refused`);
});
