import { statfs } from 'node:fs/promises';
import type { LogDisk } from './log-writer.ts';

const MIB = 1024 * 1024;

/** Bytes of a file system that its ordinary users may still take. */
export async function freeBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
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
