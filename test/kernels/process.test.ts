// Goal: what a workload learns and predicts is the Gaussian process that assembly/process.ts states.
// Method: an oracle written from the formulae alone, in plain TypeScript over ml-matrix. It knows no closed form: it
// leaves each run out and solves anew, for every candidate of the grid. The kernels must pick the same candidate and
// predict the same quantiles.
import { Matrix, solve } from 'ml-matrix';
import t from 'tap';
import { FIELDS, LEVELS, QUANTILE_LEVELS } from '../../orchestrator/core/forecast.ts';
import { loadKernels, OUTPUTS } from '../../orchestrator/wasm/kernels.ts';
import { randomFrom } from '../random.ts';
import { normalFrom } from '../unit/hidden-workload.ts';

const SEED = 31;
t.comment(`seed ${SEED}`);
const NOISES = [0.1, 0.03, 0.01, 0.003, 0.3, 1];
const SHAPES = [
  { linear: 1, quadratic: 0, matern: 0, length: 1, drift: 0 },
  { linear: 1, quadratic: 0.03, matern: 0, length: 1, drift: 0 },
  { linear: 1, quadratic: 0.1, matern: 0, length: 1, drift: 0 },
  { linear: 1, quadratic: 0, matern: 0.1, length: 1, drift: 0 },
  { linear: 1, quadratic: 0.03, matern: 0.1, length: 1, drift: 0 },
  { linear: 1, quadratic: 0, matern: 0.3, length: 2, drift: 0 },
  { linear: 1, quadratic: 0, matern: 1, length: 1, drift: 0 },
  { linear: 0.3, quadratic: 0, matern: 1, length: 4, drift: 0 },
  { linear: 1, quadratic: 0, matern: 0, length: 1, drift: 0.3 },
  { linear: 1, quadratic: 0.03, matern: 0.1, length: 1, drift: 0.3 },
  { linear: 1, quadratic: 0, matern: 0.3, length: 2, drift: 0.3 },
] as const;
type Shape = (typeof SHAPES)[number];
type Row = readonly number[];

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Statistics of the numeric coordinates over all runs, then every row brought to them. */
function standardiser(rows: readonly Row[], numeric: number): (row: Row) => number[] {
  const columns = Array.from({ length: numeric }, (_, j) => {
    const seen = rows.map((row) => row[j] as number).filter((x) => !Number.isNaN(x));
    const mean = seen.length > 0 ? sum(seen) / seen.length : 0;
    const variance = (1 + sum(seen.map((x) => (x - mean) ** 2))) / (1 + seen.length);
    return { mean, deviation: Math.max(Math.sqrt(variance), 0.05) };
  });
  return (row) =>
    row.map((x, j) => {
      const column = columns[j];
      if (column === undefined) return x;
      return Number.isNaN(x) ? 0 : Math.min(6, Math.max(-6, (x - column.mean) / column.deviation));
    });
}

function covariance(
  { linear, quadratic, matern, length, drift }: Shape,
  a: Row,
  b: Row,
  lag: number,
): number {
  const inner = sum(a.map((x, j) => x * (b[j] as number)));
  const r = (Math.sqrt(5) * Math.hypot(...a.map((x, j) => x - (b[j] as number)))) / length;
  return (
    1 +
    linear * inner +
    quadratic * inner ** 2 +
    matern * (1 + r + r ** 2 / 3) * Math.exp(-r) +
    drift * Math.exp(-lag / 8)
  );
}

/** Posterior of f at z, `behind` runs before the newest (the next is at -1), from the runs given, in units of s2. */
function posterior(
  shape: Shape,
  noise: number,
  runs: readonly Run[],
  z: Row,
  behind: number,
): { mean: number; variance: number } {
  const k = new Matrix(
    runs.map((a, i) =>
      runs.map(
        (b, j) => covariance(shape, a.z, b.z, Math.abs(a.behind - b.behind)) + (i === j ? noise * a.age : 0),
      ),
    ),
  );
  const across = Matrix.columnVector(
    runs.map((run) => covariance(shape, run.z, z, Math.abs(run.behind - behind))),
  );
  const weights = solve(k, across).to1DArray();
  const mean = sum(weights.map((w, i) => w * (runs[i] as Run).y));
  const explained = sum(weights.map((w, i) => w * across.get(i, 0)));
  return { mean, variance: covariance(shape, z, z, 0) - explained };
}

interface Run {
  readonly z: Row;
  readonly y: number; // less the mean
  readonly age: number;
  readonly behind: number;
}
interface Fit {
  readonly candidate: number;
  readonly s2: number;
  score: number;
}

function leaveOneOut(shape: Shape, noise: number, runs: readonly Run[]): Omit<Fit, 'candidate'> {
  const n = runs.length;
  const left = runs.map((run, i) => {
    const rest = runs.filter((_, j) => j !== i);
    const { mean, variance } =
      n > 1
        ? posterior(shape, noise, rest, run.z, run.behind)
        : { mean: 0, variance: covariance(shape, run.z, run.z, 0) };
    return { square: (run.y - mean) ** 2, variance: variance + noise, age: run.age };
  });
  const s2 = (3 * 0.2 + sum(left.map((l) => l.square / l.variance))) / (3 + Math.max(n - 4, n / 2));
  const terms = left.map((l) => (Math.log(s2 * l.variance) + l.square / (s2 * l.variance)) / (2 * l.age));
  return { s2, score: -sum(terms) };
}

/** Location and deviation of a new reading, and the fit behind them. */
function oracle(rows: readonly Row[], ys: readonly number[], query: Row, numeric: number) {
  const standardise = standardiser(rows, numeric);
  const seen = rows.map((_, i) => i).filter((i) => !Number.isNaN(ys[i]));
  const ages = seen.map((i) => 2 ** ((rows.length - 1 - i) / 16));
  const mean =
    sum(seen.map((i, k) => (ys[i] as number) / (ages[k] as number))) / sum(ages.map((age) => 1 / age));
  const runs = seen.map((i, k) => ({
    z: standardise(rows[i] as Row),
    y: (ys[i] as number) - mean,
    age: ages[k] as number,
    behind: rows.length - 1 - i,
  }));
  let best: Fit = { candidate: -1, s2: Number.NaN, score: Number.NEGATIVE_INFINITY };
  SHAPES.forEach((shape, s) => {
    NOISES.forEach((noise, m) => {
      const fit = leaveOneOut(shape, noise, runs);
      if (shape.drift > 0) fit.score -= 2; // a drift must win by evidence
      if (fit.score > best.score) best = { candidate: s * NOISES.length + m, ...fit };
    });
  });
  const shape = SHAPES[Math.floor(best.candidate / NOISES.length)] as Shape;
  const noise = NOISES[best.candidate % NOISES.length] as number;
  const at = posterior(shape, noise, runs, standardise(query), -1);
  const deviation = Math.sqrt(best.s2 * (at.variance + noise));
  const nu = 3 + Math.max(runs.length - 4, runs.length / 2);
  return { location: mean + at.mean, deviation, nu, candidate: best.candidate, s2: best.s2 };
}

for (const { name, n, seed } of [
  { name: 'one run', n: 1, seed: SEED },
  { name: 'five runs', n: 5, seed: SEED + 1 },
  { name: 'sixteen runs', n: 16, seed: SEED + 2 },
]) {
  t.test(`${name}: same choice, same forecast as the oracle`, async (t) => {
    const kernels = await loadKernels(Array.from({ length: FIELDS }, () => 1));
    kernels.call.clearWorkload(0);
    kernels.call.clearGuest(0);
    const random = randomFrom(seed);
    const draw = (): Row => {
      const row = Array.from({ length: kernels.dims }, (_, j) => (j < kernels.numeric ? Number.NaN : 0));
      row[0] = 5 + 2 * normalFrom(random);
      row[1] = 1 + normalFrom(random);
      if (random() < 0.7) row[2] = random();
      row[kernels.numeric + Math.floor(random() * 3)] = 1;
      return row;
    };
    const rows: Row[] = [];
    const taught = Array.from({ length: OUTPUTS }, () => [] as number[]);
    for (let i = 0; i < n; i += 1) {
      const row = draw();
      // Field 0: a power law; 1: a bend, sometimes not read; 2: a kink that drifts; the others never read.
      const means = [
        9 + 0.6 * (row[0] as number),
        12 + 0.3 * (row[1] as number) ** 2,
        8 + i / 9 + Math.max(0, row[0] as number),
      ];
      const ys = means.map((mean, f) =>
        f === 1 && i % 3 === 2 ? Number.NaN : mean + 0.05 * normalFrom(random),
      );
      kernels.peak.fill(Number.NaN);
      kernels.before.fill(0);
      ys.forEach((y, f) => {
        kernels.peak[f] = Math.expm1(y);
        taught[f]?.push(y);
      });
      kernels.row.set(row);
      kernels.call.learn(0, Number.NaN, 0, 1, OUTPUTS, 0);
      rows.push(row);
    }
    kernels.ceiling.fill(Number.NaN);
    kernels.knots.fill(1);
    const fitted = kernels.view(kernels.call.fittedAt(0), OUTPUTS * 8);
    for (let ask = 0; ask < 2; ask += 1) {
      const query = draw();
      kernels.row.set(query);
      t.equal(kernels.call.forecastRequest(0, -1, 1, Number.NaN), n);
      for (let f = 0; f < 3; f += 1) {
        const expected = oracle(rows, taught[f] as number[], query, kernels.numeric);
        t.equal(fitted[f * 8], expected.candidate, `field ${f}: the same candidate`);
        t.ok(Math.abs((fitted[f * 8 + 3] as number) / expected.s2 - 1) < 1e-8, `field ${f}: the same scale`);
        const alone = kernels.view(kernels.call.processQuantilesAt(0, f), LEVELS);
        QUANTILE_LEVELS.forEach((level, l) => {
          const z = kernels.call.studentQuantile(kernels.call.normalQuantile(level), expected.nu);
          const y = expected.location + expected.deviation * z;
          const got = alone[l] as number;
          // Two solvers of systems with condition 1e4 or so.
          if (!(Math.abs(got - y) < 1e-7)) t.fail(`field ${f} level ${level}: ${got} for ${y}`);
        });
      }
      t.ok(Number.isNaN(kernels.forecastPeak[3 * LEVELS]), 'a field never read has no forecast');
    }
  });
}

t.test('a full workload forgets its oldest run first', async (t) => {
  // Slot 0 is taught 70 runs, slot 1 only the newest that fit: same runs and ages, other places in memory.
  const kernels = await loadKernels(Array.from({ length: FIELDS }, () => 1));
  const random = randomFrom(SEED + 9);
  const kept = kernels.runsMax;
  const extra = 6;
  for (const slot of [0, 1]) kernels.call.clearWorkload(slot);
  kernels.before.fill(0);
  for (let i = 0; i < kept + extra; i += 1) {
    kernels.row.fill(0);
    kernels.row[0] = 5 + 2 * normalFrom(random);
    kernels.peak.fill(Number.NaN);
    kernels.peak[0] = Math.expm1(9 + 0.6 * (kernels.row[0] as number) + 0.1 * normalFrom(random));
    for (const slot of i < extra ? [0] : [0, 1]) kernels.call.learn(slot, 1 + i, 0, 1, OUTPUTS, 0);
  }
  kernels.ceiling.fill(Number.NaN);
  kernels.knots.fill(1);
  const [old, fresh] = [0, 1].map((slot) => {
    kernels.row[0] = 6;
    t.equal(kernels.call.forecastRequest(slot, -1, 1, Number.NaN), kept);
    return [0, OUTPUTS - 1].flatMap((output) => [
      ...kernels.view(kernels.call.processQuantilesAt(slot, output), LEVELS),
    ]);
  });
  const worst = Math.max(...(old ?? []).map((x, i) => Math.abs(x / ((fresh ?? [])[i] as number) - 1)));
  t.ok(worst < 1e-8, `worst relative difference ${worst}; the sums run in another order`);
});
