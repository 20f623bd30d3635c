/**
 * Goal: what the LSTM kernels cost beside onnxruntime, plain TypeScript and compiled C++, for the same weights and window.
 * Method: 8 inputs, hidden 32, 60 steps, 180 outputs. Five interleaved rounds; in each every peer is timed alone, its
 * median counts, and ratios are taken within the round; the median of the rounds is told, and for the two absolute bars the
 * best. A stateful step moves a guest's state in, and state and answer out. An epoch is 4 million steps forward and
 * backward with Adam, one core. Outputs are compared with onnxruntime's on FORESHADE_MODELS random models. Prints one JSON
 * document; a peer that is not here is named.
 */
import { writeOnnx } from '../../models/files/onnx-writer.ts';
import { recordFigure } from '../figures.ts';
import { type LstmModule, loadLstm } from '../kernels/lstm-module.ts';
import { type LstmModel, randomModel } from '../kernels/lstm-oracle.ts';
import { randomFrom } from '../random.ts';
import { type CallTimes, type NativeBuild, NativeLstm } from './lstm-native.ts';
import { PlainLstm } from './lstm-plain.ts';
import { loadOnnxNode, loadOnnxWeb, type OnnxRuntime, OnnxSession } from './onnx-sessions.ts';

const SEED = 6;
const [INPUTS, HIDDEN, OUTPUTS, STEPS] = [8, 32, 180, 60];
const ROUNDS = 5;
const MODELS = Number(process.env.FORESHADE_MODELS ?? 1000);
const EPOCH_STEPS = 4_000_000;
/** Shape of a training stretch: 32 rows of an hour by minutes. */
const [TRAIN_STEPS, TRAIN_ROWS] = [60, 32];
/** Calls of one round: a tenth of a second or more of each. */
const CALLS = { kernel: 5000, onnx: 2000, plain: 300, native: 5000, stateful: 100_000, onnxStep: 3000 };
/** Stateful steps timed as one, so that the clock does not count. */
const TOGETHER = 100;

const random = randomFrom(SEED);
const model = randomModel(INPUTS, HIDDEN, OUTPUTS, random);
const xs = inputsOf(random);
const missing: string[] = [];

function inputsOf(random: () => number): Float32Array {
  return Float32Array.from({ length: STEPS * INPUTS }, () => 4 * random() - 2);
}
function onnxOf({ inputs, hidden, outputs, cell, head }: LstmModel): Uint8Array {
  const heads = [{ name: 'y', outputs, weights: Float32Array.from(head) }];
  return writeOnnx({ inputs, hidden, cell: Float32Array.from(cell), heads });
}

function timesOf(sorted: Float64Array): CallTimes {
  sorted.sort();
  const at = (share: number) => (sorted[Math.floor(sorted.length * share)] as number) * 1000;
  return { p50Us: at(0.5), p999Us: at(0.999) };
}
function timeCalls(calls: number, work: () => void): CallTimes {
  const times = new Float64Array(calls);
  for (let i = 0; i < calls; i += 1) {
    const from = performance.now();
    work();
    times[i] = performance.now() - from;
  }
  return timesOf(times);
}
async function timeRuns(calls: number, work: () => Promise<unknown>): Promise<CallTimes> {
  const times = new Float64Array(calls);
  for (let i = 0; i < calls; i += 1) {
    const from = performance.now();
    await work();
    times[i] = performance.now() - from;
  }
  return timesOf(times);
}

/** The kernels with one model, and a guest's state outside their memory. */
class Kernel {
  readonly #call: LstmModule['call'];
  readonly #at: Record<'cell' | 'head' | 'x' | 'h' | 'c' | 'gates' | 'y', number>;
  readonly #cell: Float32Array;
  readonly #head: Float32Array;
  readonly #xs: Float32Array;
  readonly #x: Float32Array;
  readonly #state: Float32Array;
  readonly y: Float32Array;

  constructor(module: LstmModule) {
    module.clear();
    this.#call = module.call;
    this.#cell = module.take(model.cell.length);
    this.#head = module.take(model.head.length);
    this.#xs = module.take(STEPS * INPUTS);
    this.#x = this.#xs.subarray(0, INPUTS);
    this.#state = module.take(2 * HIDDEN);
    const gates = module.take(4 * HIDDEN);
    this.y = module.take(OUTPUTS);
    this.#at = {
      cell: this.#cell.byteOffset,
      head: this.#head.byteOffset,
      x: this.#xs.byteOffset,
      h: this.#state.byteOffset,
      c: this.#state.byteOffset + HIDDEN * 4,
      gates: gates.byteOffset,
      y: this.y.byteOffset,
    };
  }

  load({ cell, head }: LstmModel): void {
    this.#cell.set(cell);
    this.#head.set(head);
  }

  /** A window from an empty state, its copy in counted. */
  window(xs: Float32Array): void {
    const { cell, head, x, h, c, gates, y } = this.#at;
    this.#xs.set(xs);
    this.#state.fill(0);
    this.#call.sequence(STEPS, x, h, c, cell, INPUTS, HIDDEN, gates);
    this.#call.dense(h, head, HIDDEN, OUTPUTS, y);
  }

  stateful(input: Float32Array, state: Float32Array, answer: Float32Array): void {
    const { cell, head, x, h, c, gates, y } = this.#at;
    this.#x.set(input);
    this.#state.set(state);
    this.#call.step(x, h, c, cell, INPUTS, HIDDEN, gates);
    this.#call.dense(h, head, HIDDEN, OUTPUTS, y);
    state.set(this.#state);
    answer.set(this.y);
  }
}

/** Largest difference of the window's outputs from a runtime's, over models of growing weights. */
async function compareModels(kernel: Kernel, ort: OnnxRuntime): Promise<number> {
  let worst = 0;
  const random = randomFrom(SEED + 1);
  for (let i = 0; i < MODELS; i += 1) {
    const other = randomModel(INPUTS, HIDDEN, OUTPUTS, random, 0.5 + (1.5 * i) / MODELS);
    const xs = inputsOf(random);
    kernel.load(other);
    kernel.window(xs);
    const session = await OnnxSession.open(ort, onnxOf(other), INPUTS, HIDDEN);
    const { y } = await session.run(session.feeds(xs));
    await session.release();
    y.forEach((value, j) => {
      const difference = Math.abs(value - (kernel.y[j] as number));
      worst = Math.max(worst, difference);
    });
  }
  return worst;
}

/** Seconds of one epoch. */
function trainEpoch(module: LstmModule): number {
  module.clear();
  const { call } = module;
  const random = randomFrom(SEED + 2);
  const rows = TRAIN_ROWS;
  const size = model.cell.length;
  const x = module.put(Float32Array.from({ length: TRAIN_STEPS * rows * INPUTS }, random)).byteOffset;
  const dh = module.put(
    Float32Array.from({ length: TRAIN_STEPS * rows * HIDDEN }, () => 1e-3 * (random() - 0.5)),
  ).byteOffset;
  const cell = module.put(model.cell).byteOffset;
  const gradient = module.take(size);
  const [m, v] = [module.take(size).byteOffset, module.take(size).byteOffset];
  const tape = module.take(call.bytesOfTape(TRAIN_STEPS, rows, HIDDEN) / 4).byteOffset;
  const scratch = module.take(call.bytesOfBackwardScratch(rows, HIDDEN) / 4).byteOffset;
  const g = gradient.byteOffset;
  const from = performance.now();
  for (let done = 0, count = 1; done < EPOCH_STEPS; done += TRAIN_STEPS * rows, count += 1) {
    gradient.fill(0);
    call.forwardTape(TRAIN_STEPS, rows, x, cell, INPUTS, HIDDEN, tape);
    call.backwardTape(TRAIN_STEPS, rows, x, cell, INPUTS, HIDDEN, tape, dh, g, scratch);
    call.adamStep(cell, g, m, v, size, count, 1e-3, call.clipFactor(call.sumOfSquares(g, size), 1));
    call.carryTape(TRAIN_STEPS, rows, HIDDEN, tape);
  }
  return (performance.now() - from) / 1000;
}

function nativeOf(build: NativeBuild): NativeLstm | undefined {
  const native = NativeLstm.start(build, model, xs);
  if (typeof native !== 'string') return native;
  missing.push(native);
  return undefined;
}

const module = await loadLstm();
const kernel = new Kernel(module);
const ortNode = await loadOnnxNode();
if (ortNode === undefined) missing.push('onnxruntime-node is not installed');
const ortWeb = await loadOnnxWeb();
const worstFromOnnx = await compareModels(kernel, ortNode ?? ortWeb);

kernel.load(model);
kernel.window(xs);
const expected = kernel.y.slice();
const plain = new PlainLstm(INPUTS, HIDDEN, Float32Array.from(model.cell), Float32Array.from(model.head));
const sessions: Readonly<Record<string, OnnxSession | undefined>> = {
  'onnxruntime-node': ortNode && (await OnnxSession.open(ortNode, onnxOf(model), INPUTS, HIDDEN)),
  'onnxruntime-web': await OnnxSession.open(ortWeb, onnxOf(model), INPUTS, HIDDEN),
};
const natives: Readonly<Record<NativeBuild, NativeLstm | undefined>> = {
  'native-128': nativeOf('native-128'),
  'native-256': nativeOf('native-256'),
};
const guest = {
  state: new Float32Array(2 * HIDDEN),
  answer: new Float32Array(OUTPUTS),
  x: xs.slice(0, INPUTS),
};
const statefulStep = (): void => kernel.stateful(guest.x, guest.state, guest.answer);

/** One round: every peer alone, once; the kernel before and after those it is compared with. */
async function round(): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  figures.calibration = (await natives['native-128']?.time('calibrate', 2000))?.p50Us ?? Number.NaN;
  const before = timeCalls(CALLS.kernel, () => kernel.window(xs)).p50Us;
  for (const [name, session] of Object.entries(sessions)) {
    if (session === undefined) continue;
    const feeds = session.feeds(xs);
    figures[name] = (await timeRuns(CALLS.onnx, () => session.run(feeds))).p50Us;
  }
  for (const [name, native] of Object.entries(natives)) {
    if (native !== undefined) figures[name] = (await native.time('window', CALLS.native)).p50Us;
  }
  figures.kernel = (before + timeCalls(CALLS.kernel, () => kernel.window(xs)).p50Us) / 2;
  figures.plain = timeCalls(CALLS.plain, () => plain.window(xs)).p50Us;
  const together = timeCalls(CALLS.stateful / TOGETHER, () => {
    for (let i = 0; i < TOGETHER; i += 1) statefulStep();
  });
  figures.stateful = together.p50Us / TOGETHER;
  const alone = timeCalls(CALLS.stateful, statefulStep);
  figures.statefulTail = alone.p999Us / alone.p50Us;
  const stepsAlone = await natives['native-128']?.time('stateful', CALLS.stateful);
  if (stepsAlone !== undefined) {
    figures['stateful native-128'] = stepsAlone.p50Us;
    figures.nativeTail = stepsAlone.p999Us / stepsAlone.p50Us;
  }
  const node = sessions['onnxruntime-node'];
  if (node !== undefined) {
    let [h, c] = [new Float32Array(HIDDEN), new Float32Array(HIDDEN)];
    const times = await timeRuns(CALLS.onnxStep, async () => {
      const result = await node.run(node.feeds(guest.x, h, c));
      [h, c] = [result.h as Float32Array<ArrayBuffer>, result.c as Float32Array<ArrayBuffer>];
      guest.answer.set(result.y);
    });
    figures['stateful onnxruntime-node'] = times.p50Us;
  }
  return figures;
}

const disagreement = (other: ArrayLike<number>): number =>
  Math.max(...expected.map((value, i) => Math.abs(value - (other[i] as number))));
plain.window(xs);
const disagreements: Record<string, number> = { plain: disagreement(plain.y) };
for (const [name, native] of Object.entries(natives)) {
  if (native !== undefined) disagreements[name] = disagreement(await native.outputs());
}

await round(); // everything is compiled and in the caches by then
const rounds: Record<string, number>[] = [];
const epochs: number[] = [];
for (let i = 0; i < ROUNDS; i += 1) {
  rounds.push(await round());
  epochs.push(trainEpoch(await loadLstm()));
}
for (const native of Object.values(natives)) native?.stop();
for (const session of Object.values(sessions)) await session?.release();

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;
const valuesOf = (name: string): number[] => rounds.map((figures) => figures[name] ?? Number.NaN);
const ratioOf = (name: string, to: string): number =>
  median(rounds.map((figures) => (figures[name] as number) / (figures[to] as number)));
const figures = Object.fromEntries(
  Object.keys(rounds[0] ?? {}).map((name) => [name, median(valuesOf(name))]),
);
const windowRatios = Object.fromEntries(
  [...Object.keys(sessions), ...Object.keys(natives), 'plain']
    .filter((name) => name in figures)
    .map((name) => [name, ratioOf('kernel', name)]),
);
const statefulUs = Math.min(...valuesOf('stateful'));
const epochS = Math.min(...epochs);

function bar(name: string, value: number | undefined, most: number, unit: string): void {
  if (value === undefined) return;
  recordFigure({ bar: name, value, limit: `at most ${most} ${unit}`.trim(), met: value <= most });
}
bar('lstm-window-to-onnxruntime-node', windowRatios['onnxruntime-node'], 0.75, '');
bar('lstm-window-to-onnxruntime-web', windowRatios['onnxruntime-web'], 0.45, '');
bar('lstm-window-to-native-128', windowRatios['native-128'], 1.3, '');
bar('lstm-stateful-step', statefulUs, 1.1, 'us');
if ('stateful onnxruntime-node' in figures)
  bar('lstm-stateful-to-onnxruntime-node', ratioOf('stateful', 'stateful onnxruntime-node'), 0.05, '');
bar('lstm-epoch', epochS, 8, 's');
bar('lstm-difference-from-onnxruntime', worstFromOnnx, 1e-6, '');
const document = {
  bench: 'lstm',
  unit: 'us',
  shape: { inputs: INPUTS, hidden: HIDDEN, steps: STEPS, outputs: OUTPUTS },
  missing,
  ...figures,
  windowRatios,
  best: { statefulUs, epochS },
  epochsS: epochs,
  models: MODELS,
  worstFromOnnx,
  disagreements,
};
process.stdout.write(`${JSON.stringify(document)}\n`);
