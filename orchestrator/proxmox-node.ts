import { readFileSync } from 'node:fs';
import { createProxmoxAdapter, proxmoxVersion } from '../integrations/proxmox/adapter.ts';
import { ProxmoxApi } from '../integrations/proxmox/api.ts';
import { readDefinition } from '../integrations/proxmox/definition.ts';
import { systemClock } from '../libvirt-adapter/clock.ts';
import type { Config } from './config.ts';
import { AllocatorError } from './core/errors.ts';
import type { ReadDefinition } from './core/guest-start.ts';
import type { HypervisorPorts } from './core/ports.ts';
import type { Log } from './engine/log.ts';

type Settings = Config['proxmox'];

/** A node of Proxmox VE that answers. */
export interface ProxmoxNode {
  readonly api: ProxmoxApi;
  readonly node: string;
}

/**
 * The API that the configuration names, unasked; the caller closes it.
 * @throws {AllocatorError} INVALID_REQUEST when the file of authorities cannot be read
 */
export function proxmoxApi(settings: Settings, url: string): ProxmoxApi {
  const { fingerprint, caFile, tokenFile = '', timeoutMs } = settings;
  return new ProxmoxApi({
    url,
    timeoutMs,
    readToken: () => readFileSync(tokenFile, 'utf8'),
    ...(fingerprint !== undefined && { fingerprint }),
    ...(caFile !== undefined && { ca: authorities(caFile) }),
  });
}

/** Reach the node that the configuration names. @throws {AllocatorError} HYPERVISOR_UNAVAILABLE, NOT_SUPPORTED */
export async function openProxmoxNode(
  settings: Settings,
  url: string,
  logger: Log,
  undo: (() => void)[],
): Promise<ProxmoxNode> {
  const api = proxmoxApi(settings, url);
  undo.push(() => api.close());
  const { node = '' } = settings;
  logger.info({ url, node, version: await proxmoxVersion(api) }, 'connected to Proxmox VE');
  return { api, node };
}

/** The core's ports over the node. */
export function proxmoxPorts(config: Config, { api, node }: ProxmoxNode, logger: Log): HypervisorPorts {
  const { telemetry, proxmox } = config;
  return createProxmoxAdapter(api, {
    node,
    clock: systemClock,
    sampling: {
      fullMs: telemetry.fullPeriodMs,
      fastMs: telemetry.fastPeriodMs,
      instructionStep: telemetry.instructionStep,
    },
    unplugIsSafe: proxmox.vcpuUnplug,
    plugToMib: proxmox.plugMemoryToMib,
    onFailure: (cause) => logger.warn({ err: cause }, 'a reading failed'),
  });
}

/** Reads what the hookscript tells of a guest. */
export function proxmoxDefinition({ vcpuUnplug, plugMemoryToMib }: Settings): ReadDefinition {
  return (text) => readDefinition(text, { unplugIsSafe: vcpuUnplug, plugToMib: plugMemoryToMib });
}

function authorities(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const message = `proxmox.ca_file cannot be read: ${(cause as Error).message}`;
    throw new AllocatorError('INVALID_REQUEST', message, { file }, { cause });
  }
}
