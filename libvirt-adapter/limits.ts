import { MILLICORES_PER_VCPU } from '../orchestrator/core/profile.ts';
import type { CpuTune, DomainDescription } from './domain-xml.ts';

/** Bytes in libvirt's unit of interface bandwidth: it hands `kbps` to tc, whose k is 1,000. */
export const BYTES_PER_BANDWIDTH_UNIT = 1000;

/** Interface types without a tap on the host: there is nothing to shape. */
const TAPLESS: ReadonlySet<string> = new Set([
  'user',
  'vhostuser',
  'hostdev',
  'vdpa',
  'udp',
  'server',
  'client',
  'mcast',
]);

export function hasTap(interfaceType: string): boolean {
  return !TAPLESS.has(interfaceType);
}

/** Millicores that quotas leave to a guest with `vcpus` plugged; undefined where no quota is below its vCPUs. */
export function quotaMillicores(tune: CpuTune, vcpus: number): number | undefined {
  const domain = share(tune.globalQuotaUs, tune.globalPeriodUs);
  const perVcpu = share(tune.vcpuQuotaUs, tune.vcpuPeriodUs) * vcpus;
  const least = Math.min(domain, perVcpu);
  return Number.isFinite(least) ? Math.min(least, vcpus * MILLICORES_PER_VCPU) : undefined;
}

function share(quotaUs: number, periodUs: number): number {
  return quotaUs < 0 || periodUs <= 0
    ? Number.POSITIVE_INFINITY
    : Math.round((quotaUs / periodUs) * MILLICORES_PER_VCPU);
}

/** Limits of a guest's devices in bytes per second; 0: not limited. */
export interface RateLimits {
  readonly inBytesPerS: number;
  readonly outBytesPerS: number;
}

/** What is limited and how. `movable` is false where ours could not be put back or would not stand. */
export interface DeviceRates {
  readonly limits: RateLimits;
  readonly movable: boolean;
}

const UNLIMITED: RateLimits = { inBytesPerS: 0, outBytesPerS: 0 };

/**
 * Limits common to all disks: in is read, out is write. Disks whose limits differ, or that have a limit on the total,
 * are somebody's own arrangement, which one pair of numbers could not put back: not movable.
 */
export function diskRates(domain: DomainDescription): DeviceRates {
  const hasTotal = domain.disks.some((disk) => disk.totalBytesPerS > 0);
  const limits = domain.disks.map((disk) => {
    const total = disk.totalBytesPerS;
    return { inBytesPerS: disk.readBytesPerS || total, outBytesPerS: disk.writeBytesPerS || total };
  });
  const common = commonRates(limits);
  return { limits: common.limits, movable: common.movable && !hasTotal };
}

/** Limits common to all interfaces with a tap: in is what the guest receives, libvirt's inbound. */
export function netRates(domain: DomainDescription): DeviceRates {
  const taps = domain.interfaces.filter((nic) => hasTap(nic.type));
  return commonRates(
    taps.map((nic) => ({
      inBytesPerS: nic.inboundAverage * BYTES_PER_BANDWIDTH_UNIT,
      outBytesPerS: nic.outboundAverage * BYTES_PER_BANDWIDTH_UNIT,
    })),
  );
}

/** The limits all devices share; where they differ the loosest, and not movable. */
export function commonRates(devices: readonly RateLimits[]): DeviceRates {
  const [first] = devices;
  if (first === undefined) return { limits: UNLIMITED, movable: false };
  return {
    limits: {
      inBytesPerS: loosest(devices.map((device) => device.inBytesPerS)),
      outBytesPerS: loosest(devices.map((device) => device.outBytesPerS)),
    },
    movable: devices.every(
      (device) => device.inBytesPerS === first.inBytesPerS && device.outBytesPerS === first.outBytesPerS,
    ),
  };
}

function loosest(limits: readonly number[]): number {
  return limits.includes(0) ? 0 : Math.max(...limits);
}
