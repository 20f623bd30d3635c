// Goal: on a disk that is full or read-only a store opens, goes on answering, loses nothing it acknowledged, says that it is
// stalled, and writes and seals again once it can. What cannot work is refused all the same. Method: a tmpfs of a few MiB
// that a filler takes up, bind mounts that are read-only, another user's folder; it needs root.
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { WritingStatus } from '../../orchestrator/core/shadow.ts';
import { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { mountSmallDisk } from '../tmpfs.ts';
import { NOON_MS, newFolder, pointAt, rowsOf } from './store-fixture.ts';

const DISK_MIB = 4;

const { path: disk, missing: noDisk } = mountSmallDisk(t, DISK_MIB);

/** Take up what room there is. @returns a way to give it back */
function fill(name = 'filler'): () => void {
  const filler = join(disk, name);
  try {
    writeFileSync(filler, Buffer.alloc(DISK_MIB * 1024 * 1024));
  } catch {
    // It took what there was.
  }
  return () => rmSync(filler);
}

async function countOf(store: DiskShadowStore): Promise<unknown> {
  const sql = 'SELECT count(*) AS rows, count(DISTINCT cpu_millicores) AS numbers FROM shadow';
  return (await rowsOf(store.query(sql)))[0];
}

t.test('a disk that fills, and is emptied', { skip: noDisk }, async (t) => {
  const directory = join(disk, 'store');
  const states: string[] = [];
  const onState = ({ state }: WritingStatus): void => {
    states.push(state);
  };
  const store = DiskShadowStore.open({ directory, onState });
  const count = (): Promise<unknown> => countOf(store);
  let n = 0;
  const add = (rows: number): void => {
    for (const end = n + rows; n < end; n += 1) store.record(pointAt(n));
  };
  add(500);
  await store.flush();
  const makeRoom = fill();
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
  makeRoom();
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

t.test('a disk that is full before the store is opened', { skip: noDisk }, async (t) => {
  const directory = join(disk, 'full');
  const first = DiskShadowStore.open({ directory });
  for (let n = 0; n < 500; n += 1) first.record(pointAt(n));
  await first.close();
  appendFileSync(join(directory, 'log', '00000000.log'), 'FSL1 and a write that was cut off');
  writeFileSync(join(directory, 'work', 'stray.parquet'), 'left by a seal that was cut off');
  const held = DiskShadowStore.open({ directory: join(disk, 'held') });
  const makeRoom = fill();
  t.throws(() => DiskShadowStore.open({ directory: join(disk, 'held') }), { code: 'STORE_IN_USE' });
  await held.close();
  const makeLittle = fill('what-its-lock-took');

  const states: string[] = [];
  const store = DiskShadowStore.open({
    directory,
    inputRules: [{ name: 'user', action: 'hash' }],
    onState: ({ state }) => states.push(state),
  });
  const empty = DiskShadowStore.open({ directory: join(disk, 'new') });
  t.match(store.status, { state: 'stalled', reason: /ENOSPC/ });
  t.match(store.damageAtOpen, [{ segment: '00000000.log', kind: 'torn' }]);
  t.strictSame(await countOf(store), { rows: 500, numbers: 500 }, 'questions are answered');
  t.strictSame(await countOf(empty), { rows: 0, numbers: 0 }, 'also of a store that is not there yet');
  for (let n = 500; n < 1000; n += 1) store.record(pointAt(n));
  store.recordInputs({
    atMs: NOON_MS,
    requestId: 'r1',
    guest: 'g1',
    host: 'h1',
    params: { user: { kind: 'text', value: 'mary' } },
  });
  const flushed = store.flush();
  for (const change of [() => store.maintain(), () => store.erase('acme'), () => store.importSet('none')])
    await t.rejects(Promise.resolve(change()), { code: 'STORE_UNAVAILABLE' }, 'nothing is changed');
  t.match(store.status, { state: 'stalled', accepted: 501, acknowledged: 0, dropped: 0 });

  makeLittle();
  makeRoom();
  await flushed;
  t.strictSame(await countOf(store), { rows: 1000, numbers: 1000 });
  t.strictSame(await rowsOf(store.query("SELECT request_id FROM inputs WHERE text = hashed('mary')")), [
    { request_id: 'r1' },
  ]);
  await store.maintain();
  t.strictSame(await countOf(store), { rows: 1000, numbers: 1000 });
  t.strictSame((await store.stats()).damage, [], 'the torn end was cut');
  t.notOk(existsSync(join(directory, 'work', 'stray.parquet')));
  t.strictSame(states, ['stalled', 'writing']);
  empty.record(pointAt(1));
  await empty.flush();
  await Promise.all([store.close(), empty.close()]);
  t.notOk(readdirSync(directory).some((name) => name.startsWith('lock')));
});

t.test('a folder that may only be read', { skip: noDisk }, async (t) => {
  const folder = newFolder(t);
  const directory = join(folder, 'store');
  const first = DiskShadowStore.open({ directory });
  first.record(pointAt(0));
  await first.maintain();
  first.record(pointAt(1));
  await first.close();
  const mount = (...args: string[]): void => {
    const { status, stderr } = spawnSync('mount', args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
  };
  mount('--bind', directory, directory);
  t.teardown(() => spawnSync('umount', ['-l', directory]));
  mount('-o', 'remount,bind,ro', directory);

  const store = DiskShadowStore.open({ directory });
  t.match(store.status, { state: 'stalled', reason: /EROFS/ });
  t.strictSame(await countOf(store), { rows: 2, numbers: 2 });
  store.record(pointAt(2));
  const flushed = store.flush();
  await store.backup(join(folder, 'copy'));
  mount('-o', 'remount,bind,rw', directory);
  await flushed;
  t.strictSame(await countOf(store), { rows: 3, numbers: 3 });
  await store.close();

  writeFileSync(join(directory, 'manifest.json'), JSON.stringify({ schema: 99 }));
  mount('-o', 'remount,bind,ro', directory);
  t.throws(() => DiskShadowStore.open({ directory }), { code: 'STORE_TOO_NEW' });
});

/** Why this process cannot act as another user, or false when it can: some builds of Node forbid it beside io_uring. */
function cannotBeAnother(): string | false {
  try {
    process.seteuid?.(65534);
    process.seteuid?.(0);
    return false;
  } catch (error) {
    return `nobody else can be played here: ${(error as Error).message}`;
  }
}

t.test("another user's folder", { skip: noDisk || cannotBeAnother() }, async (t) => {
  const folder = newFolder(t);
  const directory = join(folder, 'store');
  chmodSync(folder, 0o755);
  mkdirSync(directory);
  process.seteuid?.(65534);
  t.teardown(() => process.seteuid?.(0));
  const store = DiskShadowStore.open({ directory });
  t.match(store.status, { state: 'stalled', reason: /EACCES/ });
  process.seteuid?.(0);
  chmodSync(directory, 0o700);
  process.seteuid?.(65534);
  t.throws(() => DiskShadowStore.open({ directory }), { code: 'STORE_UNAVAILABLE' }, 'not even listed');
  process.seteuid?.(0);
  store.record(pointAt(0));
  await store.flush();
  await store.close();
  writeFileSync(join(folder, 'file'), '');
  t.throws(() => DiskShadowStore.open({ directory: join(folder, 'file') }), { code: 'STORE_UNAVAILABLE' });
});

t.test('the last of a disk is left to others', { skip: noDisk }, async (t) => {
  const directory = join(disk, 'sparing');
  const freeBytesMin = 2 * 1024 * 1024;
  const store = DiskShadowStore.open({ directory, freeBytesMin });
  t.teardown(() => store.close());
  store.record(pointAt(0));
  await store.flush();
  const room = join(disk, 'room');
  writeFileSync(room, Buffer.alloc((DISK_MIB - 1) * 1024 * 1024));
  store.record(pointAt(1));
  const flushed = store.flush();
  await sleep(300);
  t.match(store.status, { state: 'stalled', reason: /the last 2 are left to others/, acknowledged: 1 });
  writeFileSync(join(disk, 'lease'), Buffer.alloc(512 * 1024));
  t.pass('and they can take it');
  rmSync(room);
  await flushed;
  t.match(store.status, { state: 'writing', acknowledged: 2 });
});
