// Goal: wherever a log is cut or damaged, every acknowledged sample before the cut is read once and in order, and nothing
// torn is. Method: a log of known batches is cut at every byte of its last two, and damaged at random places; the frames
// that lie whole before the cut are the oracle.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LogReader } from '../../orchestrator/store/log-reader.ts';
import { scanFrames } from '../../orchestrator/store/log-segments.ts';
import { LogWriter } from '../../orchestrator/store/log-writer.ts';
import { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { recordFigure } from '../figures.ts';
import { randomFrom } from '../random.ts';
import { newFolder, rowsOf } from '../unit/store-fixture.ts';

const SEED = Number(process.env.FORESHADE_SEED ?? Date.now() % 1_000_000);
const BATCHES = 3;
const ROWS = 20;
/** Damaged copies of the log. */
const DAMAGES = Number(process.env.FORESHADE_DAMAGES ?? 300);
/** Cuts at which a whole store is opened and asked, beside the reader that sees them all. */
const OPENINGS = 3;
t.comment(`seed ${SEED}`);

/** A log of `BATCHES` acknowledged batches, and its length behind each. */
async function makeLog(directory: string): Promise<{ path: string; ends: number[] }> {
  const writer = new LogWriter({ directory, start: () => ({ nextSegment: 0, nextSequence: 0 }) });
  const layout = writer.layout(['n']);
  const path = join(directory, '00000000.log');
  const ends: number[] = [];
  for (let batch = 0; batch < BATCHES; batch += 1) {
    const context = writer.context({
      guest: `g${batch % 2}`,
      host: 'h',
      axis: 'seconds',
      requestId: `r${batch}`,
    });
    for (let row = 0; row < ROWS; row += 1) {
      const n = batch * ROWS + row;
      layout.append(context, 1e12 + n, Number.NaN, Number.NaN, 0, [n]);
    }
    await writer.flush();
    ends.push(readFileSync(path).byteLength);
  }
  await writer.close();
  return { path, ends };
}

function samplesOf(directory: string): number[] {
  const reader = new LogReader({ directory, afterSegment: -1, afterSequence: -1 });
  const samples: number[] = [];
  for (const { kind, table } of reader.read()) {
    if (kind === 'rows') samples.push(...((table.getChild('n')?.toArray() ?? []) as Float64Array));
  }
  return samples;
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

t.test('cut at every byte of the last two batches', async (t) => {
  const folder = newFolder(t);
  const { path, ends } = await makeLog(join(folder, 'log'));
  const whole = readFileSync(path);
  const from = ends[BATCHES - 3] ?? 0;
  const to = ends[BATCHES - 1] ?? 0;
  let wrong = 0;
  const every = Math.floor((to - from) / OPENINGS);
  for (let cut = from; cut <= to; cut += 1) {
    writeFileSync(path, whole.subarray(0, cut));
    const acknowledged = ends.filter((end) => end <= cut).length * ROWS;
    const samples = samplesOf(join(folder, 'log'));
    // A batch is read as soon as its rows are whole: what follows in it are definitions for later ones.
    const isRight =
      samples.length >= acknowledged && samples.length % ROWS === 0 && samples.every((n, i) => n === i);
    if (!isRight) {
      wrong += 1;
      t.fail(`cut at ${cut}: ${samples.length} samples read, ${acknowledged} acknowledged`);
    }
    if ((cut - from) % every !== 0) continue;
    const store = DiskShadowStore.open({ directory: folder });
    const counted = await rowsOf(
      store.query('SELECT count(*) AS count, count(DISTINCT n) AS distinct_n, max(n) AS last FROM shadow'),
    );
    t.strictSame(
      counted,
      [{ count: samples.length, distinct_n: samples.length, last: samples.length - 1 }],
      `opened at ${cut}`,
    );
    await store.close();
  }
  t.equal(wrong, 0, `${to - from + 1} cuts`);
  recordFigure({
    bar: 'store-log-cut-wrong-reads',
    value: wrong,
    limit: `0 of ${to - from + 1} cuts`,
    met: wrong === 0,
  });
});

t.test(`damaged at ${DAMAGES} random places`, async (t) => {
  const random = randomFrom(SEED);
  const directory = newFolder(t);
  const { path } = await makeLog(directory);
  const whole = readFileSync(path);
  const { frames } = scanFrames(whole);
  t.strictSame(samplesOf(directory), upTo(BATCHES * ROWS));
  for (let i = 0; i < DAMAGES; i += 1) {
    const at = Math.floor(random() * whole.byteLength);
    const bytes = Math.min(whole.byteLength - at, 1 + Math.floor(random() * 600));
    const damaged = Buffer.from(whole);
    for (let offset = at; offset < at + bytes; offset += 1)
      damaged.writeUInt8(Math.floor(random() * 256), offset);
    writeFileSync(path, damaged);
    // Zeros that pad a frame are nobody's: a frame is lost when its header or payload is touched.
    const touched = frames.filter(({ payload, end }) => {
      const start = payload.byteOffset - whole.byteOffset - 32;
      return at < Math.min(end, start + 32 + payload.byteLength) && at + bytes > start;
    });
    const samples = samplesOf(directory);
    const ordered = samples.every((n, j) => j === 0 || n > (samples[j - 1] ?? -1));
    if (!ordered || samples.length < (BATCHES - touched.length) * ROWS)
      t.fail(`seed ${SEED}, damage ${i}: ${bytes} bytes at ${at}: ${samples.length} samples`);
  }
  t.pass('nothing behind the damage was lost, nothing came twice');
});
