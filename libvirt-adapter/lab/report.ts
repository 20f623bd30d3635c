import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { IcountReader, type IcountReading, totalInstructions } from '../icount-reader.ts';
import type { ExecOutcome, LabGuest } from './guest.ts';
import { Lab, type LabOptions } from './lab.ts';
import { describeHostPolicy, labServiceConfig } from './service-config.ts';

/** One guest as the CLI shows it. */
export interface GuestReport {
  readonly name: string;
  readonly uuid: string;
  /** QEMU's process; null when the guest does not run. */
  readonly pid: number | null;
  readonly boot_ms: number;
  readonly vcpus_max: number;
  readonly memory_mib_max: number;
  readonly baseline_mib: number;
  readonly console_log: string;
  /** Null when this QEMU takes no plugin. */
  readonly icount_file: string | null;
  /** Executed so far on all vCPUs, as a decimal string: it may pass 2^53. Null when unknown. */
  readonly instructions: string | null;
}

/** A lab as the CLI shows it, and as `--json` prints it. */
export interface LabReport {
  readonly state_dir: string;
  readonly running: boolean;
  readonly uri: string | null;
  readonly daemon_pid: number | null;
  readonly has_cgroups: boolean;
  /** A service configuration for this lab. */
  readonly service_config: string | null;
  readonly guests: readonly GuestReport[];
}

function readInstructions(guest: LabGuest): IcountReading | undefined {
  if (guest.icountFile === undefined) return undefined;
  try {
    const reader = new IcountReader(guest.icountFile);
    try {
      return reader.read();
    } finally {
      reader.close();
    }
  } catch {
    return undefined; // the guest is off or just starting: the report says null
  }
}

function guestReport(guest: LabGuest): GuestReport {
  const reading = readInstructions(guest);
  return {
    name: guest.name,
    uuid: guest.uuid,
    pid: guest.pid ?? null,
    boot_ms: guest.state.bootMs,
    vcpus_max: guest.state.maxVcpus,
    memory_mib_max: guest.state.memoryMib,
    baseline_mib: guest.state.baselineMib,
    console_log: guest.consoleLog,
    icount_file: guest.icountFile ?? null,
    instructions: reading === undefined ? null : String(totalInstructions(reading)),
  };
}

function serviceConfigPath(lab: Lab): string {
  return join(lab.stateDir, 'foreshade.toml');
}

/** The lab's present state. */
export function reportLab(lab: Lab): LabReport {
  return {
    state_dir: lab.stateDir,
    running: lab.isRunning,
    uri: lab.uri,
    daemon_pid: lab.isRunning ? lab.daemon.pid : null,
    has_cgroups: lab.hasCgroups,
    service_config: serviceConfigPath(lab),
    guests: lab.guests.map(guestReport),
  };
}

/** Start a lab and write the service configuration that goes with it. */
export async function labUp(options: LabOptions): Promise<LabReport> {
  const lab = await Lab.up(options);
  await writeFile(serviceConfigPath(lab), labServiceConfig(lab.uri));
  options.onProgress?.(describeHostPolicy());
  return reportLab(lab);
}

/** The lab at `stateDir`, or a report that says that there is none. */
export async function labStatus(stateDir: string): Promise<LabReport> {
  const lab = await Lab.find(stateDir);
  if (lab !== undefined) return reportLab(lab);
  return {
    state_dir: stateDir,
    running: false,
    uri: null,
    daemon_pid: null,
    has_cgroups: false,
    service_config: null,
    guests: [],
  };
}

/** Run a program inside a guest of the lab. */
export async function labExec(
  stateDir: string,
  guest: string,
  command: readonly string[],
): Promise<ExecOutcome> {
  const [program, ...args] = command;
  if (program === undefined)
    throw new Error('name the command to run: lab exec GUEST -- COMMAND [ARGUMENT...]');
  return (await Lab.attach(stateDir)).guest(guest).exec(program, ...args);
}

/** End the lab; false when there was none. */
export async function labDown(stateDir: string): Promise<boolean> {
  return Lab.remove(stateDir);
}
