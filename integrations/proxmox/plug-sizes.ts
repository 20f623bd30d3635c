/** Memory that is not made of DIMMs, MiB, where memory can be plugged. */
const STATIC_MIB = 1024;
/** DIMMs begin with this size, which doubles after each 32 of them. */
const DIMM_MIB = 512;
const DIMMS_OF_A_SIZE = 32;
/** Slots for DIMMs of a guest, but the one that Proxmox VE does not use. */
const DIMMS_MAX = 255;

/**
 * Smallest size of a guest made of whole DIMMs that holds `wantedMib`, or the largest up to `mostMib`.
 * Source: Proxmox VE, qemu-server, PVE::QemuServer::Memory.
 */
export function plugSizeMib(wantedMib: number, mostMib: number): number {
  let sizeMib = STATIC_MIB;
  for (let dimm = 0; dimm < DIMMS_MAX && sizeMib < wantedMib; dimm += 1) {
    const nextMib = sizeMib + DIMM_MIB * 2 ** Math.floor(dimm / DIMMS_OF_A_SIZE);
    if (nextMib > mostMib) break;
    sizeMib = nextMib;
  }
  return sizeMib;
}
