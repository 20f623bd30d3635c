import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONTROLLERS } from './cgroup.ts';
import { COMMAND_ENV, runCommand } from './command.ts';
import { findProcess, type HostProcess, isRunning } from './host-process.ts';
import type { LabPaths } from './state.ts';
import { virsh } from './virsh.ts';

/** Port of the sink that the `transfer` workload sends to: the discard service's. */
export const SINK_PORT = 9;

/** libvirtd answers 0.3 s after its start; on a loaded host some seconds. */
const DAEMON_START_MS = 20_000;
const HOLDER_START_MS = 5_000;

/** Folders of libvirtd that are its own in the lab, and what lies behind them in the lab's state folder. */
const PRIVATE_FOLDERS = [
  ['/run/libvirt', 'run'],
  ['/var/lib/libvirt', 'lib'],
  ['/var/cache/libvirt', 'cache'],
  ['/var/log/libvirt', 'log'],
  ['/etc/libvirt', 'etc'],
] as const;

/**
 * User and group that Debian's libvirt insists on at its start, whatever qemu.conf says. On Debian 12 the package that
 * makes them also starts the system's daemon, so it is not asked for; the lab sees them in copies of its own.
 */
const QEMU_ACCOUNTS = [
  ['passwd', 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin'],
  ['group', 'libvirt-qemu:x:64055:'],
] as const;

/**
 * Runs in the lab's new namespaces. Positional arguments: sink, port, state folder, then pairs of target and source.
 * D-Bus is hidden, so that libvirtd neither registers guests with systemd nor asks polkit or firewalld.
 */
const HOLDER_SCRIPT = `
set -e
sink=$1 port=$2 state=$3
shift 3
mount --make-rprivate /
while [ $# -gt 0 ]; do
  mount --bind "$state/$2" "$1"
  shift 2
done
mount --bind "$state/passwd" /etc/passwd
mount --bind "$state/group" /etc/group
[ ! -d /run/dbus ] || mount --bind "$state/empty" /run/dbus
ip link set lo up
exec "$sink" "$port"
`;

function qemuConf(hasCgroups: boolean): string {
  const controllers = hasCgroups ? CONTROLLERS.map((name) => `"${name}"`).join(', ') : '';
  return `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
stdio_handler = "file"
cgroup_controllers = [${controllers}]
`;
}

/** The socket's folder as libvirtd sees it; the same folder as the state folder's `run`. */
const LIBVIRTD_CONF = `unix_sock_dir = "/run/libvirt"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
`;

function startDetached(file: string, args: readonly string[], logPath: string): Promise<number> {
  const log = openSync(logPath, 'a');
  const child = spawn(file, args, {
    detached: true,
    stdio: ['ignore', log, log],
    cwd: '/',
    env: COMMAND_ENV,
  });
  closeSync(log);
  child.unref();
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('spawn', () => resolve(child.pid ?? -1));
  });
}

/** Poll until `check` gives a value; undefined once the time is over. */
async function waitFor<T>(timeoutMs: number, check: () => Promise<T | undefined>): Promise<T | undefined> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const found = await check();
    if (found !== undefined || Date.now() > deadline) return found;
    await sleep(30);
  }
}

async function logTail(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.trim().split('\n').slice(-5).join('\n');
}

async function writeAccounts(paths: LabPaths): Promise<void> {
  for (const [name, line] of QEMU_ACCOUNTS) {
    const known = await readFile(join('/etc', name), 'utf8');
    const added = /^libvirt-qemu:/m.test(known) ? '' : `${line}\n`;
    await writeFile(join(paths.stateDir, name), known + added);
  }
}

/** Make the state folder's parts and libvirt's configuration in them. */
export async function prepareFolders(paths: LabPaths, hasCgroups: boolean): Promise<void> {
  for (const [target, part] of PRIVATE_FOLDERS) {
    await mkdir(target, { recursive: true });
    await mkdir(join(paths.stateDir, part), { recursive: true });
  }
  await mkdir(join(paths.stateDir, 'empty'), { recursive: true });
  await writeAccounts(paths);
  await writeFile(join(paths.etc, 'qemu.conf'), qemuConf(hasCgroups));
  await writeFile(join(paths.etc, 'libvirtd.conf'), LIBVIRTD_CONF);
}

/**
 * Start the process that holds the lab's mount and network namespaces for as long as the lab lives. It is the sink
 * itself, so it has a use, and the daemon may come and go without the guests losing their network.
 */
export async function startHolder(paths: LabPaths, sink: string): Promise<HostProcess> {
  const pid = await startDetached(
    'unshare',
    [
      '--mount',
      '--net',
      '/bin/sh',
      '-c',
      HOLDER_SCRIPT,
      'lab',
      sink,
      String(SINK_PORT),
      paths.stateDir,
      ...PRIVATE_FOLDERS.flat(),
    ],
    paths.daemonLog,
  );
  const holder = await waitFor(HOLDER_START_MS, async () => {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => undefined);
    return command?.startsWith(`${sink}\0`) ? findProcess(pid) : undefined;
  });
  if (holder === undefined) {
    throw new Error(`the lab's namespaces could not be made: ${await logTail(paths.daemonLog)}`);
  }
  return holder;
}

/** Run a program inside the lab's network namespace. */
export function runInNetwork(holder: HostProcess, file: string, args: readonly string[]): Promise<string> {
  return runCommand('nsenter', ['--target', String(holder.pid), '--net', file, ...args]);
}

/**
 * Start the lab's libvirtd inside its namespaces and wait until it answers.
 * @throws {Error} with the end of its log
 */
export async function startDaemon(paths: LabPaths, holder: HostProcess): Promise<HostProcess> {
  const pid = await startDetached(
    'nsenter',
    [
      '--target',
      String(holder.pid),
      '--mount',
      '--net',
      '--root', // else a lab in a chroot would start the libvirtd outside it
      'libvirtd',
      '-f',
      '/etc/libvirt/libvirtd.conf',
      '-p',
      '/run/libvirt/libvirtd.pid',
    ],
    paths.daemonLog,
  );
  const daemon = findProcess(pid);
  const answered = await waitFor(DAEMON_START_MS, async () => {
    if (daemon === undefined || !isRunning(daemon)) return false;
    if (!existsSync(paths.socket)) return undefined;
    return virsh(paths.uri, ['uri']).then(
      () => true,
      () => undefined,
    );
  });
  if (daemon === undefined || answered !== true) {
    throw new Error(`the lab's libvirtd did not come up: ${await logTail(paths.daemonLog)}`);
  }
  return daemon;
}
