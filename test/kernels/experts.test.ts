// Goal: a forecast joins the six experts that assembly/experts.ts states, by the losses they had: four as one distribution.
// Method: an oracle written from the statement alone, in plain TypeScript: it keeps every run, and works each expert anew
// from all of them. Only the process's own quantiles are taken from the kernels; process.test.ts has an oracle of those.
import t from 'tap';
import { FIELDS, LEVELS, QUANTILE_LEVELS } from '../../orchestrator/core/forecast.ts';
import { type Kernels, loadKernels } from '../../orchestrator/wasm/kernels.ts';
import { randomFrom } from '../random.ts';
import { normalFrom } from '../unit/hidden-workload.ts';

const SEED = 77;
t.comment(`seed ${SEED}`);
const KEPT = 64;
const EXPERTS = 6;
const MEDIAN = QUANTILE_LEVELS.indexOf(0.5);

interface Run {
  readonly row: readonly number[];
  readonly y: number;
  readonly miss: number;
  /** Fast and slow averages of the runs before it. */
  readonly course: readonly [number, number];
}
type Weighted = readonly (readonly [value: number, weight: number])[];

/** Mass centred on each value, linear between: by walking along the sorted values. */
function quantiles(points: Weighted): number[] {
  const sorted = points.filter(([, w]) => w > 0).sort((a, b) => a[0] - b[0]);
  const total = sorted.reduce((s, [, w]) => s + w, 0);
  let mass = 0;
  const places = sorted.map(([value, w]) => {
    mass += w;
    return [value, (mass - w / 2) / total] as const;
  });
  return QUANTILE_LEVELS.map((level) => {
    const above = places.findIndex(([, at]) => at >= level);
    if (above === 0) return places[0]?.[0] as number;
    if (above < 0) return places.at(-1)?.[0] as number;
    const [[v0, p0], [v1, p1]] = [places[above - 1], places[above]] as [[number, number], [number, number]];
    return v0 + ((v1 - v0) * (level - p0)) / (p1 - p0);
  });
}

function neighbours(runs: readonly Run[], distances: readonly number[], most: number): Weighted {
  const k = Math.min(most, Math.max(6, Math.floor(runs.length / 2)), runs.length);
  const reach = ([...distances].sort((a, b) => a - b)[k - 1] as number) + 1e-9;
  const weight = (d: number): number => (d > reach ? 0 : 1 - (0.9 * d) / reach);
  return runs.map((run, i) => [run.y, weight(distances[i] as number)]);
}

/** What the experts say: quantiles of each, and of those that only weigh the runs the weights, by expert. */
interface Said {
  readonly rows: readonly number[][];
  readonly weighed: ReadonlyMap<number, Weighted>;
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** What every expert says; two numbers and three categories make a row. */
function experts(
  all: readonly Run[],
  row: readonly number[],
  now: readonly [number, number],
  process: number[],
): Said {
  const runs = all.slice(-KEPT);
  const n = runs.length;
  const ys = runs.map((run) => run.y);
  let far = 0;
  for (const j of [0, 1]) {
    const seen = runs.map((run) => run.row[j] as number);
    far = Math.max(far, (row[j] as number) - Math.max(...seen), Math.min(...seen) - (row[j] as number));
  }
  const beyond = 0.15 + 1 / n + Math.min(far, 2.3);
  const within = (y: number): number =>
    Math.min(Math.max(y, Math.min(...ys) - beyond), Math.max(...ys) + beyond);
  const kept = process.map(within);
  const near = runs.map((run, i) => {
    let d = (0.3 * (n - 1 - i)) / n;
    for (const j of [0, 1]) {
      const seen = runs.map((other) => other.row[j] as number);
      const squares = seen.reduce((s, x) => s + (x - mean(seen)) ** 2, 0);
      const deviation = Math.sqrt((0.02 + squares) / (0.02 + n)) + 0.001;
      d += (((run.row[j] as number) - (row[j] as number)) / deviation) ** 2;
    }
    for (const j of [2, 3, 4]) d += 0.5 * ((run.row[j] as number) - (row[j] as number)) ** 2;
    return d;
  });
  const course = near.map((d, i) => {
    let sum = d;
    for (const speed of [0, 1] as const) {
      const seen = runs.map((run) => run.course[speed]);
      const deviation = Math.sqrt(mean(seen.map((x) => (x - mean(seen)) ** 2))) + 0.05;
      sum += 0.7 * (((runs[i] as Run).course[speed] - now[speed]) / deviation) ** 2;
    }
    return sum;
  });
  const misses = runs.filter((run) => !Number.isNaN(run.miss));
  const missed =
    misses.length === 0
      ? kept
      : quantiles(misses.map((run) => [run.miss, 1])).map((q) => within((kept[MEDIAN] as number) + q));
  const weighed = new Map<number, Weighted>([
    [1, ys.map((y) => [y, 1])],
    [2, ys.map((y, i) => [y, 2 ** (-(n - 1 - i) / 8)])],
    [3, neighbours(runs, near, 16)],
    [5, neighbours(runs, course, 40)],
  ]);
  const rows = Array.from({ length: EXPERTS }, (_, e) => {
    const points = weighed.get(e);
    return points === undefined ? (e === 0 ? kept : missed) : quantiles(points);
  });
  return { rows, weighed };
}

/** The losses, and what the experts say together by them. */
class Judge {
  own = new Array<number>(EXPERTS).fill(0);
  shared = [0.7, 1.15, 1.15, 1.15, 0.7, 1.15];
  runs = 0;

  join({ rows, weighed }: Said): number[] {
    const prior = this.runs > 0 ? (3 * mean(this.own)) / this.runs : 3;
    const powers = this.own.map(
      (loss, e) => Math.max((loss + prior * (this.shared[e] as number)) / (this.runs + 3), 1e-6) ** -6,
    );
    const total = powers.reduce((a, b) => a + b, 0);
    const trust = powers.map((power) => power / total);
    const mixed = [...weighed].flatMap(([e, points]) => {
      const sum = points.reduce((s, [, w]) => s + w, 0);
      return points.map(([y, w]) => [y, ((trust[e] as number) * w) / sum] as const);
    });
    // A run that several weigh is one value.
    const values = [...new Set(mixed.map(([y]) => y))];
    const points = values.map((y) => [y, mixed.reduce((s, [v, w]) => (v === y ? s + w : s), 0)] as const);
    const shared = 1 - (trust[0] as number) - (trust[4] as number);
    return quantiles(points).map(
      (q, l) =>
        shared * q +
        (trust[0] as number) * (rows[0]?.[l] as number) +
        (trust[4] as number) * (rows[4]?.[l] as number),
    );
  }

  judge(rows: readonly number[][], y: number): void {
    const actual = Math.expm1(y);
    const scale = actual + Math.expm1(rows[1]?.[MEDIAN] as number) + 1;
    const losses = rows.map((row) => {
      const pinball = QUANTILE_LEVELS.map((level, l) => {
        const r = actual - Math.expm1(row[l] as number);
        return r > 0 ? level * r : (level - 1) * r;
      });
      return Math.min(3, mean(pinball) / scale);
    });
    const typical = mean(losses);
    losses.forEach((loss, e) => {
      this.own[e] = (this.own[e] as number) * 0.97 + loss;
      if (typical >= 1e-6) this.shared[e] = (this.shared[e] as number) * 0.99 + (0.01 * loss) / typical;
    });
    this.runs = this.runs * 0.97 + 1;
  }
}

function processOf(kernels: Kernels): number[] {
  return [...kernels.view(kernels.call.processQuantilesAt(0, 0), LEVELS)];
}

t.test('the same average as the oracle, over a whole life', async (t) => {
  const kernels = await loadKernels(Array.from({ length: FIELDS }, () => 1));
  kernels.call.clearWorkload(0);
  kernels.ceiling.fill(Number.NaN);
  kernels.before.fill(0);
  kernels.knots.fill(1);
  const random = randomFrom(SEED);
  const runs: Run[] = [];
  const judge = new Judge();
  let now: [number, number] = [0, 0];
  let worst = 0;
  for (let i = 0; i < KEPT + 30; i += 1) {
    const kind = Math.floor(random() * 3);
    // Past the middle, numbers twice as far out: the request leaves what was seen.
    const numbers = [5 + (i > 40 ? 2 : 1) * normalFrom(random), normalFrom(random)];
    const row = [...numbers, ...[0, 1, 2].map((j) => (j === kind ? 1 : 0))];
    const y = 6 + 0.5 * (row[0] as number) + kind + (random() < 0.2 ? 1.5 : 0) + 0.1 * normalFrom(random);
    kernels.row.fill(Number.NaN, 0, kernels.numeric);
    kernels.row.fill(0, kernels.numeric);
    kernels.row.set(numbers);
    kernels.row.set(row.slice(2), kernels.numeric);
    let miss = Number.NaN;
    if (runs.length > 0) {
      const said = experts(runs, row, now, processOf(kernels));
      kernels.call.forecastRequest(0, -1, 1, Number.NaN);
      judge.join(said).forEach((q, l) => {
        worst = Math.max(worst, Math.abs(q - Math.log1p(kernels.forecastPeak[l] as number)));
      });
      judge.judge(said.rows, y);
      miss = y - (said.rows[0]?.[MEDIAN] as number);
    } else now = [y, y];
    runs.push({ row, y, miss, course: [...now] });
    now = [now[0] + 0.7 * (y - now[0]), now[1] + 0.15 * (y - now[1])];
    kernels.peak.fill(Number.NaN);
    kernels.peak[0] = Math.expm1(y);
    kernels.call.learn(0, Number.NaN, 0, i % 4 === 0 ? 1 : 0, 8, 0);
  }
  t.ok(
    worst < 1e-6,
    `worst difference of a logarithm ${worst}; sums in another order, weights a sixth power`,
  );
});
