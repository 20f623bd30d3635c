// Goal: `foreshade evaluate` gives the scores of their definitions: windows, gaps, ties and scales as stated in
// docs/evaluate.md.
// Method: a small set whose every score is worked by hand; then every recorded set below FORESHADE_DATA against an oracle
// that recomputes all from the definitions and shares no code.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { gridByInstructions, gridBySeconds } from '../../models/data/grid.ts';
import { SeriesSet } from '../../models/data/series-set.ts';
import { Durations } from '../../models/evaluate/durations.ts';
import { type Evaluation, type EvaluationPlan, Evaluator } from '../../models/evaluate/evaluate.ts';
import { BASELINES, baselineSource } from '../../models/evaluate/naive.ts';
import { ScoreSheet } from '../../models/evaluate/scores.ts';
import type { ForecasterSource } from '../../models/evaluate/series-forecaster.ts';
import { runCaptured } from '../run-cli.ts';
import { ORACLE_RULES, Oracle, type OracleQuestion } from './evaluate-oracle.ts';

const root = mkdtempSync(join(tmpdir(), 'fs-evaluate-'));
t.teardown(() => rmSync(root, { recursive: true, force: true }));

let sets = 0;

/** A folder with a set; `csv` without its header is of series, t and load. */
function newSet(csv: string, facts: object = {}): string {
  sets += 1;
  const folder = join(root, `set-${sets}`);
  mkdirSync(folder);
  writeFileSync(
    join(folder, 'dataset.json'),
    JSON.stringify({ name: 'tiny', kind: 'series', step_seconds: 10, ...facts }),
  );
  writeFileSync(join(folder, 'series.csv'), csv.startsWith('series,') ? csv : `series,t,load\n${csv}`);
  return folder;
}

const run = (args: readonly string[], errIsTerminal = false) =>
  runCaptured(['evaluate', ...args], { errIsTerminal });

/** Arguments for windows of the tiny set. */
const tiny = (folder: string, ...more: string[]): string[] => [
  '--data', folder, '--metrics', 'load', '--horizon', '2', '--windows', '2', '--season', '2', ...more,
]; // biome-ignore format: as a person types it

/**
 * Bins of 10 s, "-" a row that is absent, "." an empty value; two windows of two bins, season 2:
 *   a  1 3 2 - | 2 5 | 2 5
 *   b  4 4 4 | 4 . | 8 4
 * The rows come mixed, as a recorder of both writes them.
 */
const TINY = `a,0,1\nb,0,4\na,10,3\nb,10,4\na,20,2\nb,20,4\nb,30,4\na,40,2\nb,40,\na,50,5\nb,50,8\na,60,2\nb,60,4\na,70,5\n`;

t.test('scores worked by hand', async (t) => {
  const folder = newSet(TINY);
  const ask = async (baseline: string) => {
    const { code, out, err } = await run(tiny(folder, '--baseline', baseline, '--json'));
    t.equal(code, 0, err);
    t.equal(err, '');
    return JSON.parse(out);
  };

  // a, origin 4: past 1 3 2 -: forecast 2, and 2 carried over the gap; actual 2 5. The scale has one pair, |2 - 1| = 1.
  // a, origin 6: forecast 2 5, actual 2 5. Pairs |2 - 1| and |2 - 2|: scale 0.5.
  // b, origin 3: forecast 4 4, actual 4 and a gap: one value. b, origin 5: forecast 4 4, actual 8 4. Both scales are 0.
  // |e|: 0 3, 0 0, 0, 4 0. |y|: 2 5, 2 5, 4, 8 4. Cells: 1.5 and 0; 0/0 and 2/0 are dropped. Ties: 5 of 7, none below.
  const seasonal = await ask('seasonal-naive');
  t.strictSame(Object.keys(seasonal), [
    'dataset', 'horizon', 'windows', 'scored', 'MAE', 'ND', 'MASE', 'MASE_median', 'CRPS', 'coverage', 'refresh_us',
    'infer_us', 'seconds', 'intervals', 'hardest', 'reference',
  ]); // biome-ignore format: in the order of the document
  t.match(seasonal, { dataset: 'tiny', horizon: 2, windows: 2, scored: 7, MAE: 1, ND: 7 / 30, MASE: 0.75 });
  t.equal(seasonal.MASE_median, 0.75);
  t.ok(near(seasonal.CRPS, 7 / 30), "a point forecast's CRPS is its ND");
  t.strictSame(
    seasonal.coverage,
    Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8, 9].map((tenth) => [`0.${tenth}`, 2.5 / 7])),
  );
  t.strictSame(Object.keys(seasonal.refresh_us), ['p50', 'p99']);
  t.ok(seasonal.infer_us.p99 >= seasonal.infer_us.p50 && seasonal.infer_us.p50 > 0);

  // a: forecasts 2 2 and 5 5 of actual 2 5 and 2 5; b: 4 4 twice. |e|: 0 3, 3 0, 0, 4 0. Cells 1.5 and 1.5 / 0.5.
  // Below the quantile: the 2 under 5. Ties: 2, 5, 4, 4.
  const last = await ask('last-value');
  t.match(last, { scored: 7, MAE: 10 / 7, ND: 1 / 3, MASE: 2.25, MASE_median: 2.25 });
  t.ok(near(last.CRPS, 1 / 3));
  t.equal(last.coverage['0.5'], 3 / 7);
});

t.test('quantiles, ties and cells worked by hand', async (t) => {
  const sheet = new ScoreSheet();
  const forecast = Float64Array.of(6, 7, 8, 9, 10, 11, 12, 13, 14);
  // Losses of 10 by level: 0.1 x 4, 0.2 x 3, 0.3 x 2, 0.4 x 1, 0, and the same mirrored: 4 in all.
  sheet.add(Float64Array.of(10), forecast, 1);
  t.match(sheet.total(), { scored: 1, mae: 0, nd: 0, mase: 0, coverage: [0, 0, 0, 0, 0.5, 1, 1, 1, 1] });
  t.ok(near(sheet.total().crps, (2 * 4) / 10 / 9));
  // Errors of the median 1, 2 and 18 in windows of their own, scales 1, 1 and 2, with the 0 above: cells 0 1 2 9.
  for (const [y, scale] of [[11, 1], [8, 1], [28, 2]] as const) sheet.add(Float64Array.of(y), forecast, scale); // biome-ignore format: a row each
  t.match(sheet.total(), { scored: 4, mae: 21 / 4, nd: 21 / 57, mase: 3, maseMedian: 1.5 });
  sheet.add(Float64Array.of(10, Number.NaN), new Float64Array(18).fill(10), Number.NaN);
  t.match(sheet.total(), { scored: 5, mase: 3 }, 'a window without a scale has no cell');
  t.throws(() => sheet.add(Float64Array.of(1), new Float64Array(9).fill(Number.NaN), 1), /level 0\.1 is NaN/);
});

t.test('the last season, where it has gaps', async (t) => {
  const NONE = Number.NaN;
  const forecast = (season: number, past: readonly number[]): number[] => {
    const facts = { series: 's', metrics: ['load'], step: 1, axis: 'seconds', season } as const;
    const forecaster = baselineSource('seasonal-naive').open(facts);
    for (const [at, value] of past.entries()) forecaster.refresh({ at, values: Float64Array.of(value) });
    return [...forecaster.infer(5, [0.5])];
  };
  t.strictSame(forecast(3, [8, 1, NONE, 3]), [1, 1, 3, 1, 1], 'the value before the gap, not the last one');
  t.strictSame(forecast(4, [NONE, 2, 3]), [3, 3, 2, 3, 3], 'before the first value: the last one');
});

t.test('a forecaster sees each bin in its turn, and nothing ahead', async (t) => {
  const log: (number | string)[] = [];
  const source: ForecasterSource = {
    name: 'double',
    open: (facts) => {
      log.push(`open ${JSON.stringify(facts)}`);
      return {
        refresh: ({ at, values }) => log.push(at, ...values),
        infer: (horizon, levels) => {
          log.push(`infer ${horizon}`);
          return new Float64Array(horizon * levels.length);
        },
      };
    },
  };
  const plan: EvaluationPlan = { metrics: ['load'], axis: 'seconds', horizon: 2, windows: 2, season: 3 };
  const evaluator = new Evaluator(source, plan);
  const NONE = Number.NaN;
  evaluator.add(gridBySeconds(rows('a', [100, 110, 130, 140, 150], [1, 2, 4, 5, 6]), 10));
  t.strictSame(log, [
    'open {"series":"a","metrics":["load"],"step":10,"axis":"seconds","season":3}',
    100, 1, 110, 2, 'infer 2', 120, NONE, 130, 4, 'infer 2', 140, 5, 150, 6,
  ]); // biome-ignore format: a stretch a line
  evaluator.add(gridBySeconds(rows('too-short', [0, 30], [1, 2]), 10));
  evaluator.add(gridBySeconds(rows('late', [0, 40], [NONE, 3]), 10));
  t.match(evaluator.finish(), { series: 2, tooShort: 1, scored: 3 }, 'nothing is forecast from nothing');
});

function rows(series: string, times: readonly number[], ...columns: number[][]) {
  return { series, times, columns };
}

t.test('bins', async (t) => {
  const NONE = Number.NaN;
  const times = [0, 4, 10, 10, 31, 55];
  const values = [1, 3, 5, 7, 9, 11];
  t.match(
    gridBySeconds(rows('s', times, values), 10),
    { startAt: 0, steps: 6, values: [[2, 6, NONE, 9, NONE, 11]], duplicates: 1, outside: 0 },
    'means, gaps, from its own first row to its own last',
  );
  t.match(
    gridBySeconds(rows('s', times, values), 20, { startS: 10, steps: 2 }),
    { startAt: 10, steps: 2, values: [[6, 9]], outside: 3 },
    'as the set says',
  );
  t.match(
    gridBySeconds(rows('s', [0, 0.1, 0.2, 0.3], [1, 2, 3, 4]), 0.1),
    { values: [[1, 2, 3, 4]] },
    'decimals',
  );
  // Instructions 5, 0, 10, unknown, 3 in bins of 6: the row of 10 covers 1 of the first bin, 6 and 3; the last 3 the rest.
  t.match(
    gridByInstructions(rows('s', [], [2, 9, 4, 9, 6], [1, 1, NONE, 1, 1]), [5, 0, 10, NONE, 3], 6),
    { steps: 3, values: [[(5 * 2 + 4) / 6, 4, 5], [1, NONE, 1]] },
  ); // biome-ignore format: bins in a row
  t.throws(() => gridByInstructions(rows('s', [], [1]), [-1], 6), { code: 'SET_REFUSED' });
  t.throws(() => gridBySeconds(rows('s', [0, 1e12], [1, 2]), 10), {
    code: 'SET_REFUSED',
    message: /in seconds/,
  });
});

t.test('durations', async (t) => {
  const durations = new Durations();
  for (let us = 1; us <= 1000; us += 1) durations.add(us);
  t.ok(Math.abs(durations.percentile(0.5) / 500 - 1) < 0.01);
  t.ok(Math.abs(durations.percentile(0.99) / 990 - 1) < 0.01);
  t.ok(Number.isNaN(new Durations().percentile(0.5)), 'without a call');
});

t.test('on the axis of instructions', async (t) => {
  // 4 instructions a row in steps of 8: pairs of rows, so 1.5 3.5 | 5.5 | 7.5; last value is 2 off each time.
  const csv = `series,t,instructions,load\n${[1, 2, 3, 4, 5, 6, 7, 8].map((n) => `a,${n * 10},4,${n}\n`).join('')}`;
  const args = [
    '--horizon',
    '1',
    '--windows',
    '2',
    '--season',
    '1',
    '--axis',
    'instructions',
    '--resample',
    '8',
  ];
  const { out, err } = await run([
    '--data', newSet(csv), '--metrics', 'load', ...args, '--baseline', 'last-value', '--json',
  ]); // biome-ignore format: as a person types it
  t.equal(err, '');
  t.match(JSON.parse(out), { scored: 2, MAE: 2, ND: 4 / 13, MASE: 1 });
  const rates = newSet('series,t,ips,load\na,0,0.4,1\na,10,0.4,2\na,20,0.4,3\n', {
    profile: { ips: 'instructions_per_s' },
  });
  const one = [
    '--horizon',
    '1',
    '--windows',
    '1',
    '--season',
    '1',
    '--axis',
    'instructions',
    '--resample',
    '4',
  ];
  t.match(
    JSON.parse(
      (await run(['--data', rates, '--metrics', 'ips,load', ...one, '--baseline', 'last-value', '--json']))
        .out,
    ),
    { scored: 2, MAE: 0.5 },
    'a rate is multiplied by the step',
  );
});

t.test('help', async (t) => {
  const { code, out, err } = await run(['--help']);
  t.equal(code, 0);
  t.equal(err, '');
  t.matchSnapshot(out, 'evaluate --help');
});

t.test('text for people, progress on a terminal', async (t) => {
  const folder = newSet(TINY);
  const { code, out, err } = await run(tiny(folder, '--baseline', 'seasonal-naive'), true);
  t.equal(code, 0);
  t.equal(err, `reading ${folder}\n\r 50 %  1 of 2 series\r100 %  2 of 2 series\n`);
  t.matchSnapshot(out.replace(/[\d.e-]+ (us|s)\b/g, 'N $1'), 'evaluate');
});

t.test('what does not fit is said', async (t) => {
  const CASES: readonly (readonly [name: string, args: readonly string[], err: RegExp])[] = [
    ['no folder', tiny(join(root, 'none')), /none\/dataset\.json cannot be used: ENOENT.*\(SET_REFUSED\)/],
    ['no JSON', tiny(broken('{')), /dataset\.json cannot be used: .*JSON/],
    ['no kind', tiny(broken('{"name": "n"}')), /lacks a name or a kind/],
    ['requests', tiny(newSet(TINY, { kind: 'requests' })), /kind is "requests", and only series/],
    ['half a grid', tiny(newSet(TINY, { start: 0 })), /one of start and steps only/],
    ['a bad step', tiny(newSet(TINY, { step_seconds: 0 })), /step_seconds is 0/],
    ['no step', tiny(newSet(TINY, { step_seconds: undefined })), /no step_seconds: give --resample/],
    ['no series', tiny(broken('{"name": "n", "kind": "series"}')), /has no series\.csv\.gz, series\.csv or/],
    ['no time', tiny(newSet('series,load\na,1\n')), /has no column t/],
    ['no rows', tiny(newSet('series,t,load\n')), /the set has no rows/],
    [
      'unknown metric',
      [...tiny(newSet(TINY)), '--metrics', 'load,heat'],
      /tiny has no metric heat; it has load/,
    ],
    ['words', tiny(newSet('a,0,1\na,10,many\n')), /cannot be read: .*'many'/],
    ['infinite', tiny(newSet('a,0,1\na,10,inf\n')), /rows with an infinite value of load: 1/],
    ['untimed', tiny(newSet('a,,1\na,nan,2\n')), /rows without a series or a time: 2/],
    ['too short', tiny(newSet('a,0,1\na,30,1\n')), /2 windows of 2 steps need 5, the longest has 4/],
    ['all missing', tiny(newSet('a,0,1\na,70,\n')), /every value of the windows is missing/],
    ['finer', [...tiny(newSet(TINY)), '--resample', '5'], /--resample 5 is below the set's own step of 10 s/],
    [
      'uncounted',
      [...tiny(newSet(TINY)), '--axis', 'instructions', '--resample', '5'],
      /tiny counts no instructions/,
    ],
  ];
  for (const [name, args, expected] of CASES) {
    const { code, out, err } = await run([...args, '--baseline', 'last-value']);
    t.equal(code, 1, name);
    t.equal(out, '', name);
    t.match(err, expected, name);
  }
  const absent = await run(tiny(newSet(TINY), '--model', 'm1'));
  t.equal(absent.code, 1);
  t.match(absent.err, /there is no model m1 in /);
  const hidden = await run(tiny(newSet(TINY), '--model', '..'));
  t.match(hidden.err, /a model name has letters, digits/);
  for (const more of [[], ['--no-lstm']]) {
    const { code, out } = await run(tiny(newSet(TINY), '--json', ...more));
    t.equal(code, 0, 'the model that ships');
    t.ok(Number.isFinite(JSON.parse(out).CRPS));
  }
  const failed = await run(tiny(join(root, 'none'), '--baseline', 'last-value', '--json'));
  t.match(JSON.parse(failed.out), { error: { reason: 'SET_REFUSED' } });
});

/** A folder with this dataset.json and no series. */
function broken(json: string): string {
  const folder = newSet(TINY);
  writeFileSync(join(folder, 'dataset.json'), json);
  rmSync(join(folder, 'series.csv'));
  return folder;
}

t.test('wrong usage is 2', async (t) => {
  const folder = newSet(TINY);
  for (const args of [
    [],
    tiny(folder, '--horizon', '0'),
    tiny(folder, '--windows', '1.5'),
    tiny(folder, '--metrics', 'load,load'),
    tiny(folder, '--resample', '0'),
    tiny(folder, '--axis', 'minutes'),
    tiny(folder, '--axis', 'instructions'),
    tiny(folder, '--baseline', 'oracle'),
    tiny(folder, '--baseline', 'last-value', '--model', 'm1'),
    tiny(folder, '--baseline', 'last-value', '--no-lstm'),
  ])
    t.match(await run(args), { code: 2, out: '', err: /See: foreshade evaluate/ }, args.slice(10).join(' '));
});

t.test('NaN, gaps, duplicates and rows outside of the grid', async (t) => {
  const csv = 'a,0,1\na,10,nan\na,20,3\na,20,5\na,40,4\na,50,4\na,900,7\n';
  const { code, out, err } = await run(
    tiny(newSet(csv, { start: 0, steps: 6 }), '--baseline', 'last-value', '--json'),
  );
  t.equal(code, 0);
  t.equal(
    err,
    "rows at the time of the row before them, of which the mean counts: 1\nrows outside of the set's grid, left out: 1\n",
  );
  // 1 - | 4 - | 4 4: forecasts 1 1 and 4 4.
  t.match(JSON.parse(out), { scored: 3, MAE: 1, ND: 3 / 12 });
  const short = await run(tiny(newSet(`${TINY}c,0,1\n`), '--baseline', 'last-value'));
  t.match(short, { code: 0, err: 'series too short for these windows, left out: 1\n' });
});

t.test('a set in Parquet', async (t) => {
  const folder = newSet(TINY);
  const { DuckDBInstance } = await import('@duckdb/node-api');
  const connection = await (await DuckDBInstance.create(':memory:')).connect();
  await connection.run(`COPY (FROM '${folder}/series.csv') TO '${folder}/series.parquet' (FORMAT parquet)`);
  connection.closeSync();
  rmSync(join(folder, 'series.csv'));
  const { out } = await run(tiny(folder, '--baseline', 'seasonal-naive', '--json'));
  t.match(JSON.parse(out), { scored: 7, MAE: 1, MASE: 0.75 });
});

function near(a: number, b: number): boolean {
  return (Number.isNaN(a) && Number.isNaN(b)) || Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(b));
}

/** Folder of recorded sets. */
const DATA = process.env.FORESHADE_DATA ?? '';
const skip = !existsSync(DATA) && 'FORESHADE_DATA names no folder of recorded sets';
const recorded = skip
  ? []
  : readdirSync(DATA).filter((name) => existsSync(join(DATA, name, 'series.csv.gz')));

/** Every metric of a set in a few windows; for sets of a month the windows and metrics that others publish scores of. */
function questionsOf(name: string, metrics: readonly string[]): OracleQuestion[] {
  const facts = JSON.parse(readFileSync(join(DATA, name, 'dataset.json'), 'utf8'));
  const few = { metrics, horizon: 12, windows: 3, season: facts.season_steps === 288 ? 24 : 20 };
  // The second leaves no season before the windows: each forecast falls back, and no window has a scale.
  if (name === 'google2011') return [few, { ...few, season: 288 }];
  if (!name.startsWith('bitbrains')) return [few];
  const published = { metrics: ['cpu_mhz', 'cpu_pct'], horizon: 48, windows: 18, season: 288 };
  // The last day of their grids has no rows.
  return [
    { ...few, horizon: 144 },
    published,
    { ...published, horizon: 720, windows: 2 },
    { ...published, resampleS: 3600, windows: 2, season: 24 },
  ];
}

t.test('recorded sets agree with the oracle', { skip, timeout: 300_000 }, async (t) => {
  t.not(recorded.length, 0, 'a folder without a set would make this test empty');
  for (const name of recorded) {
    const set = await SeriesSet.open(join(DATA, name));
    const oracle = new Oracle(join(DATA, name));
    for (const question of questionsOf(name, set.metrics)) {
      const evaluations = await evaluateBoth(set, question);
      for (const baseline of BASELINES) {
        const { mae, nd, mase, maseMedian, crps, scored, coverage } = evaluations[baseline];
        const expected = oracle.answer(ORACLE_RULES[baseline], question);
        const title = `${name}: ${baseline}, ${question.windows} windows of ${question.horizon}, season ${question.season}`;
        t.equal(scored, expected.scored, title);
        t.ok(scored > 0);
        for (const [key, value] of Object.entries({
          MAE: mae,
          ND: nd,
          MASE: mase,
          MASE_median: maseMedian,
          CRPS: crps,
        })) {
          const wanted = expected[key as keyof typeof expected] as number;
          t.ok(near(value, wanted), `${title}: ${key} ${value}, oracle ${wanted}`);
        }
        t.ok(
          coverage.every((share, l) => near(share, expected.coverage[l] as number)),
          `${title}: coverage`,
        );
      }
    }
    set.close();
  }
});

/** Both reference forecasts of one reading of a set. */
async function evaluateBoth(set: SeriesSet, question: OracleQuestion) {
  const { grid, stepS = 1 } = set.facts;
  const step = question.resampleS ?? stepS;
  const even = grid && { startS: grid.startS, steps: Math.ceil((grid.steps * stepS) / step) };
  const evaluators = BASELINES.map(
    (name) => [name, new Evaluator(baselineSource(name), { ...question, axis: 'seconds' })] as const,
  );
  for await (const found of (await set.read(question.metrics)).series) {
    const bins = gridBySeconds(found, step, even);
    for (const [, evaluator] of evaluators) evaluator.add(bins);
  }
  return Object.fromEntries(evaluators.map(([name, evaluator]) => [name, evaluator.finish()])) as Record<
    (typeof BASELINES)[number],
    Evaluation
  >;
}
