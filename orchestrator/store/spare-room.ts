import { randomBytes } from 'node:crypto';
import { rmSync, statSync } from 'node:fs';
import { statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MANIFEST_FILE, SPARE_FILE } from './layout.ts';
import type { LogDisk } from './log-writer.ts';

const MIB = 1024 * 1024;
/** Room for a lock, a folder and their entries; a manifest comes on top. */
const SPARE_BYTES_MIN = 64 * 1024;

/** Bytes of a file system that its ordinary users may still take. */
export async function freeBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}

/**
 * Keep a file that holds nothing, for what must be written on a disk that is full: the list of what is to be removed. Random
 * bytes, since a file system that compresses keeps no room for others.
 */
export async function keepSpareRoom(directory: string): Promise<void> {
  const path = join(directory, SPARE_FILE);
  const manifestBytes = sizeOf(join(directory, MANIFEST_FILE));
  if (sizeOf(path) >= SPARE_BYTES_MIN + manifestBytes) return;
  // The manifest grows: twice what it has now lasts for a while.
  await writeFile(path, randomBytes(SPARE_BYTES_MIN + 2 * manifestBytes), { mode: 0o640 });
}

/** Give up the spare room of a store whose disk is full. @returns false when there was none */
export function giveSpareRoom(directory: string): boolean {
  const path = join(directory, SPARE_FILE);
  if (sizeOf(path) === 0) return false;
  rmSync(path);
  return true;
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/**
 * A disk of which the last `leastBytes` are left alone: what else lives there, the ledger of leases before all, must go on
 * when samples have filled the rest.
 */
export function sparing(disk: LogDisk, directory: string, leastBytes: number): LogDisk {
  if (leastBytes === 0) return disk;
  return {
    async write(file, bytes, offset) {
      const free = await freeBytes(directory);
      if (free - bytes.byteLength < leastBytes) {
        const [mib, least] = [free, leastBytes].map((size) => Math.floor(size / MIB));
        throw new Error(`${mib} MiB are free on the disk: the last ${least} are left to others`);
      }
      await disk.write(file, bytes, offset);
    },
    sync: (file) => disk.sync(file),
  };
}
