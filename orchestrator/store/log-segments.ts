import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  truncateSync,
} from 'node:fs';
import { join } from 'node:path';
import { tableFromIPC } from 'apache-arrow';
import type { LogDamage } from '../core/shadow.ts';
import { decodeFrame, type Frame, findFrame } from './frame.ts';
import { refuseNewer, versionOf } from './schema-versions.ts';

const SEGMENT = /^(\d{8})\.log$/;

export function segmentName(segment: number): string {
  return `${String(segment).padStart(8, '0')}.log`;
}

/** Numbers of the segments in a log's folder, in order. */
export function listSegments(directory: string): number[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .map((name) => Number(SEGMENT.exec(name)?.[1] ?? Number.NaN))
    .filter((segment) => !Number.isNaN(segment))
    .sort((a, b) => a - b);
}

/** What a stretch of a segment holds. */
interface Scan {
  readonly frames: readonly Frame[];
  readonly damage: readonly {
    readonly offset: number;
    readonly bytes: number;
    readonly kind: LogDamage['kind'];
  }[];
  /** Offset behind the last whole frame. */
  readonly end: number;
}

/** Whole frames from `offset` on. What is not whole and has a whole frame behind it is bad; what ends the segment is torn. */
export function scanFrames(segment: Buffer, offset = 0): Scan {
  const frames: Frame[] = [];
  const damage: { offset: number; bytes: number; kind: LogDamage['kind'] }[] = [];
  let at = offset;
  while (at < segment.byteLength) {
    const frame = decodeFrame(segment, at);
    if (typeof frame === 'object') {
      frames.push(frame);
      at = frame.end;
      continue;
    }
    const next = findFrame(segment, at + 1);
    if (next === undefined) {
      damage.push({ offset: at, bytes: segment.byteLength - at, kind: 'torn' });
      break;
    }
    damage.push({ offset: at, bytes: next - at, kind: 'bad' });
    at = next;
  }
  return { frames, damage, end: at };
}

/** Bytes of a segment from `offset` to its end as it is now. */
export function readFrom(path: string, offset: number): Buffer {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(Math.max(0, fstatSync(file).size - offset));
    let read = 0;
    while (read < bytes.byteLength) {
      const count = readSync(file, bytes, read, bytes.byteLength - read, offset + read);
      if (count === 0) break;
      read += count;
    }
    return bytes.subarray(0, read);
  } finally {
    closeSync(file);
  }
}

/** How a log ends. */
export interface LogEnd {
  /** Of the last whole frame; -1 when there is none. */
  readonly sequence: number;
  /** Of the last segment; -1 when there is none. */
  readonly segment: number;
  readonly damage: readonly LogDamage[];
}

/**
 * Look at the end of a log nobody writes. Segments are read from the last one back to the first that holds a frame.
 * @param afterSegment segments up to this one count no more
 * @throws {ShadowError} STORE_TOO_NEW
 */
export function readEnd(directory: string, afterSegment = -1): LogEnd {
  const segments = listSegments(directory).filter((segment) => segment > afterSegment);
  const damage: LogDamage[] = [];
  for (const segment of segments.toReversed()) {
    const name = segmentName(segment);
    const scan = scanFrames(readFileSync(join(directory, name)));
    damage.push(...scan.damage.map((part) => ({ segment: name, ...part })));
    const last = scan.frames.at(-1);
    if (last === undefined) continue;
    // A store's version never falls: the last frame speaks for all.
    refuseNewer(versionOf(tableFromIPC(last.payload).schema), join(directory, name));
    return { sequence: last.sequence, segment: segments.at(-1) ?? -1, damage };
  }
  return { sequence: -1, segment: segments.at(-1) ?? -1, damage };
}

/** Cut the torn tails of a log nobody writes: an unfinished write was never acknowledged. */
export function cutTorn(directory: string, end: LogEnd): void {
  for (const { segment, offset, kind } of end.damage)
    if (kind === 'torn') truncateSync(join(directory, segment), offset);
}
