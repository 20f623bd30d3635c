import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** libvirtd is up after 0.3 s here; a loaded machine takes longer. */
const START_MS_MAX = 30_000;

/** How often the socket is tried: the resolution of "the daemon is back". */
const SOCKET_POLL_MS = 5;

/** Folders that libvirtd must not share with the system's, and what stands for each in ours. */
const FOLDERS = [
  ['/run/libvirt', 'run'],
  ['/var/lib/libvirt', 'lib'],
  ['/var/cache/libvirt', 'cache'],
  ['/var/log/libvirt', 'log'],
  ['/etc/libvirt', 'etc'],
] as const;

/**
 * $1 is our folder, then pairs of target and part. The daemon takes the shell's place, so its pid is the child's; it ends
 * with the test, however that ends.
 */
const SCRIPT = `
set -e
folder=$1
shift
mount --make-rprivate /
while [ $# -gt 0 ]; do
  mount --bind "$folder/$2" "$1"
  shift 2
done
mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/group" /etc/group
exec setpriv --pdeathsig KILL libvirtd -f /etc/libvirt/libvirtd.conf -p /run/libvirt/libvirtd.pid
`;

const LIBVIRTD_CONF = 'unix_sock_dir = "/run/libvirt"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n';
const QEMU_CONF =
  'user = "root"\ngroup = "root"\ndynamic_ownership = 0\nremember_owner = 0\nsecurity_driver = "none"\nnamespaces = []\n' +
  'stdio_handler = "file"\ncgroup_controllers = []\n';

/** The account that Debian's libvirtd looks up at its start, whatever qemu.conf says. */
const ACCOUNTS = [
  ['passwd', 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin'],
  ['group', 'libvirt-qemu:x:64055:'],
] as const;

/** Why a private daemon cannot run here, or undefined when it can. */
export function daemonUnavailableReason(): string | undefined {
  if (process.platform !== 'linux') return 'libvirtd needs Linux';
  if (process.getuid?.() !== 0) return 'a private libvirtd needs root';
  for (const program of ['libvirtd', 'qemu-system-x86_64', 'setpriv', 'unshare']) {
    if (spawnSync(program, ['--version'], { stdio: 'ignore' }).error) return `${program} is not installed`;
  }
  return undefined;
}

/** A libvirtd of our own, in a mount namespace of its own, whose guests outlive it. */
export class PrivateDaemon {
  readonly folder = mkdtempSync(join(tmpdir(), 'foreshade-daemon-'));
  readonly socket = join(this.folder, 'run', 'libvirt-sock');
  readonly uri = `qemu+unix:///system?socket=${this.socket}`;
  #child: ChildProcess | undefined;

  constructor() {
    for (const [target, part] of FOLDERS) {
      mkdirSync(target, { recursive: true });
      mkdirSync(join(this.folder, part));
    }
    writeFileSync(join(this.folder, 'etc', 'libvirtd.conf'), LIBVIRTD_CONF);
    writeFileSync(join(this.folder, 'etc', 'qemu.conf'), QEMU_CONF);
    for (const [name, line] of ACCOUNTS) {
      const known = readFileSync(join('/etc', name), 'utf8');
      writeFileSync(join(this.folder, name), /^libvirt-qemu:/m.test(known) ? known : `${known}${line}\n`);
    }
  }

  /** Start it, also after a kill. Resolves with the moment its socket took a connection, on performance.now's clock. */
  async start(): Promise<number> {
    const parameters = ['--mount', 'sh', '-c', SCRIPT, 'daemon', this.folder, ...FOLDERS.flat()];
    const child = spawn('unshare', parameters, { stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-2_000);
    });
    this.#child = child;
    const deadline = performance.now() + START_MS_MAX;
    while (!(await this.#takesConnections())) {
      if (child.exitCode !== null || performance.now() > deadline)
        throw new Error(`libvirtd did not start: ${log}`);
      await sleep(SOCKET_POLL_MS);
    }
    return performance.now();
  }

  signal(name: 'SIGSTOP' | 'SIGCONT' | 'SIGKILL' | 'SIGTERM'): void {
    this.#child?.kill(name);
  }

  /** Pid of a guest's QEMU, as the daemon wrote it down. */
  guestPid(name: string): number {
    return Number(readFileSync(join(this.folder, 'run', 'qemu', `${name}.pid`), 'utf8'));
  }

  /** End guests and daemon, and remove every trace. */
  async remove(guests: readonly string[]): Promise<void> {
    for (const name of guests) this.#killGuest(name);
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      this.signal('SIGCONT');
      this.signal('SIGKILL');
      await ended;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  #killGuest(name: string): void {
    try {
      process.kill(this.guestPid(name), 'SIGKILL');
    } catch {
      // it ended before, and took its pid file along or left it behind
    }
  }

  #takesConnections(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.socket);
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
    });
  }
}
