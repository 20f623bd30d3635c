// Goal: on a disk that is full a store goes on answering, loses nothing it acknowledged, says that it is stalled, and writes
// and seals again once there is room. Method: a tmpfs of a few MiB that a filler takes up; it needs root.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { WritingStatus } from '../../orchestrator/core/shadow.ts';
import { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { pointAt, rowsOf } from './store-fixture.ts';

const DISK_MIB = 4;

const root = mkdtempSync(join(tmpdir(), 'fs-store-'));
const disk = join(root, 'disk');
mkdirSync(disk);
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MIB}m`, 'tmpfs', disk], {
  encoding: 'utf8',
});
const noDisk =
  mounted.status === 0 ? false : `no tmpfs may be mounted here: ${mounted.error ?? mounted.stderr}`;
t.teardown(() => {
  if (noDisk === false) spawnSync('umount', ['-l', disk]);
  rmSync(root, { recursive: true, force: true });
});

t.test('a disk that fills, and is emptied', { skip: noDisk }, async (t) => {
  const directory = join(disk, 'store');
  const states: string[] = [];
  const onState = ({ state }: WritingStatus): void => {
    states.push(state);
  };
  const store = DiskShadowStore.open({ directory, onState });
  const count = async (): Promise<unknown> =>
    (
      await rowsOf(
        store.query('SELECT count(*) AS rows, count(DISTINCT cpu_millicores) AS numbers FROM shadow'),
      )
    )[0];
  let n = 0;
  const add = (rows: number): void => {
    for (const end = n + rows; n < end; n += 1) store.record(pointAt(n));
  };
  add(500);
  await store.flush();
  const filler = join(disk, 'filler');
  try {
    writeFileSync(filler, Buffer.alloc(DISK_MIB * 1024 * 1024));
  } catch {
    // It took what there was.
  }
  add(500);
  const flushed = store.flush();
  await sleep(700);
  t.match(store.status, {
    state: 'stalled',
    reason: /ENOSPC/,
    accepted: 1000,
    acknowledged: 500,
    dropped: 0,
  });
  t.strictSame(await count(), { rows: 500, numbers: 500 }, 'questions are answered');
  await t.rejects(store.maintain(), 'nothing is sealed on a full disk');
  t.strictSame(await count(), { rows: 500, numbers: 500 });
  rmSync(filler);
  await flushed;
  t.strictSame(await count(), { rows: 1000, numbers: 1000 });
  await store.maintain();
  t.strictSame(await count(), { rows: 1000, numbers: 1000 });
  t.ok(states.includes('stalled') && states.at(-1) === 'writing', states.join(' '));
  await store.close();
  const again = DiskShadowStore.open({ directory });
  t.strictSame(await rowsOf(again.query('SELECT count(*) AS rows FROM shadow')), [{ rows: 1000 }]);
  await again.close();
});
