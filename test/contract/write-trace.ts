import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('../../../test/contract/write-trace.c', import.meta.url));

/** A disk writes sectors whole or not at all, in any order. */
const SECTOR_BYTES = 512;
const HEADER_BYTES = 16;

const KINDS = ['', 'write', 'synced-write', 'sync', 'truncate', 'promise'] as const;

/** One event of a traced process, in the order in which they happened. */
export interface TraceEvent {
  readonly kind: (typeof KINDS)[number];
  readonly offset: number;
  readonly bytes: Buffer;
}

/** Compile the tracer to `path`, or say why that cannot be. */
export function buildTracer(path: string): string | undefined {
  const parameters = ['-O1', '-Wall', '-Wextra', '-shared', '-fPIC', SOURCE, '-o', path, '-ldl'];
  const compiler = spawnSync('gcc', parameters, { encoding: 'utf8' });
  if (compiler.error === undefined && compiler.status === 0) return undefined;
  return `the write tracer does not compile here: ${compiler.error?.message ?? compiler.stderr}`;
}

/** The events of a trace; one that was cut off in the middle ends it. */
export function readTrace(path: string): TraceEvent[] {
  const file = readFileSync(path);
  const events: TraceEvent[] = [];
  for (let at = 0; at + HEADER_BYTES <= file.length; ) {
    const length = file.readUInt32LE(at + 4);
    const end = at + HEADER_BYTES + length;
    if (end > file.length) break;
    events.push({
      kind: KINDS[file.readUInt32LE(at)] ?? '',
      offset: Number(file.readBigUInt64LE(at + 8)),
      bytes: file.subarray(at + HEADER_BYTES, end),
    });
    at = end;
  }
  return events;
}

/**
 * The file as a disk may hold it when the power goes after `events`: what was synced, and of everything else any sectors.
 * @param keep whether a sector that was not synced reached the disk all the same
 */
export function afterPowerLoss(events: readonly TraceEvent[], keep: () => boolean): Buffer {
  const lastSync = events.findLastIndex(({ kind }) => kind === 'sync');
  const ends = events.map(({ kind, offset, bytes }) => (kind === 'truncate' ? 0 : offset + bytes.length));
  const file = Buffer.alloc(Math.max(0, ...ends));
  let size = 0;
  events.forEach(({ kind, offset, bytes }, i) => {
    if (kind === 'truncate') {
      file.fill(0, offset);
      size = offset;
    }
    if (kind !== 'write' && kind !== 'synced-write') return;
    const isSynced = kind === 'synced-write' || i < lastSync;
    for (let from = 0; from < bytes.length; ) {
      const to = Math.min(bytes.length, from + SECTOR_BYTES - ((offset + from) % SECTOR_BYTES));
      if (isSynced || keep()) {
        size = Math.max(size, offset + to);
        bytes.copy(file, offset + from, from, to);
      }
      from = to;
    }
  });
  return file.subarray(0, size);
}
