// Goal: `foreshade backtest guests` scores allocations by their definitions, and its policies decide as they say.
// Method: series of a few values worked by hand; then with FORESHADE_DATA the strongest policy and the oracle against the
// figures that are published of them.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { AllocationSheet } from '../../models/backtest/guests/allocation-sheet.ts';
import { bestSlackAt, slackAt } from '../../models/backtest/guests/frontier.ts';
import { byPolicy, type GuestRow, gapClosed, nearTargets } from '../../models/backtest/guests/guest-rows.ts';
import { ACTUATORS, guestSeries, WARM_UP_BINS } from '../../models/backtest/guests/guest-series.ts';
import { putInForce } from '../../models/backtest/guests/in-force.ts';
import { ORACLE, PEERS, type Peer } from '../../models/backtest/guests/peers.ts';
import { playPeer } from '../../models/backtest/guests/play-peer.ts';
import { windowMax } from '../../models/backtest/guests/window-max.ts';
import { guestsReport } from '../../models/report/guests-report.ts';
import { readGuestSet } from '../../orchestrator/cli/backtest-guest-set.ts';
import { runCaptured } from '../run-cli.ts';

t.setTimeout(180_000);
const { NaN: none, POSITIVE_INFINITY } = Number;

/** A warm-up of one value, then these. */
function warmed(value: number, ...then: number[]): Float64Array {
  return Float64Array.of(...new Array<number>(WARM_UP_BINS).fill(value), ...then);
}

t.test('a series is clipped, and a gap shows the last value and is not demand', async (t) => {
  const series = guestSeries('a', Float64Array.of(none, 5, none, 90), 40);
  t.same([...series.seen], [0, 5, 5, 40]);
  t.ok(Number.isNaN(series.demand[2]));
  t.equal(series.provisioned, 40);
  const open = guestSeries('a', Float64Array.of(3, 9, 4), none);
  t.same([open.provisioned, open.ceiling], [9, POSITIVE_INFINITY]);
});

t.test('a decision comes into force later, in grains, between floor and ceiling', async (t) => {
  const inForce = new Float64Array(5);
  const series = guestSeries('a', new Float64Array(5), 300);
  putInForce(series, ACTUATORS.cpu, 2, Float64Array.of(0, 79, 78, 999, 999), inForce);
  // 79 is 3.04 grains of 26, 78 is three of them; nothing arrives in the first two bins.
  t.same([...inForce], [300, 300, 65, 104, 78]);
});

t.test('memory moves 3,000 MiB a bin', async (t) => {
  const mib = 1024;
  const inForce = new Float64Array(4);
  const series = guestSeries('a', new Float64Array(4), 8000 * mib);
  putInForce(series, ACTUATORS.memory, 1, Float64Array.of(1000 * mib, 1000 * mib, 5000 * mib, 0), inForce);
  t.same(
    [...inForce].map((size) => size / mib),
    [8000, 5000, 2000, 5000],
  );
});

t.test('scores', async (t) => {
  const sheet = new AllocationSheet();
  // Scored: 10 of 20; 30 of 20, short by 10; a gap; 20 of 20, which is no violation.
  sheet.add(guestSeries('a', warmed(99, 10, 30, none, 20), none), warmed(20, 20, 20, 40, 20));
  // Never short: 40 of 40, four times.
  sheet.add(guestSeries('b', warmed(99, 40, 40, 40, 40), none), warmed(50, 40, 40, 40, 40));
  const score = sheet.total();
  t.equal(score.violation, 1 / 7);
  t.equal(score.volume, 10 / 220);
  t.equal(score.slack, 1 - 210 / 220);
  // Own violations 0 and 1/3: the 95th percentile lies at 0.95 of the way.
  t.ok(Math.abs(score.p95Violation - 0.95 / 3) < 1e-12);
  // Changes: to 40 and back; and one as the warm-up ends. Eight bins of guests.
  t.equal(score.churn, (3 * 288) / 8);
});

t.test('a frontier is linear in the logarithm of the violation', async (t) => {
  const points = [
    { violation: 0.1, slack: 0.1 },
    { violation: 0.001, slack: 0.5 },
    { violation: 0.05, slack: 0.6 }, // beaten
  ];
  t.ok(Math.abs(slackAt(points, 0.01) - 0.3) < 1e-12);
  t.equal(slackAt(points, 0.5), 0.1);
  t.ok(Number.isNaN(slackAt(points, 1e-4)));
  t.equal(slackAt([{ violation: 0, slack: 0.9 }, ...points], 5e-4), 0.9);
  t.equal(bestSlackAt([points, [{ violation: 0.005, slack: 0.25 }]], 0.01), 0.25);
});

t.test('a running maximum', async (t) => {
  const out = new Float64Array(6);
  windowMax(Float64Array.of(3, 1, 2, 5, 0, 0), 2, out);
  t.same([...out], [3, 3, 2, 5, 5, 0]);
});

t.test('the oracle is never short, and grows early where a move takes long', async (t) => {
  const mib = 1024;
  const demand = warmed(100 * mib, 100 * mib, 100 * mib, 7000 * mib, 100 * mib);
  const [point] = playPeer(ORACLE, [guestSeries('a', demand, 8000 * mib)], ACTUATORS.memory, 1);
  t.equal(point?.score.violation, 0);
  // 1,000, 4,000, 7,000 and 4,000 MiB are given where 100, 100, 7,000 and 100 are used.
  t.ok(Math.abs((point?.score.slack ?? 0) - (1 - 7300 / 16_000)) < 1e-12);
});

t.test('every policy gives a steady guest enough', async (t) => {
  const steady = guestSeries('a', warmed(1300, 1300, 1300), 2600);
  for (const peer of PEERS)
    for (const { parameter, score } of playPeer(
      { ...peer, margins: peer.margins.filter((margin) => margin >= 1) },
      [steady],
      ACTUATORS.cpu,
      1,
    ))
      t.equal(score.violation, 0, `${peer.policy} ${parameter}`);
});

const row = (policy: string, target: number | null, violation: number, slack: number): GuestRow => ({
  policy,
  resource: 'disk',
  target,
  parameter: 'p',
  score: { violation, slack, volume: 0, p95Violation: 0, churn: 0 },
});
const ROWS = [
  row('foreshade', 0.01, 0.01, 0.3),
  row('window-max', null, 0.1, 0.2),
  row('window-max', null, 0.001, 0.6),
  row('<b>&', null, 0.02, 0.5),
  row('oracle', null, 0, 0.1),
];

t.test('the gap is closed from the best other policy to the oracle', async (t) => {
  // Half of the way from 0.1 % to 10 %, in powers of ten, window-max has 0.4; the oracle 0.1.
  const { best, least, share } = gapClosed(ROWS[0] as GuestRow, ROWS);
  t.ok(Math.abs(best - 0.4) < 1e-12 && least === 0.1 && Math.abs(share - 1 / 3) < 1e-9);
  const shown = nearTargets(byPolicy(ROWS, 'disk').get('window-max') ?? [], [0.05, 1e-4]);
  t.strictSame(shown, [ROWS[2]]);
});

t.test('the report shows every policy, and none becomes markup', async (t) => {
  const page = guestsReport({
    ...{ dataset: '<i>set', fit: 'other', guests: 3, lead: 1, targets: [0.01], rows: ROWS },
    madeAt: '2026-01-02T03:04:05Z',
  });
  for (const text of ['&lt;i&gt;set', '&lt;b&gt;&amp;', 'window-max', '33.3 %']) t.match(page, text);
  t.notMatch(page, /<i>set|<b>&|NaN|Infinity|undefined/);
});

const START_S = 1_375_308_000;
const SMALL_BINS = WARM_UP_BINS + 144;
const FACTS = { name: 'small', kind: 'series', step_seconds: 300, season_steps: 288 };

t.test('two months of two guests, by the command', async (t) => {
  const folder = t.testdir({
    'dataset.json': JSON.stringify({ ...FACTS, start: START_S, steps: SMALL_BINS }),
    'static.csv': 'series,cpu_cap_mhz,mem_cap_kb\na,2600,4194304\nb,5200,8388608\n',
  });
  const line = (guest: string, bin: number): string => {
    const busy = bin % 12 === 0 ? 4 : 1;
    return [guest, START_S + bin * 300, 300 * busy, 500_000 * busy, 0, 900 * busy, 400, 90 * busy].join(',');
  };
  const lines = ['a', 'b'].flatMap((guest) =>
    Array.from({ length: SMALL_BINS }, (_, bin) => line(guest, bin)),
  );
  const head = 'series,t,cpu_mhz,mem_kb,disk_r_kbs,disk_w_kbs,net_rx_kbs,net_tx_kbs';
  writeFileSync(join(folder, 'series.csv.gz'), gzipSync([head, ...lines, ''].join('\n')));
  const report = join(folder, 'guests.html');
  const run = ['backtest', 'guests', '--fit', folder, '--data', folder, '--targets', '0.05', '--json'];
  const { code, out, err } = await runCaptured([...run, '--report', report]);
  t.equal(code, 0, err);
  const { rows } = JSON.parse(out) as { rows: { policy: string; resource: string; violation: number }[] };
  t.strictSame(
    [...new Set(rows.map(({ policy }) => policy))].sort(),
    [...new Set(['foreshade', 'oracle', ...PEERS.map(({ policy }) => policy)])].sort(),
  );
  for (const own of rows.filter(({ policy }) => policy === 'foreshade'))
    t.ok(own.violation < 0.2, `${own.resource}: short in ${own.violation} of the bins`);
  t.match(readFileSync(report, 'utf8'), /<svg class="plot"/);
  const unknown = await runCaptured([...run, '--model', 'no-such']);
  t.not(unknown.code, 0);
  t.match(unknown.err, /there is no model no-such/);
});

t.test('wrong usage and unknown sets are told', async (t) => {
  for (const [more, says] of [
    [['--targets', '2'], /fractions between 0 and 1/],
    [['--lead', '0'], /whole number from 1/],
    [['--guests', 'a,a'], /different guests/],
    [['--guests', '@/nowhere/guests'], /no such file/],
    [[], /static.csv cannot be used/],
  ] as const) {
    const { code, err } = await runCaptured([
      ...['backtest', 'guests', '--fit', '/nowhere', '--data', '/nowhere'],
      ...more,
    ]);
    t.not(code, 0);
    t.match(err, says);
  }
});

const recorded = process.env.FORESHADE_DATA;
t.test('figures on recorded guests', { skip: recorded === undefined }, async (t) => {
  const set = await readGuestSet(join(recorded ?? '', 'bitbrains_rnd_2013_08'));
  const windows = PEERS.find(({ policy }) => policy === 'window-max') as Peer;
  for (const [resource, best, oracle] of [
    ['cpu', 0.263, 0.026],
    ['memory', 0.587, 0.073],
  ] as const) {
    const play = (peer: Peer) =>
      playPeer(peer, set.fleets[resource], ACTUATORS[resource], 1).map(({ score }) => score);
    t.ok(Math.abs(slackAt(play(windows), 0.01) - best) < 0.01, `${resource}: window-max`);
    t.ok(Math.abs((play(ORACLE)[0]?.slack ?? 0) - oracle) < 0.01, `${resource}: oracle`);
  }
});
