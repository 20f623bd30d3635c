// Goal: the log keeps what it acknowledged through every fault of a disk, says what it lost, and is bounded. Method: the
// writer over a disk of the test's that fails, fills, dawdles or lies at the calls it is told to; the reader as the oracle.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { WritingStatus } from '../../orchestrator/core/shadow.ts';
import { decodeFrame, encodeFrame, findFrame } from '../../orchestrator/store/frame.ts';
import { LogReader } from '../../orchestrator/store/log-reader.ts';
import { cutTorn, readEnd } from '../../orchestrator/store/log-segments.ts';
import { type LogDisk, LogWriter } from '../../orchestrator/store/log-writer.ts';
import { newFolder } from './store-fixture.ts';

/** A disk that does what `fault` says before each call, and the real thing after. */
function diskWith(fault: (call: 'write' | 'sync', count: number) => Promise<void> | void): LogDisk {
  let count = 0;
  return {
    async write(file, bytes, offset) {
      count += 1;
      await fault('write', count);
      await file.write(bytes, 0, bytes.byteLength, offset);
    },
    async sync(file) {
      await fault('sync', count);
      await file.datasync();
    },
  };
}

function failure(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: the test says so`), { code });
}

interface Opened {
  readonly writer: LogWriter;
  readonly add: (n: number) => boolean;
}

function openWriter(
  directory: string,
  options: Partial<ConstructorParameters<typeof LogWriter>[0]> = {},
): Opened {
  const writer = new LogWriter({ directory, start: () => ({ nextSegment: 0, nextSequence: 0 }), ...options });
  const layout = writer.layout(['n']);
  const context = writer.context({ guest: 'g', host: 'h', axis: 'seconds' });
  return { writer, add: (n) => layout.append(context, n, Number.NaN, Number.NaN, 0, [n]) };
}

/** The `n` of every row whose context is known, in the order of the log. */
function readBack(directory: string): { rows: number[]; damage: LogReader['damage'] } {
  const reader = new LogReader({ directory, afterSegment: -1, afterSequence: -1 });
  const rows: number[] = [];
  const known = new Set<string>();
  for (const { kind, segment, table } of reader.read()) {
    if (kind === 'contexts') for (const id of table.getChild('id') ?? []) known.add(`${segment} ${id}`);
    if (kind !== 'rows') continue;
    const ids = table.getChild('context');
    for (const [i, n] of [...(table.getChild('n') ?? [])].entries())
      if (known.has(`${segment} ${ids?.get(i)}`)) rows.push(n);
  }
  return { rows, damage: reader.damage };
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

t.test('a frame is whole, short or bad', async (t) => {
  const payload = Buffer.from('twelve bytes');
  const frame = Buffer.concat(encodeFrame(7, payload));
  t.equal(frame.byteLength, 32 + 16, 'padded to a multiple of 8');
  t.match(decodeFrame(frame, 0), { sequence: 7, payload, end: 48 });
  for (let bytes = 0; bytes < frame.byteLength; bytes += 1)
    t.equal(decodeFrame(frame.subarray(0, bytes), 0), 'short', `cut to ${bytes}`);
  for (let at = 0; at < 32 + payload.byteLength; at += 1) {
    const flipped = Buffer.from(frame);
    flipped.writeUInt8(flipped.readUInt8(at) ^ 1, at);
    t.equal(decodeFrame(flipped, 0), 'bad', `a bit of byte ${at}`);
  }
  t.equal(findFrame(Buffer.concat([Buffer.alloc(3), Buffer.alloc(5), frame]), 1), 8);
  t.equal(findFrame(Buffer.alloc(64), 0), undefined);
});

t.test('what is flushed is read, in order, and closing writes the rest', async (t) => {
  const directory = newFolder(t);
  const { writer, add } = openWriter(directory);
  for (const n of upTo(3000)) add(n);
  await writer.flush();
  t.match(writer.status, {
    state: 'writing',
    accepted: 3000,
    acknowledged: 3000,
    dropped: 0,
    queuedBytes: 0,
  });
  t.strictSame(readBack(directory).rows, upTo(3000));
  add(3000);
  await writer.close();
  t.strictSame(readBack(directory), { rows: upTo(3001), damage: [] });
  t.equal(add(3001), false, 'a closed log takes nothing');
});

t.test(
  'text of any kind comes back; half a character is replaced and spoils nothing beside it',
  async (t) => {
    const directory = newFolder(t);
    const { writer } = openWriter(directory);
    const request = { atMs: 0, requestId: 'r', guest: 'g', host: 'h', params: {} };
    const texts = ['\ud83d', '\ude00é', undefined, '', '😀'];
    writer.recordInputs(
      texts.map((text) => ({ request, name: 'n', kind: 'text', ...(text !== undefined && { text }) })),
    );
    await writer.close();
    const [batch] = new LogReader({ directory, afterSegment: -1, afterSequence: -1 }).read();
    t.strictSame([...(batch?.table.getChild('text') ?? [])], ['\ufffd', '\ufffdé', null, '', '😀']);
  },
);

t.test('commits come at most 100 ms apart', async (t) => {
  const { writer, add } = openWriter(newFolder(t));
  for (const n of upTo(5)) {
    add(n);
    const from = performance.now();
    await writer.flush();
    // Twice the bar, for a machine that is busy with other tests.
    t.ok(performance.now() - from < 200, 'acknowledged');
  }
  await writer.close();
});

t.test('a full disk holds rows back, and takes them when it has room again', async (t) => {
  const directory = newFolder(t);
  const states: WritingStatus[] = [];
  let isFull = false;
  const disk = diskWith((call) => {
    if (isFull && call === 'write') throw failure('ENOSPC');
  });
  const { writer, add } = openWriter(directory, { disk, onState: (status) => states.push(status) });
  add(0);
  await writer.flush();
  isFull = true;
  for (const n of [1, 2, 3]) add(n);
  const flushed = writer.flush();
  await sleep(800);
  t.match(writer.status, { state: 'stalled', reason: /ENOSPC/, acknowledged: 1, dropped: 0 });
  isFull = false;
  await flushed;
  t.match(
    states.map(({ state }) => state),
    ['stalled', 'writing'],
  );
  await writer.close();
  t.strictSame(readBack(directory).rows, upTo(4));
  t.equal(
    readdirSync(directory).length,
    2,
    'each failed write ended its segment; those without a row are gone',
  );
});

t.test('a sync that failed is never trusted: what it covered is written again, and read once', async (t) => {
  const directory = newFolder(t);
  let failed = 0;
  const disk = diskWith((call, count) => {
    if (call === 'sync' && count === 2 && failed === 0) {
      failed += 1;
      throw failure('EIO');
    }
  });
  const { writer, add } = openWriter(directory, { disk });
  add(0);
  await writer.flush();
  const first = readFileSync(join(directory, '00000000.log'));
  add(1);
  await writer.flush();
  await writer.close();
  t.strictSame(readBack(directory).rows, [0, 1]);
  // The same with the truncation undone, as after a power loss in which the failed write did reach the disk.
  const second = readFileSync(join(directory, '00000001.log'));
  const rowFrame = second.subarray(findFrame(second, 8) ?? 0);
  writeFileSync(join(directory, '00000000.log'), Buffer.concat([first, rowFrame]));
  t.strictSame(readBack(directory).rows, [0, 1], 'a frame that stands in two segments is read once');
});

t.test('the queue is bounded: what does not fit is dropped, counted, and said', async (t) => {
  const directory = newFolder(t);
  let isStuck = true;
  const disk = diskWith(() => {
    if (isStuck) throw failure('EROFS');
  });
  const { writer, add } = openWriter(directory, { disk, queueBytesMax: 256 * 1024 });
  const taken = upTo(20_000).filter((n) => add(n));
  t.ok(taken.length > 1000 && taken.length < 20_000, `${taken.length} of 20,000 taken`);
  t.equal(writer.status.dropped, 20_000 - taken.length);
  t.ok(writer.status.queuedBytes <= 256 * 1024);
  isStuck = false;
  await writer.flush();
  await writer.close();
  t.strictSame(readBack(directory).rows, taken);
});

t.test('a store closed on a disk that takes nothing says so to who waits', async (t) => {
  const disk = diskWith(() => {
    throw failure('EROFS');
  });
  const { writer, add } = openWriter(newFolder(t), { disk });
  add(0);
  const flushed = t.rejects(writer.flush(), { code: 'STORE_UNAVAILABLE' });
  await writer.close();
  await flushed;
  t.match(writer.status, { state: 'closed', dropped: 1, reason: /EROFS/ });
});

t.test('a slow disk is seen while it dawdles, and costs the caller nothing', async (t) => {
  const disk = diskWith(async (call, count) => {
    if (call === 'sync' && count === 1) await sleep(1300);
  });
  const { writer, add } = openWriter(newFolder(t), { disk });
  add(0);
  await sleep(1200);
  t.equal(writer.status.state, 'slow');
  const from = performance.now();
  for (const n of upTo(1000)) add(n);
  t.ok(performance.now() - from < 100, 'appends go on');
  await writer.flush();
  t.equal(writer.status.state, 'writing');
  await writer.close();
});

t.test('a bad block costs what stood in it, and nothing behind it', async (t) => {
  const directory = newFolder(t);
  const { writer, add } = openWriter(directory);
  for (const n of upTo(4)) {
    add(n);
    await writer.flush();
  }
  await writer.close();
  const path = join(directory, '00000000.log');
  const whole = readFileSync(path);
  const starts: number[] = [];
  for (let at = findFrame(whole, 0); at !== undefined; at = findFrame(whole, at + 8)) starts.push(at);
  t.equal(starts.length, 6, 'four rows, and a definition that stands twice');
  for (const [i, at] of starts.entries()) {
    const damaged = Buffer.from(whole);
    damaged.fill(0xee, at + 40, at + 48);
    writeFileSync(path, damaged);
    const { rows, damage } = readBack(directory);
    const isLast = i === starts.length - 1;
    // Frames in order: definition, row 0, definition again, rows 1 to 3.
    const lost = [undefined, 0, undefined, 1, 2, 3][i];
    t.strictSame(
      rows,
      upTo(4).filter((n) => n !== lost),
      `frame ${i}`,
    );
    t.equal(damage.length, isLast ? 0 : 1, 'what ends a log may be a write under way');
    if (!isLast) t.match(damage[0], { segment: '00000000.log', offset: at, kind: 'bad' });
  }
});

t.test('a torn end is cut at the opening', async (t) => {
  const directory = newFolder(t);
  const { writer, add } = openWriter(directory);
  add(0);
  await writer.close();
  const path = join(directory, '00000000.log');
  const whole = readFileSync(path);
  writeFileSync(path, Buffer.concat([whole, whole.subarray(0, 100)]));
  const end = readEnd(directory);
  t.match(end, { sequence: 0, segment: 0, damage: [{ kind: 'torn', bytes: 100 }] });
  cutTorn(directory, end);
  t.strictSame(readFileSync(path), whole);
  t.strictSame(readEnd(directory).damage, []);
  t.strictSame(readEnd(join(directory, 'none')), { sequence: -1, segment: -1, damage: [] });
});

t.test('names a layout does not take', async (t) => {
  const { writer } = openWriter(newFolder(t));
  for (const metrics of [['a b'], ['a', 'A'], ['guest'], ['time'], [`m${'x'.repeat(63)}`], ['1st']])
    t.throws(() => writer.layout(metrics), { code: 'POINT_REFUSED' }, metrics.join());
  await writer.close();
});
