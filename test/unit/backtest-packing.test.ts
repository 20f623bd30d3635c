// Goal: `foreshade backtest packing` places, draws and scores as it says. Method: fleets of a few guests worked by hand; with
// FORESHADE_DATA and FORESHADE_PACKING=1 a recorded month on small hosts.
import { join } from 'node:path';
import t from 'tap';
import { DAY_BINS } from '../../models/backtest/guests/guest-series.ts';
import { drawFleet, type FleetGuest } from '../../models/backtest/packing/fleet.ts';
import { playPacking } from '../../models/backtest/packing/pack.ts';
import { type PackingRow, packingCells } from '../../models/backtest/packing/packing-rows.ts';
import { PACKING_RULES, type PackingRule } from '../../models/backtest/packing/rules.ts';
import { packingReport } from '../../models/report/packing-report.ts';
import { runCaptured } from '../run-cli.ts';

t.setTimeout(180_000);

/** Half a minute of full load. */
const isProof = process.env.FORESHADE_DATA !== undefined && process.env.FORESHADE_PACKING !== undefined;
const BINS = 4 * DAY_BINS;
const HOST = { cpu: 1000, memory: 100 };

/** A guest of 1,000 MHz and 1 MiB that uses no memory; its CPU by bin. */
function guest(cpu: (bin: number) => number): FleetGuest {
  return {
    cpu: { seen: Float64Array.from({ length: BINS }, (_, bin) => cpu(bin)), ceiling: 1000 },
    memory: { seen: new Float64Array(BINS), ceiling: 1 },
  };
}

function ruleOf(rule: string, setting: string): PackingRule {
  const found = PACKING_RULES.find((one) => one.rule === rule && one.setting === setting);
  if (found === undefined) throw new Error(`there is no ${rule} ${setting}`);
  return found;
}

t.test('hosts and overload by hand', async (t) => {
  // Two days of 300, then 600 for a quarter of the other two.
  const risers = Array.from({ length: 3 }, () =>
    guest((bin) => (bin >= 2 * DAY_BINS && bin % DAY_BINS < DAY_BINS / 4 ? 600 : 300)),
  );
  for (const { rule, setting, direction, expected } of [
    { rule: 'static', setting: 'capacity', direction: 'forward', expected: [3, 0, 0] },
    { rule: 'cpu-overcommit', setting: '4:1', direction: 'forward', expected: [1, 0.25, 0.25] },
    { rule: 'sum-of-p99', setting: '+0 %', direction: 'forward', expected: [1, 0.25, 0.25] },
    { rule: 'sum-of-p99', setting: '+20 %', direction: 'forward', expected: [2, 0.125, 0.25] },
    { rule: 'sum-of-p99', setting: '+0 %', direction: 'reverse', expected: [3, 0, 0] },
    { rule: 'clairvoyant', setting: '0.1 % of the steps', direction: 'forward', expected: [3, 0, 0] },
    { rule: 'clairvoyant', setting: '0.1 % of the steps', direction: 'reverse', expected: [1, 0, 0] },
  ] as const) {
    const score = playPacking(ruleOf(rule, setting), risers, HOST, direction);
    t.same(
      [score.hosts, score.overloadMean, score.overloadWorst],
      expected,
      `${rule} ${setting} ${direction}`,
    );
  }
});

t.test('peaks at different times share a host where times of day are told apart', async (t) => {
  const halves = [0, 1].map((half) =>
    guest((bin) => (bin % DAY_BINS < DAY_BINS / 2 === (half === 0) ? 700 : 100)),
  );
  t.equal(playPacking(ruleOf('coach', '+0 %'), halves, HOST, 'forward').hosts, 1);
  t.equal(playPacking(ruleOf('sum-of-p99', '+0 %'), halves, HOST, 'forward').hosts, 2);
});

t.test('the joint tail keeps a host for a guest that may fill it', async (t) => {
  const idle = Array.from({ length: 3 }, () => guest(() => 10));
  t.equal(playPacking(ruleOf('joint-tail', 'as shipped'), idle, HOST, 'forward').hosts, 3);
  const larger = { cpu: 4000, memory: 100 };
  t.equal(playPacking(ruleOf('joint-tail', 'as shipped'), idle, larger, 'forward').hosts, 1);
});

t.test('a drawn fleet is moved round its month', async (t) => {
  const [drawn] = drawFleet([guest((bin) => bin)], 1, 'days', (count) => count - 1);
  t.equal(drawn?.cpu.seen[0], DAY_BINS, 'three days on, the fourth is first again');
  t.equal(drawn?.cpu.seen.length, BINS);
});

/** A rule at one setting, both ways round. */
function bothWays(rule: string, setting: string, hosts: number, overloadMean: number): PackingRow[] {
  const score = { rule, setting, hosts, overloadWorst: overloadMean };
  return [
    { ...score, direction: 'forward', overloadMean },
    { ...score, direction: 'reverse', overloadMean: 0 },
  ];
}

const ROWS = [
  ...bothWays('joint-tail', 'as shipped', 5, 0.001),
  ...bothWays('coach', '+0 %', 4, 0.0011),
  ...bothWays('<b>&', '+5 %', 7, 0),
  ...bothWays('clairvoyant', 'known', 3, 0),
];

t.test('a setting is kept when both halves are', async (t) => {
  t.strictSame(packingCells(ROWS), [
    ['joint-tail', 'as shipped', '5 / 5', '0.10 % / 0.00 %', '0.10 % / 0.10 %', 'kept'],
    ['coach', '+0 %', '4 / 4', '0.11 % / 0.00 %', '0.11 % / 0.11 %', ''],
    ['<b>&', '+5 %', '7 / 7', '0.00 % / 0.00 %', '0.00 % / 0.00 %', 'kept'],
    ['clairvoyant', 'known', '3 / 3', '0.00 % / 0.00 %', '0.00 % / 0.00 %', 'kept'],
  ]);
});

t.test('the report shows every rule, and none becomes markup', async (t) => {
  const story = { dataset: '<i>set', guests: 9, host: '8 cores', rows: ROWS };
  const page = packingReport({ ...story, madeAt: '2026-01-02T03:04:05Z' });
  for (const text of ['&lt;i&gt;set', '7 / 7', '&lt;b&gt;&amp;', 'hardly overloaded']) t.match(page, text);
  t.match(page, /best fixed rule.*7 \/ 7.*clairvoyant/s, 'the best fixed rule is one that was kept');
  t.notMatch(page, /<i>set|<b>&|NaN|Infinity|undefined/);
});

t.test(
  'the command',
  { skip: !isProof && 'FORESHADE_DATA and FORESHADE_PACKING are not both set' },
  async (t) => {
    const data = join(process.env.FORESHADE_DATA ?? '', 'bitbrains_rnd_2013_08');
    const small = ['--host-cores', '8', '--host-memory-gib', '64'];
    const { out } = await runCaptured(['backtest', 'packing', '--data', data, ...small, '--json']);
    const { rows } = JSON.parse(out) as {
      rows: { rule: string; direction: string; hosts: number; overload_mean: number }[];
    };
    t.equal(rows.length, PACKING_RULES.length * 2);
    const hosts = (rule: string) => rows.filter((row) => row.rule === rule).map((row) => row.hosts);
    t.same(hosts('static'), [37, 37]);
    t.same(hosts('clairvoyant'), [14, 14]);
    for (const row of rows.filter(({ rule }) => rule === 'joint-tail')) {
      t.ok(row.hosts <= 18, `${row.direction}: ${row.hosts} hosts`);
      t.ok(row.overload_mean <= 0.001, `${row.direction}: overloaded ${row.overload_mean}`);
    }
  },
);
