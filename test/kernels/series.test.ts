// Goal: the series module forecasts what it should, within its rules, the same in both builds. Method: courses whose
// answer is known, and laws that hold for every course.
import t from 'tap';
import { Random } from '../../models/train/random.ts';
import { startingModel } from '../../models/train/starting-model.ts';
import { SeriesModel } from '../../orchestrator/forecast/series-model.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { TrainingKernels } from '../../orchestrator/wasm/training.ts';

const LEVELS = [0.1, 0.25, 0.5, 0.75, 0.9];

async function loaded(build: 'release' | 'debug' = 'release'): Promise<SeriesKernels> {
  const kernels = await SeriesKernels.load(build);
  const shape = await TrainingKernels.load(kernels.inputs, build);
  kernels.adopt(startingModel(kernels, shape, new Random(7)));
  return kernels;
}

function feed(kernels: SeriesKernels, season: number, course: readonly number[]): SeriesModel {
  const model = new SeriesModel(kernels, { metrics: ['value'], season });
  for (const value of course) {
    model.refresh({ values: Float64Array.of(value) });
    model.rest();
  }
  return model;
}

const noise = (seed: number, count: number): number[] => {
  const random = new Random(seed);
  return Array.from({ length: count }, () => 100 * random.next());
};

t.test('a course that never changes is forecast as it is', async (t) => {
  const model = feed(await loaded(), 24, new Array(400).fill(12.5));
  const forecast = model.infer(100, LEVELS);
  t.equal(forecast.length, 100 * LEVELS.length);
  // Levels beyond all that was seen stand just beside it, so that an outcome equal to it lies under them.
  t.ok(forecast.every((value) => Math.abs(value - 12.5) < 1e-4));
  t.ok(forecast.filter((_, i) => LEVELS[i % LEVELS.length] === 0.5).every((value) => value === 12.5));
});

t.test('a course that repeats is foreseen through its season', async (t) => {
  const at = (bin: number): number => (bin % 24 < 6 ? 900 : 30) + (bin % 24);
  const course = Array.from({ length: 24 * 40 }, (_, bin) => at(bin));
  const model = feed(await loaded(), 24, course);
  const forecast = model.infer(24, [0.5]);
  // Beside the two jumps the seasonal expert's neighbouring bins and the regression blur.
  const blurred = new Set([23, 0, 1, 5, 6, 7]);
  for (const [h, value] of forecast.entries()) {
    const bin = course.length + h;
    if (!blurred.has(bin % 24)) t.ok(Math.abs(value - at(bin)) <= 2, `step ${h + 1}: ${value}`);
  }
});

t.test('quantiles do not cross, whatever was seen', async (t) => {
  const kernels = await loaded();
  const random = new Random(3);
  const extremes = [0, -0, 1e-30, -1e30, 1e30, 5, -5];
  for (let round = 0; round < 20; round += 1) {
    const course = Array.from({ length: 1 + random.below(300) }, () =>
      random.next() < 0.3
        ? (extremes[random.below(extremes.length)] as number)
        : random.next() * 10 ** random.below(6),
    );
    const forecast = feed(kernels, round % 2 === 0 ? 24 : 0, course).infer(40, LEVELS);
    t.ok(forecast.every(Number.isFinite), 'finite');
    for (let i = 1; i < forecast.length; i += 1)
      if (i % LEVELS.length !== 0 && (forecast[i] as number) < (forecast[i - 1] as number))
        t.fail(`crossing at ${i}`);
  }
});

t.test('the levels hold on noise, equal outcomes counted half', async (t) => {
  const kernels = await loaded();
  const course = noise(11, 4000);
  const model = new SeriesModel(kernels, { metrics: ['value'], season: 0 });
  const covered = { low: 0, high: 0, count: 0 };
  for (const [bin, value] of course.entries()) {
    if (bin > 1500) {
      const [low = 0, high = 0] = model.infer(1, [0.1, 0.9]);
      covered.low += value < low ? 1 : value === low ? 0.5 : 0;
      covered.high += value < high ? 1 : value === high ? 0.5 : 0;
      covered.count += 1;
    }
    model.refresh({ values: Float64Array.of(value) });
  }
  t.ok(Math.abs(covered.low / covered.count - 0.1) < 0.03, `q0.1: ${covered.low / covered.count}`);
  t.ok(Math.abs(covered.high / covered.count - 0.9) < 0.03, `q0.9: ${covered.high / covered.count}`);
});

t.test('the levels hold on a course that stands still, where every outcome is a tie', async (t) => {
  const model = feed(await loaded(), 0, new Array(600).fill(7));
  let covered = 0;
  const count = 1200;
  for (let bin = 0; bin < count; bin += 1) {
    const [high = 0] = model.infer(1, [0.9]);
    covered += high > 7 ? 1 : high === 7 ? 0.5 : 0;
    model.refresh({ values: Float64Array.of(7) });
  }
  t.ok(Math.abs(covered / count - 0.9) < 0.03, `q0.9: ${covered / count}`);
});

t.test('the levels hold again after the level of the course has moved', async (t) => {
  const kernels = await loaded();
  const course = [...noise(4, 2000), ...noise(6, 1500).map((value) => 4 * value + 300)];
  const model = new SeriesModel(kernels, { metrics: ['value'], season: 0 });
  const covered = { low: 0, high: 0, count: 0 };
  for (const [bin, value] of course.entries()) {
    // From a day of five minutes after the move on.
    if (bin >= 2000 + 288) {
      const [low = 0, high = 0] = model.infer(1, [0.1, 0.9]);
      covered.low += value < low ? 1 : 0;
      covered.high += value < high ? 1 : 0;
      covered.count += 1;
    }
    model.refresh({ values: Float64Array.of(value) });
  }
  t.ok(Math.abs(covered.low / covered.count - 0.1) < 0.05, `q0.1: ${covered.low / covered.count}`);
  t.ok(Math.abs(covered.high / covered.count - 0.9) < 0.03, `q0.9: ${covered.high / covered.count}`);
});

t.test('more of a lean is used where one expert is always right than on noise', async (t) => {
  const kernels = await loaded();
  const mean = (course: readonly number[], season: number): number => {
    feed(kernels, season, course);
    return kernels.knotSteps
      .slice(0, 8)
      .reduce((sum, _, knot) => sum + kernels.call.leanShare(0, knot) / 8, 0);
  };
  const wave = noise(13, 4000).map(
    (value, bin) => 1000 + 300 * Math.sin((2 * Math.PI * bin) / 60) + bin / 20 + value / 100,
  );
  const onNoise = mean(noise(12, 4000), 0);
  const onWave = mean(wave, 60);
  t.ok(onNoise < 0.95, `noise: ${onNoise}`);
  t.ok(onWave > 1.2, `wave: ${onWave}`);
});

t.test('the short track remembers its minutes, and is smaller', async (t) => {
  const kernels = await loaded();
  const { call, slots, levels, steps, quantiles } = kernels;
  call.open(slots, 0, 0);
  for (const value of noise(8, 900)) call.refresh(slots, value);
  call.aim(slots);
  levels[0] = 0.5;
  steps[0] = 10;
  call.forecast(slots, 1, 1);
  t.ok((quantiles[0] as number) > 20 && (quantiles[0] as number) < 80, `median ${quantiles[0]}`);
  t.ok(7 * (call.seriesBytes(0) + call.seriesBytes(slots)) <= 256 * 1024, 'a guest with both tracks full');
  t.throws(() => call.fit(slots, 0), /the short track has no fits/);
  t.throws(() => call.open(slots, 1000, 0), /season/);
});

t.test("an expert's loss is the CRPS of its atoms, and the pool's that of the mixture", async (t) => {
  const kernels = await loaded();
  const { call, groupRow, matrix, valid } = kernels;
  const course = noise(5, 40);
  feed(kernels, 0, course);
  call.aim(0);
  const y = 41.5;
  call.compare(0, 1, y);
  const loss = (g: number, h: number): number => matrix[g * groupRow + h] as number;
  const atomsOf = [[course.at(-1) as number], course.slice(-6)].map((atoms) => atoms.map(Math.fround));
  const mean = (list: readonly number[]): number => list.reduce((sum, x) => sum + x, 0) / list.length;
  // integral of (F - 1)(G - 1) = (E|X - y| + E|Y - y| - E|X - Y|) / 2
  const between = (a: readonly number[], b: readonly number[]): number =>
    (mean(a.map((x) => Math.abs(x - y))) +
      mean(b.map((x) => Math.abs(x - y))) -
      mean(a.map((x) => mean(b.map((z) => Math.abs(x - z)))))) /
    2;
  t.strictSame([valid[0], valid[1]], [1, 6]);
  for (const g of [0, 1])
    for (const h of [0, 1]) {
      const expected = between(atomsOf[g] ?? [], atomsOf[h] ?? []);
      t.ok(
        Math.abs(loss(g, h) - expected) < 1e-4 * Math.max(expected, 1),
        `${g}, ${h}: ${loss(g, h)} ${expected}`,
      );
    }
});

t.test('a series paged out and back goes on as if it had stayed', async (t) => {
  const kernels = await loaded();
  const model = feed(kernels, 24, noise(2, 500));
  const before = model.infer(16, LEVELS).slice();
  const state = kernels.state(0).slice();
  feed(kernels, 12, noise(9, 300));
  kernels.state(0).set(state);
  t.strictSame(model.infer(16, LEVELS), before);
});

t.test('what is no number does not enter', async (t) => {
  const kernels = await loaded();
  kernels.call.open(0, 0, 0);
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 1e39])
    t.throws(() => kernels.call.refresh(0, bad), /a bin must be finite/);
  t.throws(() => kernels.call.aim(0), /a forecast needs a bin/);
  t.throws(() => kernels.call.open(2 * kernels.slots, 0, 0), /series slot/);
  t.throws(() => kernels.call.open(0, -1, 0), /season/);
  kernels.call.refresh(0, 1);
  kernels.call.aim(0);
  t.throws(() => kernels.call.forecast(0, 17, 9), /steps must be/);
  kernels.steps[0] = 0;
  t.throws(() => kernels.call.forecast(0, 1, 1), /a step must be at least 1/);
  t.throws(() => kernels.adopt(new Float32Array(3)), /another shape/);
  t.throws(() => kernels.adopt(kernels.model.slice().fill(Number.NaN, 5, 6)), /finite/);
});

t.test('debug and release give the same bits', async (t) => {
  const forecasts = [];
  for (const build of ['release', 'debug'] as const) {
    const model = feed(await loaded(build), 24, noise(21, 700));
    forecasts.push(model.infer(50, LEVELS).slice());
  }
  t.strictSame(forecasts[0], forecasts[1]);
});

t.test("training's gradient is that of its loss", async (t) => {
  const kernels = await loaded();
  const training = await TrainingKernels.load(kernels.inputs);
  const random = new Random(13);
  const { steps, rows, lesson, call, model, gradient, input, lessons } = training;
  model.set(startingModel(kernels, training, random));
  for (let i = training.cellSize; i < model.length; i += 1)
    model[i] = (model[i] as number) + 0.2 * (random.next() - 0.5);
  for (const i of input.keys()) input[i] = random.next() * 2 - 1;
  const { groups } = kernels;
  for (let place = steps * rows - 400; place < steps * rows; place += 1) {
    const at = place * lesson;
    lessons[at] = random.below(kernels.knotSteps.length);
    lessons[at + 1] = 1;
    for (let g = 0; g < groups; g += 1) lessons[at + 2 + g] = random.next() - 0.5;
    const atoms = Array.from({ length: groups }, () => random.next());
    let corner = at + 2 + groups;
    for (let g = 0; g < groups; g += 1)
      for (let h = g; h < groups; h += 1, corner += 1)
        lessons[corner] =
          ((atoms[g] as number) +
            (atoms[h] as number) -
            Math.abs((atoms[g] as number) - (atoms[h] as number))) /
          2;
  }
  call.pass(1);
  const analytic = gradient.slice();
  const greatest = Math.max(...analytic.map(Math.abs));
  t.ok(greatest > 0);
  const parts = [0, training.cellSize, training.cellSize + training.headSize, model.length];
  for (let part = 0; part < 3; part += 1) {
    const from = parts[part] as number;
    const places = [...analytic.keys()].slice(from, parts[part + 1]);
    const steepest = places
      .sort((a, b) => Math.abs(analytic[b] as number) - Math.abs(analytic[a] as number))
      .slice(0, 5);
    for (const i of steepest) {
      const own = model[i] as number;
      const step = 0.02;
      model[i] = own + step;
      const above = call.pass(0);
      model[i] = own - step;
      const below = call.pass(0);
      model[i] = own;
      const slope = (above - below) / (2 * step);
      const error = Math.abs(slope - (analytic[i] as number)) / Math.max(Math.abs(slope), 1e-3);
      t.ok(error < 0.02, `weight ${i}: ${analytic[i]} against ${slope}`);
    }
  }
});
