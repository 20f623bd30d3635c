import { Buffer } from 'node:buffer';
import { existsSync, readFileSync } from 'node:fs';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LabAssets } from './assets.ts';
import { CommandError } from './command.ts';
import { runInNetwork } from './daemon.ts';
import { addresses, domainXml, tapName } from './domain.ts';
import type { HostProcess } from './host-process.ts';
import { RunnerClient } from './runner-client.ts';
import type { GuestState, LabPaths } from './state.ts';
import { agentCommand, balloonActualKib, destroyDomain, startDomain } from './virsh.ts';

/** A guest boots in 4 s on an idle host of two cores; ten at once on a loaded one take 40 s. */
const BOOT_TIMEOUT_MS = 90_000;
const BOOT_POLL_MS = 100;
/** Balloon drivers round to their own pages: so near counts as there, KiB. */
const BALLOON_SETTLED_KIB = 1024;
/** A command run through the agent; longer work belongs to the runner. */
const EXEC_TIMEOUT_MS = 60_000;
const EXEC_POLL_MS = 30;

/** How a command inside the guest ended. Output is the guest's claim, cut by the agent at 16 MiB. */
export interface ExecOutcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface AgentExecStatus {
  readonly exited: boolean;
  readonly exitcode?: number;
  readonly signal?: number;
  readonly 'out-data'?: string;
  readonly 'err-data'?: string;
}

function decoded(data: string | undefined): string {
  return Buffer.from(data ?? '', 'base64').toString('utf8');
}

/** One running guest of a lab. */
export class LabGuest {
  readonly name: string;
  readonly uuid: string;
  /** The guest's console, as a file. */
  readonly consoleLog: string;
  /** The instruction counters' file; absent when this QEMU takes no plugin. */
  readonly icountFile: string | undefined;
  readonly tap: string;
  readonly state: GuestState;
  readonly runner: RunnerClient;
  readonly #paths: LabPaths;

  constructor(state: GuestState, paths: LabPaths) {
    this.name = state.name;
    this.uuid = state.uuid;
    this.state = state;
    this.consoleLog = paths.console(state.name);
    this.icountFile = state.icount ? paths.icount(state.name) : undefined;
    this.tap = tapName(state.index);
    this.runner = new RunnerClient(state.name, paths.runner(state.name));
    this.#paths = paths;
  }

  /** QEMU's process; undefined when the guest does not run. */
  get pid(): number | undefined {
    const file = join(this.#paths.run, 'qemu', `${this.name}.pid`);
    return existsSync(file) ? Number(readFileSync(file, 'utf8')) : undefined;
  }

  /**
   * Run a program inside through the guest agent and wait for its end.
   * @throws {CommandError} when the agent does not answer or knows no such program
   */
  async exec(command: string, ...args: string[]): Promise<ExecOutcome> {
    const uri = this.#paths.uri;
    const { pid } = (await agentCommand(uri, this.name, 'guest-exec', {
      path: command,
      arg: args,
      'capture-output': true,
    })) as { pid: number };
    const deadline = Date.now() + EXEC_TIMEOUT_MS;
    for (;;) {
      const status = (await agentCommand(uri, this.name, 'guest-exec-status', { pid })) as AgentExecStatus;
      if (status.exited) {
        return {
          exitCode: status.exitcode ?? 128 + (status.signal ?? 0),
          stdout: decoded(status['out-data']),
          stderr: decoded(status['err-data']),
        };
      }
      if (Date.now() > deadline)
        throw new Error(`${this.name}: ${command} still runs after ${EXEC_TIMEOUT_MS} ms`);
      await sleep(EXEC_POLL_MS);
    }
  }
}

async function makeTap(index: number, holder: HostProcess): Promise<void> {
  const name = tapName(index);
  const { host } = addresses(index);
  // libvirt opens the tap with a virtio header, so it must have been made for one.
  await runInNetwork(holder, 'ip', ['tuntap', 'add', 'dev', name, 'mode', 'tap', 'vnet_hdr']);
  await runInNetwork(holder, 'ip', ['address', 'add', `${host}/24`, 'dev', name]);
  await runInNetwork(holder, 'ip', ['link', 'set', name, 'up']);
}

async function makeDisk(path: string, mib: number): Promise<void> {
  await writeFile(path, '');
  await truncate(path, mib * 1024 * 1024);
}

async function consoleTail(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.trim().split('\n').slice(-5).join('\n');
}

/** True once libvirt and the guest's agent speak to each other; the agent may start after the runner has. */
async function agentAnswers(guest: LabGuest, uri: string): Promise<boolean> {
  try {
    await agentCommand(uri, guest.name, 'guest-ping');
    return true;
  } catch (error) {
    if (error instanceof CommandError) return false;
    throw error;
  }
}

/** Wait until the runner and the agent answer and the balloon stands at the baseline. */
async function waitUntilReady(guest: LabGuest, uri: string): Promise<void> {
  const deadline = Date.now() + BOOT_TIMEOUT_MS;
  const expired = async (what: string) => {
    if (Date.now() < deadline) return;
    throw new Error(
      `${guest.name}: ${what} after ${BOOT_TIMEOUT_MS} ms; its console ends: ${await consoleTail(guest.consoleLog)}`,
    );
  };
  while (!(await readFile(guest.consoleLog, 'utf8').catch(() => '')).includes('lab: ready')) {
    await expired('has not booted');
    await sleep(BOOT_POLL_MS);
  }
  while (!(await guest.runner.isReady(1000))) await expired('its runner does not answer');
  await guest.runner.close();
  while (!(await agentAnswers(guest, uri))) {
    await expired('its agent does not answer');
    await sleep(BOOT_POLL_MS);
  }
  // Where its definition asks for room, its balloon stands where the answer puts it.
  if (guest.state.metadata !== undefined) return;
  const wantedKib = guest.state.baselineMib * 1024;
  while (Math.abs((await balloonActualKib(uri, guest.name)) - wantedKib) > BALLOON_SETTLED_KIB) {
    await expired('its balloon has not reached the baseline');
    await sleep(BOOT_POLL_MS);
  }
}

/** Start a guest and wait until it is ready; `bootMs` of the result says how long that took. */
export async function startGuest(
  wanted: GuestState,
  lab: {
    paths: LabPaths;
    assets: LabAssets;
    holder: HostProcess;
    partition: string | undefined;
  },
): Promise<LabGuest> {
  const { paths, assets, holder, partition } = lab;
  const startedAtMs = Date.now();
  await makeTap(wanted.index, holder);
  await makeDisk(paths.disk(wanted.name), wanted.diskMib);
  const files = {
    vmlinux: assets.vmlinux,
    initramfs: assets.initramfs,
    icountPlugin: wanted.icount ? assets.icountPlugin : undefined,
  };
  const xml = domainXml(wanted, files, paths, partition);
  await startDomain(paths.uri, xml, wanted.name, join(paths.stateDir, `${wanted.name}.xml`));
  await waitUntilReady(new LabGuest(wanted, paths), paths.uri);
  return new LabGuest({ ...wanted, bootMs: Date.now() - startedAtMs }, paths);
}

/** Stop a guest and take its tap away. */
export async function stopGuest(guest: LabGuest, paths: LabPaths, holder: HostProcess): Promise<void> {
  await guest.runner.close();
  await destroyDomain(paths.uri, guest.name);
  await runInNetwork(holder, 'ip', ['link', 'delete', guest.tap]).catch(() => undefined);
}
