import type { GuestId } from '../../orchestrator/core/guest.ts';
import type { GuestReadings, HostReading, HostReadings, PressureReading } from '../host-readings.ts';
import type { FakeLibvirt } from './fake-libvirt.ts';

/** The kernel's view of the fake hypervisor's guests. */
export class FakeReadings implements HostReadings {
  readonly #libvirt: FakeLibvirt;

  constructor(libvirt: FakeLibvirt) {
    this.#libvirt = libvirt;
  }

  async open(guest: GuestId): Promise<GuestReadings | undefined> {
    const domain = this.#libvirt.find(guest);
    if (domain === undefined || !domain.isActive) return undefined;
    return new FakeGuestReadings(this.#libvirt, guest, domain.id);
  }
}

/** Counters of one run of a guest: a restart has another process. */
class FakeGuestReadings implements GuestReadings {
  readonly #libvirt: FakeLibvirt;
  readonly #guest: GuestId;
  readonly #runId: number;

  constructor(libvirt: FakeLibvirt, guest: GuestId, runId: number) {
    this.#libvirt = libvirt;
    this.#guest = guest;
    this.#runId = runId;
  }

  read(): HostReading | undefined {
    const domain = this.#libvirt.find(this.#guest);
    if (domain === undefined || domain.id !== this.#runId) return undefined;
    return {
      cpuNs: domain.cpuNs,
      vcpus: domain.vcpus.map((vcpu) =>
        vcpu.plugged ? { runNs: vcpu.runNs, delayNs: vcpu.delayNs } : undefined,
      ),
    };
  }

  pressure(): PressureReading | undefined {
    const reading = this.read();
    if (reading === undefined) return undefined;
    const delayNs = Math.max(...reading.vcpus.map((vcpu) => vcpu?.delayNs ?? 0));
    return { cpuSomeUs: delayNs / 1000 };
  }

  close(): void {}
}
