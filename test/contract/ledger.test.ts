// Goal: every ledger keeps the port's contract, and the one on disk survives a power loss, a full disk and a damaged file.
// Method: one suite over both ledgers. For the power loss, a process that commits is traced (every write and sync of its
// file, and each acknowledgement, in order) and killed; for random moments of the trace the file is rebuilt as a disk may
// hold it then, opened, and compared with what had been acknowledged. The disk that fills is a small tmpfs.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { LeaseLedger } from '../../orchestrator/core/ports.ts';
import { LmdbLedger } from '../../orchestrator/ledger/lmdb-ledger.ts';
import { MemoryLedger } from '../../orchestrator/ledger/memory-ledger.ts';
import { recordFigure } from '../figures.ts';
import { randomFrom } from '../random.ts';
import { LANES, laneKeys } from './ledger-writer.ts';
import { afterPowerLoss, buildTracer, readTrace, type TraceEvent } from './write-trace.ts';

const SEED = Number(process.env.FORESHADE_SEED ?? Date.now() % 1_000_000);
/** Moments at which the power goes. */
const POWER_LOSSES = Number(process.env.FORESHADE_POWER_LOSSES ?? 50);
/** How long the traced process commits: a few hundred commits. */
const COMMIT_MS = 1_000;

const root = mkdtempSync(join(tmpdir(), 'fs-ledger-'));
t.teardown(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;

function newFolder(): string {
  folders += 1;
  return join(root, `ledger-${folders}`);
}

function codeOf(error: unknown): string {
  return error instanceof AllocatorError ? error.code : String(error);
}

const LEDGERS: readonly { name: string; open: () => LeaseLedger }[] = [
  { name: 'MemoryLedger', open: () => new MemoryLedger() },
  { name: 'LmdbLedger', open: () => LmdbLedger.open(newFolder()) },
];

for (const { name, open } of LEDGERS) {
  t.test(`${name} keeps the contract`, async (t) => {
    const ledger = open();
    const put = (key: string, value: unknown, ifVersion?: number) =>
      ledger.commit([{ key, value, ...(ifVersion === undefined ? {} : { ifVersion }) }]);

    await t.test('what is committed is read, with the count of its changes', async (t) => {
      t.equal(ledger.get('a'), undefined);
      await put('a', { text: 'ü"\u0000', list: [1, null, { deep: true }] });
      await put('a', 2);
      t.strictSame(ledger.get('a'), { key: 'a', value: 2, version: 2 });
      await put('b', { text: 'ü"\u0000', list: [1, null, { deep: true }] });
      t.strictSame(ledger.get('b')?.value, { text: 'ü"\u0000', list: [1, null, { deep: true }] });
      await ledger.commit([]);
    });

    await t.test('compare and swap', async (t) => {
      await put('cas', 'first', 0);
      await t.rejects(put('cas', 'again', 0), { code: 'STATE_CONFLICT' });
      await put('cas', 'second', 1);
      await t.rejects(put('cas', 'stale', 1), { code: 'STATE_CONFLICT' });
      t.strictSame(ledger.get('cas'), { key: 'cas', value: 'second', version: 2 });
      await ledger.commit([{ key: 'cas', value: undefined, ifVersion: 2 }]);
      t.equal(ledger.get('cas'), undefined);
      await put('cas', 'reborn', 0);
      t.equal(ledger.get('cas')?.version, 1);
    });

    await t.test('of commits that race for one version, one wins', async (t) => {
      const racers = await Promise.allSettled([1, 2, 3, 4].map((n) => put('race', n, 0)));
      t.equal(racers.filter(({ status }) => status === 'fulfilled').length, 1);
      for (const racer of racers)
        if (racer.status === 'rejected') t.equal(codeOf(racer.reason), 'STATE_CONFLICT');
      t.equal(ledger.get('race')?.version, 1);
    });

    await t.test('all writes of a commit or none', async (t) => {
      await put('taken', 1);
      const both = [
        { key: 'free', value: 1 },
        { key: 'taken', value: 2, ifVersion: 0 },
      ];
      await t.rejects(ledger.commit(both), { code: 'STATE_CONFLICT' });
      t.equal(ledger.get('free'), undefined);
      t.equal(ledger.get('taken')?.value, 1);
      await ledger.commit([
        { key: 'free', value: 1 },
        { key: 'taken', value: undefined },
      ]);
      t.equal(ledger.get('free')?.value, 1);
      t.equal(ledger.get('taken'), undefined);
    });

    await t.test('a range is every key with the prefix, in order', async (t) => {
      const keys = ['r/10', 'r/2', 'r/', 'r', 's/1', 'r/é', 'r0'];
      await ledger.commit(keys.map((key) => ({ key, value: key })));
      t.strictSame(
        ledger.range('r/').map(({ key }) => key),
        ['r/', 'r/10', 'r/2', 'r/é'],
      );
      t.strictSame(ledger.range('none/'), []);
    });
    await ledger.close();
  });
}

t.test('LmdbLedger: what was committed is there after a reopening', async (t) => {
  const folder = newFolder();
  const first = LmdbLedger.open(folder);
  await Promise.all(
    Array.from({ length: 200 }, (_, n) =>
      first.commit([{ key: `k/${String(n).padStart(3, '0')}`, value: n }]),
    ),
  );
  await first.close();
  const second = LmdbLedger.open(folder);
  t.strictSame(
    second.range('k/').map(({ value }) => value),
    Array.from({ length: 200 }, (_, n) => n),
  );
  await t.rejects(second.commit([{ key: 'k/000', value: 1, ifVersion: 0 }]), { code: 'STATE_CONFLICT' });
  await second.commit([{ key: 'k/000', value: 1, ifVersion: 1 }]);
  await second.close();
});

/** What had been acknowledged: each lane's last commit. */
function promisedBy(events: readonly TraceEvent[]): number[] {
  const promised = Array.from({ length: LANES }, () => 0);
  for (const { kind, bytes } of events) {
    if (kind !== 'promise') continue;
    const [lane = 0, n = 0] = bytes.toString().split(' ').map(Number);
    promised[lane] = n;
  }
  return promised;
}

/** Trace a process that commits until it is killed. */
async function traceCommits(tracer: string, trace: string): Promise<TraceEvent[]> {
  const writer = fileURLToPath(new URL('./ledger-writer.js', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [writer, newFolder()], {
    env: { ...process.env, LD_PRELOAD: tracer, WRITE_TRACE: trace },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  if (child.stdout !== null) {
    await Promise.race([once(child.stdout, 'data'), ended]);
    child.stdout.resume();
  }
  await sleep(COMMIT_MS);
  child.kill('SIGKILL');
  await ended;
  return readTrace(trace);
}

/** What of a lane is not as it was promised. */
function wrongIn(ledger: LeaseLedger, lane: number, promised: number): string[] {
  const [a, b] = laneKeys(lane).map((key) => ledger.get(key));
  const n = (a?.value as { n: number } | undefined)?.n ?? 0;
  const wrong: string[] = [];
  if (n < promised) wrong.push(`lane ${lane} holds ${n}, and ${promised} was acknowledged`);
  if (n !== ((b?.value as { n: number } | undefined)?.n ?? 0)) wrong.push(`lane ${lane} holds half a commit`);
  if (n !== (a?.version ?? 0)) wrong.push(`lane ${lane} holds ${n} under version ${a?.version}`);
  return wrong;
}

const tracer = join(root, 'write-trace.so');
const noTracer = buildTracer(tracer);
t.test(
  `LmdbLedger: no acknowledged commit is lost with the power, ${POWER_LOSSES} times (seed ${SEED})`,
  { skip: noTracer ?? false },
  async (t) => {
    const random = randomFrom(SEED);
    const events = await traceCommits(tracer, join(root, 'trace'));
    const count = (kind: TraceEvent['kind']): number => events.filter((event) => event.kind === kind).length;
    t.comment(
      `${count('promise')} acknowledgements, ${count('write')} writes, ${count('synced-write')} synced writes, ${count('sync')} syncs`,
    );
    t.ok(count('promise') > 20 && count('write') > 20 && count('sync') > 10, 'the trace shows the work');
    let survived = 0;
    for (let loss = 0; loss < POWER_LOSSES; loss += 1) {
      const until = events.slice(0, 1 + Math.floor(random() * events.length));
      const odds = random();
      const folder = newFolder();
      mkdirSync(folder);
      writeFileSync(
        join(folder, 'data.mdb'),
        afterPowerLoss(until, () => random() < odds),
      );
      const promised = promisedBy(until);
      const wrong: string[] = [];
      try {
        const ledger = LmdbLedger.open(folder);
        promised.forEach((n, lane) => {
          wrong.push(...wrongIn(ledger, lane, n));
        });
        await ledger.commit([{ key: 'after', value: loss }]);
        await ledger.close();
      } catch (error) {
        // A file that lost its very beginning holds nothing that was promised.
        if (promised.some((n) => n > 0)) wrong.push((error as Error).message);
      }
      if (wrong.length === 0) survived += 1;
      else t.fail(`power lost after event ${until.length} of ${events.length}: ${wrong.join('; ')}`);
      rmSync(folder, { recursive: true });
    }
    t.equal(survived, POWER_LOSSES);
    recordFigure({
      bar: 'ledger-power-losses-survived',
      value: survived,
      limit: `${POWER_LOSSES} of ${POWER_LOSSES} power losses without an acknowledged commit lost or halved`,
      met: survived === POWER_LOSSES,
    });
  },
);

const tiny = join(root, 'tiny');
mkdirSync(tiny);
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', tiny], { encoding: 'utf8' });
const noTiny =
  mounted.status === 0 ? false : `no tmpfs may be mounted here: ${mounted.error ?? mounted.stderr}`;
t.teardown(() => {
  if (noTiny === false) spawnSync('umount', ['-l', tiny]);
});
t.test('LmdbLedger: a full disk refuses commits and loses none', { skip: noTiny }, async (t) => {
  const ledger = LmdbLedger.open(join(tiny, 'ledger'));
  const value = 'x'.repeat(10_000);
  let kept = 0;
  const refusals: string[] = [];
  while (refusals.length < 3 && kept < 1000) {
    const key = `k/${String(kept).padStart(4, '0')}`;
    await ledger.commit([{ key, value, ifVersion: 0 }]).then(
      () => {
        kept += 1;
      },
      (error) => refusals.push(codeOf(error)),
    );
  }
  t.strictSame(refusals, ['LEDGER_UNAVAILABLE', 'LEDGER_UNAVAILABLE', 'LEDGER_UNAVAILABLE']);
  t.ok(kept > 5, `${kept} commits fitted`);
  t.equal(ledger.range('k/').length, kept);
  const tail = await Promise.allSettled(
    [1, 2, 3].map((n) => ledger.commit([{ key: 'tail', value: value + n, ifVersion: n - 1 }])),
  );
  t.strictSame(
    tail.map((end) => (end.status === 'rejected' ? codeOf(end.reason) : end.status)),
    ['LEDGER_UNAVAILABLE', 'LEDGER_UNAVAILABLE', 'LEDGER_UNAVAILABLE'],
    'what rests on a commit that failed fails with it',
  );
  t.equal(spawnSync('mount', ['-o', 'remount,size=4m', tiny]).status, 0);
  await ledger.commit([{ key: `k/${String(kept).padStart(4, '0')}`, value, ifVersion: 0 }]);
  await ledger.commit([{ key: 'tail', value: 1, ifVersion: 0 }]);
  await ledger.close();
  const again = LmdbLedger.open(join(tiny, 'ledger'));
  t.equal(again.range('k/').length, kept + 1);
  await again.close();
});

t.test('LmdbLedger: a damaged file is an error that names it', async (t) => {
  const whole = newFolder();
  const ledger = LmdbLedger.open(whole);
  for (let n = 0; n < 20; n += 1) await ledger.commit([{ key: `k/${n}`, value: 'x'.repeat(5_000) }]);
  await ledger.close();
  const bytes = readFileSync(join(whole, 'data.mdb'));
  const random = randomFrom(SEED);
  const noise = Buffer.from(Array.from({ length: 40_000 }, () => Math.floor(random() * 256)));
  for (const { name, content, message } of [
    { name: 'noise', content: noise, message: /is not an LMDB file/ },
    { name: 'a text', content: Buffer.from('leases\n'), message: /is not an LMDB file/ },
    { name: 'zeros', content: Buffer.alloc(8192), message: /is not an LMDB file/ },
    { name: 'one page', content: bytes.subarray(0, 4096), message: /second meta page/ },
    { name: 'two thirds', content: bytes.subarray(0, (bytes.length * 2) / 3), message: /is cut short/ },
  ]) {
    const folder = newFolder();
    mkdirSync(folder);
    writeFileSync(join(folder, 'data.mdb'), content);
    t.throws(() => LmdbLedger.open(folder), { code: 'LEDGER_UNAVAILABLE', message }, name);
  }
  const empty = newFolder();
  mkdirSync(empty);
  writeFileSync(join(empty, 'data.mdb'), '');
  const fresh = LmdbLedger.open(empty);
  t.strictSame(fresh.range(''), [], 'an empty file is a ledger that was never written');
  await fresh.close();
  t.throws(() => LmdbLedger.open(join(whole, 'data.mdb', 'below')), { code: 'LEDGER_UNAVAILABLE' });
});
