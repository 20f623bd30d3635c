import { existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';

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

function textOf(path: string): string {
  return existsSync(path) ? readFileSync(path, 'latin1') : '';
}
