import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import type { Libvirt } from './libvirt.ts';
import { RateLimitActuator } from './rate-limit-actuator.ts';

const LIVE = { live: true } as const;

/** Limits reads and writes of every data disk. A disk with somebody's limit on the total is left alone. */
export function createDiskActuator(libvirt: Libvirt, catalog: DomainCatalog): RateLimitActuator {
  return new RateLimitActuator(
    {
      resource: 'disk',
      inField: 'diskReadBytesPerS',
      outField: 'diskWriteBytesPerS',
      unitBytes: 1,
      select({ disks }, guest) {
        if (disks.length === 0) throw new AllocatorError('NOT_SUPPORTED', 'the guest has no disk', { guest });
        return disks.map((disk) => disk.target);
      },
      async get(ref, device) {
        const tune = await libvirt.getBlockIoTune(ref, device, LIVE);
        const total = Number(tune.total_bytes_sec ?? 0);
        return {
          inBytesPerS: Number(tune.read_bytes_sec ?? 0) || total,
          outBytesPerS: Number(tune.write_bytes_sec ?? 0) || total,
        };
      },
      async set(ref, device, limits) {
        const tune = await libvirt.getBlockIoTune(ref, device, LIVE);
        if (Number(tune.total_bytes_sec ?? 0) > 0) {
          throw new AllocatorError(
            'NOT_SUPPORTED',
            'the disk has a limit on its total rate; separate limits cannot stand beside it',
            { guest: ref.uuid, device },
          );
        }
        const parameters = {
          read_bytes_sec: BigInt(limits.inBytesPerS),
          write_bytes_sec: BigInt(limits.outBytesPerS),
        };
        await libvirt.setBlockIoTune(ref, device, parameters, LIVE);
      },
    },
    catalog,
  );
}
