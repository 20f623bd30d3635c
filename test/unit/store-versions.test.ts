// Goal: what an earlier version wrote is read, added to and sealed anew as if this one had; what a later one wrote is refused
// and left as it is. Method: a store as version 1 wrote it, kept in test/golden (samples 0 to 4 sealed and rolled up, 5 to 8
// in its log; 4 and 8 with a request), opened by this version; a frame of a version to come, made by hand.
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Float64, RecordBatchStreamWriter, Table, vectorFromArray } from 'apache-arrow';
import t from 'tap';
import { encodeFrame } from '../../orchestrator/store/frame.ts';
import { publishManifest, readManifest } from '../../orchestrator/store/manifest.ts';
import { ShadowReader } from '../../orchestrator/store/reader.ts';
import { SCHEMA_VERSION, upgradeSealed } from '../../orchestrator/store/schema-versions.ts';
import { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { NOON_MS, newFolder, newStore, pointAt, rowsOf } from './store-fixture.ts';

const VERSION_1 = fileURLToPath(new URL('../../../test/golden/store-v1', import.meta.url));

const schemasOf = (directory: string) => readManifest(directory).files.map(({ schema }) => schema);

t.test('a store of version 1', async (t) => {
  const directory = newFolder(t);
  cpSync(VERSION_1, directory, { recursive: true });
  t.strictSame(schemasOf(directory), [1, 1, 1, 1]);
  const store = newStore(t, { directory });
  const points = () =>
    rowsOf(
      store.query(
        'SELECT cpu_millicores AS n, request_id, granted_vcpu_count AS vcpus, cadence FROM shadow ORDER BY n',
      ),
    );
  const row = (n: number, cadence: string | null) => ({
    n,
    request_id: n === 4 || n === 8 ? `r${n}` : null,
    vcpus: n === 4 || n === 8 ? 2 : null,
    cadence,
  });
  const old = Array.from({ length: 9 }, (_, n) => row(n, null));
  t.strictSame(await points(), old, 'read whole');
  const inputs = () =>
    rowsOf(store.query("SELECT request_id FROM inputs WHERE name = 'rows' AND number = 2e6 ORDER BY ALL"));
  t.strictSame(await inputs(), [{ request_id: 'r4' }, { request_id: 'r8' }]);
  const buckets = () =>
    rowsOf(
      store.query(
        'SELECT time, request_id, cadence, samples, cpu_millicores_max AS hi FROM shadow_minute ORDER BY ALL',
      ),
    );
  const bucket = (request_id: string | null, cadence: string | null, samples: number, hi: number) => ({
    time: NOON_MS,
    request_id,
    cadence,
    samples,
    hi,
  });
  t.strictSame(await buckets(), [bucket('r4', null, 1, 4), bucket(null, null, 4, 3)]);

  store.record(pointAt(9, { cadence: 'fast' }));
  await store.flush();
  const all = [...old, row(9, 'fast')];
  t.strictSame(await points(), all, 'added to');
  await store.maintain();
  t.strictSame(await points(), all, 'sealed and merged');
  t.strictSame(await inputs(), [{ request_id: 'r4' }, { request_id: 'r8' }]);
  t.strictSame(await buckets(), [
    bucket('r4', null, 1, 4),
    bucket('r8', null, 1, 8),
    bucket(null, 'fast', 1, 9),
    bucket(null, null, 7, 7),
  ]);
  t.strictSame(schemasOf(directory), [2, 2, 2, 2]);
  const metadata = `SELECT DISTINCT decode(value) AS schema FROM parquet_kv_metadata('${directory}/parquet/*/*/*/*.parquet') WHERE decode(key) = 'foreshade_schema'`;
  t.strictSame(await rowsOf(store.query(metadata)), [{ schema: String(SCHEMA_VERSION) }]);
  await store.erase('acme');
  t.strictSame(
    await points(),
    all.filter(({ request_id }) => request_id === null),
  );
});

t.test('a day of version 1 that is rolled up by this one', async (t) => {
  const directory = newFolder(t);
  cpSync(VERSION_1, directory, { recursive: true });
  rmSync(join(directory, 'log'), { recursive: true });
  const manifest = readManifest(directory);
  const files = manifest.files.filter(({ tier }) => tier === 'raw');
  await publishManifest(directory, { ...manifest, files });
  const store = newStore(t, { directory });
  await store.maintain();
  t.strictSame(
    await rowsOf(store.query('SELECT request_id, cadence, samples FROM shadow_hour ORDER BY ALL')),
    [
      { request_id: 'r4', cadence: null, samples: 1 },
      { request_id: null, cadence: null, samples: 4 },
    ],
  );
  t.strictSame(schemasOf(directory), [1, 2, 2], 'points that nothing touched are as they were');
});

t.test('each version has its upgrade', async (t) => {
  for (let version = 1; version <= SCHEMA_VERSION; version += 1) t.ok(upgradeSealed('points', version, 'x'));
  t.throws(() => upgradeSealed('points', 0, 'x'));
});

t.test('a log of a version to come is refused, and not touched', async (t) => {
  const directory = newFolder(t);
  mkdirSync(join(directory, 'log'));
  const table = new Table({ at_ms: vectorFromArray([1], new Float64()) });
  table.schema.metadata.set('foreshade', 'rows').set('version', String(SCHEMA_VERSION + 1));
  const frame = encodeFrame(0, RecordBatchStreamWriter.writeAll(table).toUint8Array(true));
  const path = join(directory, 'log', '00000000.log');
  writeFileSync(path, Buffer.concat([...frame, Buffer.from('a torn tail')]));
  const before = readFileSync(path);
  const both = new RegExp(`schema ${SCHEMA_VERSION + 1}.*knows ${SCHEMA_VERSION}`);
  t.throws(() => DiskShadowStore.open({ directory }), { code: 'STORE_TOO_NEW', message: both });
  const reader = new ShadowReader(directory);
  t.teardown(() => reader.close());
  await t.rejects(rowsOf(reader.query('SELECT * FROM shadow')), { code: 'STORE_TOO_NEW', message: both });
  t.strictSame(readFileSync(path), before);
});
