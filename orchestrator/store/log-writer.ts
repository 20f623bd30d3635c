import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type PointContext, ShadowError, type WritingState, type WritingStatus } from '../core/shadow.ts';
import { isUnwritable, makeFolder, syncPath } from './files.ts';
import { encodeFrame } from './frame.ts';
import type { StoredInput } from './input-rules.ts';
import {
  encodeContexts,
  encodeInputs,
  encodeRows,
  type RowChunk,
  RowContext,
  RowLayout,
  type RowQueue,
} from './log-rows.ts';
import { segmentName } from './log-segments.ts';

/**
 * From the start of one group commit to the next. A row waits for the next commit and for its write and sync; on a busy
 * host the tail is what the process waits for its turn, once a commit: half of 50 ms halved it.
 */
const COMMIT_EVERY_MS = 25;
/** Between tries while the disk takes nothing. */
const RETRY_EVERY_MS = 500;
/** A commit that takes longer is said to be slow: a healthy disk syncs in a hundredth of it. */
const SLOW_COMMIT_MS = 1_000;
/** Rows waiting for the disk: eight seconds at full speed, ten minutes of a thousand guests at 1 Hz. Beyond it rows are dropped and counted. */
const QUEUE_BYTES_MAX = 64 * 1024 * 1024;
/** A segment is closed at this size: what has to be read at an opening, and what one seal takes into memory. */
const SEGMENT_BYTES_MAX = 64 * 1024 * 1024;
/** Layouts in use at once; a layout keeps buffers of its own. */
const LAYOUTS_MAX = 64;
/** Bytes that an input is taken to be in the queue. */
const INPUT_BYTES = 1024;

/** One part of a commit: a frame, whose number it keeps through every try. */
interface Part {
  readonly sequence: number;
  readonly rows?: RowChunk;
  readonly inputs?: readonly StoredInput[];
}

interface Batch {
  readonly parts: readonly Part[];
  readonly rows: number;
  /** Rows accepted up to and with this batch. */
  readonly through: number;
  readonly bytes: number;
}

interface Segment {
  readonly number: number;
  readonly path: string;
  readonly file: FileHandle;
  /** Bytes known to be on disk. */
  durable: number;
  /** Definitions of the last commit, encoded: they stand twice, since a bad block in one would take every later row with it. */
  again: Uint8Array | undefined;
}

/** What a test may play: a disk that fails, fills or dawdles. */
export interface LogDisk {
  write(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void>;
  sync(file: FileHandle): Promise<void>;
}

/** The disk itself. */
export const DISK: LogDisk = {
  async write(file, bytes, offset) {
    for (let done = 0; done < bytes.byteLength; ) {
      const { bytesWritten } = await file.write(bytes, done, bytes.byteLength - done, offset + done);
      done += bytesWritten;
    }
  },
  sync: (file) => file.datasync(),
};

/** Where a log goes on. */
export interface LogStart {
  readonly nextSegment: number;
  readonly nextSequence: number;
}

export interface LogWriterOptions {
  readonly directory: string;
  /** Makes the folder ready for writing. What it throws of a disk that takes nothing stalls the writer, which asks again. */
  readonly start: () => LogStart;
  readonly disk?: LogDisk;
  readonly queueBytesMax?: number;
  /** Told when writing changes its state, with the system's reason. */
  readonly onState?: (status: WritingStatus) => void;
}

/** Appends rows to segments: gathers them in memory, and in turn writes and syncs what has gathered. */
export class LogWriter implements RowQueue {
  readonly #directory: string;
  readonly #disk: LogDisk;
  readonly #queueBytesMax: number;
  readonly #onState: (status: WritingStatus) => void;
  readonly #layouts: RowLayout[] = [];
  #ready: RowChunk[] = [];
  #readyBytes = 0;
  #inputs: StoredInput[] = [];
  #segment: Segment | undefined;
  readonly #start: () => LogStart;
  #isStarted = false;
  #nextSegment = 0;
  #nextSequence = 0;
  #nextContext = 0;
  /** Taken from the queue, and not on disk yet. */
  #batch: Batch | undefined;
  #timer: NodeJS.Timeout | undefined;
  #commitBeganMs = -COMMIT_EVERY_MS;
  /** Commits, rolls and the closing, one after the other. */
  #turn: Promise<void> = Promise.resolve();
  #waiters: { readonly through: number; resolve: () => void; reject: (error: Error) => void }[] = [];
  #accepted = 0;
  #acknowledged = 0;
  #dropped = 0;
  #state: WritingState = 'writing';
  #reason: string | undefined;
  #committing = false;

  constructor(options: LogWriterOptions) {
    this.#directory = options.directory;
    this.#disk = options.disk ?? DISK;
    this.#queueBytesMax = options.queueBytesMax ?? QUEUE_BYTES_MAX;
    this.#onState = options.onState ?? (() => {});
    this.#start = options.start;
    warmUp();
    try {
      this.#begin();
    } catch (cause) {
      if (!isUnwritable(cause)) throw cause;
      this.#stall(cause);
    }
  }

  #begin(): void {
    if (this.#isStarted) return;
    const { nextSegment, nextSequence } = this.#start();
    this.#nextSegment = nextSegment;
    this.#nextSequence = nextSequence;
    this.#isStarted = true;
  }

  get status(): WritingStatus {
    const late = this.#committing && performance.now() - this.#commitBeganMs > SLOW_COMMIT_MS;
    const state = late && this.#state === 'writing' ? 'slow' : this.#state;
    return {
      state,
      ...(this.#reason !== undefined && { reason: this.#reason }),
      accepted: this.#accepted,
      acknowledged: this.#acknowledged,
      dropped: this.#dropped,
      queuedBytes: this.#queuedBytes(),
    };
  }

  context(facts: PointContext): RowContext {
    const context = new RowContext(facts, this.#nextContext);
    this.#nextContext += 1;
    return context;
  }

  layout(metrics: readonly string[]): RowLayout {
    const same = this.#layouts.find((known) => known.metrics.join() === metrics.join());
    if (same !== undefined) return same;
    if (this.#layouts.length >= LAYOUTS_MAX) {
      throw new ShadowError(
        'POINT_REFUSED',
        `${LAYOUTS_MAX} sets of metrics are in use: no more can be written at once`,
      );
    }
    const layout = new RowLayout(metrics, this);
    this.#layouts.push(layout);
    return layout;
  }

  /** Each counts as a row. All are taken, or none. */
  recordInputs(inputs: readonly StoredInput[]): boolean {
    const taken = this.hasRoom(INPUT_BYTES * inputs.length);
    if (taken) this.#inputs.push(...inputs);
    for (const _ of inputs) {
      if (taken) this.accepted();
      else this.dropped();
    }
    return taken;
  }

  hasRoom(bytes: number): boolean {
    return this.#state !== 'closed' && this.#queuedBytes() + bytes <= this.#queueBytesMax;
  }

  push(chunk: RowChunk): void {
    this.#ready.push(chunk);
    this.#readyBytes += chunk.bytes;
  }

  accepted(): void {
    this.#accepted += 1;
    if (!this.#committing) this.#schedule(this.#untilNext());
  }

  dropped(): void {
    this.#dropped += 1;
  }

  #queuedBytes(): number {
    let bytes = this.#readyBytes + this.#inputs.length * INPUT_BYTES + (this.#batch?.bytes ?? 0);
    for (const layout of this.#layouts) bytes += layout.openBytes;
    return bytes;
  }

  flush(): Promise<void> {
    if (this.#acknowledged >= this.#accepted) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiters.push({ through: this.#accepted, resolve, reject });
    });
  }

  /**
   * Write what waits and close the segment; resolves with the number of the last closed one once nothing more is added to it.
   * @param isWhole nothing may be left waiting
   * @throws {ShadowError} STORE_UNAVAILABLE while it is not known where the log goes on, or what must not wait does
   */
  async roll(isWhole = false): Promise<number> {
    await this.#exclusively(async () => {
      const isWritten = await this.#commit();
      if (!this.#isStarted || (isWhole && !isWritten))
        throw new ShadowError('STORE_UNAVAILABLE', this.#reason ?? 'The disk takes nothing');
      await this.#endSegment();
    });
    return this.#nextSegment - 1;
  }

  /** Do some work while nothing is written: what room there is on the disk is left to it. */
  async hold(work: () => Promise<void>): Promise<void> {
    await this.#exclusively(work);
  }

  /** Write what waits, once more if the disk takes nothing, and end. Rows that could not be written are lost, and counted. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    await this.#exclusively(async () => {
      while (this.#batch !== undefined || this.#hasWaiting()) if (!(await this.#commit())) break;
      await this.#endSegment();
    });
    clearTimeout(this.#timer);
    const lost = this.#accepted - this.#acknowledged;
    this.#dropped += lost;
    for (const layout of this.#layouts) layout.cut(); // no buffer is left that would take a row
    this.#setState('closed', lost > 0 ? `${lost} rows could not be written: ${this.#reason}` : undefined);
    const error = new ShadowError(
      'STORE_UNAVAILABLE',
      `The store was closed before ${lost} rows could be written`,
    );
    for (const { reject } of this.#waiters.splice(0)) reject(error);
  }

  #hasWaiting(): boolean {
    return this.#accepted > (this.#batch?.through ?? this.#acknowledged);
  }

  #untilNext(): number {
    return Math.max(0, this.#commitBeganMs + COMMIT_EVERY_MS - performance.now());
  }

  #schedule(ms: number): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#exclusively(() => (this.#state === 'closed' ? Promise.resolve() : this.#commit()));
    }, ms);
  }

  #exclusively(work: () => Promise<unknown>): Promise<void> {
    const done = this.#turn.then(async () => {
      await work();
    });
    this.#turn = done.catch(() => {});
    return done;
  }

  /** @returns false when the disk took nothing: the batch is kept for the next try */
  async #commit(): Promise<boolean> {
    if (this.#isStarted && this.#batch === undefined && !this.#hasWaiting()) return true;
    this.#committing = true;
    this.#commitBeganMs = performance.now();
    let batch: Batch | undefined;
    try {
      this.#begin();
      batch = this.#batch ??= this.#take();
      if (batch !== undefined) {
        this.#segment ??= await this.#beginSegment();
        await this.#write(this.#segment, batch);
      }
    } catch (cause) {
      await this.#abandonSegment();
      this.#stall(cause);
      return false;
    } finally {
      this.#committing = false;
    }
    if (batch !== undefined) this.#acknowledge(batch);
    const tookMs = performance.now() - this.#commitBeganMs;
    if (tookMs > SLOW_COMMIT_MS) this.#setState('slow', `the last write took ${Math.round(tookMs)} ms`);
    else this.#setState('writing', undefined);
    if ((this.#segment?.durable ?? 0) >= SEGMENT_BYTES_MAX) await this.#endSegment();
    if (this.#hasWaiting()) this.#schedule(this.#untilNext());
    return true;
  }

  #stall(cause: unknown): void {
    this.#setState('stalled', (cause as Error).message);
    this.#schedule(RETRY_EVERY_MS);
  }

  #take(): Batch | undefined {
    for (const layout of this.#layouts) layout.cut();
    const chunks = this.#ready;
    const inputs = this.#inputs;
    if (chunks.length === 0 && inputs.length === 0) return undefined;
    const bytes = this.#readyBytes + inputs.length * INPUT_BYTES;
    this.#ready = [];
    this.#readyBytes = 0;
    this.#inputs = [];
    const parts: Part[] = chunks.map((rows, i) => ({ sequence: this.#nextSequence + i, rows }));
    if (inputs.length > 0) parts.push({ sequence: this.#nextSequence + chunks.length, inputs });
    this.#nextSequence += parts.length;
    const rows = chunks.reduce((sum, { length }) => sum + length, inputs.length);
    return { parts, rows, through: this.#acknowledged + rows, bytes };
  }

  async #write(segment: Segment, batch: Batch): Promise<void> {
    const fresh = new Set<RowContext>();
    for (const { rows } of batch.parts) {
      for (const context of rows?.contexts ?? []) if (context.segment !== segment.number) fresh.add(context);
    }
    const pieces: Uint8Array[] = [];
    const definitions = fresh.size > 0 ? encodeContexts([...fresh]) : undefined;
    // A definition is no row: it bears the number of the frame that needs it, and is read wherever it stands.
    const sequence = batch.parts[0]?.sequence ?? 0;
    for (const payload of [segment.again, definitions])
      if (payload !== undefined) pieces.push(...encodeFrame(sequence, payload));
    for (const part of batch.parts) {
      if (part.rows !== undefined) pieces.push(...encodeFrame(part.sequence, encodeRows(part.rows)));
      if (part.inputs !== undefined) pieces.push(...encodeFrame(part.sequence, encodeInputs(part.inputs)));
    }
    const bytes = Buffer.concat(pieces);
    await this.#disk.write(segment.file, bytes, segment.durable);
    await this.#disk.sync(segment.file);
    segment.durable += bytes.byteLength;
    segment.again = definitions;
    for (const context of fresh) context.segment = segment.number;
  }

  #acknowledge(batch: Batch): void {
    this.#batch = undefined;
    this.#acknowledged += batch.rows;
    for (const { rows } of batch.parts) rows?.layout.reuse(rows);
    const due = this.#waiters.filter(({ through }) => through <= this.#acknowledged);
    this.#waiters = this.#waiters.filter(({ through }) => through > this.#acknowledged);
    for (const { resolve } of due) resolve();
  }

  async #beginSegment(): Promise<Segment> {
    const number = this.#nextSegment;
    const path = join(this.#directory, segmentName(number));
    await makeFolder(this.#directory);
    const file = await open(path, 'wx', 0o640);
    this.#nextSegment += 1;
    const segment = { number, path, file, durable: 0, again: undefined };
    // The name must survive before any row in the file is acknowledged.
    await syncPath(this.#directory).catch(async (cause) => {
      this.#segment = segment;
      throw cause;
    });
    return segment;
  }

  /**
   * After a failed write or sync nothing is known of the file's end: what the kernel could not write it forgets. The next
   * try goes to a new segment under the same frame numbers; a reader takes each number once.
   */
  async #abandonSegment(): Promise<void> {
    const segment = this.#segment;
    this.#segment = undefined;
    if (segment === undefined) return;
    const empty = segment.durable === 0;
    await segment.file.truncate(segment.durable).catch(() => {});
    await segment.file.close().catch(() => {});
    if (empty) await rm(segment.path, { force: true }).catch(() => {});
  }

  async #endSegment(): Promise<void> {
    const segment = this.#segment;
    this.#segment = undefined;
    if (segment === undefined) return;
    if (segment.again !== undefined) {
      const pieces = encodeFrame(this.#nextSequence - 1, segment.again);
      await this.#disk.write(segment.file, Buffer.concat(pieces), segment.durable).catch(() => {});
    }
    await segment.file.close().catch(() => {});
  }

  #setState(state: WritingState, reason: string | undefined): void {
    const changed = state !== this.#state || reason !== this.#reason;
    this.#state = state;
    this.#reason = reason;
    if (changed) this.#onState(this.status);
  }
}

/** Encode once before anybody waits: the first time takes the library 30 to 130 ms, the second a few. */
function warmUp(): void {
  const queue = { hasRoom: () => true, push: encodeRows, accepted: () => {}, dropped: () => {} };
  const context = new RowContext({ guest: '', host: '', axis: 'seconds' }, 0);
  const layout = new RowLayout([], queue);
  layout.append(context, 0, 0, 0, 0, []);
  layout.cut();
  encodeContexts([context]);
}
