// Goal: the LSTM kernels compute what their text says, forward and backward, and both builds compute the same bits.
// Method: an oracle in plain TypeScript and f64 that knows no layout but the documented one; finite differences of that
// oracle's loss for every trainable tensor; step, sequence and batch against each other to the bit.
import t from 'tap';
import type { ModuleBuild } from '../../orchestrator/wasm/module.ts';
import { randomFrom } from '../random.ts';
import { type LstmModule, loadLstm } from './lstm-module.ts';
import { headOf, type LstmModel, type LstmState, lstmStep, randomModel } from './lstm-oracle.ts';

const SEED = 20_241_124;
t.comment(`seed ${SEED}`);
const release = await loadLstm();
const debug = await loadLstm('debug');
const BUILDS: readonly (readonly [ModuleBuild, LstmModule])[] = [
  ['release', release],
  ['debug', debug],
];

const worstOf = (got: ArrayLike<number>, expected: ArrayLike<number>): number =>
  Math.max(
    ...Array.from(expected, (value, i) => {
      const difference = Math.abs((got[i] as number) - value);
      return Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    }),
  );
const uniform = (size: number, random: () => number): Float32Array =>
  Float32Array.from({ length: size }, () => 4 * random() - 2);
const zeroState = (hidden: number): LstmState => ({
  h: new Float64Array(hidden),
  c: new Float64Array(hidden),
});

t.test('sigmoid and tanh keep their bounds of error over all of f32', async (t) => {
  // All magnitudes, both signs: 2^-30 to beyond where they saturate, then the ends of f32.
  const xs = Float32Array.from({ length: 40_000 }, (_, i) => {
    const size = 2 ** (-30 + (i >> 1) * (38 / 20_000));
    return i % 2 === 0 ? size : -size;
  });
  xs.set([0, -0, 3.4e38, -3.4e38, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e-45, -1e-45]);
  for (const [build, module] of BUILDS) {
    module.clear();
    const sigmoids = module.put(xs);
    module.call.sigmoids(sigmoids.byteOffset, xs.length);
    const tanhs = module.put(xs);
    module.call.tanhs(tanhs.byteOffset, xs.length);
    const sigmoidError = worstOf(
      sigmoids,
      Array.from(xs, (x) => 1 / (1 + Math.exp(-x))),
    );
    const tanhError = worstOf(tanhs, Array.from(xs, Math.tanh));
    t.ok(sigmoidError < 1.2e-7, `${build}: sigmoid is off by ${sigmoidError} at most`);
    t.ok(tanhError < 1.5e-7, `${build}: tanh is off by ${tanhError} at most`);
    t.ok(sigmoids.every((y) => y >= 0 && y <= 1) && tanhs.every((y) => y >= -1 && y <= 1));
  }
});

t.test('a cell of one active unit, by hand', async (t) => {
  // Only unit 0 has weights, and only its bias: i = sigmoid(1), f = sigmoid(2), g = tanh(3), o = sigmoid(4), c = 0.5.
  const module = release;
  module.clear();
  const [inputs, hidden] = [4, 8];
  const weights = module.take(module.call.weightsSize(inputs, hidden));
  [1, 2, 3, 4].forEach((bias, gate) => {
    weights[(inputs + hidden) * 4 * hidden + gate * hidden] = bias;
  });
  const [x, h, c] = [module.take(inputs), module.take(hidden), module.take(hidden)];
  c[0] = 0.5;
  const gates = module.take(4 * hidden);
  module.call.step(
    x.byteOffset,
    h.byteOffset,
    c.byteOffset,
    weights.byteOffset,
    inputs,
    hidden,
    gates.byteOffset,
  );
  // 0.8807971 * 0.5 + 0.7310586 * 0.9950548 = 1.1678419; 0.9820138 * tanh(1.1678419) = 0.8087660.
  t.ok(Math.abs((c[0] as number) - 1.1678419) < 3e-7, `c is ${c[0]}`);
  t.ok(Math.abs((h[0] as number) - 0.808766) < 3e-7, `h is ${h[0]}`);
});

/** The kernels' outputs for a model: three ways, which must be one. */
function forward(module: LstmModule, model: LstmModel, xs: Float32Array, rows: number, steps: number) {
  const { inputs, hidden, outputs } = model;
  module.clear();
  const cell = module.put(model.cell).byteOffset;
  const head = module.put(model.head).byteOffset;
  const gates = module.take(rows * 4 * hidden).byteOffset;
  const x = module.put(xs); // [rows][steps][inputs]
  const states = ['step', 'sequence', 'batch'].map(() => ({
    h: module.take(rows * hidden),
    c: module.take(rows * hidden),
  }));
  const [stepped, sequenced, batched] = states as [
    (typeof states)[0],
    (typeof states)[0],
    (typeof states)[0],
  ];
  for (let row = 0; row < rows; row += 1) {
    const from = x.byteOffset + row * steps * inputs * 4;
    const at = row * hidden * 4;
    for (let s = 0; s < steps; s += 1) {
      const [h, c] = [stepped.h.byteOffset + at, stepped.c.byteOffset + at];
      module.call.step(from + s * inputs * 4, h, c, cell, inputs, hidden, gates);
    }
    const [h, c] = [sequenced.h.byteOffset + at, sequenced.c.byteOffset + at];
    module.call.sequence(steps, from, h, c, cell, inputs, hidden, gates);
  }
  const column = module.take(rows * inputs); // one step of all rows
  for (let s = 0; s < steps; s += 1) {
    for (let row = 0; row < rows; row += 1) {
      const from = (row * steps + s) * inputs;
      column.set(x.subarray(from, from + inputs), row * inputs);
    }
    const [h, c] = [batched.h.byteOffset, batched.c.byteOffset];
    module.call.batch(rows, column.byteOffset, h, c, cell, inputs, hidden, gates);
  }
  const y = module.take(rows * outputs);
  for (let row = 0; row < rows; row += 1) {
    const h = stepped.h.byteOffset + row * hidden * 4;
    module.call.dense(h, head, hidden, outputs, y.byteOffset + row * outputs * 4);
  }
  const ys = module.take(rows * outputs);
  module.call.denseRows(rows, stepped.h.byteOffset, head, hidden, outputs, ys.byteOffset);
  const bitsOf = (view: Float32Array) => Buffer.from(view.slice().buffer);
  return { states: states.map(({ h, c }) => [bitsOf(h), bitsOf(c)]), y: bitsOf(y), ys: bitsOf(ys) };
}

for (const { inputs, hidden, outputs, rows, steps } of [
  { inputs: 8, hidden: 32, outputs: 180, rows: 6, steps: 60 },
  { inputs: 4, hidden: 8, outputs: 4, rows: 1, steps: 7 },
  { inputs: 12, hidden: 40, outputs: 36, rows: 9, steps: 20 },
  { inputs: 16, hidden: 64, outputs: 20, rows: 4, steps: 30 },
]) {
  t.test(`${inputs} inputs, ${hidden} hidden, ${outputs} outputs: the oracle's numbers`, async (t) => {
    const random = randomFrom(SEED + hidden);
    let worst = 0;
    for (let trial = 0; trial < 5; trial += 1) {
      const model = randomModel(inputs, hidden, outputs, random);
      const xs = uniform(rows * steps * inputs, random);
      const got = forward(release, model, xs, rows, steps);
      const [stepped, sequenced, batched] = got.states;
      t.strictSame(sequenced, stepped, 'a sequence is its steps, to the bit');
      t.strictSame(batched, stepped, 'a batch is its rows, to the bit');
      t.strictSame(got.ys, got.y, 'the head of many rows is that of each, to the bit');
      t.strictSame(forward(debug, model, xs, rows, steps), got, 'both builds, to the bit');
      const f32 = (bytes: Buffer) => new Float32Array(new Uint8Array(bytes).buffer);
      const ys = f32(got.y);
      for (let row = 0; row < rows; row += 1) {
        let state = zeroState(hidden);
        for (let s = 0; s < steps; s += 1) {
          const from = (row * steps + s) * inputs;
          state = lstmStep(model, xs.subarray(from, from + inputs), state);
        }
        const [h, c] = (stepped as [Buffer, Buffer]).map((bytes) =>
          f32(bytes).subarray(row * hidden, (row + 1) * hidden),
        ) as [Float32Array, Float32Array];
        const y = ys.subarray(row * outputs, (row + 1) * outputs);
        worst = Math.max(worst, worstOf(h, state.h), worstOf(c, state.c), worstOf(y, headOf(model, state.h)));
      }
    }
    // c may be as large as a few units, where f32 rounds by 2e-7.
    t.ok(worst < 1e-6, `worst difference ${worst}`);
  });
}

t.test('saturated gates stay exact', async (t) => {
  // Biases of +-1000 and infinite ones: i = f = o = 1, g = 1, so c counts the steps; with i = 0 it stands.
  for (const [build, module] of BUILDS) {
    module.clear();
    const [inputs, hidden, steps] = [4, 8, 5];
    const weights = module.take(module.call.weightsSize(inputs, hidden));
    weights.fill(1000, (inputs + hidden) * 4 * hidden);
    const bias = weights.subarray((inputs + hidden) * 4 * hidden);
    bias[1] = -1000;
    bias[2] = Number.POSITIVE_INFINITY;
    const x = module.take(steps * inputs).byteOffset;
    const [h, c] = [module.take(hidden), module.take(hidden)];
    const gates = module.take(4 * hidden).byteOffset;
    module.call.sequence(steps, x, h.byteOffset, c.byteOffset, weights.byteOffset, inputs, hidden, gates);
    t.strictSame([...c], [steps, 0, steps, steps, steps, steps, steps, steps], build);
    t.ok(h.every((value) => value >= 0 && value <= 1));
  }
});

t.test('what is not finite is told before it disappears', async (t) => {
  for (const [build, module] of BUILDS) {
    module.clear();
    const values = module.put(uniform(64, randomFrom(SEED)));
    values[5] = 3.4e38;
    values[6] = -3.4e38;
    t.equal(module.call.areFinite(values.byteOffset, 64), 1, build);
    for (let i = 0; i < 64; i += 1) {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const kept = values[i] as number;
        values[i] = bad;
        t.equal(module.call.areFinite(values.byteOffset, 64), 0, `${build}: ${bad} at ${i}`);
        values[i] = kept;
      }
    }
  }
});

t.test('shapes without kernels are refused', async (t) => {
  const { call } = release;
  const at = call.freeAt();
  for (const [inputs, hidden] of [
    [6, 32],
    [0, 32],
    [8, 12],
    [8, 0],
    [-4, 8],
  ] as const) {
    t.equal(call.isShape(inputs, hidden), 0);
    t.throws(() => call.step(at, at, at, at, inputs, hidden, at), /multiple of 4, hidden of 8/);
    t.throws(() => call.sequence(1, at, at, at, at, inputs, hidden, at), /multiple of 4, hidden of 8/);
    t.throws(() => call.batch(1, at, at, at, at, inputs, hidden, at), /multiple of 4, hidden of 8/);
  }
  t.throws(() => call.dense(at, at, 32, 6, at), /outputs a multiple of 4/);
  t.throws(() => call.dense(at, at, 31, 8, at), /inputs must be even/);
});
