import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const ROOT = '/sys/fs/cgroup';

/** Controllers the lab's libvirt uses. Not "memory": a guest's limit there would kill it instead of ballooning it. */
export const CONTROLLERS = ['cpu', 'cpuacct', 'cpuset', 'blkio'] as const;

/** Their names in the unified hierarchy, where cpuacct is part of cpu. */
const UNIFIED_CONTROLLERS = ['cpu', 'cpuset', 'io'] as const;

/** libvirt's folder of partition `/NAME`. */
function folderName(partition: string): string {
  return `${partition}.partition`;
}

/** The unified hierarchy beside the others, where systemd 240 and later mounts it on a legacy host. */
const HYBRID = join(ROOT, 'unified');

function isUnified(): boolean {
  return existsSync(join(ROOT, 'cgroup.controllers'));
}

async function makeUnified(partition: string): Promise<void> {
  const control = join(ROOT, 'cgroup.subtree_control');
  for (const name of UNIFIED_CONTROLLERS) await writeFile(control, `+${name}`).catch(() => undefined);
  await mkdir(join(ROOT, folderName(partition)), { recursive: true });
}

async function makeLegacy(partition: string): Promise<void> {
  for (const controller of CONTROLLERS) {
    await mkdir(join(ROOT, controller, folderName(partition)), { recursive: true });
  }
  if (existsSync(HYBRID)) await mkdir(join(HYBRID, folderName(partition)), { recursive: true });
  // A new cpuset holds no CPU and no memory node, and no process may enter it until it does.
  for (const name of ['cpuset.cpus', 'cpuset.mems']) {
    const inherited = await readFile(join(ROOT, 'cpuset', name), 'utf8');
    await writeFile(join(ROOT, 'cpuset', folderName(partition), name), inherited);
  }
}

/**
 * Make the lab's own cgroup partition, so that two libvirt daemons on a host never meet in one cgroup.
 * @returns false where cgroups are absent or may not be written: guests then run without CPU quota
 */
export async function makePartition(partition: string): Promise<boolean> {
  try {
    await (isUnified() ? makeUnified(partition) : makeLegacy(partition));
    return true;
  } catch {
    return false;
  }
}

async function removeTree(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await removeTree(join(folder, entry.name));
  await rmdir(folder).catch(() => undefined);
}

/** The partition's folders that exist. */
export function partitionFolders(partition: string): string[] {
  const roots = isUnified() ? [ROOT] : [HYBRID, ...CONTROLLERS.map((controller) => join(ROOT, controller))];
  return roots.map((root) => join(root, folderName(partition))).filter((folder) => existsSync(folder));
}

/** The kernel counts the threads of a guest that has just ended for some ms yet, and keeps their cgroup so long. */
const EMPTY_MS_MAX = 2_000;
const EMPTY_POLL_MS = 20;

/** Remove the partition; its guests must have ended. */
export async function removePartition(partition: string): Promise<void> {
  const deadline = Date.now() + EMPTY_MS_MAX;
  for (;;) {
    const folders = partitionFolders(partition);
    for (const folder of folders) await removeTree(folder);
    if (!folders.some((folder) => existsSync(folder)) || Date.now() > deadline) return;
    await sleep(EMPTY_POLL_MS);
  }
}
