// Goal: on a full disk what is older than its tier is kept is dropped all the same, so that writing goes on by itself, and a
// seal that finds no room takes none. Method: a tmpfs of a few MiB that a filler takes up; it needs root.
import { readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { mountSmallDisk } from '../tmpfs.ts';
import { pointAt, rowsOf } from './store-fixture.ts';

const DISK_MIB = 4;

const { path: disk, missing: noDisk } = mountSmallDisk(t, DISK_MIB);
const filler = join(disk, 'filler');

/** Take up what room there is. */
function fill(): void {
  try {
    writeFileSync(filler, Buffer.alloc(DISK_MIB * 1024 * 1024));
  } catch {
    // It took what there was.
  }
}

async function countOf(store: DiskShadowStore): Promise<unknown> {
  const sql = 'SELECT count(*) AS rows, count(DISTINCT cpu_millicores) AS numbers FROM shadow';
  return (await rowsOf(store.query(sql)))[0];
}

/** Names of the sealed files there are, listed or not. */
function sealedFiles(directory: string): string[] {
  return readdirSync(join(directory, 'parquet'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.parquet'),
  );
}

const OLD_MS = Date.UTC(2020, 0, 1, 12);
const DAY_MS = 86_400_000;
const OLD_DAYS = 3;
const OLD_ROWS = 5_000;

/** Points of some days of 2020, older than any age: some 120 KB a day once they are sealed. */
async function recordOldDays(store: DiskShadowStore): Promise<void> {
  for (let n = 0; n < OLD_DAYS * OLD_ROWS; n += 1) {
    const [cpuMillicores, memoryBytes, netRxBytesPerS] = [Math.random(), Math.random(), Math.random()];
    const atMs = OLD_MS + Math.floor(n / OLD_ROWS) * DAY_MS + (n % OLD_ROWS) * 1000;
    store.record(pointAt(n, { atMs, profile: { cpuMillicores, memoryBytes, netRxBytesPerS } }));
  }
  await store.flush();
}

/** 500 points of the last hour. */
function recordRecent(store: DiskShadowStore): void {
  for (let n = 0; n < 500; n += 1) store.record(pointAt(n, { atMs: Date.now() - 3_600_000 + n * 1000 }));
}

const RECENT = { rows: 500, numbers: 500 };

t.test('what is too old is dropped from a disk that is full', { skip: noDisk }, async (t) => {
  const directory = join(disk, 'retained');
  const first = DiskShadowStore.open({ directory });
  await recordOldDays(first);
  await first.maintain();
  await first.close();

  const store = DiskShadowStore.open({ directory, retention: { rawMs: 10 * DAY_MS } });
  fill();
  recordRecent(store);
  const flushed = store.flush();
  await sleep(100);
  t.match(store.status, { state: 'stalled', reason: /ENOSPC/, acknowledged: 0 });
  await store.maintain();
  await flushed;
  t.strictSame(await countOf(store), RECENT, 'old points are gone, and those that waited are there');
  const hours =
    'SELECT count(DISTINCT time::DATE) AS days FROM shadow_hour WHERE time < now() - INTERVAL 1 DAY';
  t.strictSame(await rowsOf(store.query(hours)), [{ days: OLD_DAYS }], 'what they were rolled up to stays');
  t.match(store.status, { state: 'writing', acknowledged: 500, dropped: 0 });
  await store.close();
  rmSync(filler);
});

t.test('also when it was full before the store was opened', { skip: noDisk }, async (t) => {
  const directory = join(disk, 'retained-later');
  const first = DiskShadowStore.open({ directory });
  await recordOldDays(first);
  await first.maintain();
  await first.close();
  fill();
  const store = DiskShadowStore.open({ directory, retention: { rawMs: 10 * DAY_MS } });
  t.match(store.status, { state: 'stalled', reason: /ENOSPC/ });
  recordRecent(store);
  await store.maintain();
  await store.flush();
  t.strictSame(await countOf(store), RECENT);
  await store.close();
  rmSync(filler);
});

t.test('a seal that finds no room leaves nothing behind', { skip: noDisk }, async (t) => {
  const directory = join(disk, 'leftovers');
  const store = DiskShadowStore.open({ directory });
  t.teardown(() => store.close());
  await recordOldDays(store);
  fill();
  // Room for the first day's file, and not for all.
  truncateSync(filler, statSync(filler).size - 250 * 1024);
  await t.rejects(store.maintain(), { code: 'STORE_UNAVAILABLE' });
  t.strictSame(sealedFiles(directory), []);
  rmSync(filler);
  await store.maintain();
  t.ok(sealedFiles(directory).length >= OLD_DAYS);
  t.match(await countOf(store), { rows: OLD_DAYS * OLD_ROWS });
});
