import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { HypervisorPorts } from '../../orchestrator/core/ports.ts';
import type { Sampling } from '../../orchestrator/core/sample.ts';
import type { TimerClock } from '../../orchestrator/core/timer-clock.ts';
import { fieldsOf, textIn } from './answers.ts';
import type { ProxmoxApi } from './api.ts';
import { GuestCatalog } from './catalog.ts';
import { ConfigWriter } from './config-writer.ts';
import { CpuActuator } from './cpu-actuator.ts';
import { translated } from './errors.ts';
import { GuestAgent } from './guest-agent.ts';
import { GuestPoll } from './guest-poll.ts';
import { StatusWindow } from './guest-window.ts';
import { ProxmoxHypervisor } from './hypervisor.ts';
import { MemoryActuator } from './memory-actuator.ts';
import { MetricsExport } from './metrics-export.ts';
import { RateLimitActuator } from './rate-limit-actuator.ts';
import { ProxmoxTelemetry } from './telemetry.ts';

const VERSION_CALL = '/version';
/** Oldest release whose calls are known here. */
const RELEASE_MIN = 8;

/** What the adapter is made with, beside the API. */
export interface AdapterOptions {
  readonly node: string;
  readonly clock: TimerClock;
  readonly sampling: Sampling;
  /** The operator's word that guests here survive a vCPU unplug. */
  readonly unplugIsSafe?: boolean;
  /** Guests that can be plugged memory are grown to this at most, MiB. Absent: nothing is plugged. */
  readonly plugToMib?: number;
  /** Told of what failed without a caller to tell: a poll, a sample, a guest that cannot be read. */
  readonly onFailure?: (cause: unknown) => void;
}

/**
 * Ask what answers.
 * @returns its version, such as `9.1.3`
 * @throws {AllocatorError} HYPERVISOR_UNAVAILABLE, NOT_SUPPORTED when it is too old
 */
export async function proxmoxVersion(api: ProxmoxApi): Promise<string> {
  const ask = async () => textIn(fieldsOf(await api.get(VERSION_CALL), VERSION_CALL), 'version') ?? 'unknown';
  const version = await translated(ask(), {});
  if (Number.parseInt(version, 10) >= RELEASE_MIN) return version;
  const message = `Proxmox VE ${version} is too old: ${RELEASE_MIN} is the oldest that is driven`;
  throw new AllocatorError('NOT_SUPPORTED', message, { version });
}

/** Build the core's ports over one node of Proxmox VE; the API stays with its owner. */
export function createProxmoxAdapter(api: ProxmoxApi, options: AdapterOptions): HypervisorPorts {
  const { node, clock, sampling, unplugIsSafe = false, plugToMib = 0 } = options;
  const onFailure = options.onFailure ?? (() => {});
  const catalog = new GuestCatalog(api, node);
  const writer = new ConfigWriter(api, catalog, { clock, onFailure });
  const agent = new GuestAgent(api, catalog, clock);
  const poll = new GuestPoll(catalog, { clock, onFailure });
  const metrics = new MetricsExport(api, node);
  const telemetry = new ProxmoxTelemetry({ catalog, metrics, poll }, { clock, sampling, onFailure });
  return {
    hypervisor: new ProxmoxHypervisor(
      api,
      { catalog, agent, poll },
      { clock, unplugIsSafe, plugToMib, onFailure },
    ),
    actuators: {
      cpu: new CpuActuator(catalog, writer, agent, { clock, unplugIsSafe }),
      memory: new MemoryActuator(catalog, writer, { clock, plugToMib }),
      disk: new RateLimitActuator('disk', catalog, writer),
      net: new RateLimitActuator('net', catalog, writer),
    },
    window: new StatusWindow(catalog, agent),
    telemetry,
    async close() {
      await telemetry.close();
      await poll.close();
    },
  };
}
