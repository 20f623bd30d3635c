// Goal: hosts are ranked by what their guests and the new one may come to use together, by what would be left, by hours and by
// tenants; what does not fit is vetoed; what nobody reports stands in the middle. Method: hosts small enough to be worked by
// hand, each rule alone; every answer is finite over seeded hosts of any size.
import t from 'tap';
import { Random } from '../../models/train/random.ts';
import { addStretch, complementOf, DayProfile, HOURS } from '../../orchestrator/core/day-profile.ts';
import { type HostReport, type KnownHost, REPORT_LIFE_MS } from '../../orchestrator/core/host-report.ts';
import { HostTable } from '../../orchestrator/core/host-table.ts';
import { JointTail, sumsWith, tailOf } from '../../orchestrator/core/joint-tail.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import { type Candidate, type GuestDemand, rankHosts } from '../../orchestrator/core/rank-hosts.ts';
import { WorkloadPasts } from '../../orchestrator/engine/workload-pasts.ts';

const GIB = 1024 * MIB;
const HOUR_MS = 3_600_000;
const EMPTY = { mean: 0, rise: 0, riseSquares: 0, size: 0, widest: 0 };
/** One core and 1 GiB that it always uses. */
const ONE: GuestDemand = {
  mean: { cpuMillicores: 1000, memoryBytes: GIB },
  peak: { cpuMillicores: 1000, memoryBytes: GIB },
  ceiling: { cpuMillicores: 1000, memoryBytes: GIB },
  reason: 'a test',
  runs: 0,
};

/** A host of 10 cores and 10 GiB whose guests always use so much. */
function hostOf(host: string, cpu: number, memoryGib: number, changes: Partial<HostReport> = {}): KnownHost {
  const used = { cpuMillicores: cpu * 1000, memoryBytes: memoryGib * GIB };
  const all = { cpuMillicores: 10_000, memoryBytes: 10 * GIB };
  const always = (mean: number) => ({ ...EMPTY, mean, size: mean });
  const report: HostReport = {
    host,
    physical: all,
    capacity: all,
    committed: used,
    demand: { cpuMillicores: always(used.cpuMillicores), memoryBytes: always(used.memoryBytes) },
    tenantGuests: new Map(),
    guests: 1,
    draining: false,
    ...changes,
  };
  return { report, reportedAtMs: 0, silent: false };
}

const at = (known: KnownHost, tenantGuests = 0): Candidate => ({
  host: known.report.host,
  known,
  tenantGuests,
});
const names = (ranked: { host: string }[]) => ranked.map(({ host }) => host);

t.test('the emptier first, or the fuller where that is the goal; equals as they came', async (t) => {
  const hosts = [at(hostOf('half', 5, 5)), at(hostOf('empty', 0, 0)), at(hostOf('twin', 5, 5))];
  const spread = rankHosts(ONE, hosts, 'spread');
  t.strictSame(names(spread), ['empty', 'half', 'twin']);
  // 9 of 10 left: 0.5 x 0.9 + 0.2 x 1 + 0.15 x 0 + 0.15 x 1; and with 4 of 10 left.
  t.strictSame(
    spread.map(({ score }) => score.toFixed(6)),
    ['0.800000', '0.550000', '0.550000'],
  );
  t.match(
    spread[0]?.reasons[0],
    /^90 % left of the scarcer resource: .* 1\.00 cores of 10\.00 cores and 1024 MiB of 10240 MiB/,
  );
  t.strictSame(names(rankHosts(ONE, hosts, 'pack')), ['half', 'twin', 'empty']);
});

t.test('what is left of one resource alone counts against a host', async (t) => {
  const [even, uneven] = rankHosts(ONE, [at(hostOf('uneven', 2, 7)), at(hostOf('even', 7, 7))], 'spread');
  t.equal(even?.host, 'even', 'the same slack, and nothing is stranded');
  t.equal(uneven?.outlook?.stranding.toFixed(6), '0.500000', '7 of 10 cores and 2 of 10 GiB would be left');
  t.match(uneven?.reasons[1], /would leave 50 % more of one resource/);
});

t.test('vetoes, each with its reason', async (t) => {
  const capacity = { cpuMillicores: 20_000, memoryBytes: 20 * GIB };
  // The tail of guests that use 2 cores in the mean and may use 9 is 2 + max(7, ...) = 9; with ours 10.
  const bursty = { mean: 2000, rise: 0, riseSquares: 0, size: 9500, widest: 7500 };
  const cases: { host: KnownHost; why: RegExp }[] = [
    {
      host: hostOf('cpu', 0, 0, {
        capacity,
        demand: { cpuMillicores: { ...bursty }, memoryBytes: EMPTY },
      }),
      why: /short of cpu: with it the guests may come to use 10\.50 cores together, and there are 10\.00 cores/,
    },
    { host: hostOf('memory', 1, 9.5), why: /short of memory: with it the guests may come to use 10752 MiB/ },
    {
      host: hostOf('promises', 1, 1, { committed: { cpuMillicores: 9500, memoryBytes: GIB } }),
      why: /short of cpu: with it 10\.50 cores of 10\.00 cores would be promised/,
    },
    { host: hostOf('drains', 0, 0, { draining: true }), why: /drains/ },
  ];
  const good = at(hostOf('good', 8, 8));
  const ranked = rankHosts(ONE, [...cases.map(({ host }) => at(host)), good], 'spread');
  t.equal(ranked[0]?.host, 'good');
  for (const { host, why } of cases) {
    const found = ranked.find((one) => one.host === host.report.host);
    t.match(found, { verdict: 'veto', score: 0, reasons: [why] });
  }
  const exact = rankHosts(ONE, [at(hostOf('exact', 9, 9))], 'spread');
  t.equal(exact[0]?.verdict, 'pass', 'what fits to the last core fits');
});

t.test('a bursting guest counts with its tail, not with its size', async (t) => {
  // Twenty guests of 0.2 cores in the mean, 0.8 at the peak and 1 at most.
  const tail = new JointTail();
  for (let i = 0; i < 20; i += 1) tail.put(`g${i}`, { mean: 200, peak: 800, size: 1000 });
  const own = Math.sqrt(20) * 600;
  t.equal(tailOf(tail.sums()).toFixed(6), (4000 + 0.5 * 20 * 600 + 1.15 * own).toFixed(6));
  const roomy = hostOf('h', 0, 0, {
    physical: { cpuMillicores: 15_000, memoryBytes: 10 * GIB },
    capacity: { cpuMillicores: 45_000, memoryBytes: 10 * GIB },
    committed: { cpuMillicores: 20_000, memoryBytes: 0 },
    demand: { cpuMillicores: tail.sums(), memoryBytes: EMPTY },
  });
  const [found] = rankHosts(ONE, [at(roomy)], 'spread');
  t.equal(found?.verdict, 'pass');
  t.equal(found?.outlook?.tail.cpuMillicores, tail.levelWith('new', { mean: 1000, peak: 1000, size: 1000 }));
});

t.test('guests that were placed since the report count as the newcomer does', async (t) => {
  const crowded = { ...at(hostOf('crowded', 4, 4)), placedSince: 3 };
  const [first, second] = rankHosts(ONE, [crowded, at(hostOf('other', 5, 5))], 'spread');
  t.equal(first?.host, 'other', '6 of 10 used beside 8 of 10');
  t.equal(second?.outlook?.tail.cpuMillicores, 8000);
  t.match(second?.reasons, [/./, /^3 more placed since its report/]);
  const [full] = rankHosts(ONE, [{ ...crowded, placedSince: 6 }], 'spread');
  t.match(full, { verdict: 'veto', reasons: [/short of cpu/, /short of memory/] });
  // Rises add up as of guests in the book.
  const burst = { mean: 200, peak: 800, size: 1000 };
  const book = new JointTail();
  for (let i = 0; i < 4; i += 1) book.put(`g${i}`, burst);
  t.strictSame(sumsWith(EMPTY, burst, 4), book.sums());
});

t.test(
  'hosts that are busy at other hours, and hosts without guests of the tenant, come first',
  async (t) => {
    const busy = (from: number, to: number) =>
      Array.from({ length: HOURS }, (_, hour) => (hour >= from && hour < to ? 4000 : 500));
    const night = { ...ONE, cpuByHour: busy(0, 6).map((value) => value / 4) };
    const hosts = [
      at(hostOf('at-night', 4, 4, { cpuByHour: busy(0, 6) })),
      at(hostOf('by-day', 4, 4, { cpuByHour: busy(9, 17) })),
      at(hostOf('unknown-hours', 4, 4)),
    ];
    const ranked = rankHosts(night, hosts, 'spread');
    t.equal(ranked[0]?.host, 'by-day');
    // Beside 4,000 by day its own 125 there is all that it adds to the peak: 1 - 125 / 1000.
    t.equal(ranked[0]?.outlook?.complement, 0.875);
    t.equal(ranked.find(({ host }) => host === 'at-night')?.outlook?.complement, 0);
    t.notOk('complement' in (ranked.find(({ host }) => host === 'unknown-hours')?.outlook ?? {}));

    const tenants = rankHosts(
      ONE,
      [at(hostOf('two', 4, 4), 2), at(hostOf('none', 4, 4)), at(hostOf('one', 4, 4), 1)],
      'spread',
    );
    t.strictSame(names(tenants), ['none', 'one', 'two']);
    t.match(tenants[2], {
      outlook: { tenantSpread: 1 / 3 },
      reasons: [/./, /^2 guests of the tenant there already$/],
    });
  },
);

t.test('hosts that nobody reports stand in the middle and are never vetoed', async (t) => {
  const silent = { ...hostOf('silent', 9.9, 9.9), silent: true };
  const unknown: Candidate = { host: 'nobody', tenantGuests: 0 };
  const hosts = [
    at(silent),
    unknown,
    at(hostOf('a', 0, 0)),
    at(hostOf('b', 4, 4)),
    at(hostOf('c', 8, 8)),
    at(hostOf('full', 10, 10)),
  ];
  const ranked = rankHosts(ONE, hosts, 'spread');
  t.strictSame(names(ranked), ['a', 'silent', 'nobody', 'b', 'c', 'full']);
  const b = ranked.find(({ host }) => host === 'b')?.score;
  t.match(ranked[1], { verdict: 'pass', score: b, reasons: [/^unknown: its agent is silent/] });
  t.match(ranked[2], { verdict: 'pass', score: b, reasons: [/^unknown: no agent reports it/] });
  t.strictSame(
    rankHosts(ONE, [unknown], 'spread').map(({ score }) => score),
    [0.5],
    'where nothing is known of any',
  );
  t.strictSame(rankHosts(ONE, [], 'spread'), []);
});

t.test('a thousand hosts, to tell how long they take', async (t) => {
  const hours = Array.from({ length: HOURS }, (_, hour) => hour);
  const hosts = Array.from({ length: 1000 }, (_, i) =>
    at(hostOf(`n${i}`, i % 9, i % 8, { cpuByHour: hours }), i % 3),
  );
  const times: number[] = [];
  for (let round = 0; round < 50; round += 1) {
    const begunMs = performance.now();
    t.equal(rankHosts({ ...ONE, cpuByHour: hours }, hosts, 'spread').length, 1000);
    times.push(performance.now() - begunMs);
  }
  t.comment(`1,000 hosts: median ${times.sort((a, b) => a - b)[25]?.toFixed(2)} ms`);
});

t.test('every score is finite and in [0, 1], whatever is reported', async (t) => {
  const seed = 11;
  t.comment(`seed ${seed}`);
  const random = new Random(seed);
  const amount = (): number => {
    const pick = random.below(4);
    return pick === 0 ? 0 : pick === 1 ? random.next() * 1e-300 : random.next() * 10 ** random.below(16);
  };
  const room = () => ({ cpuMillicores: amount(), memoryBytes: amount() });
  const sums = () => {
    const rise = amount();
    const mean = amount();
    return {
      mean,
      rise,
      riseSquares: random.next() * rise ** 2,
      size: mean + rise + amount(),
      widest: amount(),
    };
  };
  for (let round = 0; round < 2000; round += 1) {
    const known = hostOf('h', 1, 1, {
      physical: room(),
      capacity: room(),
      committed: room(),
      demand: { cpuMillicores: sums(), memoryBytes: sums() },
      cpuByHour: Array.from({ length: HOURS }, amount),
    });
    const demand = { ...ONE, cpuByHour: Array.from({ length: HOURS }, amount) };
    for (const goal of ['spread', 'pack'] as const) {
      const [found] = rankHosts(demand, [at(known, random.below(3))], goal);
      const score = found?.score ?? Number.NaN;
      if (!(score >= 0 && score <= 1)) t.fail(`score ${score} in round ${round}`);
      const { slack = Number.NaN, stranding = Number.NaN, complement = 0 } = found?.outlook ?? {};
      if (
        !(slack >= -1 && slack <= 1 && stranding >= 0 && stranding <= 1 && complement >= 0 && complement <= 1)
      )
        t.fail(`slack ${slack}, stranding ${stranding}, complement ${complement} in round ${round}`);
    }
  }
  t.pass('2,000 hosts');
});

t.test('hours of the day', async (t) => {
  const profile = new DayProfile();
  const total = new Float64Array(HOURS);
  profile.addTo(total);
  t.strictSame([...new Set(total)], [0], 'nothing seen adds nothing');
  for (let hour = 0; hour < 12; hour += 1) profile.add(hour * HOUR_MS, 1000, hour < 6 ? 100 : 300);
  profile.addTo(total);
  t.equal(total[3], 100);
  t.equal(total[9], 300);
  t.equal(total[20], 200, 'an hour never seen is as the mean');
  // Fourteen days later what was seen counts half.
  profile.add(14 * 24 * HOUR_MS + 3 * HOUR_MS, 1000, 400);
  const later = new Float64Array(HOURS);
  profile.addTo(later);
  t.equal(later[3]?.toFixed(6), ((100 * 0.5 + 400) / 1.5).toFixed(6));

  const stretch = new Float64Array(HOURS);
  addStretch(stretch, 22.5 * HOUR_MS, 25 * HOUR_MS);
  t.strictSame([stretch[22], stretch[23], stretch[0], stretch[1]], [HOUR_MS / 2, HOUR_MS, HOUR_MS, 0]);
  addStretch(stretch, 0, 48 * HOUR_MS);
  t.equal(stretch[1], 2 * HOUR_MS, 'days count for every hour alike');
  t.equal(
    complementOf([...new Float64Array(HOURS)], [...stretch]),
    undefined,
    'who uses nothing has no hours',
  );
});

t.test('a workload is remembered by its hours and by what its guests used before', async (t) => {
  const pasts = new WorkloadPasts();
  const outcome = (day: number, hour: number) => ({
    leaseId: '',
    guest: 'g',
    tenant: 'acme',
    workload: 'nightly',
    params: {},
    startedAtMs: (day * 24 + hour) * HOUR_MS,
    finishedAtMs: (day * 24 + hour + 1) * HOUR_MS,
    before: { cpuMillicores: 100 },
    peak: {},
    censored: [],
    completed: true,
  });
  for (let day = 0; day < 6; day += 1) pasts.note(outcome(day, 2));
  pasts.note(outcome(6, 3));
  t.equal(pasts.hours('acme', 'nightly'), undefined, 'seven runs are too few');
  for (let day = 7; day < 9; day += 1) pasts.note(outcome(day, 3));
  const hours = pasts.hours('acme', 'nightly') ?? [];
  t.strictSame([hours[2], hours[3], hours[4]], [1, 0.5, 0]);
  t.strictSame(pasts.before('acme', 'nightly'), { cpuMillicores: 100 });
  t.strictSame(pasts.before('acmenightly', ''), {}, 'names do not run together');
});

t.test('the directory forgets who falls silent, and is bounded', async (t) => {
  let nowMs = 0;
  const table = new HostTable({ nowMs: () => 1e12 - nowMs, monotonicMs: () => nowMs }, 2);
  const report = (host: string) => table.report(hostOf(host, 1, 1).report);
  await report('b');
  await report('a');
  t.strictSame(
    table.list().map(({ report: { host } }) => host),
    ['a', 'b'],
  );
  await t.rejects(report('c'), { code: 'DIRECTORY_FULL' });
  nowMs = REPORT_LIFE_MS;
  t.equal(table.find('a')?.silent, false, 'a report stands for its whole life, whatever the wall clock does');
  await report('b');
  nowMs += 1;
  t.equal(table.find('a')?.silent, true);
  t.equal(table.find('b')?.silent, false);
  await report('c');
  t.equal(table.find('a'), undefined, 'the silent one gave way');
  nowMs += 600_001;
  t.strictSame(table.list(), []);
});
