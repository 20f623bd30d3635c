// Goal: each kernel computes what its text says, and both builds compute the same bits.
// Method: values worked by hand, closed forms, and an independent oracle (ml-matrix and plain TypeScript).
import { CholeskyDecomposition, Matrix } from 'ml-matrix';
import t from 'tap';
import { KNOTS_MAX, LEVELS, QUANTILE_LEVELS } from '../../orchestrator/core/forecast.ts';
import { PROFILE_FIELDS } from '../../orchestrator/core/profile.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { type Kernels, loadKernels } from '../../orchestrator/wasm/kernels.ts';
import { randomFrom } from '../random.ts';
import { hiddenWorkload, normalFrom, outcomeOf, requestOf, sampleOf } from '../unit/hidden-workload.ts';

const SEED = 20_240_607;
const FLOORS = PROFILE_FIELDS.map(() => 1);
const kernels = await loadKernels(FLOORS);
const debug = await loadKernels(FLOORS, 'debug');
const LD = kernels.runsMax;
t.comment(`seed ${SEED}`);

/** A positive definite matrix with known conditioning: B B' + I. */
function positiveDefinite(n: number, random: () => number): Matrix {
  const b = Matrix.zeros(n, n).apply(function fill(this: Matrix, i, j) {
    this.set(i, j, normalFrom(random));
  });
  return b.mmul(b.transpose()).add(Matrix.eye(n));
}

function writeMatrix(k: Kernels, index: number, matrix: Matrix): Float64Array {
  const view = k.view(k.call.scratchAt(index), LD * LD);
  view.fill(0);
  for (let i = 0; i < matrix.rows; i += 1)
    for (let j = 0; j <= i; j += 1) view[i * LD + j] = matrix.get(i, j);
  return view;
}

t.test('Cholesky factor and inverse agree with ml-matrix for every size', async (t) => {
  const random = randomFrom(SEED);
  for (let n = 1; n <= LD; n += n < 8 ? 1 : 7) {
    const a = positiveDefinite(n, random);
    writeMatrix(kernels, 0, a);
    kernels.call.factor(n, kernels.call.scratchAt(0), kernels.call.scratchAt(1));
    kernels.call.invertLower(n, kernels.call.scratchAt(1), kernels.call.scratchAt(2));
    const inverse = kernels.view(kernels.call.scratchAt(2), LD * LD);
    const expected = new CholeskyDecomposition(a).solve(Matrix.eye(n));
    let worst = 0;
    for (let i = 0; i < n; i += 1) {
      for (let j = 0; j < n; j += 1) {
        let sum = 0; // (L^-T L^-1)[i][j]
        for (let k = 0; k < n; k += 1)
          sum += (inverse[k * LD + i] as number) * (inverse[k * LD + j] as number);
        worst = Math.max(worst, Math.abs(sum - expected.get(i, j)));
      }
    }
    t.ok(worst < 1e-11, `n ${n}: worst difference ${worst}; conditioning is near 1e3, so 1e-11 is rounding`);
  }
});

t.test('a 2 x 2 factor by hand', async (t) => {
  // [[4, 2], [2, 10]] = L L' with L = [[2, 0], [1, 3]].
  const view = writeMatrix(
    kernels,
    0,
    new Matrix([
      [4, 2],
      [2, 10],
    ]),
  );
  kernels.call.factor(2, kernels.call.scratchAt(0), kernels.call.scratchAt(0));
  t.strictSame([view[0], view[LD], view[LD + 1]], [2, 1, 3]);
});

t.test('Matern 5/2 by hand', async (t) => {
  t.equal(kernels.call.matern52(0), 1);
  const r = 1 / Math.sqrt(5); // then it is (1 + 1 + 1/3) / e
  t.ok(Math.abs(kernels.call.matern52(r) - 7 / 3 / Math.E) < 1e-15);
});

t.test('two exponentials at once are those of JavaScript', async (t) => {
  const [x, out] = [0, 1].map((i) => kernels.view(kernels.call.scratchAt(i), LD)) as [
    Float64Array,
    Float64Array,
  ];
  const call = (least: number, most: number, one: number, scale: number) =>
    kernels.call.exponentials(LD, x.byteOffset, least, most, one, scale, out.byteOffset);
  const random = randomFrom(SEED + 4);
  let worst = 0;
  for (let round = 0; round < 200; round += 1) {
    x.set(Array.from({ length: LD }, () => (random() - 0.5) * (round % 2 === 0 ? 1400 : 2)));
    call(-700, 700, 0, 1);
    out.forEach((y, i) => {
      const expected = Math.exp(x[i] as number);
      worst = Math.max(worst, Math.abs(y - expected) / expected);
    });
  }
  t.ok(worst < 1e-15, `worst relative difference ${worst}; each is within a rounding or two`);
  x.set(Array.from({ length: LD }, (_, i) => i - 2));
  call(0, 3, 1, 10); // 10 (exp(x within [0, 3]) - 1)
  t.strictSame([...out.subarray(0, 3)], [0, 0, 0], 'nothing of nothing, exactly');
  t.equal(out[5], out[LD - 1]);
  t.ok(Math.abs((out[5] as number) / (10 * Math.expm1(3)) - 1) < 1e-15);
});

t.test('distribution functions against published tables', async (t) => {
  for (const { p, z } of [
    { p: 0.5, z: 0 },
    { p: 0.95, z: 1.6448536269514722 },
    { p: 0.05, z: -1.6448536269514722 },
    { p: 0.99, z: 2.3263478740408408 },
  ]) {
    t.ok(Math.abs(kernels.call.normalQuantile(p) - z) < 1e-8, `normal quantile ${p}`);
    t.ok(Math.abs(kernels.call.normalCdf(z) - p) < 2e-4, `normal distribution ${z}`);
  }
  for (const { nu, q95, q99 } of [
    { nu: 4, q95: 2.1318, q99: 3.7469 },
    { nu: 10, q95: 1.8125, q99: 2.7638 },
    { nu: 60, q95: 1.6706, q99: 2.3901 },
  ]) {
    const at95 = kernels.call.studentQuantile(1.6448536269514722, nu);
    const at99 = kernels.call.studentQuantile(2.3263478740408408, nu);
    t.ok(
      Math.abs(at95 / q95 - 1) < 0.01 && Math.abs(at99 / q99 - 1) < 0.01,
      `t quantiles, nu ${nu}: ${at95} ${at99}`,
    );
    t.ok(Math.abs(kernels.call.studentCdf(q95, nu) - 0.95) < 0.01, `t distribution, nu ${nu}`);
  }
});

/** Mixture by brute force: scan a fine grid for the least x with F(x) >= level. */
function mixByScan(a: readonly number[], b: readonly number[], weight: number): number[] {
  const cdf = (q: readonly number[], x: number): number => {
    if (x < (q[0] as number)) return 0;
    if (x >= (q[LEVELS - 1] as number)) return 1;
    let i = 0;
    while ((q[i + 1] as number) <= x) i += 1;
    const [lower, upper] = [q[i] as number, q[i + 1] as number];
    const [from, to] = [QUANTILE_LEVELS[i] as number, QUANTILE_LEVELS[i + 1] as number];
    return from + ((to - from) * (x - lower)) / (upper - lower);
  };
  const low = Math.min(a[0] as number, b[0] as number);
  const high = Math.max(a[LEVELS - 1] as number, b[LEVELS - 1] as number);
  return QUANTILE_LEVELS.map((level) => {
    let [from, to] = [low, high];
    for (let i = 0; i < 60; i += 1) {
      const x = (from + to) / 2;
      if (weight * cdf(a, x) + (1 - weight) * cdf(b, x) >= level) to = x;
      else from = x;
    }
    return to;
  });
}

t.test('mixtures invert the mixed distribution, as bisection does', async (t) => {
  const random = randomFrom(SEED + 1);
  const [a, b, out] = [0, 1, 2].map((i) => kernels.view(kernels.call.scratchAt(i), LEVELS)) as [
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  let worst = 0;
  for (let round = 0; round < 300; round += 1) {
    const shift = round % 3 === 0 ? 50 : 2; // apart, or overlapping
    a.set(Array.from({ length: LEVELS }, () => shift + 10 * random()).sort((x, y) => x - y));
    b.set(Array.from({ length: LEVELS }, () => 10 * random()).sort((x, y) => x - y));
    const weight = 0.01 + 0.98 * random();
    kernels.call.mixQuantiles(a.byteOffset, b.byteOffset, weight, out.byteOffset);
    const expected = mixByScan([...a], [...b], weight);
    for (let l = 0; l < LEVELS; l += 1)
      worst = Math.max(worst, Math.abs((out[l] as number) - (expected[l] as number)));
  }
  t.ok(worst < 1e-9, `worst difference ${worst}; bisection ends at rounding`);
  a.fill(8); // two atoms: 30 % at 8, 70 % at 1
  b.fill(1);
  kernels.call.mixQuantiles(a.byteOffset, b.byteOffset, 0.3, out.byteOffset);
  t.strictSame(
    [...out],
    QUANTILE_LEVELS.map((level) => (level <= 0.7 ? 1 : 8)),
  );
});

t.test('bad arguments are refused with the rule', async (t) => {
  t.throws(() => kernels.call.forecastRequest(0, 0, KNOTS_MAX + 1, Number.NaN), {
    message: /knots must be in/,
  });
  t.throws(() => kernels.call.clearWorkload(kernels.workloadsMax), { message: /workload slot/ });
  t.throws(() => kernels.call.clearGuest(-1), { message: /guest slot/ });
  t.throws(() => kernels.call.normalQuantile(1), { message: /level must be in/ });
  kernels.sample.fill(-1);
  t.throws(() => kernels.call.observe(0, 1), { message: /finite and not negative/ });
});

t.test('debug and release give the same bits, kernel by kernel', async (t) => {
  const random = randomFrom(SEED + 2);
  const a = positiveDefinite(LD, random);
  const [ours, theirs] = [kernels, debug].map((k) => {
    writeMatrix(k, 0, a);
    k.call.factor(LD, k.call.scratchAt(0), k.call.scratchAt(1));
    k.call.invertLower(LD, k.call.scratchAt(1), k.call.scratchAt(2));
    return k.view(k.call.scratchAt(2), LD * LD).slice();
  });
  t.same(ours, theirs);
  for (let i = 0; i < 200; i += 1) {
    const x = 10 * random();
    t.equal(kernels.call.matern52(x), debug.call.matern52(x));
    t.equal(kernels.call.studentCdf(x - 5, 4 + x), debug.call.studentCdf(x - 5, 4 + x));
  }
});

t.test('debug and release give the same bits over a whole life of learning', async (t) => {
  const answers = [];
  for (const build of ['release', 'debug'] as const) {
    const random = randomFrom(SEED + 3);
    const forecaster = await ParametricForecaster.create({ build });
    for (let i = 0; i < 80; i += 1) {
      forecaster.observe(sampleOf('g', i, random));
      forecaster.learn(outcomeOf('g', 'w', hiddenWorkload.draw(random), random));
    }
    const request = requestOf('g', 'w', hiddenWorkload.draw(random));
    const { peak, values, duration, dependence } = forecaster.forecast(request);
    answers.push({ peak, values, duration, dependence });
  }
  t.strictSame(answers[0], answers[1]);
});
