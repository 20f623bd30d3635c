import { existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { runNetworkCommand } from './network-command.ts';

/** Queueing disciplines that libvirt builds an interface's bandwidth from. Source: libvirt, virnetdevbandwidth.c. */
const QDISCS = ['sch_htb', 'sch_sfq', 'sch_ingress'] as const;
const TC = ['/sbin/tc', '/usr/sbin/tc', '/bin/tc', '/usr/bin/tc'] as const;

/** Whether this host's kernel has, or can load, what libvirt needs to limit a tap. */
export function canShapeTaps(): boolean {
  if (!TC.some((path) => existsSync(path))) return false;
  const folder = `/lib/modules/${release()}`;
  const available = ['modules.builtin', 'modules.dep'].map((name) => textOf(`${folder}/${name}`)).join('\n');
  return QDISCS.every((module) => existsSync(`/sys/module/${module}`) || available.includes(`/${module}.ko`));
}

/**
 * Whether our own shaper can limit taps here (see TcShaper). Tried out in a network namespace that exists for the trial
 * only: a kernel tells in no other way what it has or can load.
 */
export async function canUseTc(): Promise<boolean> {
  const shaping = [
    'qdisc add dev lo root tbf rate 8mbit burst 16kb limit 64kb',
    'qdisc add dev lo ingress',
    'filter add dev lo parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev lo',
  ];
  try {
    await runNetworkCommand('unshare', ['--net', 'tc', '-batch', '-'], { input: `${shaping.join('\n')}\n` });
    await runNetworkCommand('unshare', ['--net', 'ip', 'link', 'add', 'name', 'trial', 'type', 'ifb']);
    return true;
  } catch {
    return false;
  }
}

function textOf(path: string): string {
  return existsSync(path) ? readFileSync(path, 'latin1') : '';
}
