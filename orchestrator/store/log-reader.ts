import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Table, tableFromIPC } from 'apache-arrow';
import type { LogDamage } from '../core/shadow.ts';
import { listSegments, readFrom, scanFrames, segmentName } from './log-segments.ts';
import { type FrameKind, upgradeFrame } from './schema-versions.ts';

/** A frame's content, in the columns of the latest version. */
export interface LogBatch {
  readonly segment: number;
  readonly sequence: number;
  readonly kind: FrameKind;
  readonly table: Table;
}

export interface LogReaderOptions {
  readonly directory: string;
  /** Read segments behind this one, */
  readonly afterSegment: number;
  /** and frames behind this one: a write that failed and was tried again stands in two segments. */
  readonly afterSequence: number;
  /** Last segment to read; absent: whatever there is. */
  readonly throughSegment?: number;
}

/** Follows a log that may be written meanwhile: each `read` gives what was added since the last. */
export class LogReader {
  readonly #options: LogReaderOptions;
  readonly damage: LogDamage[] = [];
  #segment: number;
  #offset = 0;
  #sequence: number;

  constructor(options: LogReaderOptions) {
    this.#options = options;
    this.#segment = options.afterSegment;
    this.#offset = Number.POSITIVE_INFINITY;
    this.#sequence = options.afterSequence;
  }

  /** Number of the last frame that was read. */
  get sequence(): number {
    return this.#sequence;
  }

  *read(): Generator<LogBatch> {
    const { directory, throughSegment = Number.POSITIVE_INFINITY } = this.#options;
    const segments = listSegments(directory).filter(
      (segment) =>
        segment >= this.#segment && segment <= throughSegment && segment > this.#options.afterSegment,
    );
    for (const [i, segment] of segments.entries()) {
      if (segment !== this.#segment) {
        this.#segment = segment;
        this.#offset = 0;
      }
      yield* this.#readSegment(
        segment,
        i === segments.length - 1 && throughSegment === Number.POSITIVE_INFINITY,
      );
    }
  }

  *#readSegment(segment: number, isLast: boolean): Generator<LogBatch> {
    const name = segmentName(segment);
    const path = join(this.#options.directory, name);
    if (!existsSync(path) || statSync(path).size <= this.#offset) return;
    const from = this.#offset;
    const scan = scanFrames(readFrom(path, from));
    for (const { offset, bytes, kind } of scan.damage) {
      // What ends the last segment may be a write under way.
      if (kind === 'bad' || !isLast) this.damage.push({ segment: name, offset: from + offset, bytes, kind });
    }
    this.#offset = from + scan.end;
    const batches = scan.frames.map(({ sequence, payload }) => batchOf(path, segment, sequence, payload));
    // Definitions first: they stand twice, and where the first is bad the second comes behind the rows that need it.
    yield* batches.filter(({ kind }) => kind === 'contexts');
    for (const batch of batches) {
      if (batch.kind === 'contexts' || batch.sequence <= this.#sequence) continue;
      this.#sequence = batch.sequence;
      yield batch;
    }
  }
}

function batchOf(path: string, segment: number, sequence: number, payload: Uint8Array): LogBatch {
  const written = tableFromIPC(payload);
  const kind = written.schema.metadata.get('foreshade') as FrameKind;
  return { segment, sequence, kind, table: upgradeFrame(kind, written, path) };
}
