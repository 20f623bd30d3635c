import { statSync } from 'node:fs';
import { createProxmoxAdapter, proxmoxVersion } from '../../integrations/proxmox/adapter.ts';
import type { ProxmoxApi } from '../../integrations/proxmox/api.ts';
import { systemClock } from '../../libvirt-adapter/clock.ts';
import type { Config } from '../config.ts';
import { AllocatorError } from '../core/errors.ts';
import { proxmoxApi } from '../proxmox-node.ts';
import type { Check } from './checks.ts';

/** Whoever else may read the token's file. */
const OTHERS_MAY_READ = 0o077;

/** Whether the configured node answers, and the token's file is for nobody else. Changes nothing. */
export async function proxmoxChecks(settings: Config['proxmox'], url: string): Promise<Check[]> {
  return [tokenFile(settings.tokenFile ?? ''), await node(settings, url)];
}

function tokenFile(file: string): Check {
  const name = 'proxmox token';
  const mode = statSync(file, { throwIfNoEntry: false })?.mode;
  if (mode === undefined) {
    return { name, level: 'fail', found: `${file}: not there`, advice: 'Make a token: see docs/proxmox.md.' };
  }
  if ((mode & OTHERS_MAY_READ) === 0) return { name, level: 'ok', found: file };
  return { name, level: 'warn', found: `${file}: others may read it`, advice: `Run: chmod 600 ${file}` };
}

async function node(settings: Config['proxmox'], url: string): Promise<Check> {
  const name = 'proxmox node';
  let api: ProxmoxApi | undefined;
  try {
    api = proxmoxApi(settings, url);
    const version = await proxmoxVersion(api);
    const found = await guestsSeen(api, settings.node ?? '');
    return { name, level: 'ok', found: `${settings.node} at ${url}, Proxmox VE ${version}, ${found}` };
  } catch (error) {
    if (!(error instanceof AllocatorError)) throw error;
    const advice = 'Check url, fingerprint, and the privileges of the token: see docs/proxmox.md.';
    return { name, level: 'fail', found: `${url}: ${error.message}`, advice };
  } finally {
    api?.close();
  }
}

/** What the token is shown: the node's size takes one privilege, its guests another. */
async function guestsSeen(api: ProxmoxApi, node: string): Promise<string> {
  const sampling = { fullMs: 0, fastMs: 0, instructionStep: 0 };
  const ports = createProxmoxAdapter(api, { node, clock: systemClock, sampling });
  try {
    const { cpuMillicores } = await ports.hypervisor.host();
    const guests = await ports.hypervisor.guests();
    return `${cpuMillicores / 1000} CPUs, ${guests.length} guests`;
  } finally {
    await ports.close();
  }
}
