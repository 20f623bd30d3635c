import { createLibvirtAdapter } from '../../libvirt-adapter/adapter.ts';
import type { HostReadings, OpenInstructionCounter } from '../../libvirt-adapter/host-readings.ts';
import type { Libvirt } from '../../libvirt-adapter/libvirt.ts';
import type { GuestId } from '../../orchestrator/core/guest.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import type { TimerClock } from '../../orchestrator/core/timer-clock.ts';
import type { Harness } from './hypervisor-contract.ts';

/** What sets one libvirt apart from another. */
export interface LibvirtHarnessOptions extends Pick<Harness, 'guest' | 'settle' | 'wait' | 'makeBusy'> {
  readonly readings: HostReadings;
  readonly clock: TimerClock;
  readonly openCounter?: OpenInstructionCounter;
  /** Where the balloon stands, bytes. */
  readonly memoryBase: number;
}

const LIVE = { live: true };

/**
 * The contract's harness over libvirt. The guest is of a kind whose vCPUs must not be unplugged, and has a balloon of up to
 * 512 MiB, 256 MiB of virtio-mem with nothing plugged, and the disk `vda`.
 */
export function libvirtHarness(
  libvirt: Libvirt,
  { readings, openCounter, memoryBase, ...rest }: LibvirtHarnessOptions,
): Harness {
  const ports = createLibvirtAdapter(libvirt, readings, {
    clock: rest.clock,
    ...(openCounter && { openCounter }),
  });
  return {
    ...rest,
    ports,
    capabilities: { vcpuUnplug: false, virtioMem: true },
    memory: { base: memoryBase, more: 320 * MIB, most: (512 + 128) * MIB, ceiling: 768 * MIB },
    samples: {
      fullMs: 1_000,
      fastMs: 100,
      fastLacks: 'memoryBytes',
      vcpuDelays: true,
      instructions: openCounter !== undefined,
    },
    netLimits: { netRxBytesPerS: 2_000_000, netTxBytesPerS: 1_000_000 },
    somebodyElse: somebodyElse(libvirt, rest.guest),
  };
}

function somebodyElse(libvirt: Libvirt, guest: GuestId): Harness['somebodyElse'] {
  const ref = { uuid: guest, name: '', id: -1 };
  return {
    limitCpu: (millicores) =>
      libvirt.setSchedulerParameters(ref, { global_quota: BigInt(millicores * 100) }, LIVE),
    limitDiskReads: (bytesPerS) =>
      libvirt.setBlockIoTune(ref, 'vda', { read_bytes_sec: BigInt(bytesPerS) }, LIVE),
    setMemory: (bytes) => libvirt.setMemory(ref, BigInt(bytes / 1024), LIVE),
    pause: () => libvirt.suspendDomain(ref),
    resume: () => libvirt.resumeDomain(ref),
  };
}
