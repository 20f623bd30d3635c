// Goal: a question reads the views and nothing else: not the key that hashes inputs, not the store's own files, nothing of the
// host; and it writes nowhere. Method: a store whose inputs are hashed; all that the database tells of itself is searched for
// the key, and each way to a file is tried.
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ShadowError } from '../../orchestrator/core/shadow.ts';
import { heldInputKey } from '../../orchestrator/store/input-rules.ts';
import type { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { NOON_MS, newFolder, newStore, pointAt, rowsOf } from './store-fixture.ts';

async function newSecretive(
  t: Parameters<typeof newStore>[0],
): Promise<{ store: DiskShadowStore; directory: string; key: string }> {
  const directory = join(newFolder(t), 'store');
  const store = newStore(t, { directory, inputRules: [{ name: '*', action: 'hash' }] });
  store.record(pointAt(0));
  const params = {
    user: { kind: 'category', value: 'mary' },
    rows: { kind: 'number', value: 7 },
    bytes: { kind: 'number', value: 2e6 },
  } as const;
  store.recordInputs({ atMs: NOON_MS, requestId: 'r1', guest: 'g1', host: 'h1', params });
  await store.maintain();
  store.record(pointAt(1));
  await store.flush();
  return { store, directory, key: heldInputKey(directory) ?? '' };
}

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    return `answered: ${JSON.stringify(await work)}`;
  } catch (error) {
    return error instanceof ShadowError ? error.code : String(error);
  }
}

t.test('a hashed input is found by who knows it, as text or number', async (t) => {
  const { store } = await newSecretive(t);
  for (const [value, name] of [
    ["'mary'", 'user'],
    ['7', 'rows'],
    ['7.0', 'rows'],
    ['2e6', 'bytes'],
    ['2000000', 'bytes'],
  ] as const)
    t.strictSame(
      await rowsOf(store.query(`SELECT name FROM inputs WHERE text = hashed(${value})`)),
      [{ name }],
      value,
    );
  t.strictSame(
    await rowsOf(store.query("SELECT hashed(v) IS NULL AS isNull, v FROM (VALUES ('mary'), (NULL)) x (v)")),
    [
      { isNull: false, v: 'mary' },
      { isNull: true, v: null },
    ],
  );
});

t.test('nothing the database tells of itself holds the key', async (t) => {
  const { store, key } = await newSecretive(t);
  t.match(key, /^[0-9a-f]{64}$/);
  for (const sql of [
    'FROM duckdb_functions()',
    'FROM duckdb_views()',
    'FROM duckdb_tables()',
    'FROM duckdb_columns()',
    'FROM duckdb_settings()',
    'FROM duckdb_variables()',
    'FROM duckdb_databases()',
    'FROM duckdb_schemas()',
    'FROM duckdb_logs',
    'FROM duckdb_temporary_files()',
    'FROM information_schema.tables',
    "SELECT hashed('mary') AS h, current_query() AS q",
    "EXPLAIN SELECT hashed('mary')",
    'EXPLAIN ANALYZE SELECT hashed(guest) FROM shadow',
  ]) {
    const told = await refusal(rowsOf(store.query(sql)));
    t.match(told, /^answered/, sql);
    t.notOk(told.includes(key), sql);
  }
});

t.test('no file is read but the sealed ones', async (t) => {
  const { store, directory, key } = await newSecretive(t);
  writeFileSync(join(directory, '..', 'outside.csv'), `a\n${key}\n`);
  mkdirSync(join(directory, 'work'), { recursive: true });
  const paths = [
    join(directory, 'input-key'),
    `${directory}/parquet/../input-key`,
    [directory, 'work', '..', 'input-key'].join('/'),
    `${directory}/parquet//..//input-key`,
    `file://${directory}/input-key`,
    `${directory}/parquet/../../outside.csv`,
    join(directory, 'manifest.json'),
    join(directory, 'log', '*'),
    join(directory, '..', 'outside.csv'),
    '/etc/passwd',
    '/proc/self/environ',
    'http://127.0.0.1:1/x',
  ];
  for (const path of paths)
    for (const read of [
      'read_text',
      'read_blob',
      'read_csv',
      'read_json_auto',
      'read_parquet',
      'sniff_csv',
      'parquet_metadata',
    ])
      t.not(
        (await refusal(rowsOf(store.query(`SELECT * FROM ${read}('${path}')`)))).slice(0, 8),
        'answered',
        `${read} ${path}`,
      );
  for (const sql of [
    `FROM '/etc/passwd'`,
    `FROM glob('/etc/*')`,
    `FROM glob('${directory}/*')`,
    'FROM duckdb_secrets()',
  ])
    t.not((await refusal(rowsOf(store.query(sql)))).slice(0, 8), 'answered', sql);
});

t.test('nothing is written, attached, loaded or set', async (t) => {
  const { store, directory } = await newSecretive(t);
  const made = join(directory, 'work', 'x');
  const files = (): string =>
    spawnSync('find', [directory, '-type', 'f', '-printf', '%p %s\n'], { encoding: 'utf8' }).stdout;
  const before = files();
  for (const sql of [
    `COPY (SELECT 1) TO '${made}.csv'`,
    `EXPLAIN ANALYZE COPY (SELECT 1) TO '${made}.csv'`,
    `EXPLAIN (ANALYZE) COPY (SELECT 1) TO '${made}.csv'`,
    `EXPLAIN (FORMAT json, ANALYZE true) COPY (SELECT 1) TO '${made}.csv'`,
    `EXPLAIN ANALYZE EXPLAIN ANALYZE COPY (SELECT 1) TO '${made}.csv'`,
    `explain /* */ analyze COPY (SELECT 1) TO '${made}.csv'`,
    'EXPLAIN ANALYZE DROP VIEW shadow',
    'EXPLAIN ANALYZE DELETE FROM log_contexts',
    'WITH gone AS (DELETE FROM log_contexts RETURNING *) SELECT * FROM gone',
    'INSERT INTO log_inputs (name) VALUES (1)',
    `EXPORT DATABASE '${made}'`,
    `ATTACH '${made}.db'`,
    "ATTACH '/etc/passwd' AS x",
    'INSTALL httpfs',
    'LOAD httpfs',
    `LOAD '${made}.duckdb_extension'`,
    'SET enable_external_access = true',
    "SET allowed_directories = ['/']",
    'SET threads = 64',
    'SET VARIABLE x = 1',
    'PRAGMA enable_external_access',
    'CALL enable_logging()',
    'CREATE MACRO m() AS 1',
    'CREATE TABLE x AS SELECT 1',
    'CHECKPOINT',
    'USE temp',
  ])
    t.equal(await refusal(rowsOf(store.query(sql))), 'QUERY_REFUSED', sql);
  t.equal(files(), before);
  t.strictSame(await rowsOf(store.query('SELECT count(*) AS n FROM shadow')), [{ n: 2 }], 'all is as it was');
});

t.test('a question that hashes and is given up holds the next one up no more than any', async (t) => {
  const limits = { threads: 4, memoryBytes: 256 * 1024 * 1024, spillBytes: 1024 * 1024 };
  const store = newStore(t, { inputRules: [{ name: '*', action: 'hash' }], limits });
  for (let n = 0; n < 3; n += 1) {
    for await (const _ of store.query('SELECT hashed(range) FROM range(300000)')) break;
    store.record(pointAt(n));
    await store.flush();
    t.strictSame(await rowsOf(store.query('SELECT count(*) AS n FROM shadow')), [{ n: n + 1 }]);
  }
});
