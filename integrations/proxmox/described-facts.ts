import type { GuestFacts, GuestId, GuestState } from '../../orchestrator/core/guest.ts';
import { MIB, MILLICORES_PER_VCPU } from '../../orchestrator/core/profile.ts';
import { CPU_UNITS_DEFAULT, cpuMillicoresOf, type GuestConfig, isBalloonFree } from './guest-config.ts';
import { limitsOf } from './rate-limit-actuator.ts';

/** What a guest is and does beside its configuration. */
export interface Presence {
  readonly id: GuestId;
  readonly vmid: number;
  readonly state: GuestState;
  /** vCPUs online in it; absent: those that are plugged. */
  readonly online?: number;
  /** Size of its balloon; absent: what the configuration says. */
  readonly balloonBytes?: number;
}

/** What only the operator can know. */
export interface OperatorsWord {
  /** Guests here survive a vCPU unplug. */
  readonly unplugIsSafe: boolean;
  /** Guests that can be plugged memory may be grown to this, MiB. */
  readonly plugToMib: number;
}

/** A guest in the core's words. */
export function describedFacts(
  config: GuestConfig,
  { id, vmid, state, online, balloonBytes }: Presence,
  { unplugIsSafe, plugToMib }: OperatorsWord,
): GuestFacts {
  const disk = limitsOf(config, 'disk');
  const net = limitsOf(config, 'net');
  const configuredMib = config.hasBalloon ? config.balloonMib : config.memoryMib;
  return {
    id,
    name: config.name ?? `VM ${vmid}`,
    state,
    entitlement: {
      cpuMillicores: cpuMillicoresOf(config),
      vcpuCount: Math.min(online ?? config.vcpus, config.vcpus),
      memoryBytes: balloonBytes ?? configuredMib * MIB,
      ...disk.limits,
      ...net.limits,
      cpuWeight: config.cpuUnits / CPU_UNITS_DEFAULT,
    },
    ceiling: {
      cpuMillicores: config.vcpusMax * MILLICORES_PER_VCPU,
      vcpuCount: config.vcpusMax,
      memoryBytes: Math.max(config.memoryMib, config.canPlugMemory ? plugToMib : 0) * MIB,
    },
    capabilities: {
      cpuQuota: true,
      vcpuPlug: config.canPlugVcpus && config.vcpusMax > 1,
      vcpuUnplug: config.canPlugVcpus && unplugIsSafe,
      agent: config.hasAgent,
      balloon: isBalloonFree(config),
      virtioMem: config.canPlugMemory && plugToMib > 0,
      diskLimits: disk.movable,
      netLimits: net.movable,
    },
    vcpusPlugged: config.vcpus,
    cpuLimited: config.cpuLimit !== undefined,
  };
}
