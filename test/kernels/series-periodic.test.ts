// Goal: on a smooth course that repeats, the forecast is as good as a regression that sees every lag of a season. Method: an
// oracle, that regression by elimination in plain TypeScript, fitted to the same past and held against the same outcomes.
import t from 'tap';
import { readModel } from '../../models/files/model-file.ts';
import { Random } from '../../models/train/random.ts';
import { SeriesModel } from '../../orchestrator/forecast/series-model.ts';
import { packagePath } from '../../orchestrator/package-path.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';

const SEED = 5;
t.comment(`seed ${SEED}`);
const SEASON = 360;
const LAGS = SEASON + 12;
const BINS = 7200;
const LEARNED = 4800;
const STEP = 30;
/** Bins between two origins that the oracle learns from, and between two that are scored. */
const STRIDE = { learned: 4, scored: 8 };
const RIDGE = 1e-4;
/** The pool's mean absolute error over the oracle's. */
const RATIO_MAX = 1;

/** A seasonal shape; a level whose slope wanders smoothly, and noise that lasts and noise that does not. */
function smoothCourse(): Float64Array {
  const random = new Random(SEED);
  const normal = (): number => Array.from({ length: 12 }, () => random.next()).reduce((a, b) => a + b) - 6;
  let [push, slope, level, lasting] = [0, 0, 0, 0];
  return Float64Array.from({ length: BINS }, (_, bin) => {
    push = 0.95 * push + 0.01 * normal();
    slope = 0.95 * slope + push;
    level += slope;
    lasting = 0.97 * lasting + 1.2 * normal();
    const turn = (2 * Math.PI * bin) / SEASON;
    return 1000 + 50 * (Math.sin(turn) + 0.4 * Math.sin(2 * turn + 1)) + level + lasting + 0.8 * normal();
  });
}

/** f64[LAGS]: the bins before `origin - 1`, as differences from it. */
function lagsAt(course: Float64Array, origin: number): Float64Array {
  const last = course[origin - 1] as number;
  return course.slice(origin - 1 - LAGS, origin - 1).map((value) => value - last);
}
const dot = (a: Float64Array, b: Float64Array): number =>
  a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);
function addScaled(to: Float64Array, factor: number, row: Float64Array): void {
  for (let j = 0; j < row.length; j += 1) to[j] = (to[j] as number) + factor * (row[j] as number);
}

/** f64[LAGS]: coefficients of the change from bin `origin - 1` to STEP bins later, by ridge regression on all lags. */
function everyLag(course: Float64Array): Float64Array {
  const system = Array.from({ length: LAGS }, () => new Float64Array(LAGS + 1)); // the last column: moments
  for (let origin = LAGS + 1; origin + STEP <= LEARNED; origin += STRIDE.learned) {
    const lags = lagsAt(course, origin);
    const row = Float64Array.of(
      ...lags,
      (course[origin - 1 + STEP] as number) - (course[origin - 1] as number),
    );
    for (const [i, x] of lags.entries()) addScaled(system[i] as Float64Array, x, row);
  }
  const trace = system.reduce((sum, row, i) => sum + (row[i] as number), 0);
  for (const [i, row] of system.entries()) row[i] = (row[i] as number) + (RIDGE * trace) / LAGS;
  for (const [i, pivot] of system.entries())
    for (const row of system)
      if (row !== pivot) addScaled(row, -(row[i] as number) / (pivot[i] as number), pivot);
  return Float64Array.from(system, (row, i) => (row[LAGS] as number) / (row[i] as number));
}

t.test('a smooth season is foreseen as by a regression on every lag', async (t) => {
  const kernels = await SeriesKernels.load();
  const { inputs, hidden, groups, groupRow, knotSteps } = kernels;
  const parts = { inputs, hidden, groups, groupRow, knots: knotSteps };
  kernels.adopt((await readModel(packagePath('models/weights/default/1'), parts)).weights);
  const course = smoothCourse();
  const oracle = everyLag(course);
  const model = new SeriesModel(kernels, { metrics: ['value'], season: SEASON });
  const missed = { pool: 0, oracle: 0 };
  for (let bin = 0; bin + STEP <= BINS; bin += 1) {
    if (bin >= LEARNED && bin % STRIDE.scored === 0) {
      const y = course[bin - 1 + STEP] as number;
      const point = (course[bin - 1] as number) + dot(lagsAt(course, bin), oracle);
      missed.pool += Math.abs(y - (model.infer(STEP, [0.5])[STEP - 1] as number));
      missed.oracle += Math.abs(y - point);
    }
    model.refresh({ values: course.subarray(bin, bin + 1) });
    model.rest();
  }
  const ratio = missed.pool / missed.oracle;
  t.ok(ratio <= RATIO_MAX, `${ratio.toFixed(3)} of the oracle's error, at most ${RATIO_MAX}`);
});
