// Goal: questions that are wrong, too large or deadly end in an error and nothing else; answers are plain Arrow; inputs are
// found again; sets are imported once, and answers exported. Method: a real store in a temporary folder, with its worker
// process; expectations worked by hand.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { RecordBatchReader } from 'apache-arrow';
import t from 'tap';
import { ShadowError } from '../../orchestrator/core/shadow.ts';
import { hashInput, heldInputKey } from '../../orchestrator/store/input-rules.ts';
import { ShadowReader } from '../../orchestrator/store/reader.ts';
import { bytesOf, NOON_MS, newFolder, newStore, pointAt, rowsOf } from './store-fixture.ts';

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'none';
  } catch (error) {
    return error instanceof ShadowError ? error.code : String(error);
  }
}

t.test('inputs are kept, hashed or redacted by rule', async (t) => {
  const directory = newFolder(t);
  const inputRules = [
    { name: 'public*', action: 'keep' },
    { tenant: 'acme', name: 'user', action: 'hash' },
    { tenant: 'acme', name: '*', action: 'redact' },
  ] as const;
  const store = newStore(t, { directory, inputRules });
  const params = {
    user: { kind: 'category', value: 'mary' },
    rows: { kind: 'number', value: 7 },
    public_rows: { kind: 'number', value: 8 },
  } as const;
  for (const tenant of ['acme', 'other'])
    store.recordInputs({ atMs: NOON_MS, requestId: tenant, guest: 'g1', host: 'h1', tenant, params });
  await store.flush();
  const hashed = hashInput(heldInputKey(directory) ?? '', 'mary');
  t.match(hashed, /^[0-9a-f]{32}$/);
  t.strictSame(await rowsOf(store.query("SELECT name FROM inputs WHERE text = hashed('mary')")), [
    { name: 'user' },
  ]);
  const row = (name: string, text: string | null, number: number | null) => ({ name, text, number });
  const of = (tenant: string) =>
    rowsOf(store.query(`SELECT name, text, number FROM inputs WHERE tenant = '${tenant}' ORDER BY name`));
  t.strictSame(await of('acme'), [
    row('public_rows', null, 8),
    row('rows', null, null),
    row('user', hashed, null),
  ]);
  t.strictSame(await of('other'), [
    row('public_rows', null, 8),
    row('rows', null, 7),
    row('user', 'mary', null),
  ]);
});

t.test('questions that are not taken, and those that end badly', async (t) => {
  const store = newStore(t, {
    limits: { threads: 1, memoryBytes: 64 * 1024 * 1024, spillBytes: 1024 * 1024 },
  });
  store.record(pointAt(0));
  await store.flush();
  const ask = (sql: string, signal?: AbortSignal) => rowsOf(store.query(sql, signal));
  for (const sql of [
    'SELEC 1',
    'SELECT nothing FROM shadow',
    'SELECT 1; SELECT 2',
    'DROP VIEW shadow',
    "COPY (SELECT 1) TO 'x.csv'",
    "SET memory_limit = '9GB'",
    "SELECT * FROM read_text('/etc/hostname')",
    "ATTACH 'x.db'",
  ])
    t.equal(await refusal(ask(sql)), 'QUERY_REFUSED', sql);
  t.equal(
    await refusal(
      ask("SELECT count(*) FROM (SELECT DISTINCT hash(range) || repeat('x', 99) FROM range(20000000))"),
    ),
    'QUERY_TOO_LARGE',
  );
  t.strictSame(await ask('SELECT count(*) AS n FROM shadow'), [{ n: 1 }], 'the next one is answered');
  const { workerPid } = store;
  t.type(workerPid, 'number');
  const lost = refusal(
    ask('SELECT count(*) FROM range(1000000000) a JOIN range(1000) b ON a.range % 7 = b.range'),
  );
  await new Promise((resolve) => setTimeout(resolve, 200));
  process.kill(workerPid ?? 0, 'SIGKILL');
  t.equal(await lost, 'QUERY_LOST', 'its process was killed');
  t.strictSame(await ask('SELECT count(*) AS n FROM shadow'), [{ n: 1 }], 'another process answers');
  const aborted = new AbortController();
  const stopped = refusal(
    ask(
      'SELECT count(*) FROM range(1000000000) a JOIN range(1000) b ON a.range % 7 = b.range',
      aborted.signal,
    ),
  );
  setTimeout(() => aborted.abort(), 200);
  t.not(await stopped, 'none', 'its caller gave up');
  for await (const _ of store.query('SELECT * FROM range(1000000)')) break;
  t.strictSame(
    await ask('SELECT count(*) AS n FROM shadow'),
    [{ n: 1 }],
    'a caller that stops reading holds nothing up',
  );
});

t.test('every thread of the process that answers stands below those of the service', async (t) => {
  const store = newStore(t);
  await rowsOf(store.query('SELECT sum(sqrt(range)) FROM range(1000000)'));
  const tasks = `/proc/${store.workerPid}/task`;
  const threads = readdirSync(tasks).map((thread) => getPriority(Number(thread)));
  t.ok(threads.length > 5, `${threads.length} threads`);
  t.strictSame(new Set(threads), new Set([19]));
});

t.test('an answer is an Arrow stream of plain types', async (t) => {
  const store = newStore(t);
  const sql = `SELECT 1::TINYINT AS a, 2::BIGINT AS b, 1.5::DOUBLE AS c, 'x' AS d, true AS e, DATE '2026-01-31' AS f, sum(range) AS g,
    1.25::DECIMAL(9, 2) AS h, [1, NULL] AS i, NULL::INTEGER AS j, INTERVAL 1 DAY AS k FROM range(3)`;
  const [row] = await rowsOf(store.query(sql));
  t.match(row, {
    a: 1,
    b: 2,
    c: 1.5,
    d: 'x',
    e: true,
    f: Date.UTC(2026, 0, 31),
    g: 3,
    h: 1.25,
    i: '[1,null]',
    j: null,
  });
  const reader = RecordBatchReader.from(
    await bytesOf(store.query('SELECT CASE WHEN range % 2 = 0 THEN range END AS n FROM range(100000)')),
  );
  let rows = 0;
  let nulls = 0;
  for (const batch of reader) {
    rows += batch.numRows;
    nulls += batch.getChild('n')?.nullCount ?? 0;
  }
  t.strictSame({ rows, nulls }, { rows: 100_000, nulls: 50_000 });
  t.strictSame(await rowsOf(store.query('SELECT 1 AS n WHERE false')), []);
});

t.test('a series set and a request set are imported once', async (t) => {
  const folder = newFolder(t);
  const set = (name: string, facts: object, file: string, text: string): string => {
    const path = join(folder, name);
    mkdirSync(path);
    writeFileSync(join(path, 'dataset.json'), JSON.stringify({ name, ...facts }));
    writeFileSync(join(path, file), gzipSync(text));
    return path;
  };
  const series = set(
    's',
    { kind: 'series', step_seconds: 300, profile: { load: 'cpu_millicores' } },
    'series.csv.gz',
    'series,t,load,mem\n01,1375308000,1.5,7\n01,1375308300,,8\nb,1375394400,2,\n',
  );
  const requests = set(
    'r',
    { kind: 'requests', parameters: { p_n: 'input size (bytes read)' } },
    'requests.csv.gz',
    'id,submit_s,workload,p_kind,p_n,requested_memory_bytes,used_memory_bytes,runtime_s\nq1,1000,w,a,5,100,90,10\nq2,2000,w,b,,200,190,20.5\n',
  );
  const store = newStore(t);
  t.equal(await store.importSet(series), 3);
  t.equal(await store.importSet(requests), 2);
  t.strictSame(
    await rowsOf(
      store.query(
        "SELECT guest, time, period_ms, cpu_millicores, mem, flags FROM shadow WHERE host = 's' ORDER BY guest, time",
      ),
    ),
    [
      {
        guest: '01',
        time: 1375308000_000,
        period_ms: 300_000,
        cpu_millicores: 1.5,
        mem: 7,
        flags: 'imported',
      },
      {
        guest: '01',
        time: 1375308300_000,
        period_ms: 300_000,
        cpu_millicores: null,
        mem: 8,
        flags: 'imported',
      },
      {
        guest: 'b',
        time: 1375394400_000,
        period_ms: 300_000,
        cpu_millicores: 2,
        mem: null,
        flags: 'imported',
      },
    ],
  );
  t.strictSame(
    await rowsOf(
      store.query(
        "SELECT request_id, time, period_ms, used_memory_bytes AS used FROM shadow WHERE host = 'r' ORDER BY time",
      ),
    ),
    [
      { request_id: 'q1', time: 1010_000, period_ms: 10_000, used: 90 },
      { request_id: 'q2', time: 2020_500, period_ms: 20_500, used: 190 },
    ],
  );
  t.strictSame(
    await rowsOf(
      store.query('SELECT request_id, name, kind, text, number FROM inputs ORDER BY request_id, name'),
    ),
    [
      { request_id: 'q1', name: 'kind', kind: 'category', text: 'a', number: null },
      { request_id: 'q1', name: 'n', kind: 'size', text: null, number: 5 },
      { request_id: 'q2', name: 'kind', kind: 'category', text: 'b', number: null },
    ],
  );
  t.equal(await refusal(store.importSet(series)), 'SET_REFUSED', 'again');
  t.equal(await refusal(store.importSet(join(folder, 'none'))), 'SET_REFUSED');
  t.equal(
    await refusal(store.importSet(set('x', { kind: 'raw-requests' }, 'requests.csv.gz', 'a\n1\n'))),
    'SET_REFUSED',
  );
  t.strictSame((await store.stats()).imports, ['s', 'r']);
});

t.test(
  'every set of the development data that has a known form is imported',
  { skip: process.env.FORESHADE_DATA === undefined && 'FORESHADE_DATA is not set' },
  async (t) => {
    const data = process.env.FORESHADE_DATA ?? '';
    const store = newStore(t);
    for (const name of [
      'kepler_counters_v06',
      'google2019_tasks',
      'asd_dev',
      'nextflow_dev',
      'wfinstances_makeflow',
    ]) {
      const { rows, kind } = JSON.parse(readFileSync(join(data, name, 'dataset.json'), 'utf8'));
      const imported = await store.importSet(join(data, name));
      if (kind !== 'labelled-series') t.equal(imported, rows, name);
      t.ok(imported > 0);
    }
  },
);

t.test('answers are exported as Parquet and CSV', async (t) => {
  const folder = newFolder(t);
  const directory = join(folder, 'store');
  const store = newStore(t, { directory });
  for (let n = 0; n < 3; n += 1) store.record(pointAt(n));
  await store.flush();
  const reader = new ShadowReader(directory);
  t.teardown(() => reader.close());
  t.equal(
    await reader.export(
      'SELECT cpu_millicores AS n FROM shadow ORDER BY time;',
      'csv',
      join(folder, 'x.csv'),
    ),
    3,
  );
  t.equal(readFileSync(join(folder, 'x.csv'), 'utf8'), 'n\n0.0\n1.0\n2.0\n');
  await reader.export('SELECT * FROM shadow', 'parquet', join(folder, 'x.parquet'));
  t.equal(readFileSync(join(folder, 'x.parquet')).subarray(0, 4).toString(), 'PAR1');
  t.equal(await refusal(reader.export('DROP VIEW shadow', 'csv', join(folder, 'y.csv'))), 'QUERY_REFUSED');
  t.notOk(existsSync(join(folder, 'y.csv')));
});
