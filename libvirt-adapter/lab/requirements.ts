import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Programs the lab calls, and the Debian package of each. */
const PROGRAMS = {
  busybox: 'busybox-static',
  gcc: 'gcc',
  ip: 'iproute2',
  libvirtd: 'libvirt-daemon',
  nsenter: 'util-linux',
  'qemu-system-x86_64': 'qemu-system-x86',
  unshare: 'util-linux',
  virsh: 'libvirt-clients',
} as const;

/** Where the lab's programs may lie: a root shell's path does not always hold the sbin folders. */
const FOLDERS = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];

function isAccessible(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

/** False in a chroot into a plain folder: its mounts cannot be made private. Source: proc(5), mountinfo's fifth field. */
function isRootMounted(): boolean {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return mounts.some((line) => line.split(' ')[4] === '/');
}

/**
 * Why a lab cannot run on this host, in one sentence, or undefined when it can. Tests skip with it as their reason.
 */
export function labUnavailableReason(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the lab needs Linux on x86-64';
  if (process.getuid?.() !== 0) return 'the lab needs root: it makes namespaces, taps and cgroups';
  const missing = Object.entries(PROGRAMS).filter(
    ([program]) => !FOLDERS.some((folder) => isAccessible(join(folder, program), constants.X_OK)),
  );
  if (missing.length > 0) {
    const names = missing.map(([program, name]) => `${program} (package ${name})`);
    return `the lab needs ${names.join(', ')}`;
  }
  if (!isRootMounted())
    return 'the lab needs a root that is a mount point: in a chroot, bind its folder to itself first';
  if (!isAccessible('/dev/net/tun', constants.R_OK | constants.W_OK))
    return 'the lab needs /dev/net/tun for its taps';
  return undefined;
}
