// Goal: the LSTM's gradients are those of its loss, for every number that is trained; Adam is its formula; the same
// training gives the same bits in both builds.
// Method: central differences of an f64 oracle's loss (no gradient is derived twice), a loss at every step and row, a
// state carried in; Adam against its formula in f64; a task small enough to be learned.
import t from 'tap';
import { randomFrom } from '../random.ts';
import { type LstmModule, loadLstm } from './lstm-module.ts';
import { headOf, type LstmModel, type LstmState, lstmStep, randomModel } from './lstm-oracle.ts';

const SEED = 1_124;
t.comment(`seed ${SEED}`);
const release = await loadLstm();
const debug = await loadLstm('debug');

const uniform = (size: number, random: () => number): Float32Array =>
  Float32Array.from({ length: size }, () => 2 * random() - 1);
const slice = (values: Float32Array, index: number, size: number): Float32Array =>
  values.subarray(index * size, (index + 1) * size);

/** A stretch to train on: [steps][rows][...] throughout, and the state it starts from. */
interface Stretch {
  readonly steps: number;
  readonly rows: number;
  readonly x: Float32Array;
  readonly target: Float32Array;
  readonly h: Float32Array;
  readonly c: Float32Array;
}

function stretchOf(model: LstmModel, steps: number, rows: number, random: () => number): Stretch {
  return {
    steps,
    rows,
    x: uniform(steps * rows * model.inputs, random),
    target: uniform(steps * rows * model.outputs, random),
    h: uniform(rows * model.hidden, random),
    c: uniform(rows * model.hidden, random),
  };
}

/** Half the squared residuals of every output after every step, in f64. */
function lossOf(model: LstmModel, { steps, rows, x, target, h, c }: Stretch): number {
  let loss = 0;
  for (let row = 0; row < rows; row += 1) {
    let state: LstmState = {
      h: Float64Array.from(slice(h, row, model.hidden)),
      c: Float64Array.from(slice(c, row, model.hidden)),
    };
    for (let s = 0; s < steps; s += 1) {
      const at = s * rows + row;
      state = lstmStep(model, slice(x, at, model.inputs), state);
      const wanted = slice(target, at, model.outputs);
      for (const [j, y] of headOf(model, state.h).entries()) loss += (y - (wanted[j] as number)) ** 2 / 2;
    }
  }
  return loss;
}

/** Central differences of the oracle's loss with respect to every number of a tensor of the model. */
function differencesOf(model: LstmModel, tensor: Float64Array, stretch: Stretch): Float64Array {
  // The third derivative times 1e-10 against rounding of 1e-15 over 1e-5: both near 1e-10.
  const move = 1e-5;
  return tensor.map((value, i) => {
    tensor[i] = value + move;
    const above = lossOf(model, stretch);
    tensor[i] = value - move;
    const below = lossOf(model, stretch);
    tensor[i] = value;
    return (above - below) / (2 * move);
  });
}

/** A model in a module's memory, with all that its training needs. */
class Trainee {
  readonly #call: LstmModule['call'];
  readonly #model: LstmModel;
  readonly #stretch: Stretch;
  readonly cell: Float32Array;
  readonly head: Float32Array;
  readonly cellGradient: Float32Array;
  readonly headGradient: Float32Array;
  readonly tape: Float32Array;
  readonly #x: Float32Array;
  readonly #y: Float32Array;
  readonly #dh: Float32Array;
  readonly #scratch: Float32Array;
  readonly #moments: Float32Array[];

  constructor(module: LstmModule, model: LstmModel, stretch: Stretch) {
    const { hidden, outputs } = model;
    const { steps, rows } = stretch;
    module.clear();
    this.#call = module.call;
    this.#model = model;
    this.#stretch = stretch;
    this.cell = module.put(model.cell);
    this.head = module.put(model.head);
    this.cellGradient = module.take(model.cell.length);
    this.headGradient = module.take(model.head.length);
    this.tape = module.take(module.call.bytesOfTape(steps, rows, hidden) / 4);
    this.#x = module.put(stretch.x);
    this.#y = module.take(steps * rows * outputs);
    this.#dh = module.take(steps * rows * hidden);
    const bytes = Math.max(
      module.call.bytesOfBackwardScratch(rows, hidden),
      module.call.bytesOfDenseScratch(hidden, outputs),
    );
    this.#scratch = module.take(bytes / 4);
    this.#moments = [this.cell, this.cell, this.head, this.head].map(({ length }) => module.take(length));
    this.state(0).h.set(stretch.h);
    this.state(0).c.set(stretch.c);
  }

  state(slot: number): { h: Float32Array; c: Float32Array } {
    const { steps, rows } = this.#stretch;
    const { hidden } = this.#model;
    const from = this.tape.byteOffset;
    const view = (at: number) => new Float32Array(this.#call.memory.buffer, at, rows * hidden);
    return {
      h: view(this.#call.tapeHidden(from, slot, rows, hidden)),
      c: view(this.#call.tapeCell(from, slot, steps, rows, hidden)),
    };
  }

  /** Forward and backward once; gradients are added. @returns the loss */
  differentiate(): number {
    const call = this.#call;
    const { inputs, hidden, outputs } = this.#model;
    const { steps, rows, target } = this.#stretch;
    const [cell, head, tape] = [this.cell.byteOffset, this.head.byteOffset, this.tape.byteOffset];
    const [x, y, dh] = [this.#x.byteOffset, this.#y.byteOffset, this.#dh.byteOffset];
    const scratch = this.#scratch.byteOffset;
    const all = steps * rows;
    call.forwardTape(steps, rows, x, cell, inputs, hidden, tape);
    const h = call.tapeHidden(tape, 1, rows, hidden);
    call.denseRows(all, h, head, hidden, outputs, y);
    let loss = 0;
    for (let i = 0; i < target.length; i += 1) {
      const residual = (this.#y[i] as number) - (target[i] as number);
      this.#y[i] = residual;
      loss += residual ** 2 / 2;
    }
    call.denseBackward(all, h, y, head, hidden, outputs, this.headGradient.byteOffset, dh, scratch);
    const gradient = this.cellGradient.byteOffset;
    call.backwardTape(steps, rows, x, cell, inputs, hidden, tape, dh, gradient, scratch);
    return loss;
  }

  /** One step of Adam on both tensors, clipped together; gradients start anew. */
  update(count: number, rate: number, most: number): void {
    const pairs = [
      [this.cell, this.cellGradient],
      [this.head, this.headGradient],
    ] as const;
    const squares = pairs.reduce((sum, [, g]) => sum + this.#call.sumOfSquares(g.byteOffset, g.length), 0);
    const factor = this.#call.clipFactor(squares, most);
    pairs.forEach(([parameters, g], i) => {
      const [m, v] = [this.#moments[2 * i], this.#moments[2 * i + 1]] as [Float32Array, Float32Array];
      const [p, size] = [parameters.byteOffset, parameters.length];
      this.#call.adamStep(p, g.byteOffset, m.byteOffset, v.byteOffset, size, count, rate, factor);
      g.fill(0);
    });
  }

  carry(): void {
    const { steps, rows } = this.#stretch;
    this.#call.carryTape(steps, rows, this.#model.hidden, this.tape.byteOffset);
  }
}

for (const { inputs, hidden, outputs, steps, rows } of [
  { inputs: 4, hidden: 8, outputs: 4, steps: 6, rows: 7 },
  { inputs: 8, hidden: 16, outputs: 12, steps: 3, rows: 2 },
  { inputs: 4, hidden: 8, outputs: 8, steps: 1, rows: 1 },
]) {
  t.test(`gradients, ${hidden} hidden, ${steps} steps of ${rows} rows: finite differences`, async (t) => {
    const random = randomFrom(SEED + steps);
    const model = randomModel(inputs, hidden, outputs, random, 1.5);
    const stretch = stretchOf(model, steps, rows, random);
    const trainee = new Trainee(release, model, stretch);
    const loss = trainee.differentiate();
    t.ok(Math.abs(loss / lossOf(model, stretch) - 1) < 1e-5, 'the loss is as the oracle has it');
    const biasAt = (inputs + hidden) * 4 * hidden;
    const inputsAt = inputs * 4 * hidden;
    const headBiasAt = hidden * outputs;
    const cell = differencesOf(model, model.cell, stretch);
    const head = differencesOf(model, model.head, stretch);
    for (const { name, got, expected } of [
      { name: 'weights of x', got: trainee.cellGradient, expected: cell, from: 0, to: inputsAt },
      { name: 'weights of h', got: trainee.cellGradient, expected: cell, from: inputsAt, to: biasAt },
      { name: 'bias', got: trainee.cellGradient, expected: cell, from: biasAt, to: cell.length },
      { name: 'weights of the head', got: trainee.headGradient, expected: head, from: 0, to: headBiasAt },
      {
        name: 'bias of the head',
        got: trainee.headGradient,
        expected: head,
        from: headBiasAt,
        to: head.length,
      },
    ].map(({ name, got, expected, from, to }) => ({
      name,
      got: got.subarray(from, to),
      expected: expected.subarray(from, to),
    }))) {
      const size = Math.max(...expected.map(Math.abs));
      const worst = Math.max(...expected.map((value, i) => Math.abs((got[i] as number) - value)));
      t.ok(size > 1e-3, `${name}: there is something to compare, ${size}`);
      // f32 sums of tens of terms: 1e-6 of the largest; a wrong term is off by its own size.
      t.ok(worst < 1e-5 * size, `${name}: off by ${worst / size} of the largest`);
    }
    const once = trainee.cellGradient.slice();
    trainee.differentiate();
    t.ok(
      once.every(
        (value, i) =>
          Math.abs((trainee.cellGradient[i] as number) - 2 * value) <= 1e-5 * Math.abs(value) + 1e-6,
      ),
      'a second pass is added to the first',
    );
  });
}

t.test('a carried state continues the series', async (t) => {
  const random = randomFrom(SEED + 40);
  const model = randomModel(4, 8, 4, random);
  const whole = stretchOf(model, 8, 3, random);
  const long = new Trainee(release, model, whole);
  long.differentiate();
  const expected = { h: long.state(8).h.slice(), c: long.state(8).c.slice() };
  const half = (values: Float32Array, part: number) =>
    values.slice((part * values.length) / 2, ((part + 1) * values.length) / 2);
  const [first, second] = [0, 1].map((part) => ({
    ...whole,
    steps: 4,
    x: half(whole.x, part),
    target: half(whole.target, part),
  })) as [Stretch, Stretch];
  const begun = new Trainee(release, model, first);
  begun.differentiate();
  begun.carry();
  const { h, c } = { h: begun.state(0).h.slice(), c: begun.state(0).c.slice() };
  const ended = new Trainee(release, model, { ...second, h, c });
  ended.differentiate();
  t.strictSame(ended.state(4).h, expected.h, 'to the bit');
  t.strictSame(ended.state(4).c, expected.c, 'to the bit');
});

t.test('Adam is its formula, clipped by the norm of all', async (t) => {
  const random = randomFrom(SEED + 60);
  const size = 40;
  const start = uniform(size, random);
  const gradients = Array.from({ length: 25 }, (_, i) => uniform(size, random).map((g) => g * 10 ** (i % 4)));
  const run = (module: LstmModule): Buffer => {
    module.clear();
    const [p, m, v] = [module.put(start), module.take(size), module.take(size)];
    gradients.forEach((values, i) => {
      const g = module.put(values);
      const factor = module.call.clipFactor(module.call.sumOfSquares(g.byteOffset, size), 5);
      module.call.adamStep(p.byteOffset, g.byteOffset, m.byteOffset, v.byteOffset, size, i + 1, 0.01, factor);
    });
    return Buffer.from(p.slice().buffer);
  };
  const expected = Array.from(start);
  const [ms, vs] = [new Array<number>(size).fill(0), new Array<number>(size).fill(0)];
  gradients.forEach((values, i) => {
    const norm = Math.hypot(...values);
    for (let j = 0; j < size; j += 1) {
      const g = (values[j] as number) * Math.min(1, 5 / norm);
      ms[j] = 0.9 * (ms[j] as number) + 0.1 * g;
      vs[j] = 0.999 * (vs[j] as number) + 0.001 * g * g;
      const first = (ms[j] as number) / (1 - 0.9 ** (i + 1));
      const second = (vs[j] as number) / (1 - 0.999 ** (i + 1));
      expected[j] = (expected[j] as number) - (0.01 * first) / (Math.sqrt(second) + 1e-8);
    }
  });
  const bytes = run(release);
  const got = new Float32Array(new Uint8Array(bytes).buffer);
  const worst = Math.max(...expected.map((value, j) => Math.abs(value - (got[j] as number))));
  t.ok(worst < 2e-6, `worst difference ${worst} after 25 steps of 0.01`);
  t.strictSame(run(debug), bytes, 'both builds, to the bit');
});

t.test('gradients that are not finite take no step', async (t) => {
  const { call } = release;
  release.clear();
  const g = release.take(8);
  t.equal(call.clipFactor(call.sumOfSquares(g.byteOffset, 8), 1), 1, 'none at all');
  g[0] = 3;
  g[7] = 4;
  t.equal(call.clipFactor(call.sumOfSquares(g.byteOffset, 8), 1), 0.2, 'norm 5 to norm 1');
  t.equal(call.clipFactor(call.sumOfSquares(g.byteOffset, 8), 6), 1);
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    g[3] = bad;
    t.equal(call.clipFactor(call.sumOfSquares(g.byteOffset, 8), 1), 0, `${bad}`);
  }
  const at = g.byteOffset;
  t.throws(() => call.adamStep(at, at, at, at, 8, 1, 0.1, 0), /factor in/);
  t.throws(() => call.adamStep(at, at, at, at, 8, 1, 0.1, Number.NaN), /factor in/);
  t.throws(() => call.adamStep(at, at, at, at, 8, 0, 0.1, 1), /count from 1/);
  t.throws(() => call.adamStep(at, at, at, at, 6, 1, 0.1, 1), /multiple of 4/);
});

t.test('what a few steps remember is learned, to the same bits', async (t) => {
  // The input of three steps before, in eight rows of noise: nothing but a state can tell it.
  const random = randomFrom(SEED + 80);
  const model = randomModel(4, 16, 4, random);
  const [steps, rows, lag] = [24, 8, 3];
  const stretch = {
    ...stretchOf(model, steps, rows, random),
    h: new Float32Array(128),
    c: new Float32Array(128),
  };
  stretch.target.fill(0);
  for (let i = lag * rows; i < steps * rows; i += 1)
    stretch.target[i * 4] = stretch.x[(i - lag * rows) * 4] as number;
  const train = (module: LstmModule) => {
    const trainee = new Trainee(module, model, stretch);
    const losses: number[] = [];
    for (let count = 1; count <= 300; count += 1) {
      losses.push(trainee.differentiate());
      trainee.update(count, 0.02, 1);
    }
    return { losses, cell: trainee.cell.slice(), head: trainee.head.slice() };
  };
  const trained = train(release);
  const [first, last] = [trained.losses[0] as number, trained.losses.at(-1) as number];
  t.ok(last < first / 50, `loss ${first} became ${last}`);
  t.strictSame(train(debug), trained, 'both builds, to the bit');
});
