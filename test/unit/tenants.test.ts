// Goal: shares, turns and reclaim follow their rules. Method: tables worked by hand, and orders checked against the stated bound on
// random queues; the seed of each is printed.
import t from 'tap';
import { dominantShare } from '../../orchestrator/core/fair-share.ts';
import { overbearing } from '../../orchestrator/core/neighbours.ts';
import { byTurn, overtakenMs, type Waiting } from '../../orchestrator/core/queue-order.ts';
import {
  type Reclaimable,
  ReclaimBook,
  reclaim,
  type Take,
  totalOf,
} from '../../orchestrator/core/reclaim.ts';
import { PRIORITIES } from '../../orchestrator/core/request.ts';
import { beyond, fitsIn, lesser, ROOM_FIELDS, type Room } from '../../orchestrator/core/room.ts';
import { generator, pick } from '../simulation/generator.ts';

const room = (cpuMillicores: number, memoryBytes = 0) => ({ cpuMillicores, memoryBytes });

t.test('the dominant share is the largest of any resource, over the weight', async (t) => {
  const capacity = room(9000, 18);
  // The example of the paper: A's tasks need 1 CPU and 4 GB, B's 3 CPUs and 1 GB; at 3 and 2 tasks both stand at 2/3.
  t.equal(dominantShare(room(3000, 12), capacity, 1), 12 / 18);
  t.equal(dominantShare(room(6000, 2), capacity, 1), 6 / 9);
  t.equal(dominantShare(room(6000, 2), capacity, 2), 3 / 9);
  t.equal(dominantShare(room(0, 0), capacity, 1), 0);
  t.equal(dominantShare(room(5, 5), room(0, 10), 1), 0.5, 'a resource of which there is none does not count');
  for (const weight of [0, -1, Number.NaN])
    t.throws(() => dominantShare(room(1), capacity, weight), /weight/);
});

const AGEING_MS = 1000;

t.test('turns: class, share, latest start, age', async (t) => {
  const one = { priority: 'normal', requestedAtMs: 9000, share: 0.5 } as const;
  const inTurn = (waiting: readonly Waiting[]): string =>
    [...waiting]
      .sort(byTurn(9500, AGEING_MS))
      .map(({ id }) => id)
      .join('');
  t.equal(
    inTurn([
      { ...one, id: 'a' },
      { ...one, id: 'b', priority: 'high', share: 0.9 },
    ]),
    'ba',
    'priority',
  );
  t.equal(
    inTurn([
      { ...one, id: 'a' },
      { ...one, id: 'b', share: 0.4 },
    ]),
    'ba',
    'share',
  );
  t.equal(
    inTurn([
      { ...one, id: 'a' },
      { ...one, id: 'b', latestStartMs: 9900 },
    ]),
    'ba',
    'a latest start',
  );
  t.equal(
    inTurn([
      { ...one, id: 'a' },
      { ...one, id: 'b', requestedAtMs: 8999 },
    ]),
    'ba',
    'age',
  );
  t.equal(
    inTurn([
      { ...one, id: 'b' },
      { ...one, id: 'a' },
    ]),
    'ab',
    'ids, for a total order',
  );
  const old = { ...one, id: 'b', priority: 'low', requestedAtMs: 7400, share: 0.9 } as const;
  t.equal(
    inTurn([{ ...one, id: 'a' }, old]),
    'ba',
    'low that waited twice as long as it takes to age counts as high',
  );
});

t.test('nobody who came later than the bound is ever before', async (t) => {
  const seed = Number(process.env.SEED ?? 1);
  t.comment(`seed ${seed}`);
  const random = generator(seed);
  for (let round = 0; round < 200; round += 1) {
    const nowMs = 20_000;
    const waiting = Array.from(
      { length: 30 },
      (_, i): Waiting => ({
        id: `${i}`,
        priority: pick(random, PRIORITIES),
        requestedAtMs: Math.floor(random() * nowMs),
        share: random(),
        ...(random() < 0.5 ? {} : { latestStartMs: nowMs + random() * 1000 }),
      }),
    );
    const sorted = [...waiting].sort(byTurn(nowMs, AGEING_MS));
    sorted.forEach((last, i) => {
      for (const before of sorted.slice(0, i))
        if (before.requestedAtMs - last.requestedAtMs >= overtakenMs(last.priority, AGEING_MS))
          t.fail(`${before.id} overtook ${last.id}`);
    });
  }
  t.equal(overtakenMs('critical', AGEING_MS), AGEING_MS);
  t.equal(overtakenMs('low', AGEING_MS), 4 * AGEING_MS);
});

t.test('reclaim: slack of all first, then lower priorities, never below what is guaranteed', async (t) => {
  const lease = (leaseId: string, more: Partial<Reclaimable>): Reclaimable => ({
    leaseId,
    tenant: 'x',
    priority: 'normal',
    slack: room(0),
    most: room(0),
    ...more,
  });
  const spare = new Map([
    ['x', room(10_000)],
    ['y', room(100)],
  ]);
  const ask = (
    wanted: number,
    needed: number,
    from: readonly Reclaimable[],
    priority: 'low' | 'high' = 'high',
  ) => {
    const book = new ReclaimBook();
    for (const one of from) book.put(one.leaseId, [one]);
    const spareOf = (tenant: string) => spare.get(tenant) ?? room(0);
    return reclaim({ wanted: room(wanted), needed: room(needed), priority }, book, spareOf)?.map(
      ({ leaseId, room: { cpuMillicores }, kind }) => `${leaseId} ${cpuMillicores} ${kind}`,
    );
  };
  const idle = lease('idle', { slack: room(300), most: room(500), priority: 'critical' });
  const small = lease('small', { slack: room(100), most: room(400), priority: 'low' });
  const busy = lease('busy', { most: room(1000), priority: 'normal' });
  t.strictSame(ask(400, 400, [idle, small, busy]), ['small 100 slack', 'idle 300 slack']);
  t.strictSame(
    ask(800, 800, [idle, small, busy]),
    ['small 100 slack', 'idle 300 slack', 'small 300 lower-priority', 'busy 100 lower-priority'],
    'the critical one gives slack only; the lowest is pressed first',
  );
  t.strictSame(
    ask(800, 200, [idle, small, busy]),
    ['small 100 slack', 'idle 300 slack'],
    'headroom presses nobody',
  );
  t.equal(
    ask(800, 800, [idle, small, busy], 'low'),
    undefined,
    'low presses nobody, and then nothing is taken',
  );
  t.equal(ask(2000, 2000, [idle, small, busy]), undefined, 'not enough: nothing is taken');
  const kept = lease('kept', { tenant: 'y', slack: room(300), most: room(300) });
  t.strictSame(ask(300, 100, [kept]), ['kept 100 slack'], 'a tenant keeps its guaranteed part');
  t.equal(ask(300, 300, [kept, lease('unknown', { tenant: 'z', slack: room(300) })]), undefined);
  t.strictSame(totalOf([]), room(0));
});

// The book against a search through all leases at each step, on books that change.
t.test('reclaim takes the same from a book as from a look at every lease', async (t) => {
  const seed = 5;
  const random = generator(seed);
  t.comment(`seed ${seed}`);
  const upTo = (most: number) => Math.floor(random() * most);
  const book = new ReclaimBook();
  const known = new Map<string, Reclaimable>();
  let taken = 0;
  for (let round = 0; round < 400; round += 1) {
    const leaseId = `lease-${upTo(30)}`;
    const slack = room(upTo(3) * 50, upTo(3) * 7);
    const one: Reclaimable = {
      leaseId,
      tenant: 'x',
      priority: pick(random, PRIORITIES),
      slack,
      most: room(slack.cpuMillicores + upTo(4) * 50, slack.memoryBytes + upTo(4) * 7),
    };
    const isGone = random() < 0.2;
    book.put(leaseId, isGone ? [] : [one]);
    if (isGone) known.delete(leaseId);
    else known.set(leaseId, one);

    const needed = room(upTo(1500), upTo(200));
    const wanted = room(needed.cpuMillicores + upTo(300), needed.memoryBytes + upTo(40));
    const priority = pick(random, PRIORITIES);
    const takes = reclaim({ wanted, needed, priority }, book, () => room(1e9, 1e9));
    taken += takes?.length ?? 0;
    t.strictSame(takes, searched(wanted, needed, PRIORITIES.indexOf(priority), [...known.values()]));
  }
  t.ok(taken > 400, `${taken} takes compared`);
});

/** By looking at all leases before each take. */
function searched(
  wanted: Room,
  needed: Room,
  lower: number,
  leases: readonly Reclaimable[],
): Take[] | undefined {
  const takes: Take[] = [];
  const left = (kind: Take['kind'], { leaseId, slack, most }: Reclaimable): Room =>
    takes.some((take) => take.leaseId === leaseId && take.kind === kind)
      ? room(0)
      : kind === 'slack'
        ? slack
        : beyond(most, slack);
  const collect = (kind: Take['kind'], from: readonly Reclaimable[], lacking: Room): Room => {
    let rest = lacking;
    for (;;) {
      const weight = (one: Reclaimable) =>
        Math.max(...ROOM_FIELDS.map((field) => (rest[field] > 0 ? left(kind, one)[field] / rest[field] : 0)));
      const [first] = from
        .filter((one) => weight(one) > 0)
        .sort(
          (a, b) =>
            PRIORITIES.indexOf(a.priority) - PRIORITIES.indexOf(b.priority) ||
            weight(b) - weight(a) ||
            (a.leaseId < b.leaseId ? -1 : 1),
        );
      if (first === undefined) return rest;
      const taken = lesser(rest, left(kind, first));
      takes.push({ leaseId: first.leaseId, room: taken, kind });
      rest = beyond(rest, taken);
    }
  };
  const short = collect('slack', leases, wanted);
  const pressed = leases.filter(({ priority }) => PRIORITIES.indexOf(priority) < lower);
  const rest = collect('lower-priority', pressed, beyond(short, beyond(wanted, needed)));
  return fitsIn(rest, room(0)) ? takes : undefined;
}

t.test('one neighbour is brought back, and only while another that keeps to its own waits', async (t) => {
  const bursts = { guest: 'b', burstMillicores: 500, delayFraction: 0.4 };
  const more = { guest: 'm', burstMillicores: 900 };
  const waits = { guest: 'w', burstMillicores: 0, delayFraction: 0.3 };
  t.match(overbearing([bursts, waits, more], 0.1), { guest: 'm', sufferer: 'w', delayFraction: 0.3 });
  t.equal(overbearing([bursts, waits], 0.3), undefined, 'at the limit is not beyond it');
  t.equal(overbearing([bursts, more], 0.1), undefined, 'bursters compete among themselves');
  t.equal(overbearing([waits], 0.1), undefined);
  t.equal(overbearing([bursts, { guest: 'u', burstMillicores: 0 }], 0.1), undefined, 'unknown delay is none');
  t.equal(overbearing([], 0.1), undefined);
});
