// Goal: the fake hypervisor keeps the contract that the real one keeps, so that what passes on it passes there.
// Method: the common cases over a fake in manual time; the same run over a real guest in test/e2e/real-guest.test.ts.
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { FakeReadings } from '../../libvirt-adapter/fake/fake-readings.ts';
import { ManualClock, settle } from '../../libvirt-adapter/fake/manual-clock.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import { hypervisorContract } from './hypervisor-contract.ts';
import { libvirtHarness } from './libvirt-harness.ts';

const MIB_IN_KIB = 1024;
const IDLE = { cpuMillicores: 20, memoryKib: 40 * MIB_IN_KIB };

const clock = new ManualClock();
const libvirt = new FakeLibvirt({ clock });
const { uuid } = libvirt.addGuest({
  name: 'contract',
  type: 'qemu',
  vcpusMax: 4,
  vcpusPlugged: 1,
  bootMemoryKib: 512 * MIB_IN_KIB,
  balloonKib: 128 * MIB_IN_KIB,
  virtioMemKib: [256 * MIB_IN_KIB],
  interfaces: ['ethernet'],
  demand: () => IDLE,
});

hypervisorContract(
  libvirtHarness(libvirt, {
    readings: new FakeReadings(libvirt),
    guest: uuid,
    memoryBase: 128 * MIB,
    clock,
    settle: (work) => settle(clock, work),
    wait: (ms) => clock.advance(ms),
    async makeBusy(forMs) {
      libvirt.setDemand(uuid, (_, held) => ({ ...IDLE, cpuMillicores: held.vcpusOnline * 1000 }));
      clock.after(forMs, () => libvirt.setDemand(uuid, () => IDLE));
    },
  }),
);
