// Goal: a heavy question takes little of the processor while the process that asks it computes, and a light one is answered all
// the same. Method: a store's own worker beside an event loop that is kept busy, its processor time from /proc. On a loaded
// host the worker gets less than it would take, so that only a bound from above is held.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { newStore, rowsOf } from './store-fixture.ts';

const HEAVY = 'SELECT sum(sqrt(a.range + b.range)) FROM range(1000000) a, range(100000) b';
const BUSY_MS = 8;
const PAUSE_MS = 2;
const WATCHED_MS = 2_000;
/** A tenth, the first 50 ms, and what a tick of the processor's clock adds. */
const WORKED_MS_MAX = WATCHED_MS / 3;

/** Processor time of a process, all threads, in ms to the tick of 10. */
function computedMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const [user = 0, system = 0] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number);
  return (user + system) * 10;
}

async function beBusy(forMs: number): Promise<void> {
  for (const end = performance.now() + forMs; performance.now() < end; await sleep(PAUSE_MS))
    for (const from = performance.now(); performance.now() < from + BUSY_MS; );
}

t.test('a heavy question rests while its asker computes', async (t) => {
  const store = newStore(t);
  await rowsOf(store.query('SELECT 1 AS one'));
  const pid = store.workerPid ?? 0;
  const abort = new AbortController();
  const asked = rowsOf(store.query(HEAVY, abort.signal)).catch((error: unknown) => error);
  const from = computedMs(pid);
  await beBusy(WATCHED_MS);
  const workedMs = computedMs(pid) - from;
  t.ok(workedMs > 0 && workedMs < WORKED_MS_MAX, `${workedMs} ms of ${WATCHED_MS}`);
  abort.abort();
  t.match(await asked, { name: 'AbortError' });
  const [answer] = await Promise.all([rowsOf(store.query('SELECT 1 AS one')), beBusy(200)]);
  t.strictSame(answer, [{ one: 1 }]);
});
