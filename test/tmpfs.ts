import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A disk of a few MiB in a folder of its own, for tests that fill it. */
export interface SmallDisk {
  /** A folder beside the disk, on the ordinary one. */
  readonly root: string;
  readonly path: string;
  /** Why there is none; it needs root. */
  readonly missing: string | false;
}

/** Mount a small disk that goes when the test ends. */
export function mountSmallDisk(t: { teardown(work: () => void): unknown }, mib: number): SmallDisk {
  const root = mkdtempSync(join(tmpdir(), 'fs-disk-'));
  const path = join(root, 'disk');
  mkdirSync(path);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', path], {
    encoding: 'utf8',
  });
  const missing =
    mounted.status === 0 ? false : `no tmpfs may be mounted here: ${mounted.error ?? mounted.stderr}`;
  t.teardown(() => {
    if (missing === false) spawnSync('umount', ['-l', path]);
    rmSync(root, { recursive: true, force: true });
  });
  return { root, path, missing };
}
