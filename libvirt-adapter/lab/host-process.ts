import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** A process that outlives us: its pid, and its start time, which tells it from a later process of the same pid. */
export interface HostProcess {
  readonly pid: number;
  readonly startTicks: number;
}

/** How long a process may take to end after SIGTERM before SIGKILL. libvirtd needs 0.2 s, QEMU 0.1 s. */
const TERM_GRACE_MS = 5_000;
const KILL_GRACE_MS = 5_000;

function startTicks(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Field 2 may hold spaces and parentheses; fields are counted after its last one. 22 is starttime, 3 the state.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}

/** The running process of that pid, or undefined. */
export function findProcess(pid: number): HostProcess | undefined {
  const ticks = startTicks(pid);
  return ticks === undefined ? undefined : { pid, startTicks: ticks };
}

/** True while that very process runs. */
export function isRunning(process: HostProcess): boolean {
  return startTicks(process.pid) === process.startTicks;
}

/** QEMU system emulators whose command line holds `text`. */
export function emulatorsNaming(text: string): HostProcess[] {
  const found: HostProcess[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    try {
      const [program = '', ...args] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      if (!program.includes('qemu-system') || !args.some((argument) => argument.includes(text))) continue;
    } catch {
      continue; // it ended while we looked
    }
    const running = findProcess(pid);
    if (running !== undefined) found.push(running);
  }
  return found;
}

async function waitForEnd(target: HostProcess, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (isRunning(target)) {
    if (Date.now() > deadline) return false;
    await sleep(20);
  }
  return true;
}

function signal(target: HostProcess, name: 'SIGTERM' | 'SIGKILL'): void {
  try {
    if (isRunning(target)) process.kill(target.pid, name);
  } catch {
    // it ended between the look and the signal
  }
}

/**
 * End a process: SIGTERM, then SIGKILL. Does nothing when it is gone.
 * @throws {Error} when it survives SIGKILL
 */
export async function endProcess(target: HostProcess): Promise<void> {
  signal(target, 'SIGTERM');
  if (await waitForEnd(target, TERM_GRACE_MS)) return;
  signal(target, 'SIGKILL');
  if (!(await waitForEnd(target, KILL_GRACE_MS))) throw new Error(`process ${target.pid} survives SIGKILL`);
}
