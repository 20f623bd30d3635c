import type { DomainDescription } from './domain-xml.ts';
import type { DomainRef, Libvirt } from './libvirt.ts';

/**
 * Memory a running guest holds now: the balloon's actual size, asked of QEMU, and what virtio-mem has plugged. The size
 * in the domain's XML and statistics follows QEMU's event, which is held back to one a second.
 */
export async function heldMemoryKib(
  libvirt: Libvirt,
  ref: DomainRef,
  domain: DomainDescription,
): Promise<number> {
  const { actualBalloonKib } = domain.hasBalloon ? await libvirt.memoryStats(ref) : {};
  if (actualBalloonKib === undefined) return domain.currentMemoryKib;
  return actualBalloonKib + domain.virtioMem.reduce((sum, device) => sum + device.currentKib, 0);
}
