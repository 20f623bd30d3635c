// Goal: `foreshade backtest requests` gives what the rules would have wasted and lost, by their definitions, and the
// product's forecaster with its allocation beats them.
// Method: a set whose every figure is worked by hand; then the recorded sets below FORESHADE_DATA against an oracle that
// works each allocation anew and shares no code.
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
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { LEVELS, QUANTILE_LEVELS } from '../../orchestrator/core/forecast.ts';
import { cheapestAllocation, nextPrice, triesOf } from '../../orchestrator/core/retry-cost.ts';
import { runCaptured } from '../run-cli.ts';
import { BacktestOracle, type OraclePolicy } from './backtest-oracle.ts';

const root = mkdtempSync(join(tmpdir(), 'fs-backtest-'));
// The recorded sets take most of a minute.
t.setTimeout(300_000);
t.teardown(() => rmSync(root, { recursive: true, force: true }));

const GIB = 1024 ** 3;
const HEAD = 'workload,p_in_bytes,requested_memory_bytes,used_memory_bytes,used_cpu_pct,runtime_s\n';
const TINY = `${HEAD}${[
  ['a', 1, 4 * GIB, GIB, 100, 3600],
  ['a', 2, 4 * GIB, 2 * GIB, 200, 3600],
  ['a', 3, 4 * GIB, 3 * GIB, 300, 7200],
  ['b', 1, 4 * GIB, 6 * GIB, 100, 1800],
]
  .map((cells) => cells.join(','))
  .join('\n')}\n`;

let sets = 0;

function newSet(csv: string | Buffer, facts: object = {}): string {
  sets += 1;
  const folder = join(root, `set-${sets}`);
  mkdirSync(folder);
  writeFileSync(join(folder, 'dataset.json'), JSON.stringify({ name: 'tiny', kind: 'requests', ...facts }));
  writeFileSync(join(folder, typeof csv === 'string' ? 'requests.csv' : 'requests.csv.gz'), csv);
  return folder;
}

const run = (folder: string, ...more: string[]) =>
  runCaptured(['backtest', 'requests', '--data', folder, ...more]);

interface Row {
  readonly policy: string;
  readonly resource: string;
  readonly wastage_gib_h: number;
  readonly failures_per_1000: number;
  readonly median_over: number;
  readonly CRPS: number;
  readonly scored: number;
}

/** Rows of a document by policy and resource. */
async function rowsOf(folder: string): Promise<(policy: string, resource: string) => Row | undefined> {
  const { code, out, err } = await run(folder, '--json');
  if (code !== 0) throw new Error(err);
  const rows: Row[] = JSON.parse(out).rows;
  return (policy, resource) => rows.find((row) => row.policy === policy && row.resource === resource);
}

function near(a: number | undefined, b: number): boolean {
  return a !== undefined && Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(b));
}

t.test('figures worked by hand', async (t) => {
  const row = await rowsOf(newSet(TINY));
  // In GiB h. requested: 4 - 1, 4 - 2, (4 - 3) x 2, (4 lost + 8 - 6) x 0.5.
  // workload-p95: cold 3; 1 is lost and 2 fits; 1.95 is lost, 3.9 fits: 2.85 x 2; cold 3.
  // witt: cold 3; 1 is lost and 2 fits; the line through both says 3, which is all of it; cold 3.
  for (const [policy, wasted, failures, over] of [
    ['requested', 3 + 2 + 2 + 3, 250, (2 + 4 / 3) / 2],
    ['workload-p95', 3 + 1 + 5.7 + 3, 750, (0.65 + 2 / 3) / 2],
    ['witt', 3 + 1 + 0 + 3, 500, (2 / 3 + 1) / 2],
    ['oracle', 0, 0, 1],
  ] as const) {
    const found = row(policy, 'memory');
    t.ok(near(found?.wastage_gib_h, wasted), `${policy} wastes ${found?.wastage_gib_h}`);
    t.equal(found?.failures_per_1000, failures, policy);
    t.ok(near(found?.median_over, over), `${policy}: ${found?.median_over}`);
    t.equal(found?.CRPS, null);
  }
  // The first request is not scored. Then, in cores: 1 for 2: loss 0.5; quantiles 1 + level for 3: mean of
  // level (2 - level); b by every run, 1 + 2 level for 1: mean of 2 level (1 - level). The mean of level^2 is 2.85 / 9.
  const squares = 2.85 / 9;
  const cpu = row('workload-quantiles', 'cpu');
  t.equal(cpu?.scored, 3);
  t.ok(near(cpu?.CRPS, (2 * (0.5 + (1 - squares) + 2 * (0.5 - squares))) / 6), `${cpu?.CRPS}`);
  t.match(cpu, { wastage_gib_h: null, failures_per_1000: null, median_over: null });
  t.equal(row('foreshade', 'memory')?.scored, 3);
  t.equal(row('foreshade', 'disk_write'), undefined, 'what was not recorded has no row');
});

t.test('lost tries are repeated with twice as much', async (t) => {
  t.strictSame(triesOf(3, 3), { wasted: 0, lost: 0 });
  t.strictSame(triesOf(5, 3), { wasted: 2, lost: 0 });
  t.strictSame(triesOf(1, 3), { wasted: 1 + 2 + (4 - 3), lost: 2 });
});

t.test('the cheapest allocation follows the price of a lost try', async (t) => {
  // Needs of 100 to 199 units, evenly.
  const quantiles = Float64Array.from(QUANTILE_LEVELS, (level) => 100 + 100 * level);
  const at = (price: number, weight = 1) => cheapestAllocation(quantiles, 1, weight, price);
  // At no price covering a need in the middle still beats losing: a lost try wastes all it had.
  t.ok(at(0) >= 150 && at(0) <= 205, `${at(0)}`);
  let before = 0;
  for (const price of [0, 10, 100, 1e4, 1e6]) {
    t.ok(at(price) >= before, `at ${price}: ${at(price)}`);
    before = at(price);
  }
  t.ok(at(1e6) > 250, 'dear losses: beyond what is held for possible');
  t.equal(at(100, 10), at(10, 1), 'only their ratio counts');
  // All needs alike: a step of a grain or so above, whatever the price.
  const same = cheapestAllocation(new Float64Array(LEVELS).fill(1000), 1, 1, 0);
  t.ok(same > 1000 && same < 1030, `${same}`);
});

t.test('the price settles where the target is lost', async (t) => {
  const policy = { target: 0.02, rate: 0.005, priceMin: 1e-3, priceMax: 1e3 };
  let price = 1;
  for (let i = 0; i < 500; i += 1) price = nextPrice(price, i % 50 === 0 ? 1 : 0, policy);
  t.ok(near(price, 1), 'one in fifty is 0.02: no change');
  t.equal(nextPrice(1e3, 1, policy), 1e3);
  t.equal(nextPrice(1e-3, 0, policy), 1e-3);
});

t.test('help, text and progress', async (t) => {
  const help = await runCaptured(['backtest', 'requests', '--help']);
  t.match(help, { code: 0, err: '' });
  t.match(help.out, /--data <folder>[\s\S]*--json[\s\S]*Examples:/);
  const folder = newSet(gzipSync(TINY));
  const { code, out, err } = await runCaptured(['backtest', 'requests', '--data', folder], {
    errIsTerminal: true,
  });
  t.equal(code, 0);
  t.match(out, /^RESOURCE +POLICY +WASTED GiB h +LOST PER 1000 +GIVEN \/ USED +CRPS/);
  t.match(out, /memory +workload-p95 +12\.7 +750 /);
  t.match(out, /\n\ntiny: 4 requests/);
  t.match(err, /^reading .*\n\r 25 % {2}1 of 4 requests\r[\s\S]*\r100 % {2}4 of 4 requests\n$/);
});

t.test('what does not fit is said', async (t) => {
  const line = `a,1,4,1,100,1\n`;
  const without = (column: string) => newSet(`${HEAD.replace(column, 'other')}${line}`);
  for (const [name, folder, expected] of [
    ['no folder', join(root, 'none'), /dataset\.json cannot be used: ENOENT.*\(SET_REFUSED\)/],
    ['series', newSet(TINY, { kind: 'series' }), /kind is "series", and only requests/],
    ['no workload', without('workload'), /has no column workload/],
    ['no run time', without('runtime_s'), /has no column runtime_s/],
    ['no memory', without('used_memory_bytes'), /has no column used_memory_bytes or used_peak_rss_bytes/],
    ['no rows', newSet(HEAD), /has no requests/],
    ['a short row', newSet(`${HEAD}${line}a,1\n`), /request 2 has 2 cells, the header has 6/],
    ['NaN', newSet(`${HEAD}a,1,4,NaN,100,1\n`), /used_memory_bytes of request 1 is "NaN", no number from 0/],
    ['negative', newSet(`${HEAD}${line}a,1,4,1,100,-1\n`), /runtime_s of request 2 is "-1"/],
    ['infinite', newSet(`${HEAD}a,1,4,1,inf,1\n`), /used_cpu_pct of request 1 is "inf"/],
    ['empty memory', newSet(`${HEAD}a,1,4,,100,1\n`), /used_memory_bytes of request 1 is empty/],
    ['nameless', newSet(`${HEAD},1,4,1,100,1\n`), /workload of request 1 is empty/],
    ['truncated', newSet(gzipSync(TINY).subarray(0, 60)), /requests\.csv\.gz cannot be read: unexpected end/],
    ['not packed', newSet(Buffer.from(TINY)), /requests\.csv\.gz cannot be read: incorrect header/],
  ] as const) {
    const { code, out, err } = await run(folder);
    t.equal(code, 1, name);
    t.equal(out, '', name);
    t.match(err, expected, name);
  }
  t.match(await runCaptured(['backtest', 'requests']), { code: 2, out: '', err: /--data/ });
});

t.test('empty cells were not recorded, quoted ones may hold commas', async (t) => {
  const csv = `${HEAD}"a, ""b""",1,,1000000,,1\n"a, ""b""",,,1000000,50,1\n"a, ""b""",2,,1000000,50,1\r\n`;
  const row = await rowsOf(newSet(csv));
  t.equal(row('requested', 'memory'), undefined, 'requested by some only');
  t.equal(row('workload-quantiles', 'cpu')?.scored, 1, 'nothing was known before the first that is recorded');
});

/** Folder of recorded sets. */
const DATA = process.env.FORESHADE_DATA ?? '';
const skip = !existsSync(DATA) && 'FORESHADE_DATA names no folder of recorded sets';
const recorded = skip
  ? []
  : readdirSync(DATA).filter(
      (name) =>
        existsSync(join(DATA, name, 'requests.csv.gz')) &&
        JSON.parse(readFileSync(join(DATA, name, 'dataset.json'), 'utf8')).kind === 'requests',
    );

t.test(
  'recorded sets: the oracle agrees, and the product beats the rules',
  { skip, timeout: 300_000 },
  async (t) => {
    t.not(recorded.length, 0, 'a folder without a set would make this test empty');
    for (const name of recorded) {
      const row = await rowsOf(join(DATA, name));
      const oracle = new BacktestOracle(join(DATA, name));
      for (const policy of [
        'requested',
        'workload-p95',
        'witt',
        'oracle',
      ] as const satisfies OraclePolicy[]) {
        const found = row(policy, 'memory');
        if (found === undefined) continue;
        const expected = oracle.scores(policy);
        t.ok(
          near(found.wastage_gib_h, expected.wastage_gib_h),
          `${name}: ${policy} wastes ${found.wastage_gib_h}`,
        );
        t.ok(near(found.failures_per_1000, expected.failures_per_1000), `${name}: ${policy} loses`);
        t.ok(near(found.median_over, expected.median_over), `${name}: ${policy} gives`);
      }
      for (const [resource, column] of [
        ['disk_write', 'used_write_bytes'],
        ['duration', 'runtime_s'],
      ] as const) {
        const [found, expected] = [row('workload-quantiles', resource)?.CRPS, oracle.crps(column)];
        t.ok(near(found, expected), `${name}: ${resource} ${found}, oracle ${expected}`);
      }
      const ours = row('foreshade', 'memory') as Row;
      const best = Math.min(
        ...['witt', 'workload-p95'].map((policy) => row(policy, 'memory')?.wastage_gib_h as number),
      );
      t.ok(
        ours.wastage_gib_h <= 0.75 * best,
        `${name}: ${ours.wastage_gib_h} GiB h wasted, the best rule ${best}`,
      );
      t.ok(ours.failures_per_1000 <= 20, `${name}: ${ours.failures_per_1000} of 1,000 lost`);
      for (const [resource, bar] of [
        ['disk_write', 0.85],
        ['cpu', 0.9],
      ] as const) {
        const share =
          (row('foreshade', resource)?.CRPS as number) /
          (row('workload-quantiles', resource)?.CRPS as number);
        t.ok(share <= bar, `${name}: CRPS of ${resource} ${share.toFixed(3)} of the workload's quantiles'`);
      }
    }
  },
);
