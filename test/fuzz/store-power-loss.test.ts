// Goal: when the power goes at any moment, no acknowledged sample of the log is lost, and none comes twice or torn. Method:
// the log's disk is recorded, write by write and sync by sync, with each acknowledgement in its place; for random moments the
// segment is rebuilt as a disk may hold it then (what was synced, and any sectors of the rest), opened and read.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { LogReader } from '../../orchestrator/store/log-reader.ts';
import { cutTorn, readEnd } from '../../orchestrator/store/log-segments.ts';
import { type LogDisk, LogWriter } from '../../orchestrator/store/log-writer.ts';
import { afterPowerLoss, type TraceEvent } from '../contract/write-trace.ts';
import { recordFigure } from '../figures.ts';
import { randomFrom } from '../random.ts';
import { newFolder } from '../unit/store-fixture.ts';

const SEED = Number(process.env.FORESHADE_SEED ?? Date.now() % 1_000_000);
/** Moments at which the power goes. */
const POWER_LOSSES = Number(process.env.FORESHADE_POWER_LOSSES ?? 100);
const COMMITS = 25;
const NOTHING = Buffer.alloc(0);
t.comment(`seed ${SEED}`);

/** Write `COMMITS` batches of random sizes. @returns what the disk was told, and what it had promised when */
async function traceLog(directory: string, random: () => number): Promise<TraceEvent[]> {
  const events: TraceEvent[] = [];
  const disk: LogDisk = {
    async write(file, bytes, offset) {
      events.push({ kind: 'write', offset, bytes: Buffer.from(bytes) });
      await file.write(bytes, 0, bytes.byteLength, offset);
    },
    async sync(file) {
      await file.datasync();
      events.push({ kind: 'sync', offset: 0, bytes: NOTHING });
    },
  };
  const writer = new LogWriter({ directory, start: () => ({ nextSegment: 0, nextSequence: 0 }), disk });
  const layout = writer.layout(['n']);
  let n = 0;
  for (let commit = 0; commit < COMMITS; commit += 1) {
    const context = writer.context({ guest: `g${commit % 3}`, host: 'h', axis: 'seconds' });
    for (const end = n + 1 + Math.floor(random() * 200); n < end; n += 1)
      layout.append(context, 1e12 + n, Number.NaN, Number.NaN, 0, [n]);
    const promised = n;
    await writer.flush();
    events.push({ kind: 'promise', offset: 0, bytes: Buffer.from(String(promised)) });
    await sleep(1);
  }
  await writer.close();
  return events;
}

/** Samples whose context is known, in the order of the log. */
function samplesOf(directory: string): number[] {
  const samples: number[] = [];
  const known = new Set<number>();
  for (const { kind, table } of new LogReader({ directory, afterSegment: -1, afterSequence: -1 }).read()) {
    if (kind === 'contexts') for (const id of table.getChild('id') ?? []) known.add(id as number);
    if (kind !== 'rows') continue;
    const ids = table.getChild('context');
    for (const [i, n] of [...(table.getChild('n') ?? [])].entries())
      if (known.has(ids?.get(i))) samples.push(n as number);
  }
  return samples;
}

t.test(`the power goes ${POWER_LOSSES} times`, async (t) => {
  const random = randomFrom(SEED);
  const folder = newFolder(t);
  const events = await traceLog(join(folder, 'traced'), random);
  t.equal(events.filter(({ kind }) => kind === 'promise').length, COMMITS);
  let survived = 0;
  for (let loss = 0; loss < POWER_LOSSES; loss += 1) {
    const until = events.slice(0, 1 + Math.floor(random() * events.length));
    const odds = random();
    const directory = join(folder, 'after');
    mkdirSync(directory);
    writeFileSync(
      join(directory, '00000000.log'),
      afterPowerLoss(until, () => random() < odds),
    );
    const promised = Number(until.findLast(({ kind }) => kind === 'promise')?.bytes.toString() ?? 0);
    cutTorn(directory, readEnd(directory));
    const samples = samplesOf(directory);
    const isKept = samples.slice(0, promised).every((n, i) => n === i) && samples.length >= promised;
    const isOrdered = samples.every((n, i) => i === 0 || n > (samples[i - 1] ?? -1));
    if (isKept && isOrdered) survived += 1;
    else t.fail(`seed ${SEED}, loss ${loss}: ${promised} promised, ${samples.length} read`);
    rmSync(directory, { recursive: true });
  }
  t.equal(survived, POWER_LOSSES);
  recordFigure({
    bar: 'store-power-losses-survived',
    value: survived,
    limit: `${POWER_LOSSES} of ${POWER_LOSSES} power losses without an acknowledged sample lost, doubled or torn`,
    met: survived === POWER_LOSSES,
  });
});
