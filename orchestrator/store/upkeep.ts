import type { RetentionPolicy } from '../core/shadow.ts';
import type { Manifest, SealedFile, Tier } from './manifest.ts';

/** Files of one size class that are merged while their day goes on. */
const MERGE_FILES = 4;
/** Rows a file may have and still be merged: beyond it another merge costs more than the file it saves. */
const MERGE_ROWS_MAX = 20_000_000;
/** A day is over for good once this long has passed since: late samples and clocks that were set. */
const SETTLED_AFTER_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** Files of one tier, day and host. */
interface Group {
  readonly tier: Tier;
  readonly day: string;
  readonly host: string;
  readonly files: readonly SealedFile[];
}

function groupsOf(manifest: Manifest, tiers: readonly Tier[]): Group[] {
  const groups = new Map<string, Group & { files: SealedFile[] }>();
  for (const file of manifest.files) {
    if (!tiers.includes(file.tier)) continue;
    const key = `${file.tier} ${file.day} ${file.host}`;
    const group = groups.get(key) ?? { tier: file.tier, day: file.day, host: file.host, files: [] };
    group.files.push(file);
    groups.set(key, group);
  }
  return [...groups.values()];
}

export function isSettled(day: string, nowMs: number): boolean {
  return Date.parse(`${day}T00:00:00Z`) + DAY_MS + SETTLED_AFTER_MS <= nowMs;
}

/**
 * Sets of files to merge into one each. A day that is over is merged whole; before that only files of like size, so that
 * each row is rewritten a few times and not once a seal.
 */
export function mergesDue(manifest: Manifest, nowMs: number): (readonly SealedFile[])[] {
  return groupsOf(manifest, ['raw', 'inputs']).flatMap(({ day, files }) => {
    const small = files.filter(({ rows }) => rows < MERGE_ROWS_MAX);
    if (isSettled(day, nowMs)) return small.length > 1 ? [small] : [];
    const classes = new Map<number, SealedFile[]>();
    for (const file of small) {
      const size = Math.floor(Math.log2(file.rows) / 2);
      classes.set(size, [...(classes.get(size) ?? []), file]);
    }
    return [...classes.values()].filter((alike) => alike.length >= MERGE_FILES);
  });
}

/** A day and host whose tier is missing or older than its points. */
export interface RollUpDue {
  readonly tier: 'minute' | 'hour';
  readonly points: readonly SealedFile[];
  /** Files it replaces. */
  readonly old: readonly SealedFile[];
}

/**
 * Days that are over and not rolled up, or whose points are more than those that were. Fewer points than were rolled up
 * mean that retention took some: their tier is all that is left of them.
 */
export function rollUpsDue(manifest: Manifest, nowMs: number): RollUpDue[] {
  return groupsOf(manifest, ['raw']).flatMap(({ day, host, files }) => {
    if (!isSettled(day, nowMs)) return [];
    const rows = files.reduce((sum, file) => sum + file.rows, 0);
    return (['minute', 'hour'] as const).flatMap((tier) => {
      const old = manifest.files.filter(
        (file) => file.tier === tier && file.day === day && file.host === host,
      );
      const rolled = old.reduce((sum, file) => sum + (file.points ?? 0), 0);
      return rows > rolled ? [{ tier, points: files, old }] : [];
    });
  });
}

/** Those of `files` that no roll-up is still to be made of. */
export function withoutDue(files: readonly SealedFile[], due: readonly RollUpDue[]): SealedFile[] {
  const points = new Set(due.flatMap(({ points }) => points.map(({ path }) => path)));
  return files.filter(({ path }) => !points.has(path));
}

/** Files that are older than their tier is kept, and the oldest of the finest tiers while all together are too large. */
export function expired(manifest: Manifest, policy: RetentionPolicy, nowMs: number): SealedFile[] {
  const ageOf: Readonly<Record<Tier, number | undefined>> = {
    raw: policy.rawMs,
    inputs: policy.rawMs,
    minute: policy.minuteMs,
    hour: policy.hourMs,
  };
  const isOld = ({ tier, toMs }: SealedFile): boolean =>
    toMs < nowMs - (ageOf[tier] ?? Number.POSITIVE_INFINITY);
  const gone = manifest.files.filter(isOld);
  const finestFirst: readonly Tier[] = ['raw', 'inputs', 'minute', 'hour'];
  const kept = manifest.files
    .filter((file) => !isOld(file))
    .sort((a, b) => finestFirst.indexOf(a.tier) - finestFirst.indexOf(b.tier) || a.toMs - b.toMs);
  let bytes = kept.reduce((sum, file) => sum + file.bytes, 0);
  for (const file of kept) {
    if (bytes <= (policy.bytesMax ?? Number.POSITIVE_INFINITY)) break;
    gone.push(file);
    bytes -= file.bytes;
  }
  return gone;
}
