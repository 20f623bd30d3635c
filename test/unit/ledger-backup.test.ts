// Goal: a ledger keeps its version, is brought to a later one whole or not at all, and is copied and put back while nothing
// of it is lost. Method: the ledger in memory with steps of the test's own; the one on disk copied while it is written, and
// the commands on a state folder.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { backupLedger, ledgerFacts } from '../../orchestrator/ledger/backup.ts';
import { LmdbLedger } from '../../orchestrator/ledger/lmdb-ledger.ts';
import { MemoryLedger } from '../../orchestrator/ledger/memory-ledger.ts';
import { upgradeLedger } from '../../orchestrator/ledger/schema-versions.ts';
import { StateLock } from '../../orchestrator/state-lock.ts';
import { runCaptured } from '../run-cli.ts';

const root = mkdtempSync(join(tmpdir(), 'fs-ledger-backup-'));
t.teardown(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;

function newFolder(): string {
  folders += 1;
  return join(root, `folder-${folders}`);
}

const doubled = ({ value }: { value: unknown }): unknown => 2 * (value as number);
const withoutOdd = ({ value }: { value: unknown }): unknown =>
  (value as number) % 2 === 1 ? undefined : value;

t.test('a ledger without a version is of the first, and says so from then on', async (t) => {
  const ledger = new MemoryLedger();
  t.equal(await upgradeLedger(ledger, []), 1);
  t.equal(ledger.get('schema/version')?.value, 1);
  t.equal(await upgradeLedger(ledger, []), 1);
  t.equal(ledger.get('schema/version')?.version, 1, 'written once');
});

t.test('each step is made once, in order, from the version the ledger is of', async (t) => {
  const ledger = new MemoryLedger();
  await ledger.commit([1, 2, 3].map((value) => ({ key: `n/${value}`, value })));
  t.equal(await upgradeLedger(ledger, [withoutOdd]), 1);
  t.equal(await upgradeLedger(ledger, [withoutOdd, doubled]), 2);
  t.strictSame(
    ledger.range('n/').map(({ key, value }) => [key, value]),
    [['n/2', 4]],
  );
  t.equal(ledger.get('schema/version')?.value, 3);
});

t.test('an upgrade that is cut off has changed nothing', async (t) => {
  const ledger = new MemoryLedger();
  await ledger.commit([{ key: 'n/1', value: 1 }]);
  await t.rejects(
    upgradeLedger(ledger, [
      () => {
        throw new Error('cut off');
      },
    ]),
    /cut off/,
  );
  ledger.flushDelay = () => new Promise(() => {});
  void upgradeLedger(ledger, [doubled]);
  const found = ledger.afterPowerLoss();
  t.strictSame([found.get('n/1')?.value, found.get('schema/version')], [1, undefined]);
});

for (const version of [2, 0, 1.5, 'one', null]) {
  t.test(`version ${JSON.stringify(version)} is refused`, async (t) => {
    const ledger = new MemoryLedger();
    await ledger.commit([{ key: 'schema/version', value: version }]);
    await t.rejects(upgradeLedger(ledger, []), { code: 'LEDGER_UNAVAILABLE' });
  });
}

t.test('a copy that is made while commits go on is one moment of them', async (t) => {
  const folder = newFolder();
  const ledger = LmdbLedger.open(folder);
  let n = 0;
  const commit = async (): Promise<void> => {
    n += 1;
    const padding = 'x'.repeat(2000);
    await ledger.commit(['a', 'b', 'c'].map((lane) => ({ key: `${lane}/lane`, value: { n, padding } })));
  };
  await commit();
  // What is acknowledged before the copy begins is in it; the commit that is under way then need not be.
  const atLeast = n;
  let isOver = false;
  const writing = (async () => {
    while (!isOver) await commit();
  })();
  const target = newFolder();
  await backupLedger(folder, target);
  isOver = true;
  await writing;
  await ledger.close();
  const copy = LmdbLedger.open(target, { readOnly: true });
  const seen = ['a', 'b', 'c'].map(
    (lane) => (copy.get(`${lane}/lane`)?.value as { n: number } | undefined)?.n,
  );
  await copy.close();
  t.ok(new Set(seen).size === 1 && (seen[0] ?? 0) >= atLeast, `${seen} of ${n}`);
  await t.rejects(backupLedger(folder, target), { code: 'INVALID_REQUEST' }, 'never over what is there');
});

t.test('what is no ledger, or half of one, is refused and left as it is', async (t) => {
  const empty = newFolder();
  mkdirSync(empty);
  await t.rejects(ledgerFacts(empty), { message: /holds no ledger/ });
  t.notOk(existsSync(join(empty, 'data.mdb')), 'nothing is made in its place');
  writeFileSync(join(empty, 'data.mdb'), 'garbage');
  await t.rejects(ledgerFacts(empty), { message: /not an LMDB file/ });
  const folder = newFolder();
  const ledger = LmdbLedger.open(folder);
  await ledger.commit([{ key: 'a', value: 'x'.repeat(100_000) }]);
  await ledger.close();
  truncateSync(join(folder, 'data.mdb'), 16_384);
  await t.rejects(backupLedger(folder, newFolder()), { message: /cut short/ });
});

t.test('the commands copy a ledger and put it back', async (t) => {
  const stateDir = newFolder();
  mkdirSync(stateDir);
  const config = join(root, 'foreshade.toml');
  writeFileSync(config, `state_dir = "${stateDir}"\n`);
  const ask = async (...args: string[]) => {
    const { code, out } = await runCaptured(['ledger', ...args, '--config', config, '--json']);
    return { exit: code, document: JSON.parse(out) as unknown };
  };
  const ledger = LmdbLedger.open(join(stateDir, 'ledger'));
  await ledger.commit([
    { key: 'lease/1', value: { id: 1 } },
    { key: 'lease/2', value: { id: 2 } },
    { key: 'guest/1', value: {} },
  ]);
  const backup = newFolder();
  t.match(await ask('backup', backup), {
    exit: 0,
    document: { version: 1, entries: { lease: 2, guest: 1 } },
  });
  await ledger.commit([{ key: 'lease/1', value: undefined }]);
  await ledger.close();
  t.match(await ask('show'), { exit: 0, document: { entries: { lease: 1, guest: 1 } } });

  const lock = StateLock.take(stateDir);
  t.match(await ask('restore', backup), { exit: 1, document: { error: { reason: 'STATE_CONFLICT' } } });
  lock.release();
  const { document } = await ask('restore', backup);
  t.match(document, { entries: { lease: 2, guest: 1 } });
  const restored = LmdbLedger.open(join(stateDir, 'ledger'));
  t.strictSame(restored.get('lease/1')?.value, { id: 1 });
  await restored.close();
  const replaced = (document as { replaced: string }).replaced;
  t.strictSame((await ledgerFacts(replaced)).entries, { lease: 1, guest: 1 }, 'what was there is kept');

  truncateSync(join(backup, 'data.mdb'), 4096);
  t.match(await ask('restore', backup), { exit: 1 });
  t.ok(readFileSync(join(stateDir, 'ledger', 'data.mdb')).length > 0, 'a damaged backup replaces nothing');
});
