import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GuestId } from '../orchestrator/core/guest.ts';
import type { GuestReadings, HostReading, HostReadings, PressureReading } from './host-readings.ts';

/** Clock ticks of /proc/PID/stat, ns. USER_HZ is 100 on every architecture that Node and KVM share. */
const TICK_NS = 1e9 / 100;
/** Processes are listed at most this often, however many guests are looked for. */
const SCAN_MS = 1_000;
/** Longest line read of stat, schedstat or a pressure file; stat has under 400 bytes. */
const LINE_BYTES_MAX = 1024;
/** Threads of one QEMU looked at: vCPUs, I/O threads and a worker pool of 64. */
const THREADS_MAX = 1024;

/** Positions after the command name in /proc/PID/stat. Source: proc(5), fields 14, 15 and 20. */
const STAT = { utime: 11, stime: 12, threads: 17 } as const;

const VCPU_THREAD = /^CPU (\d{1,4})\/(?:KVM|TCG)\s*$/;

/** Where procfs and the cgroup v2 tree are. */
export interface KernelPaths {
  readonly proc: string;
  readonly cgroups: readonly string[];
}

const KERNEL_PATHS: KernelPaths = { proc: '/proc', cgroups: ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'] };

/**
 * Guests' QEMU processes, found by the `-uuid` that libvirt puts on their command line: that holds for daemons in
 * other mount namespaces too, whose pid files are not to be seen.
 */
export class ProcessReadings implements HostReadings {
  readonly #paths: KernelPaths;
  #pids: ReadonlyMap<string, number> = new Map();
  #scannedAtMs = Number.NEGATIVE_INFINITY;
  #scan: Promise<void> | undefined;

  constructor(paths: KernelPaths = KERNEL_PATHS) {
    this.#paths = paths;
  }

  async open(guest: GuestId): Promise<GuestReadings | undefined> {
    const pid = await this.pid(guest);
    return pid === undefined ? undefined : openGuestProcess(this.#paths, pid);
  }

  /** The guest's QEMU; undefined when it does not run, or is not ours to see. */
  async pid(guest: GuestId): Promise<number | undefined> {
    const known = this.#knownPid(guest);
    if (known !== undefined) return known;
    if (performance.now() - this.#scannedAtMs >= SCAN_MS) {
      this.#scan ??= this.#scanProcesses().finally(() => {
        this.#scan = undefined;
      });
    }
    await this.#scan;
    return this.#knownPid(guest);
  }

  #knownPid(guest: GuestId): number | undefined {
    const pid = this.#pids.get(guest);
    // The number may be another process' by now: its command line is the proof.
    if (pid === undefined || uuidOf(readText(join(this.#paths.proc, `${pid}`, 'cmdline'))) !== guest) {
      return undefined;
    }
    return pid;
  }

  async #scanProcesses(): Promise<void> {
    const pids = new Map<string, number>();
    for (const name of await readdir(this.#paths.proc)) {
      if (!/^\d+$/.test(name)) continue;
      const cmdline = await readFile(join(this.#paths.proc, name, 'cmdline'), 'latin1').catch(() => '');
      const uuid = uuidOf(cmdline);
      if (uuid !== undefined) pids.set(uuid, Number(name));
    }
    this.#pids = pids;
    this.#scannedAtMs = performance.now();
  }
}

/** UUID of a QEMU that libvirt started, from its command line; undefined for any other process. */
function uuidOf(cmdline: string | undefined): string | undefined {
  if (cmdline === undefined || !cmdline.includes('qemu')) return undefined;
  const args = cmdline.split('\0');
  const at = args.indexOf('-uuid');
  return at < 0 ? undefined : args[at + 1]?.toLowerCase();
}

function openGuestProcess(paths: KernelPaths, pid: number): GuestReadings | undefined {
  const folder = join(paths.proc, `${pid}`);
  const stat = LineFile.open(join(folder, 'stat'));
  return stat && new GuestProcess(folder, stat, pressureFolder(paths, folder));
}

/** Open files stay with the process they were opened of: once it is gone they fail, whoever has its number then. */
class GuestProcess implements GuestReadings {
  readonly #folder: string;
  readonly #stat: LineFile;
  readonly #pressureFolder: string | undefined;
  #threadCount = -1;
  #vcpus: (LineFile | undefined)[] = [];

  constructor(folder: string, stat: LineFile, pressureFolder: string | undefined) {
    this.#folder = folder;
    this.#stat = stat;
    this.#pressureFolder = pressureFolder;
  }

  read(): HostReading | undefined {
    const line = this.#stat.read();
    if (line === undefined) return undefined;
    // The command name may hold spaces and parentheses; the last one ends it.
    const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
    const ticks = Number(fields[STAT.utime]) + Number(fields[STAT.stime]);
    const threadCount = Number(fields[STAT.threads]);
    if (!Number.isFinite(ticks)) return undefined;
    if (threadCount !== this.#threadCount) this.#findVcpus();
    this.#threadCount = threadCount;
    return { cpuNs: ticks * TICK_NS, vcpus: this.#vcpus.map(readSchedstat) };
  }

  pressure(): PressureReading | undefined {
    if (this.#pressureFolder === undefined) return undefined;
    const cpuSomeUs = this.#stall('cpu');
    const memorySomeUs = this.#stall('memory');
    const ioSomeUs = this.#stall('io');
    return {
      ...(cpuSomeUs !== undefined && { cpuSomeUs }),
      ...(memorySomeUs !== undefined && { memorySomeUs }),
      ...(ioSomeUs !== undefined && { ioSomeUs }),
    };
  }

  close(): void {
    this.#stat.close();
    this.#closeVcpus();
  }

  #stall(resource: 'cpu' | 'memory' | 'io'): number | undefined {
    const text = readText(join(this.#pressureFolder ?? '', `${resource}.pressure`)) ?? '';
    const total = /^some .*\btotal=(\d+)/m.exec(text)?.[1];
    return total === undefined ? undefined : Number(total);
  }

  /** vCPU threads by name: libvirt starts QEMU with names for its threads. */
  #findVcpus(): void {
    this.#closeVcpus();
    for (const thread of listFolder(join(this.#folder, 'task')).slice(0, THREADS_MAX)) {
      const name = readText(join(this.#folder, 'task', thread, 'comm')) ?? '';
      const index = VCPU_THREAD.exec(name)?.[1];
      if (index === undefined) continue;
      this.#vcpus[Number(index)] = LineFile.open(join(this.#folder, 'task', thread, 'schedstat'));
    }
    this.#vcpus = Array.from(this.#vcpus);
  }

  #closeVcpus(): void {
    for (const vcpu of this.#vcpus) vcpu?.close();
    this.#vcpus = [];
  }
}

/** Run time and wait of a thread, ns. Source: Linux, Documentation/scheduler/sched-stats.rst, /proc/PID/schedstat. */
function readSchedstat(file: LineFile | undefined): { runNs: number; delayNs: number } | undefined {
  const [runNs, delayNs] = (file?.read() ?? '').split(' ').map(Number);
  return runNs === undefined || delayNs === undefined || Number.isNaN(runNs + delayNs)
    ? undefined
    : { runNs, delayNs };
}

/** The domain's own cgroup v2 folder, above libvirt's for the emulator, where it has pressure files. */
function pressureFolder(paths: KernelPaths, processFolder: string): string | undefined {
  const path = /^0::(\/.*)$/m.exec(readText(join(processFolder, 'cgroup')) ?? '')?.[1];
  if (path === undefined || !path.endsWith('/emulator')) return undefined;
  const domain = path.slice(0, -'/emulator'.length);
  return paths.cgroups
    .map((root) => join(root, domain))
    .find((folder) => existsSync(join(folder, 'cpu.pressure')));
}

const buffer = Buffer.alloc(LINE_BYTES_MAX);

/** A procfs file kept open and read from its start each time: a third of the cost of opening it anew. */
class LineFile {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  static open(path: string): LineFile | undefined {
    try {
      return new LineFile(openSync(path, 'r'));
    } catch {
      return undefined; // the thread or process ended meanwhile
    }
  }

  /** undefined once its process or thread is gone. */
  read(): string | undefined {
    try {
      return buffer.toString('latin1', 0, readSync(this.#fd, buffer, 0, LINE_BYTES_MAX, 0)) || undefined;
    } catch {
      return undefined;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
