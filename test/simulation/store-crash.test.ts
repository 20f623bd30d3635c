// Goal: kill -9 at any moment, of a process that writes, seals and merges at once, loses no acknowledged sample and doubles
// none. Method: a process writes numbered samples and says which are acknowledged; it is killed after a random time,
// the store is opened again (timed), asked for every number, and written on. FORESHADE_KILLS sets how often.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { MANIFEST_FILE } from '../../orchestrator/store/layout.ts';
import { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { recordFigure } from '../figures.ts';
import { randomFrom } from '../random.ts';
import { newFolder, rowsOf } from '../unit/store-fixture.ts';
import { FROM_MS } from './store-writer.ts';

const SEED = Number(process.env.FORESHADE_SEED ?? Date.now() % 1_000_000);
const KILLS = Number(process.env.FORESHADE_KILLS ?? 5);
/** From its opening to the kill: several commits, a seal and a merge. */
const LIFE_MS_MAX = 2_500;
const OPEN_MS_MAX = 2_000;
const WRITER = join(import.meta.dirname, 'store-writer.js');
const random = randomFrom(SEED);
t.comment(`seed ${SEED}`);

/** When something was last sealed or merged in a store, ms; NaN: never. */
function sealedAt(directory: string): number {
  return statSync(join(directory, MANIFEST_FILE), { throwIfNoEntry: false })?.mtimeMs ?? Number.NaN;
}

/**
 * Run the writer from sample `first` on and kill it, a random time after its opening or, `onceSealed`, after something was
 * sealed: how long the first seal takes is the machine's affair. @returns the last sample it said was acknowledged
 */
async function writeAndKill(directory: string, first: number, onceSealed: boolean): Promise<number> {
  const child = spawn(process.execPath, [WRITER, directory, String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const closed = once(child, 'close');
  while (!said.startsWith('open') && child.exitCode === null) await sleep(5);
  const before = sealedAt(directory);
  while (onceSealed && Object.is(sealedAt(directory), before) && child.exitCode === null) await sleep(5);
  await sleep(random() * LIFE_MS_MAX);
  child.kill('SIGKILL');
  await closed;
  const lines = said.split('\n').slice(0, -1);
  return Number(lines.at(-1) === 'open' ? first - 1 : lines.at(-1));
}

t.test(`killed ${KILLS} times`, async (t) => {
  const directory = newFolder(t);
  let last = -1;
  let slowestOpenMs = 0;
  let lost = 0;
  let sealed = 0;
  for (let kill = 0; kill < KILLS; kill += 1) {
    const acknowledged = await writeAndKill(directory, last + 1, kill % 2 === 1);
    const from = performance.now();
    const store = DiskShadowStore.open({ directory });
    slowestOpenMs = Math.max(slowestOpenMs, performance.now() - from);
    const [found = {}] = await rowsOf(
      store.query(`SELECT count(*) AS samples, count(DISTINCT n) AS numbers, max(n) AS last,
        count(*) FILTER (time <> make_timestamptz((${FROM_MS} + n * 1000)::BIGINT * 1000)) AS misplaced FROM shadow`),
    );
    const written = Number(found.samples);
    last = written === 0 ? -1 : Number(found.last);
    const isRight =
      last >= acknowledged &&
      written === last + 1 &&
      Number(found.numbers) === written &&
      Number(found.misplaced) === 0;
    if (!isRight) lost += 1;
    t.ok(isRight, `seed ${SEED}, kill ${kill}: acknowledged ${acknowledged}, found ${JSON.stringify(found)}`);
    sealed = (await store.stats()).tiers.find(({ tier }) => tier === 'raw')?.rows ?? 0;
    await store.close();
  }
  t.ok(sealed > 0, `${last + 1} samples, ${sealed} of them sealed`);
  recordFigure({ bar: 'store-killed-wrong', value: lost, limit: `0 of ${KILLS} kills`, met: lost === 0 });
  recordFigure({
    bar: 'store-open-after-kill-ms',
    value: Math.round(slowestOpenMs),
    limit: `< ${OPEN_MS_MAX} ms, the slowest of ${KILLS}`,
    met: slowestOpenMs < OPEN_MS_MAX,
  });
});
