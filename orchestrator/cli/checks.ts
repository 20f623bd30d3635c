import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { delimiter, dirname, join } from 'node:path';
import { type Config, ConfigError, loadConfig } from '../config.ts';
import { packagePath } from '../package-path.ts';
import { proxmoxChecks } from './proxmox-check.ts';

/** One thing a working host has. `advice` says what to do when it is not ok. */
export interface Check {
  readonly name: string;
  readonly level: 'ok' | 'warn' | 'fail';
  readonly found: string;
  readonly advice?: string;
}

/** Oldest Node that is tested. */
const NODE_MIN = [20, 11] as const;
/** Longest wait for a local socket to accept. */
const CONNECT_TIMEOUT_MS = 1000;
const LIBRARY_FOLDERS = [
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/usr/lib64',
  '/usr/lib',
  '/lib',
];
/** Local sockets of the libvirt daemons: the monolithic one and the QEMU driver's own. */
const LIBVIRT_SOCKETS = ['/run/libvirt/libvirt-sock', '/run/libvirt/virtqemud-sock'];
const QEMU_NAMES = ['qemu-system-x86_64', 'qemu-system-aarch64', 'qemu-kvm'];

const ok = (name: string, found: string): Check => ({ name, level: 'ok', found });
const warn = (name: string, found: string, advice: string): Check => ({ name, level: 'warn', found, advice });
const fail = (name: string, found: string, advice: string): Check => ({ name, level: 'fail', found, advice });

/** Everything that is cheap to look at. Changes nothing. */
export async function runChecks(options: {
  readonly configFile: string | undefined;
  /** Overrides the configuration's socket. */
  readonly socket: string | undefined;
  readonly path: string;
}): Promise<Check[]> {
  const { config, check } = configuration(options.configFile);
  return [
    node(),
    build(),
    check,
    ...(await hypervisor(config, options.path)),
    stateFolder(config?.stateDir ?? '/var/lib/foreshade'),
    await service(options.socket ?? config?.service.socket),
  ];
}

/** What runs the guests: a node elsewhere asks nothing of this host. */
async function hypervisor(config: Config | undefined, path: string): Promise<Check[]> {
  if (config?.proxmox.url !== undefined) return proxmoxChecks(config.proxmox, config.proxmox.url);
  return [
    library(),
    await libvirtSocket(config),
    qemu(path),
    kvm(),
    cgroup(),
    pressure(),
    instructionCounter(),
    queueingDiscipline(),
  ];
}

function node(): Check {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isNew = major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1]);
  if (isNew) return ok('node', process.version);
  return fail('node', process.version, `Install Node ${NODE_MIN.join('.')} or later.`);
}

function build(): Check {
  const parts = {
    'forecasting kernels': 'dist/assembly/foreshade.wasm',
    'libvirt addon': 'dist/libvirt-adapter/native/foreshade_libvirt.node',
  };
  const missing = Object.entries(parts).filter(([, path]) => !existsSync(packagePath(path)));
  if (missing.length === 0) return ok('build', 'complete');
  return fail('build', `missing: ${missing.map(([name]) => name).join(', ')}`, 'Run: npm run setup');
}

function configuration(file: string | undefined): { config: Config | undefined; check: Check } {
  try {
    const config = loadConfig(file);
    return {
      config,
      check: ok('configuration', `mode ${config.host.mode}, socket ${config.service.socket}`),
    };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const found = error.message.split('\n')[0] ?? '';
    return { config: undefined, check: fail('configuration', found, 'Run: foreshade config check') };
  }
}

function library(): Check {
  const found = LIBRARY_FOLDERS.map((folder) => join(folder, 'libvirt.so.0')).find((path) =>
    existsSync(path),
  );
  if (found) return ok('libvirt.so', found);
  return fail('libvirt.so', 'not found', 'Install it: apt-get install libvirt0');
}

async function libvirtSocket(config: Config | undefined): Promise<Check> {
  const name = 'libvirt daemon';
  const uri = config?.libvirt.uri ?? 'qemu:///system';
  if (uri.includes('?socket=') || !uri.startsWith('qemu:///'))
    return warn(name, uri, 'Not checked: not the local daemon.');
  const path = LIBVIRT_SOCKETS.find((socket) => existsSync(socket));
  if (!path)
    return fail(
      name,
      'no socket in /run/libvirt',
      'Install and start it: apt-get install libvirt-daemon-system',
    );
  const code = await connectCode(path);
  if (code === undefined) return ok(name, path);
  if (code === 'EACCES')
    return fail(name, `${path}: permission denied`, 'Run as root, or join the group libvirt.');
  return fail(name, `${path}: ${code}`, 'Start it: systemctl start libvirtd');
}

function qemu(path: string): Check {
  const folders = path.split(delimiter).filter((folder) => folder !== '');
  const found = folders
    .flatMap((folder) => QEMU_NAMES.map((name) => join(folder, name)))
    .find((file) => existsSync(file));
  if (found) return ok('qemu', found);
  return fail('qemu', 'not in PATH', 'Install it: apt-get install qemu-system-x86');
}

function kvm(): Check {
  if (!existsSync('/dev/kvm')) {
    return warn(
      'kvm',
      'no /dev/kvm',
      'Guests run emulated and slowly; enable virtualisation in the firmware or the outer host.',
    );
  }
  return isWritable('/dev/kvm')
    ? ok('kvm', '/dev/kvm')
    : warn('kvm', '/dev/kvm: no access', 'Join the group kvm.');
}

function cgroup(): Check {
  const controllers = readText('/sys/fs/cgroup/cgroup.controllers');
  if (controllers !== undefined) {
    if (/\bcpu\b/.test(controllers)) return ok('cgroup', `v2: ${controllers.trim()}`);
    return warn(
      'cgroup',
      `v2 without cpu: ${controllers.trim()}`,
      'CPU quotas need the cpu controller: see cgroup.subtree_control.',
    );
  }
  if (existsSync('/sys/fs/cgroup/cpu')) return ok('cgroup', 'v1 with cpu');
  return fail('cgroup', 'not mounted', 'CPU quotas need cgroups: mount cgroup2 on /sys/fs/cgroup.');
}

function pressure(): Check {
  if (existsSync('/proc/pressure/cpu')) return ok('pressure stall information', '/proc/pressure');
  return warn(
    'pressure stall information',
    'absent',
    'Boot with psi=1 to see when guests wait; the rest works without.',
  );
}

function instructionCounter(): Check {
  if (existsSync('/sys/bus/event_source/devices/cpu')) return ok('instruction counter', 'a hardware PMU');
  return warn(
    'instruction counter',
    'no hardware PMU',
    'Instructions are counted only on guests with the TCG plugin.',
  );
}

function queueingDiscipline(): Check {
  const release = readText('/proc/sys/kernel/osrelease')?.trim() ?? '';
  const modules = ['modules.dep', 'modules.builtin'].map(
    (file) => readText(join('/lib/modules', release, file)) ?? '',
  );
  const missing = ['sch_htb', 'sch_sfq'].filter(
    (name) => !modules.some((text) => text.includes(`/${name}.ko`)),
  );
  if (missing.length === 0) return ok('network limits', 'sch_htb and sch_sfq');
  const found = `no ${missing.join(', ')} for kernel ${release}`;
  return warn('network limits', found, 'libvirt cannot limit network rates here; everything else works.');
}

function stateFolder(path: string): Check {
  let nearest = path;
  while (!existsSync(nearest)) nearest = dirname(nearest);
  const made = nearest === path ? path : `${path} (to be made in ${nearest})`;
  if (statSync(nearest).isDirectory() && isWritable(nearest)) return ok('state folder', made);
  return fail('state folder', `${made}: not writable`, 'Run as root, or set state_dir.');
}

async function service(socket: string | undefined): Promise<Check> {
  if (socket === undefined) return warn('service', 'no socket known', 'Correct the configuration first.');
  const code = await connectCode(socket);
  if (code === undefined) return ok('service', `answers on ${socket}`);
  if (code === 'EACCES')
    return fail('service', `${socket}: permission denied`, "Run as root, or join the socket's group.");
  return warn('service', `nobody answers on ${socket}`, 'Start it: foreshade serve');
}

/** Error code of a connection attempt; undefined when it was accepted. */
function connectCode(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const settle = (code: string | undefined): void => {
      socket.destroy();
      resolve(code);
    };
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => settle('no answer'));
    socket.once('connect', () => settle(undefined));
    socket.once('error', (error: NodeJS.ErrnoException) => settle(error.code ?? error.message));
  });
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
