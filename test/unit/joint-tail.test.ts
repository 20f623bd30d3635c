// Goal: the joint tail of guests' demand follows its formula, whatever came and went, and admission keeps to it. Method:
// fleets small enough to be worked by hand, and a seeded run of changes against a tail made anew.
import t from 'tap';
import { Random } from '../../models/train/random.ts';

import { admit, type DemandBound } from '../../orchestrator/core/admit.ts';
import { DemandHistory } from '../../orchestrator/core/demand-history.ts';
import { JointTail } from '../../orchestrator/core/joint-tail.ts';
import { type Entitlement, MIB } from '../../orchestrator/core/profile.ts';
import { DemandBook } from '../../orchestrator/engine/demand-book.ts';

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

t.test('the tail of a few guests', async (t) => {
  const tail = new JointTail();
  t.equal(tail.levelWith(), 0, 'of none');
  tail.put('a', { mean: 100, peak: 400, size: 400 });
  t.equal(tail.levelWith(), 400, 'one may use all it has, and no more');
  for (let i = 1; i < 16; i += 1) tail.put(`b${i}`, { mean: 100, peak: 400, size: 400 });
  // 16 x 100 + 0.5 x 16 x 300 + 1.15 x 300 x sqrt(16); the other way: 1600 + 300 + 0.5 x 300 x 4.
  t.equal(tail.levelWith(), 1600 + 2400 + 1380);
  tail.put('big', { mean: 0, peak: 0, size: 10_000 });
  t.equal(tail.levelWith(), 1600 + 10_000 + 600, 'a guest that never did anything may do all it can');
  t.equal(
    tail.levelWith('big', { mean: 50, peak: 50, size: 50 }),
    5380 + 50,
    'asked with another in its place',
  );
  t.equal(tail.levelWith(), 12_200, 'asking changes nothing');
  tail.drop('big');
  tail.drop('nobody');
  t.equal(tail.levelWith(), 5380);
  t.throws(() => tail.put('c', { mean: 2, peak: 1, size: 3 }));
  t.throws(() => tail.put('c', { mean: Number.NaN, peak: 1, size: 3 }));
});

t.test('changes leave what a tail made anew has', async (t) => {
  const seed = 7;
  const random = new Random(seed);
  let most = 0;
  const tail = new JointTail();
  const members = new Map<string, { mean: number; peak: number; size: number }>();
  for (let step = 0; step < 3000; step += 1) {
    const guest = `g${random.below(40)}`;
    if (random.next() < 0.3) {
      tail.drop(guest);
      members.delete(guest);
    } else {
      const [mean = 0, peak = 0, size = 0] = [random.next(), random.next(), random.next()].sort(
        (a, b) => a - b,
      );
      tail.put(guest, { mean, peak, size });
      members.set(guest, { mean, peak, size });
    }
    const anew = new JointTail();
    for (const [name, profile] of members) anew.put(name, profile);
    const other = { mean: 0.1, peak: 0.2, size: 0.9 };
    most = Math.max(
      most,
      Math.abs(tail.levelWith() - anew.levelWith()),
      Math.abs(tail.levelWith(guest, other) - anew.levelWith(guest, other)),
    );
  }
  t.ok(most <= 1e-9, `seed ${seed}: at most ${most} apart`);
});

t.test('a history', async (t) => {
  const history = new DemandHistory();
  t.same(history.profile(1000), { mean: 1000, peak: 1000, size: 1000 }, 'nothing known: all of it');
  for (let hour = 0; hour < 48; hour += 1) history.add(hour * HOUR_MS, HOUR_MS, 100);
  const short = history.profile(1000);
  t.ok(Math.abs(short.mean - 100) < 1e-9);
  t.ok(Math.abs(short.peak - 550) < 10, 'two days leave half of the way to its size unseen');
  for (let hour = 48; hour < 40 * 24; hour += 1)
    history.add(hour * HOUR_MS, HOUR_MS, hour % 24 === 0 ? 700 : 100);
  const long = history.profile(1000);
  t.ok(long.peak > 600 && long.peak < 750, 'an hour a day is above the 99th percentile of time, and seen');
  t.equal(history.profile(300).peak, 300, 'what it may use cuts it');
  for (let day = 40; day < 200; day += 1) history.add(day * DAY_MS, DAY_MS, 100);
  t.ok(history.profile(1000).peak < 115, 'what is long past is forgotten');
  t.throws(() => history.add(0, HOUR_MS, Number.NaN));
  t.throws(() => history.add(0, 0, 1));
});

t.test('admission keeps to both bounds and says which spoke', async (t) => {
  const size = (cpuMillicores: number, memoryBytes: number): Entitlement => ({
    cpuMillicores,
    vcpuCount: 1,
    memoryBytes,
  });
  const capacity = { cpuMillicores: 16_000, memoryBytes: 1000 * MIB };
  const committed = { cpuMillicores: 8000, memoryBytes: 500 * MIB };
  const demand: DemandBound = {
    physical: { cpuMillicores: 8000, memoryBytes: 1000 * MIB },
    // The others may come to use 6 cores.
    tailWith: ({ cpuMillicores, memoryBytes }) => ({ cpuMillicores: 6000 + cpuMillicores, memoryBytes }),
  };
  const held = size(1000, 100 * MIB);
  const part = admit(capacity, committed, held, size(4000, 100 * MIB), size(1500, 100 * MIB), demand);
  t.equal(part.kind, 'grant-part');
  const given = part.kind === 'grant-part' ? part.entitlement.cpuMillicores : 0;
  t.ok(given > 1990 && given <= 2000, `${given}: 8 cores less 6, to a thousandth`);
  t.match(part.reason, /may come to use 10\.00 cores together, and there are 8\.00 cores/);
  const none = admit(capacity, committed, held, size(4000, 100 * MIB), size(3000, 100 * MIB), demand);
  t.equal(none.kind, 'no-room');
  t.match(none.reason, /short of cpu, with it the guests may come to use/);
  const promised = admit(capacity, committed, held, size(1500, 900 * MIB), size(1000, 700 * MIB), demand);
  t.match(promised.reason, /short of memory, 500 MiB of 1000 MiB are promised/);
  t.equal(admit(capacity, committed, held, size(2000, 100 * MIB), held, demand).kind, 'grant');
});

t.test('the book of demand counts what is seen, foreseen or unknown', async (t) => {
  const sizes = new Map([
    ['seen', { size: { cpuMillicores: 4000, memoryBytes: 400 * MIB } }],
    ['unknown', { size: { cpuMillicores: 1000, memoryBytes: 100 * MIB } }],
  ]);
  const book = new DemandBook((guest) => sizes.get(guest));
  for (const guest of sizes.keys()) book.touch(guest);
  const nothing = { cpuMillicores: 0, memoryBytes: 0 };
  t.equal(book.tailWith('new', nothing, nothing).cpuMillicores, 5000, 'nothing seen yet: all they may use');
  for (let hour = 0; hour < 30 * 24; hour += 1) {
    const usage = { cpuMillicores: 500, memoryBytes: 50 * MIB };
    book.note({ guest: 'seen', atMs: hour * HOUR_MS, periodMs: HOUR_MS, cadence: 'full', usage, flags: [] });
  }
  const given = { cpuMillicores: 2000, memoryBytes: 200 * MIB };
  // The unknown's 1000, the lease's 2000 of which 1500 is the median; of the other 500, or all of its 4000.
  const { cpuMillicores, memoryBytes } = book.tailWith('new', given, {
    cpuMillicores: 1500,
    memoryBytes: 150 * MIB,
  });
  t.ok(
    cpuMillicores > 6700 && cpuMillicores < 6900,
    `${cpuMillicores}: 500 + 1000 + 1500 + 3500, and half of 500`,
  );
  t.ok(memoryBytes > 670 * MIB && memoryBytes < 690 * MIB);
  // What a report says: the unknown's 1000 and 100 MiB beside the seen one's 500 and 50 MiB. Old days weigh by powers of two.
  const { cpuMillicores: cpu, memoryBytes: memory } = book.sums();
  const near = (value: number, expected: number): boolean => Math.abs(value / expected - 1) < 1e-9;
  t.ok(near(cpu.mean, 1500) && near(cpu.size, 5000));
  t.ok(near(memory.mean, 150 * MIB) && near(memory.size, 500 * MIB), 'in bytes');
  t.ok(near(memory.widest, 350 * MIB));
  t.ok(
    memory.riseSquares > 0 && near(memory.riseSquares, memory.rise ** 2),
    'of the one whose peak is not known',
  );
  t.ok(
    book.cpuByHour().every((value) => near(value, 500)),
    'every hour alike',
  );
  sizes.delete('seen');
  book.touch('seen');
  t.equal(book.tailWith('new', nothing, nothing).cpuMillicores, 1000);
});
