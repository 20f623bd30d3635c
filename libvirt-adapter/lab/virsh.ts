import { writeFile } from 'node:fs/promises';
import { runCommand } from './command.ts';

/** Longest a call of the lab takes: a domain's start on a loaded host is under 10 s. */
const VIRSH_TIMEOUT_MS = 60_000;

/** Run one virsh command on the daemon at `uri`; gives what it printed. */
export function virsh(uri: string, args: readonly string[], timeoutMs = VIRSH_TIMEOUT_MS): Promise<string> {
  return runCommand('virsh', ['--quiet', '--connect', uri, ...args], { timeoutMs });
}

/** Store a domain's definition and start it. The XML is kept at `xmlPath`. */
export async function startDomain(uri: string, xml: string, name: string, xmlPath: string): Promise<void> {
  await writeFile(xmlPath, xml);
  await virsh(uri, ['define', xmlPath]);
  await virsh(uri, ['start', name]);
}

/** Pull the plug. Does nothing when the domain is not running. */
export async function destroyDomain(uri: string, name: string): Promise<void> {
  const running = await virsh(uri, ['list', '--name']);
  if (running.split('\n').includes(name)) await virsh(uri, ['destroy', name], 20_000);
}

/** Memory the balloon leaves the guest, KiB, as the driver reports it. */
export async function balloonActualKib(uri: string, name: string): Promise<number> {
  const stats = await virsh(uri, ['dommemstat', name]);
  return Number(/^actual (\d+)$/m.exec(stats)?.[1] ?? Number.NaN);
}

/** One command of the guest agent's protocol; gives its `return` member. */
export async function agentCommand(
  uri: string,
  name: string,
  execute: string,
  args: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  const command = JSON.stringify({ execute, arguments: args });
  const answer = await virsh(uri, ['qemu-agent-command', '--timeout', '20', name, command]);
  return (JSON.parse(answer) as { return: unknown }).return;
}
