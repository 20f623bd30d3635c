import { existsSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostProcess } from './host-process.ts';

/** Raised when the state file's form changes; a lab of another version is only ever taken down. */
export const STATE_VERSION = 1;

/** What a lab's state file says of one guest. Sizes in MiB. */
export interface GuestState {
  readonly index: number;
  readonly name: string;
  readonly uuid: string;
  readonly vcpus: number;
  readonly maxVcpus: number;
  readonly memoryMib: number;
  readonly baselineMib: number;
  readonly virtioMemMib: number;
  readonly diskMib: number;
  readonly icount: boolean;
  readonly icountArguments?: string;
  /** What its definition's metadata holds: XML, as it stands. */
  readonly metadata?: string;
  readonly bootMs: number;
}

/** What lies in a lab's state file: enough for another process to use the lab or to take it down. */
export interface LabState {
  readonly version: number;
  readonly partition: string;
  readonly hasCgroups: boolean;
  readonly holder: HostProcess;
  readonly daemon: HostProcess;
  readonly cacheDir: string;
  readonly guests: readonly GuestState[];
}

/** Longest path of a unix socket, bytes, with its final zero. Source: unix(7). */
const SOCKET_PATH_MAX = 108;

/** Every path of a lab, from its state folder. */
export class LabPaths {
  readonly stateDir: string;

  /** @throws {Error} when the folder's path leaves no room for a unix socket's */
  constructor(stateDir: string) {
    this.stateDir = stateDir;
    const longest = Buffer.byteLength(join(this.run, 'libvirt-admin-sock'));
    if (!stateDir.startsWith('/') || longest >= SOCKET_PATH_MAX) {
      throw new Error(
        `the lab's state folder must be an absolute path of at most ${SOCKET_PATH_MAX - 1 - longest + stateDir.length} bytes: ${stateDir}`,
      );
    }
  }

  get state(): string {
    return join(this.stateDir, 'lab.json');
  }
  get run(): string {
    return join(this.stateDir, 'run');
  }
  get etc(): string {
    return join(this.stateDir, 'etc');
  }
  get socket(): string {
    return join(this.run, 'libvirt-sock');
  }
  get daemonLog(): string {
    return join(this.stateDir, 'libvirtd.log');
  }
  /** libvirt connection URI of the lab. */
  get uri(): string {
    return `qemu+unix:///system?socket=${this.socket}`;
  }
  console(guest: string): string {
    return join(this.stateDir, `${guest}.console`);
  }
  runner(guest: string): string {
    return join(this.stateDir, `${guest}.run`);
  }
  agent(guest: string): string {
    return join(this.stateDir, `${guest}.ga`);
  }
  disk(guest: string): string {
    return join(this.stateDir, `${guest}.disk`);
  }
  icount(guest: string): string {
    return join(this.stateDir, `${guest}.icount`);
  }
}

/** Write the state file; a reader sees the old one or the new one. */
export async function writeState(paths: LabPaths, state: LabState): Promise<void> {
  const draft = `${paths.state}.draft`;
  await writeFile(draft, `${JSON.stringify(state, undefined, 2)}\n`);
  await rename(draft, paths.state);
}

/**
 * The lab's state, or undefined when no lab was started there.
 * @throws {Error} when the file is not one that a lab wrote
 */
export async function readState(paths: LabPaths): Promise<LabState | undefined> {
  if (!existsSync(paths.state)) return undefined;
  const state = JSON.parse(await readFile(paths.state, 'utf8')) as Partial<LabState>;
  if (
    typeof state.version !== 'number' ||
    typeof state.holder?.pid !== 'number' ||
    !Array.isArray(state.guests)
  ) {
    throw new Error(`${paths.state} is not the state of a lab`);
  }
  return state as LabState;
}
