// Goal: intervals, hardest series and reference rows are what docs/evaluate.md says. Method: cases worked by hand, and the
// same draws made again by brute force.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  intervalOf,
  intervalsOf,
  RESAMPLES,
  ratioInterval,
  resample,
} from '../../models/evaluate/bootstrap.ts';
import { hardestOf } from '../../models/evaluate/hardest.ts';
import { ScoreSheet, type SeriesScore } from '../../models/evaluate/scores.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { randomFrom } from '../random.ts';
import { runCaptured } from '../run-cli.ts';

const SEED = 4_101;
t.comment(`seed ${SEED}`);

const scoreOf = (series: string, loss: number, size: number, cells: number[] = [], error = loss): SeriesScore => ({
  series,
  scored: 1,
  errors: Float64Array.of(error),
  sizes: Float64Array.of(size),
  losses: Float64Array.of(loss),
  cells,
}); // biome-ignore format: the short case first

t.test('an interval is the middle nine tenths', async (t) => {
  const values = Array.from({ length: 1000 }, (_, i) => 1000 - i);
  t.strictSame(intervalOf(values), { low: 50, high: 950 });
  t.strictSame(intervalOf([...values, Number.NaN]), { low: 50, high: 950 });
  t.strictSame(intervalOf([]), { low: Number.NaN, high: Number.NaN });
});

t.test('series are drawn as often as there are, with replacement', async (t) => {
  const sums = resample(5, randomFrom(SEED), (counts) => [...counts]);
  t.equal(sums.length, RESAMPLES);
  t.ok(sums.every((counts) => counts.reduce((all, count) => all + count) === 5));
  for (let i = 0; i < 5; i += 1) {
    const mean = sums.reduce((all, counts) => all + (counts[i] as number), 0) / RESAMPLES;
    t.ok(Math.abs(mean - 1) < 0.12, `four sigmas of a mean of 1: ${mean}`);
  }
  t.ok(sums.some((counts) => Math.max(...counts) > 2));
});

t.test('of two series', async (t) => {
  // Drawn: both a (1/4), one each (1/2), both b (1/4). So the interval goes from the better to the worse of the two.
  const two = [scoreOf('a', 1, 10, [1, 2, 3], 2), scoreOf('b', 6, 12, [8], 9)];
  const intervals = intervalsOf(two, randomFrom(SEED));
  t.strictSame(intervals, {
    crps: { low: 0.1, high: 0.5 },
    nd: { low: 0.2, high: 0.75 },
    maseMedian: { low: 2, high: 8 },
  });
  const alone = intervalsOf(two.slice(0, 1), randomFrom(SEED));
  t.strictSame(alone.crps, { low: 0.1, high: 0.1 });
  const better = two.map((one) => ({ ...one, losses: one.losses.map((loss) => loss / 4) }));
  t.strictSame(ratioInterval(better, two, randomFrom(SEED)), { low: 0.25, high: 0.25 }, 'in pairs');
  t.strictSame(ratioInterval(two, better, randomFrom(SEED)), { low: 4, high: 4 });
});

t.test('of many series, against brute force over the same draws', async (t) => {
  const random = randomFrom(SEED + 1);
  const series = Array.from({ length: 37 }, (_, i) => {
    const cells = Array.from({ length: Math.floor(random() * 5) }, random);
    return scoreOf(String(i), random(), 1 + random(), cells, random());
  });
  const again = randomFrom(SEED + 2);
  const medians: number[] = [];
  const ratios: number[] = [];
  for (let r = 0; r < RESAMPLES; r += 1) {
    const drawn = series.map(() => series[Math.floor(again() * series.length)] as SeriesScore);
    const cells = drawn.flatMap((one) => one.cells).sort((a, b) => a - b);
    const half = cells.length / 2;
    medians.push(((cells[Math.ceil(half) - 1] as number) + (cells[Math.floor(half)] as number)) / 2);
    const of = (key: 'losses' | 'sizes') => drawn.reduce((all, one) => all + (one[key][0] as number), 0);
    ratios.push(of('losses') / of('sizes'));
  }
  const { maseMedian, crps } = intervalsOf(series, randomFrom(SEED + 2));
  t.strictSame(maseMedian, intervalOf(medians));
  const expected = intervalOf(ratios);
  t.ok(Math.abs(crps.low - expected.low) < 1e-12 && Math.abs(crps.high - expected.high) < 1e-12);
});

t.test('the hardest series apart', async (t) => {
  const series = Array.from({ length: 12 }, (_, i) => scoreOf(`s${i}`, i, 10));
  const { series: hardest, share, crpsOfRest } = hardestOf(series);
  t.strictSame(
    hardest.map((one) => one.series),
    [11, 10, 9, 8, 7, 6, 5, 4, 3, 2].map((i) => `s${i}`),
  );
  t.strictSame(hardest[0], { series: 's11', scored: 1, share: 11 / 66, crps: 1.1 });
  t.ok(Math.abs(share - 65 / 66) < 1e-12);
  t.equal(crpsOfRest, 1 / 20, 'of s0 and s1');
  t.ok(Number.isNaN(hardestOf(series.slice(0, 3)).crpsOfRest));
});

t.test('scores by series and by step', async (t) => {
  const sheet = new ScoreSheet();
  const point = (...values: number[]) => Float64Array.from(values.flatMap((value) => Array(9).fill(value)));
  sheet.begin('a', 2);
  // A point's pinball, twice over the levels' mean, is its error.
  t.equal(sheet.add(Float64Array.of(4, 6), point(3, 3), 2, 0), 4);
  sheet.add(Float64Array.of(Number.NaN, 5), point(9, 5), 1, 1);
  sheet.begin('b', 2);
  sheet.begin('c', 2);
  sheet.add(Float64Array.of(-2, 10), point(0, 11), Number.NaN, 1);
  t.strictSame(
    sheet.bySeries().map(({ series, scored, errors, sizes, cells }) => [series, scored, [...errors], [...sizes], cells]),
    [
      ['a', 3, [4, 0], [10, 5], [1, 0]],
      ['c', 2, [0, 3], [0, 12], []],
    ],
  ); // biome-ignore format: a series a line
  const steps = sheet.crpsByStep();
  t.ok(Math.abs((steps[0] as number) - 3 / 6) < 1e-12 && Math.abs((steps[1] as number) - 4 / 21) < 1e-12);
  t.ok(Math.abs(sheet.total().crps - 7 / 27) < 1e-12);
});

t.test('reference rows of the same pass', async (t) => {
  const folder = join(t.testdir(), 'set');
  mkdirSync(folder);
  writeFileSync(join(folder, 'dataset.json'), '{"name": "s", "kind": "series", "step_seconds": 10}');
  const next = randomFrom(SEED + 3);
  const rows = Array.from('abc').flatMap((series) =>
    Array.from({ length: 60 }, (_, i) => `${series},${i * 10},${(i % 6) + Math.round(4 * next())}\n`),
  );
  writeFileSync(join(folder, 'series.csv'), `series,t,load\n${rows.join('')}`);
  const ask = async (...more: string[]) => {
    const { code, out, err } = await runCaptured([
      'evaluate', '--data', folder, '--metrics', 'load', '--horizon', '6', '--windows', '3', '--season', '6', '--json', ...more,
    ]); // biome-ignore format: as a person types it
    t.equal(code, 0, err);
    return JSON.parse(out);
  };
  const ours = await ask();
  t.strictSame(
    ours.reference.map(({ name }: { name: string }) => name),
    ['seasonal-naive', 'last-value'],
  );
  t.strictSame(Object.keys(ours.intervals), ['level', 'resamples', 'series', 'ND', 'MASE_median', 'CRPS']);
  for (const key of ['ND', 'MASE_median', 'CRPS'] as const) {
    const [low, high] = ours.intervals[key];
    t.ok(
      low <= ours[key] && ours[key] <= high && low < high,
      `${key}: ${low} to ${high} around ${ours[key]}`,
    );
  }
  t.strictSame((await ask()).intervals, ours.intervals, 'the same again');
  t.equal(ours.hardest.series.length, 3);
  t.equal(ours.hardest.CRPS_of_rest, null);
  for (const row of ours.reference) {
    const alone = await ask('--baseline', row.name);
    for (const key of ['scored', 'MAE', 'ND', 'MASE', 'MASE_median', 'CRPS', 'coverage'])
      t.strictSame(row[key], alone[key], `${row.name}: ${key}`);
    const [low, high] = row.CRPS_ratio;
    t.ok(low <= ours.CRPS / row.CRPS && ours.CRPS / row.CRPS <= high);
    t.equal(alone.reference.length, 1, 'not beside itself');
  }
  const { groups } = await SeriesKernels.load();
  const { reference } = await ask('--reference', 'last-value,experts');
  t.equal(reference.length, groups + 1);
  const [last, ...experts] = reference;
  t.ok(
    experts.some(({ CRPS }: { CRPS: number }) => Math.abs(CRPS - last.CRPS) < 1e-6),
    'one expert is the last value',
  );
  t.ok(new Set(experts.map(({ CRPS }: { CRPS: number }) => CRPS)).size > 3, 'and they differ');
  const { code } = await runCaptured(['evaluate', '--reference', 'oracle']);
  t.equal(code, 2);
});
