import {
  type CommonLimits,
  commonLimits,
  type DeviceLimits,
  limited,
} from '../orchestrator/core/device-limits.ts';
import { MILLICORES_PER_VCPU } from '../orchestrator/core/profile.ts';
import type { CpuTune, DomainDescription, IoTune } from './domain-xml.ts';

/** A domain's CPU shares where nobody set any: those of the older cgroup hierarchy, and of the unified one. */
export const CPU_SHARES_DEFAULT = { legacy: 1024, unified: 100 } as const;

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

/** Limits of one disk: where there is one on the total, reads and writes have it each. */
export function diskLimits(tune: IoTune): DeviceLimits {
  return limited({
    diskReadBytesPerS: tune.read_bytes_sec || tune.total_bytes_sec,
    diskWriteBytesPerS: tune.write_bytes_sec || tune.total_bytes_sec,
    diskReadOpsPerS: tune.read_iops_sec || tune.total_iops_sec,
    diskWriteOpsPerS: tune.write_iops_sec || tune.total_iops_sec,
  });
}

/** Separate limits of reads and writes cannot stand beside one on their total. */
export function hasTotalLimit(tune: IoTune): boolean {
  return tune.total_bytes_sec > 0 || tune.total_iops_sec > 0;
}

/** Limits of one interface as libvirt knows them: what the guest receives is libvirt's inbound. */
export function interfaceLimits(inboundAverage: number, outboundAverage: number): DeviceLimits {
  return limited({
    netRxBytesPerS: inboundAverage * BYTES_PER_BANDWIDTH_UNIT,
    netTxBytesPerS: outboundAverage * BYTES_PER_BANDWIDTH_UNIT,
  });
}

/**
 * Limits common to all disks. Disks whose limits differ, or that have a limit on the total, are somebody's own
 * arrangement, which one number a direction could not put back: not movable.
 */
export function commonDiskLimits({ disks }: DomainDescription): CommonLimits {
  const { limits, movable } = commonLimits(disks.map(({ ioTune }) => diskLimits(ioTune)));
  return { limits, movable: movable && !disks.some(({ ioTune }) => hasTotalLimit(ioTune)) };
}

/** Limits that libvirt put on all interfaces with a tap. */
export function commonNetLimits({ interfaces }: DomainDescription): CommonLimits {
  const taps = interfaces.filter(({ type }) => hasTap(type));
  return commonLimits(
    taps.map(({ inboundAverage, outboundAverage }) => interfaceLimits(inboundAverage, outboundAverage)),
  );
}
