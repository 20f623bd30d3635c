import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { buildAssets, type LabAssets, type Progress } from './assets.ts';
import { makePartition, removePartition } from './cgroup.ts';
import { prepareFolders, startDaemon, startHolder } from './daemon.ts';
import { LabGuest, startGuest, stopGuest } from './guest.ts';
import { guestOverheadMib } from './guest-overhead.ts';
import { emulatorsNaming, endProcess, type HostProcess, isRunning } from './host-process.ts';
import { DEFAULT_CACHE_DIR, DEFAULT_STATE_DIR } from './paths.ts';
import { takesPlugins } from './plugin-support.ts';
import { labUnavailableReason } from './requirements.ts';
import { type GuestState, LabPaths, type LabState, readState, STATE_VERSION, writeState } from './state.ts';
import { virsh } from './virsh.ts';

/** A lab takes no more guests than this: each has a /24 of its own, and 60 MiB of the host at least. */
const GUESTS_MAX = 50;
/** Guests started at once: booting is bound by the CPU, and a third on two cores only slows the others. */
const BOOTS_AT_ONCE = 2;

/** Sizes of a guest, in MiB. What is absent is the value of {@link GUEST_DEFAULTS}. */
export interface GuestOptions {
  /** lab-1, lab-2, ... when absent. */
  readonly name?: string;
  readonly vcpus?: number;
  readonly maxVcpus?: number;
  /** Upper end of the balloon. */
  readonly memoryMib?: number;
  /** Balloon target after the boot; when absent, the default and what this host's QEMU takes of it. */
  readonly baselineMib?: number;
  /** Size of the virtio-mem device, of which nothing is requested at the start; 0 for none. */
  readonly virtioMemMib?: number;
  readonly diskMib?: number;
  /** False starts the guest without the instruction-count plugin. */
  readonly icount?: boolean;
  /** What the plugin is told beside its file, as `every=1000000,classes=all`; nothing when absent. */
  readonly icountArguments?: string;
  /** XML for its definition's metadata, as a request that libvirt's hook reads; none when absent. */
  readonly metadata?: string;
}

export const GUEST_DEFAULTS = {
  vcpus: 1,
  maxVcpus: 4,
  memoryMib: 512,
  baselineMib: 128,
  virtioMemMib: 256,
  diskMib: 256,
} as const;

/** Bounds of {@link GuestOptions}; memory under 96 MiB does not boot with the agent. */
export const GUEST_BOUNDS = {
  vcpus: [1, 16],
  maxVcpus: [1, 16],
  memoryMib: [96, 8192],
  baselineMib: [96, 8192],
  virtioMemMib: [0, 8192],
  diskMib: [1, 16384],
} as const;

export interface LabOptions {
  /** Guests to start with. */
  readonly guests: number;
  /** Sizes of all of them. */
  readonly guest?: Omit<GuestOptions, 'name'>;
  /** {@link DEFAULT_STATE_DIR} when absent. An earlier lab there is taken down first. */
  readonly stateDir?: string;
  /** {@link DEFAULT_CACHE_DIR} when absent. */
  readonly cacheDir?: string;
  readonly onProgress?: Progress;
}

function checkGuest(guest: GuestState): void {
  for (const [field, [low, high]] of Object.entries(GUEST_BOUNDS)) {
    const value = guest[field as keyof typeof GUEST_BOUNDS];
    if (!Number.isInteger(value) || value < low || value > high) {
      throw new Error(`${field} must be an integer in [${low}, ${high}], not ${value}`);
    }
  }
  if (guest.vcpus > guest.maxVcpus) throw new Error('vcpus must not be more than maxVcpus');
  if (guest.baselineMib > guest.memoryMib) throw new Error('baselineMib must not be more than memoryMib');
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_-]{0,31}$/.test(guest.name)) {
    throw new Error(`a guest's name must be 1 to 32 letters, digits, - or _: ${guest.name}`);
  }
}

/** End everything that an earlier lab left: guests, daemon, namespaces, cgroups and files. */
async function takeDown(paths: LabPaths): Promise<boolean> {
  const state = await readState(paths);
  if (state === undefined) return false;
  if (isRunning(state.daemon)) {
    const names = await virsh(paths.uri, ['list', '--name'], 5_000).catch(() => '');
    for (const name of names.split('\n').filter(Boolean)) {
      await virsh(paths.uri, ['destroy', name], 10_000).catch(() => undefined);
    }
  }
  await endProcess(state.daemon);
  // Guests that the daemon no longer knew; QEMU's command line names the state folder.
  for (const orphan of emulatorsNaming(`${paths.stateDir}/`)) await endProcess(orphan);
  await endProcess(state.holder);
  await removePartition(state.partition);
  await rm(paths.stateDir, { recursive: true, force: true });
  return true;
}

async function claimStateDir(paths: LabPaths, progress: Progress): Promise<void> {
  if (await readState(paths)) {
    progress('taking down an earlier lab');
    await takeDown(paths);
  } else if (existsSync(paths.stateDir) && (await readdir(paths.stateDir)).length > 0) {
    throw new Error(`${paths.stateDir} is not empty and holds no lab; name another state folder`);
  }
  await mkdir(paths.stateDir, { recursive: true, mode: 0o700 });
}

/**
 * A private libvirt daemon with tiny TCG guests, in mount and network namespaces of its own. The system's libvirt
 * never hears of it. It outlives the process that started it, until `down`.
 */
export class Lab {
  readonly stateDir: string;
  /** libvirt connection URI. */
  readonly uri: string;
  readonly #paths: LabPaths;
  readonly #guests: LabGuest[];
  readonly #progress: Progress;
  #state: LabState;

  private constructor(paths: LabPaths, state: LabState, progress: Progress) {
    this.stateDir = paths.stateDir;
    this.uri = paths.uri;
    this.#paths = paths;
    this.#state = state;
    this.#progress = progress;
    this.#guests = state.guests.map((guest) => new LabGuest(guest, paths));
  }

  /**
   * Start a lab. Needs root, and for the first time on a host some 30 MB of Debian packages.
   * @throws {Error} with what is missing or what did not come up; nothing is then left behind
   */
  static async up(options: LabOptions): Promise<Lab> {
    const reason = labUnavailableReason();
    if (reason !== undefined) throw new Error(reason);
    const progress = options.onProgress ?? (() => undefined);
    const paths = new LabPaths(resolve(options.stateDir ?? DEFAULT_STATE_DIR));
    const cacheDir = options.cacheDir ?? DEFAULT_CACHE_DIR;
    const assets = await buildAssets(progress, cacheDir);
    await claimStateDir(paths, progress);
    const lab = new Lab(paths, await startEmpty(paths, assets, cacheDir, progress), progress);
    try {
      await lab.#addGuests(options.guests, options.guest ?? {});
    } catch (error) {
      await lab.down();
      throw error;
    }
    return lab;
  }

  /**
   * Use a lab that another process started.
   * @throws {Error} when none runs there
   */
  static async attach(stateDir: string = DEFAULT_STATE_DIR): Promise<Lab> {
    const lab = await Lab.find(stateDir);
    if (lab === undefined) throw new Error(`no lab runs at ${stateDir}; "foreshade lab up" starts one`);
    return lab;
  }

  /** The lab that was started at `stateDir`, or undefined; its daemon may have died. */
  static async find(stateDir: string = DEFAULT_STATE_DIR): Promise<Lab | undefined> {
    const paths = new LabPaths(resolve(stateDir));
    const state = await readState(paths);
    if (state === undefined) return undefined;
    if (state.version !== STATE_VERSION) {
      throw new Error(`the lab at ${stateDir} was started by another version; take it down first`);
    }
    return new Lab(paths, state, () => undefined);
  }

  /**
   * End the lab at `stateDir`, whatever state it is in and whichever version started it.
   * @returns false when there was none
   */
  static async remove(stateDir: string = DEFAULT_STATE_DIR): Promise<boolean> {
    return takeDown(new LabPaths(resolve(stateDir)));
  }

  get guests(): readonly LabGuest[] {
    return this.#guests;
  }

  /** The lab's libvirtd. */
  get daemon(): HostProcess {
    return this.#state.daemon;
  }

  /** A process inside the lab's mount and network namespaces, for nsenter. */
  get holder(): HostProcess {
    return this.#state.holder;
  }

  /** False where the host gave no cgroups: guests then have no CPU quota. */
  get hasCgroups(): boolean {
    return this.#state.hasCgroups;
  }

  /** True while the daemon runs. */
  get isRunning(): boolean {
    return isRunning(this.#state.daemon);
  }

  /** @throws {Error} when no guest has that name */
  guest(name: string): LabGuest {
    const found = this.#guests.find((guest) => guest.name === name);
    if (found !== undefined) return found;
    const known = this.#guests.map((guest) => guest.name).join(', ') || 'none';
    throw new Error(`no guest ${name} in this lab; there is ${known}`);
  }

  /** Start one more guest and wait until it is ready. */
  async addGuest(options: GuestOptions = {}): Promise<LabGuest> {
    const wanted = await this.#plan(options);
    const guest = await startGuest(wanted, {
      paths: this.#paths,
      assets: await buildAssets(this.#progress, this.#state.cacheDir),
      holder: this.#state.holder,
      partition: this.#state.hasCgroups ? this.#state.partition : undefined,
    });
    this.#progress(`${guest.name} is ready after ${(guest.state.bootMs / 1000).toFixed(1)} s`);
    this.#guests.push(guest);
    await this.#save();
    return guest;
  }

  /** Stop a guest and forget it. */
  async removeGuest(guest: LabGuest): Promise<void> {
    await stopGuest(guest, this.#paths, this.#state.holder);
    await virsh(this.uri, ['undefine', guest.name]).catch(() => undefined);
    this.#guests.splice(this.#guests.indexOf(guest), 1);
    await this.#save();
  }

  /** Start the daemon again after it died; guests ran on meanwhile. */
  async restartDaemon(): Promise<void> {
    await endProcess(this.#state.daemon);
    this.#state = { ...this.#state, daemon: await startDaemon(this.#paths, this.#state.holder) };
    await this.#save();
  }

  /** End the lab: no process, mount, namespace, cgroup or file of it remains. */
  async down(): Promise<void> {
    for (const guest of this.#guests) await guest.runner.close();
    await takeDown(this.#paths);
  }

  readonly #indexes = new Set<number>();

  async #plan(options: GuestOptions): Promise<GuestState> {
    const taken = new Set([...this.#indexes, ...this.#guests.map((guest) => guest.state.index)]);
    let index = 1;
    while (taken.has(index)) ++index;
    if (index > GUESTS_MAX) throw new Error(`a lab takes at most ${GUESTS_MAX} guests`);
    this.#indexes.add(index);
    const guest: GuestState = {
      ...GUEST_DEFAULTS,
      baselineMib: GUEST_DEFAULTS.baselineMib + (await guestOverheadMib()),
      ...options,
      index,
      name: options.name ?? `lab-${index}`,
      uuid: randomUUID(),
      icount: options.icount !== false && (await takesPlugins()),
      bootMs: Number.NaN,
    };
    checkGuest(guest);
    return guest;
  }

  async #addGuests(count: number, options: GuestOptions): Promise<void> {
    if (!Number.isInteger(count) || count < 0 || count > GUESTS_MAX) {
      throw new Error(`guests must be an integer in [0, ${GUESTS_MAX}], not ${count}`);
    }
    if (options.icount !== false && !(await takesPlugins())) {
      this.#progress('this QEMU takes no TCG plugins: the guests run without instruction counts');
    }
    let left = count;
    const boot = async () => {
      while (left-- > 0) await this.addGuest(options);
    };
    // All settled before a failure is passed on: its `down` must not meet a guest that is still starting.
    const boots = await Promise.allSettled(Array.from({ length: BOOTS_AT_ONCE }, boot));
    for (const result of boots) if (result.status === 'rejected') throw result.reason;
    this.#guests.sort((a, b) => a.state.index - b.state.index);
    await this.#save();
  }

  async #save(): Promise<void> {
    this.#state = { ...this.#state, guests: this.#guests.map((guest) => guest.state) };
    await writeState(this.#paths, this.#state);
  }
}

/** Daemon and namespaces, no guest yet. */
async function startEmpty(
  paths: LabPaths,
  assets: LabAssets,
  cacheDir: string,
  progress: Progress,
): Promise<LabState> {
  const partition = `foreshade-lab-${randomBytes(4).toString('hex')}`;
  const hasCgroups = await makePartition(partition);
  if (!hasCgroups) progress('this host gives no cgroups: the guests run without CPU quota');
  progress('starting a private libvirtd');
  let holder: HostProcess | undefined;
  try {
    await prepareFolders(paths, hasCgroups);
    holder = await startHolder(paths, assets.sink);
    const daemon = await startDaemon(paths, holder);
    const state = { version: STATE_VERSION, partition, hasCgroups, holder, daemon, cacheDir, guests: [] };
    await writeState(paths, state);
    return state;
  } catch (error) {
    if (holder !== undefined) await endProcess(holder);
    await removePartition(partition);
    await rm(paths.stateDir, { recursive: true, force: true });
    throw error;
  }
}
