// Goal: guests of Proxmox VE keep the contract that libvirt's keep, with the least privileges, and every call of it is one
// that the published schema has. Method: the common cases over a mocked node behind HTTPS, in fast time; the mock refuses and
// notes what the schema does not have, in requests and in its own answers.
import t from 'tap';
import { createProxmoxAdapter } from '../../integrations/proxmox/adapter.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import { hypervisorContract } from './hypervisor-contract.ts';
import { startMockNode } from './proxmox/mock-node.ts';

const VMID = 101;
const GUEST = '1b4e28ba-2fa1-41d2-883f-0016d3cca427';

const { mock, api, clock } = await startMockNode();
const guest = mock.addGuest(VMID, {
  cores: 4,
  vcpus: 1,
  memory: 1024,
  balloon: 512,
  shares: 0,
  numa: 1,
  hotplug: 'network,disk,usb,cpu,memory',
  agent: 'enabled=1',
  smbios1: `uuid=${GUEST}`,
  scsi0: 'local-lvm:vm-101-disk-0,iothread=1,size=32G',
  ide2: 'none,media=cdrom',
  net0: 'virtio=BC:24:11:2E:00:01,bridge=vmbr0,firewall=1',
});
guest.boot();
mock.addGuest(900, { template: 1, smbios1: `uuid=${GUEST}` });

const ports = createProxmoxAdapter(api, {
  node: mock.node,
  clock,
  sampling: { fullMs: 2_000, fastMs: 1_000, instructionStep: 0 },
  unplugIsSafe: true,
  plugToMib: 1_536,
});

hypervisorContract({
  ports,
  guest: GUEST,
  clock,
  capabilities: { vcpuUnplug: true, virtioMem: true, diskLimits: true, netLimits: true },
  memory: { base: 512 * MIB, more: 768 * MIB, most: 1_536 * MIB, ceiling: 1_536 * MIB },
  samples: { fullMs: 2_000, fastMs: 1_000, fastLacks: 'memoryBytes', vcpuDelays: false, instructions: false },
  netLimits: { netRxBytesPerS: 2_000_000, netTxBytesPerS: 2_000_000 },
  somebodyElse: {
    limitCpu: (millicores) => mock.changeConfig(VMID, { cpulimit: millicores / 1000 }),
    limitDiskReads: (bytesPerS) =>
      mock.changeConfig(VMID, {
        scsi0: `local-lvm:vm-101-disk-0,iothread=1,size=32G,mbps_rd=${bytesPerS / MIB}`,
      }),
    setMemory: (bytes) => mock.changeConfig(VMID, { balloon: bytes / MIB }),
    pause: async () => {
      guest.qmpStatus = 'paused';
    },
    resume: async () => {
      guest.qmpStatus = 'running';
    },
  },
  settle: (work) => work,
  wait: (ms) => clock.wait(ms),
  async makeBusy(forMs) {
    const idle = guest.busyMillicores;
    guest.busyMillicores = 4_000;
    clock.after(forMs, () => {
      guest.busyMillicores = idle;
    });
  },
});

t.test('the guest is left as it was found, and no call was outside the schema', async (t) => {
  t.strictSame(Object.fromEntries(guest.config), {
    name: 'vm-101',
    cores: '4',
    vcpus: '1',
    memory: '1024',
    balloon: '512',
    shares: '0',
    numa: '1',
    hotplug: 'network,disk,usb,cpu,memory',
    agent: 'enabled=1',
    smbios1: `uuid=${GUEST}`,
    scsi0: 'local-lvm:vm-101-disk-0,iothread=1,size=32G',
    ide2: 'none,media=cdrom',
    net0: 'virtio=BC:24:11:2E:00:01,bridge=vmbr0,firewall=1',
  });
  t.equal(guest.pending.size + guest.pendingDeletes.size, 0, 'nothing waits for a reboot');
  t.strictSame(mock.violations, []);
});
