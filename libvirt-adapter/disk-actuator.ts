import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import { type IoTune, ioTuneOf } from './domain-xml.ts';
import type { DomainRef, Libvirt } from './libvirt.ts';
import { diskLimits, hasTotalLimit } from './limits.ts';
import { RateLimitActuator } from './rate-limit-actuator.ts';

const LIVE = { live: true } as const;

/**
 * Limits reads and writes of every data disk, by bytes and by operations. A disk with somebody's limit on a total is
 * left alone.
 */
export function createDiskActuator(libvirt: Libvirt, catalog: DomainCatalog): RateLimitActuator {
  const ioTune = async (ref: DomainRef, device: string): Promise<IoTune> => {
    const parameters = await libvirt.getBlockIoTune(ref, device, LIVE);
    return ioTuneOf((name) => Number(parameters[name] ?? 0));
  };
  return new RateLimitActuator(
    {
      resource: 'disk',
      fields: ['diskReadBytesPerS', 'diskWriteBytesPerS', 'diskReadOpsPerS', 'diskWriteOpsPerS'],
      unit: 1,
      select({ disks }, guest) {
        if (disks.length === 0) throw new AllocatorError('NOT_SUPPORTED', 'the guest has no disk', { guest });
        return disks.map((disk) => disk.target);
      },
      get: async (ref, device) => diskLimits(await ioTune(ref, device)),
      async set(ref, device, limits) {
        if (hasTotalLimit(await ioTune(ref, device))) {
          throw new AllocatorError(
            'NOT_SUPPORTED',
            'the disk has a limit on its total rate; separate limits cannot stand beside it',
            { guest: ref.uuid, device },
          );
        }
        const parameters = {
          read_bytes_sec: BigInt(limits.diskReadBytesPerS ?? 0),
          write_bytes_sec: BigInt(limits.diskWriteBytesPerS ?? 0),
          read_iops_sec: BigInt(limits.diskReadOpsPerS ?? 0),
          write_iops_sec: BigInt(limits.diskWriteOpsPerS ?? 0),
        };
        await libvirt.setBlockIoTune(ref, device, parameters, LIVE);
      },
    },
    catalog,
  );
}
