import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from './command.ts';
import { type CpioEntry, cpioArchive } from './cpio.ts';

const BUSYBOX = '/bin/busybox';

/** Folders the guest starts with. */
const FOLDERS = ['bin', 'dev', 'etc', 'modules', 'proc', 'run', 'sys', 'tmp', 'var', 'var/log', 'var/run'];

/** Busybox's applets that a person or a test may want inside; each costs the guest a kilobyte of memory. */
const APPLETS = `
  awk basename cat chmod cp cut date dd df dirname dmesg du echo env false find free grep head hostname id ifconfig ip
  kill ln ls lsmod mkdir mount mv nc nproc od ping poweroff printf ps pwd readlink reboot rm route sed seq sh sleep
  sort stat stty sync tail taskset tee test time timeout top touch tr true umount uname uniq uptime vi wc wget which
  xargs yes
`;

function file(path: string, content: Uint8Array, executable: boolean): CpioEntry {
  return { kind: 'file', path, content, executable };
}

async function moduleEntries(kernel: string): Promise<CpioEntry[]> {
  const folder = join(kernel, 'modules');
  const names = (await readdir(folder)).sort();
  return Promise.all(
    names.map(async (name) => file(`modules/${name}`, await readFile(join(folder, name)), false)),
  );
}

/** Folders above `path`, outermost first. */
function parents(path: string): string[] {
  const parts = path.split('/').slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'));
}

/** The guest agent and the libraries that the loader finds for it on this host. */
async function agentEntries(agent: string): Promise<CpioEntry[]> {
  const program = join(agent, 'usr/sbin/qemu-ga');
  const listing = await runCommand('ldd', [program]);
  const missing = /^\s*(\S+) => not found/m.exec(listing)?.[1];
  if (missing !== undefined)
    throw new Error(`the guest agent needs ${missing}, which this host does not have`);
  const libraries = [...listing.matchAll(/(?:^|\s)(\/\S+) \(0x/g)].map(([, path = '']) => path);
  const entries = [file('bin/qemu-ga', await readFile(program), true)];
  for (const library of libraries) entries.push(file(library.slice(1), await readFile(library), true));
  return entries;
}

function withFolders(entries: readonly CpioEntry[]): CpioEntry[] {
  const folders = new Set([...FOLDERS, ...entries.flatMap((entry) => parents(entry.path))]);
  return [...[...folders].sort().map((path): CpioEntry => ({ kind: 'folder', path })), ...entries];
}

/**
 * The guest's root: busybox, the virtio modules, the guest agent with its libraries, our init and runner. Not
 * compressed: unpacking it would be done by the guest, under TCG.
 */
export async function initramfs(parts: {
  kernel: string;
  agent: string;
  programs: string;
}): Promise<Uint8Array> {
  const applets = APPLETS.trim().split(/\s+/);
  return cpioArchive(
    withFolders([
      file('init', await readFile(join(parts.programs, 'init')), true),
      file('bin/runner', await readFile(join(parts.programs, 'runner')), true),
      file('bin/busybox', await readFile(BUSYBOX), true),
      ...applets.map((name): CpioEntry => ({ kind: 'link', path: `bin/${name}`, target: 'busybox' })),
      ...(await moduleEntries(parts.kernel)),
      ...(await agentEntries(parts.agent)),
    ]),
  );
}
