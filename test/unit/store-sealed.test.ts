// Goal: sealing, merging, rolling up, retention, erasure and backup change where samples stand and never which there are; a
// store has one writer, and puts in order what a crash left. Method: a real store in a temporary folder, with its worker
// process; expectations worked by hand.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { scanFrames } from '../../orchestrator/store/log-segments.ts';
import { publishManifest, readManifest, type SealedFile } from '../../orchestrator/store/manifest.ts';
import { ShadowReader } from '../../orchestrator/store/reader.ts';
import { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { expired, isSettled, mergesDue, rollUpsDue } from '../../orchestrator/store/upkeep.ts';
import { NOON_MS, newFolder, newStore, pointAt, rowsOf } from './store-fixture.ts';

const DAY_MS = 86_400_000;

t.test('a point comes back as it was recorded, from the log and from Parquet', async (t) => {
  const store = newStore(t);
  store.record(
    pointAt(0.001, {
      axis: 'instructions',
      instructionsAt: 2 ** 52 + 1,
      tenant: "o'neil",
      requestId: 'r-1',
      workload: 'encode',
      inputs: {
        rows: { kind: 'number', value: 2e6 },
        mode: { kind: 'category', value: 'fast' },
        note: { kind: 'text', value: 'ünïcode "quoted"' },
      },
      profile: { cpuMillicores: 1500.5, memoryBytes: 0 },
      classes: { branch: 7, vector: 9 },
      granted: { cpuMillicores: 2000, vcpuCount: 2 },
      flags: ['censored', 'gap'],
    }),
  );
  store.record(pointAt(1, { host: 'höst/2' }));
  await store.flush();
  const ask = () => rowsOf(store.query('SELECT * FROM shadow ORDER BY time'));
  const askInputs = () =>
    rowsOf(store.query("SELECT request_id FROM inputs WHERE name = 'rows' AND number = 2e6"));
  const fromLog = await ask();
  t.match(fromLog[0], {
    time: NOON_MS + 1,
    axis: 'instructions',
    guest: 'g1',
    host: 'h1',
    tenant: "o'neil",
    request_id: 'r-1',
    workload: 'encode',
    period_ms: 1000,
    instructions_at: 2 ** 52 + 1,
    flags: 'gap,censored',
    cpu_millicores: 1500.5,
    memory_bytes: 0,
    net_rx_bytes_per_s: null,
    instructions_branch: 7,
    instructions_vector: 9,
    instructions_crypto: null,
    granted_cpu_millicores: 2000,
    granted_vcpu_count: 2,
    granted_memory_bytes: null,
  });
  t.match(fromLog[1], {
    host: 'höst/2',
    tenant: null,
    request_id: null,
    flags: '',
    granted_cpu_millicores: null,
  });
  t.strictSame(await askInputs(), [{ request_id: 'r-1' }]);
  await store.maintain();
  t.strictSame(await ask(), fromLog, 'sealed');
  t.strictSame(await askInputs(), [{ request_id: 'r-1' }]);
  const stats = await store.stats();
  t.match(stats, { log: { rows: 0 }, damage: [] });
  t.strictSame(stats.tiers.map(({ tier, rows }) => [tier, rows]), [['raw', 2], ['minute', 2], ['hour', 2], ['inputs', 3]]); // biome-ignore format: a table
});

t.test('samples stand in one place through seals, merges and late ones', async (t) => {
  const store = newStore(t);
  let n = 0;
  const count = async (): Promise<unknown> =>
    (
      await rowsOf(
        store.query('SELECT count(*) AS rows, count(DISTINCT cpu_millicores) AS numbers FROM shadow'),
      )
    )[0];
  for (let seal = 0; seal < 5; seal += 1) {
    for (const end = n + 50; n < end; n += 1) store.record(pointAt(n));
    await store.flush();
    t.strictSame(await count(), { rows: n, numbers: n }, 'in the log');
    await store.maintain();
    t.strictSame(await count(), { rows: n, numbers: n }, 'sealed');
  }
  const { tiers } = await store.stats();
  t.equal(tiers[0]?.files, 1, 'a day that is over is one file');
  const layout = store.layout(['other_metric']);
  layout.append(
    store.context({ guest: 'g2', host: 'h1', axis: 'seconds' }),
    NOON_MS,
    1000,
    Number.NaN,
    0,
    [42],
  );
  await store.flush();
  await store.maintain();
  t.strictSame(
    await rowsOf(store.query("SELECT other_metric, cpu_millicores FROM shadow WHERE guest = 'g2'")),
    [{ other_metric: 42, cpu_millicores: null }],
  );
});

t.test('rolled-up tiers hold min, mean, max, p95 and count', async (t) => {
  const store = newStore(t);
  // Two minutes of one guest: 0 to 59 and 60 to 119 millicores; a request in the first half minute.
  for (let n = 0; n < 120; n += 1)
    store.record(pointAt(n, n < 30 ? { requestId: 'r1', flags: ['censored'] } : {}));
  await store.maintain();
  const minutes = await rowsOf(
    store.query(`SELECT time, request_id, samples, censored, cpu_millicores_min AS lo, cpu_millicores_mean AS mean,
      cpu_millicores_max AS hi, cpu_millicores_p95 AS p95, cpu_millicores_count AS count, memory_bytes_count AS none
      FROM shadow_minute ORDER BY time, request_id`),
  );
  const minute = (
    at: number,
    request: string | null,
    lo: number,
    hi: number,
    p95: number,
    censored: number,
  ) => ({
    time: NOON_MS + at * 60_000,
    request_id: request,
    samples: hi - lo + 1,
    censored,
    lo,
    mean: (lo + hi) / 2,
    hi,
    p95,
    count: hi - lo + 1,
    none: 0,
  });
  // The p95 of k values in order is the one at place ceil(0.95 k).
  t.strictSame(minutes, [
    minute(0, 'r1', 0, 29, 28, 30),
    minute(0, null, 30, 59, 58, 0),
    minute(1, null, 60, 119, 116, 0),
  ]);
  const hours = await rowsOf(
    store.query('SELECT time, samples, cpu_millicores_max AS hi FROM shadow_hour WHERE request_id IS NULL'),
  );
  t.strictSame(hours, [{ time: NOON_MS, samples: 90, hi: 119 }]);
  store.record(pointAt(120));
  await store.flush();
  await store.maintain();
  const [late] = await rowsOf(
    store.query('SELECT max(time) AS last, sum(samples) AS samples FROM shadow_minute'),
  );
  t.strictSame(late, { last: NOON_MS + 120_000, samples: 121 }, 'a late point renews its day');
});

t.test(
  'a day that goes on shows in the tiers, from the log and from Parquet, each bucket once',
  async (t) => {
    const store = newStore(t);
    const minuteMs = Math.floor(Date.now() / 60_000) * 60_000;
    const today = (n: number, more = {}) => pointAt(n, { atMs: minuteMs + n * 1000, ...more });
    for (let n = 0; n < 10; n += 1) store.record(today(n, { cadence: n < 5 ? 'fast' : 'full' }));
    store.record(pointAt(0));
    await store.flush();
    const ask = () =>
      rowsOf(
        store.query(`SELECT time, cadence, samples, cpu_millicores_mean AS mean, cpu_millicores_p95 AS p95, memory_bytes_count AS none
        FROM shadow_minute ORDER BY time, cadence`),
      );
    const bucket = (time: number, cadence: string | null, samples: number, mean: number, p95: number) => ({
      time,
      cadence,
      samples,
      mean,
      p95,
      none: 0,
    });
    const expected = [
      bucket(NOON_MS, null, 1, 0, 0),
      bucket(minuteMs, 'fast', 5, 2, 4),
      bucket(minuteMs, 'full', 5, 7, 9),
    ];
    t.strictSame(await ask(), expected, 'in the log');
    await store.maintain();
    t.strictSame(await ask(), expected, 'sealed; the day that is over is rolled up');
    store.record(today(10, { cadence: 'full' }));
    store.record(pointAt(1));
    await store.flush();
    const more = [...expected.slice(0, 2), bucket(minuteMs, 'full', 6, 7.5, 10)];
    t.strictSame(await ask(), more, 'a late point of a day that is over waits for the upkeep');
    await store.maintain();
    t.strictSame(await ask(), [bucket(NOON_MS, null, 2, 0.5, 1), ...more.slice(1)]);
    const [hours] = await rowsOf(store.query('SELECT sum(samples) AS samples FROM shadow_hour'));
    t.strictSame(hours, { samples: 13 });

    store
      .layout(['other_metric'])
      .append(
        store.context({ guest: 'g2', host: 'h1', axis: 'seconds' }),
        minuteMs,
        1000,
        Number.NaN,
        0,
        [42],
      );
    await store.flush();
    const asked = "SELECT other_metric FROM shadow WHERE guest = 'g2'";
    t.strictSame(await rowsOf(store.query(asked)), [{ other_metric: 42 }], 'a metric that is new');
    t.strictSame(
      await rowsOf(store.query("SELECT other_metric_max AS hi FROM shadow_minute WHERE guest = 'g2'")),
      [{ hi: 42 }],
    );
  },
);

t.test('what is due: merges, roll-ups and expiry', async (t) => {
  const file = (path: string, more: Partial<SealedFile> = {}): SealedFile => ({
    path,
    tier: 'raw',
    day: '2026-01-31',
    host: 'h1',
    rows: 1000,
    bytes: 100,
    fromMs: NOON_MS,
    toMs: NOON_MS,
    schema: 1,
    ...more,
  });
  const manifest = (...files: SealedFile[]) => ({ ...readManifest('none'), files });
  const paths = (files: readonly SealedFile[]) => files.map(({ path }) => path).join('');
  const over = NOON_MS + DAY_MS;
  t.equal(isSettled('2026-01-31', Date.UTC(2026, 1, 1, 0, 59)), false);
  t.equal(isSettled('2026-01-31', Date.UTC(2026, 1, 1, 1)), true);
  const four = ['a', 'b', 'c', 'd'].map((path) => file(path));
  t.strictSame(mergesDue(manifest(...four.slice(1)), NOON_MS), [], 'three of a size wait for a fourth');
  t.strictSame(mergesDue(manifest(...four, file('e', { rows: 1e6 })), NOON_MS).map(paths), ['abcd']);
  t.strictSame(
    mergesDue(manifest(...four, file('e', { rows: 1e6 })), over).map(paths),
    ['abcde'],
    'a day that is over',
  );
  t.strictSame(mergesDue(manifest(file('a'), file('b', { host: 'h2' })), over), [], 'one file each');
  t.strictSame(rollUpsDue(manifest(file('a')), NOON_MS), [], 'the day goes on');
  t.strictSame(
    rollUpsDue(manifest(file('a')), over).map(({ tier }) => tier),
    ['minute', 'hour'],
  );
  const minute = file('m', { tier: 'minute', points: 1000 });
  t.strictSame(
    rollUpsDue(manifest(file('a'), minute), over).map(({ tier }) => tier),
    ['hour'],
  );
  t.match(rollUpsDue(manifest(file('a', { rows: 1001 }), minute), over)[0], {
    tier: 'minute',
    old: [{ path: 'm' }],
  });
  t.strictSame(
    rollUpsDue(manifest(file('a', { rows: 10 }), { ...minute, points: 11 }), over).length,
    1,
    'retention took some',
  );
  const old = file('o', { toMs: NOON_MS - 1000 });
  const all = manifest(file('a'), old, { ...minute, toMs: NOON_MS - 5000 });
  t.strictSame(expired(all, {}, NOON_MS), []);
  t.equal(paths(expired(all, { rawMs: 500 }, NOON_MS)), 'o');
  t.equal(paths(expired(all, { minuteMs: 500 }, NOON_MS)), 'm');
  t.equal(paths(expired(all, { bytesMax: 299 }, NOON_MS)), 'o', 'the oldest of the finest first');
  t.equal(paths(expired(all, { bytesMax: 100 }, NOON_MS)), 'oa');
});

t.test('retention drops files, and what was rolled up stays', async (t) => {
  const directory = newFolder(t);
  const store = newStore(t, { directory, retention: { rawMs: 1000 } });
  store.record(pointAt(0));
  await store.flush();
  await store.maintain();
  t.strictSame(
    await rowsOf(
      store.query('SELECT (SELECT count(*) FROM shadow) AS raw, (SELECT count(*) FROM shadow_hour) AS hours'),
    ),
    [{ raw: 0, hours: 1 }],
  );
  t.strictSame(
    parquetFiles(directory)
      .map((path) => path.split('/')[0])
      .sort(),
    ['hour', 'minute'],
  );
});

function parquetFiles(directory: string): string[] {
  return readdirSync(join(directory, 'parquet'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.parquet'),
  );
}

t.test('one tenant is erased from every tier and the log, and nobody else', async (t) => {
  const directory = newFolder(t);
  const store = newStore(t, { directory });
  const inputs = { secret: { kind: 'text', value: 'of acme only' } } as const;
  for (const [n, tenant] of ['acme', 'other', 'acme'].entries()) {
    store.record(pointAt(n, { tenant, requestId: `r${n}`, inputs: tenant === 'acme' ? inputs : {} }));
  }
  await store.maintain();
  store.record(pointAt(3, { tenant: 'acme', requestId: 'r3', inputs }));
  store.record(pointAt(4));
  await store.flush();
  await store.erase('acme');
  t.strictSame(await rowsOf(store.query('SELECT tenant, cpu_millicores AS n FROM shadow ORDER BY n')), [
    { tenant: 'other', n: 1 },
    { tenant: null, n: 4 },
  ]);
  for (const view of ['inputs', 'shadow_minute', 'shadow_hour'])
    t.strictSame(await rowsOf(store.query(`SELECT * FROM ${view} WHERE tenant = 'acme'`)), [], view);
  await store.maintain();
  const [left] = await rowsOf(
    store.query(
      "SELECT (SELECT count(*) FROM shadow) AS points, (SELECT count(*) FROM shadow_minute WHERE tenant = 'acme') AS minutes",
    ),
  );
  t.strictSame(left, { points: 2, minutes: 0 });
  const grep = spawnSync('grep', ['-rlaE', 'acme', directory], { encoding: 'utf8' });
  t.equal(grep.stdout, '', 'no file has its name');
  t.strictSame(readManifest(directory).erasing, []);
});

t.test('an erasure that was cut off is finished by the next upkeep', async (t) => {
  const directory = newFolder(t);
  const store = newStore(t, { directory });
  store.record(pointAt(0, { tenant: 'acme' }));
  await store.maintain();
  await publishManifest(directory, { ...readManifest(directory), erasing: ['acme'] });
  await store.maintain();
  t.strictSame(await rowsOf(store.query('SELECT count(*) AS points FROM shadow')), [{ points: 0 }]);
});

t.test('a backup made while writing goes on holds what was acknowledged before it', async (t) => {
  const folder = newFolder(t);
  const store = newStore(t, {
    directory: join(folder, 'store'),
    inputRules: [{ name: 'secret', action: 'hash' }],
  });
  let n = 0;
  const add = (count: number): void => {
    for (const end = n + count; n < end; n += 1) store.record(pointAt(n));
  };
  add(100);
  const inputs = { secret: { kind: 'text', value: 'x' } } as const;
  store.record(pointAt(n, { requestId: 'r-secret', inputs }));
  n += 1;
  await store.maintain();
  add(100);
  await store.flush();
  const goesOn = setInterval(() => add(10), 5);
  await store.backup(join(folder, 'copy'));
  clearInterval(goesOn);
  await t.rejects(store.backup(join(folder, 'copy')), { code: 'STORE_UNAVAILABLE' }, 'not over another');
  const copy = newStore(t, { directory: join(folder, 'copy') });
  const [found = {}] = await rowsOf(
    copy.query('SELECT count(*) AS rows, max(cpu_millicores) AS last FROM shadow'),
  );
  t.ok(Number(found.rows) >= 201);
  t.equal(
    statSync(join(folder, 'copy', 'input-key')).mode & 0o777,
    0o600,
    'the key stays as private as it was',
  );
  t.equal(Number(found.last), Number(found.rows) - 1, 'once and in order');
  copy.record(pointAt(5000));
  await copy.flush();
  await copy.maintain();
});

t.test('a store has one writer, and is not opened by an older version', async (t) => {
  const directory = newFolder(t);
  const store = newStore(t, { directory });
  t.throws(() => DiskShadowStore.open({ directory }), { code: 'STORE_IN_USE' });
  store.record(pointAt(0));
  await store.maintain();
  await publishManifest(directory, readManifest(directory));
  await store.close();
  const manifest = JSON.parse(readFileSync(join(directory, 'manifest.json'), 'utf8'));
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify({ ...manifest, schema: 99 }));
  t.throws(() => DiskShadowStore.open({ directory }), { code: 'STORE_TOO_NEW' });
  writeFileSync(join(directory, 'manifest.json'), '{"half');
  t.throws(() => DiskShadowStore.open({ directory }), { code: 'STORE_UNAVAILABLE' });
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify(manifest));
  writeFileSync(join(directory, 'parquet', 'stray.parquet'), 'left by a seal that was cut off');
  const again = DiskShadowStore.open({ directory });
  t.strictSame(await rowsOf(again.query('SELECT count(*) AS n FROM shadow')), [{ n: 1 }]);
  t.equal(parquetFiles(directory).includes('stray.parquet'), false);
  await again.close();
});

t.test('a bad block is said, and what stood in it is all that is missing', async (t) => {
  const directory = newFolder(t);
  const first = DiskShadowStore.open({ directory });
  first.record(pointAt(0));
  await first.flush();
  first.record(pointAt(1));
  await first.flush();
  first.record(pointAt(2));
  await first.close();
  const path = join(directory, 'log', '00000000.log');
  const whole = readFileSync(path);
  const { frames } = scanFrames(whole);
  // Frames in order: definition, row 0, definition again, row 1, row 2.
  t.equal(frames.length, 5);
  const damaged = (...indices: readonly number[]): void => {
    const bytes = Buffer.from(whole);
    for (const i of indices) bytes.fill(0xee, (frames[i]?.end ?? 0) - 100, (frames[i]?.end ?? 0) - 50);
    writeFileSync(path, bytes);
  };
  const reader = new ShadowReader(directory);
  t.teardown(() => reader.close());
  damaged(3);
  const second = newStore(t, { directory });
  t.match(second.damageAtOpen, [{ segment: '00000000.log', kind: 'bad' }]);
  const ask = () => rowsOf(second.query('SELECT cpu_millicores AS n FROM shadow ORDER BY n'));
  t.strictSame(await ask(), [{ n: 0 }, { n: 2 }]);
  t.match(await second.stats(), { damage: [{ segment: '00000000.log', kind: 'bad' }], lostRows: 0 });
  damaged(0, 2);
  t.match(await reader.stats(), { damage: [{ kind: 'bad' }, { kind: 'bad' }], lostRows: 3 });
  await second.maintain();
  t.match(
    await reader.stats(),
    { damage: [{ kind: 'bad' }, { kind: 'bad' }], lostRows: 3 },
    'and still when it is sealed',
  );
});

t.test('a clock that steps back changes nothing but the times', async (t) => {
  const store = newStore(t);
  for (const second of [0, 1, -3600, -3599, 2]) store.record(pointAt(second));
  await store.flush();
  const ask = () => rowsOf(store.query('SELECT cpu_millicores AS n FROM shadow ORDER BY time'));
  const expected = [-3600, -3599, 0, 1, 2].map((n) => ({ n }));
  t.strictSame(await ask(), expected);
  await store.maintain();
  t.strictSame(await ask(), expected);
});
