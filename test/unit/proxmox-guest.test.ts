// Goal: what a guest's configuration on Proxmox VE says is read as Proxmox VE reads it, and what its notes ask for as it is meant.
// Method: configurations written here; sizes of DIMMs counted by hand from the rule.
import t from 'tap';
import { readDefinition } from '../../integrations/proxmox/definition.ts';
import { cpuMillicoresOf, isBalloonFree, readGuestConfig } from '../../integrations/proxmox/guest-config.ts';
import { plugSizeMib } from '../../integrations/proxmox/plug-sizes.ts';
import { PropertyString } from '../../integrations/proxmox/property-string.ts';
import { MIB } from '../../orchestrator/core/profile.ts';

const UUID = '1b4e28ba-2fa1-41d2-883f-0016d3cca427';
const WORD = { unplugIsSafe: false, plugToMib: 0 };

t.test('what is absent is what Proxmox VE takes then', async (t) => {
  const bare = readGuestConfig({});
  t.match(bare, {
    vcpus: 1,
    vcpusMax: 1,
    memoryMib: 512,
    balloonMib: 512,
    hasBalloon: true,
    shares: 1000,
    cpuUnits: 100,
  });
  t.match(bare, { canPlugVcpus: false, canPlugMemory: false, hasAgent: false, isTemplate: false });
  t.equal(cpuMillicoresOf(bare), 1_000);
  t.equal(isBalloonFree(bare), true);
});

t.test('forms in which the same is written', async (t) => {
  for (const [fields, expected] of [
    [{ memory: '2048' }, { memoryMib: 2048, balloonMib: 2048 }],
    [{ memory: 2048 }, { memoryMib: 2048 }],
    [
      { memory: 'current=4096', balloon: 1024 },
      { memoryMib: 4096, balloonMib: 1024 },
    ],
    [{ balloon: 0 }, { hasBalloon: false, balloonMib: 512 }],
    [
      { cores: '4', sockets: 2, vcpus: '3' },
      { vcpusMax: 8, vcpus: 3 },
    ],
    [{ cores: 2, vcpus: 9 }, { vcpus: 2 }],
    [{ cpulimit: '1.5' }, { cpuLimit: 1.5 }],
    [{ cpulimit: 0 }, { cpuLimit: undefined }],
    [{ agent: '1,fstrim_cloned_disks=1' }, { hasAgent: true }],
    [{ agent: 'enabled=1' }, { hasAgent: true }],
    [{ agent: 'enabled=0' }, { hasAgent: false }],
    [{ hotplug: '1' }, { canPlugVcpus: false }],
    [
      { hotplug: 'cpu,memory', numa: 1 },
      { canPlugVcpus: true, canPlugMemory: true },
    ],
    [{ hotplug: 'cpu,memory', numa: 1, numa0: 'cpus=0' }, { canPlugMemory: false }],
    [{ hotplug: 'memory' }, { canPlugMemory: false }],
    [{ smbios1: `base64=1,uuid=${UUID.toUpperCase()}` }, { uuid: UUID }],
    [{ smbios1: 'uuid=none' }, { uuid: undefined }],
  ] as const) {
    t.match(readGuestConfig(fields), expected, JSON.stringify(fields));
  }
  t.equal(cpuMillicoresOf(readGuestConfig({ cores: 4, cpulimit: '2.5', vcpus: 2 })), 2_000);
  for (const [fields, isFree] of [
    [{ memory: 1024, balloon: 512 }, false],
    [{ memory: 1024, balloon: 512, shares: 0 }, true],
    [{ memory: 1024, balloon: 1024 }, true],
    [{ memory: 1024, balloon: 0 }, false],
  ] as const) {
    t.equal(isBalloonFree(readGuestConfig(fields)), isFree, JSON.stringify(fields));
  }
});

t.test('disks and interfaces have their limits, and drives of CDs are none', async (t) => {
  const { disks, nics } = readGuestConfig({
    scsi0: 'local-lvm:vm-1-disk-0,mbps_rd=1.9073486328125,iops_wr=200,size=32G',
    virtio1: 'local:1/x.qcow2,mbps=5',
    ide2: 'local:iso/x.iso,media=cdrom',
    sata0: 'none',
    scsihw: 'virtio-scsi-single',
    net0: 'virtio=BC:24:11:2E:00:01,bridge=vmbr0,rate=10',
    net1: 'e1000=BC:24:11:2E:00:02',
  });
  t.match(disks, [
    { key: 'scsi0', limits: { diskReadBytesPerS: 2_000_000, diskWriteOpsPerS: 200 }, isFree: true },
    { key: 'virtio1', limits: {}, isFree: false },
  ]);
  t.equal(disks.length, 2);
  t.strictSame(
    nics.map(({ limits }) => limits),
    [{ netRxBytesPerS: 10 * MIB, netTxBytesPerS: 10 * MIB }, {}],
  );
});

t.test('a property keeps what is not its own', async (t) => {
  const scsi = new PropertyString('local-lvm:vm-1-disk-0,iothread=1,mbps_rd=3,size=32G');
  t.equal(
    `${scsi.with({ mbps_rd: undefined, mbps_wr: 2.5 })}`,
    'local-lvm:vm-1-disk-0,iothread=1,size=32G,mbps_wr=2.5',
  );
  t.equal(`${scsi.with({})}`, `${scsi}`);
  t.equal(scsi.bare, 'local-lvm:vm-1-disk-0');
  t.equal(new PropertyString('virtio=AA,rate=1').bare, undefined);
});

t.test('memory comes in whole DIMMs', async (t) => {
  for (const [wanted, most, expected] of [
    [900, 4096, 1024],
    [1025, 4096, 1536],
    [1536, 4096, 1536],
    [4000, 2048, 2048],
    [9999, 1500, 1024],
    // 32 of 512 MiB make 17,408 with the static part; then they have 1,024.
    [17_409, 99_999, 18_432],
  ] as const) {
    t.equal(plugSizeMib(wanted, most), expected, `${wanted} of at most ${most}`);
  }
});

const FILE = `vmid: 104
#The shop's web server.
#foreshade%3A workload=render-node tenant=studio priority=high policy=require ttl_s=3600
#foreshade: number.frames=240 category.scene="dark forest" size_bytes.assets=734003200
agent: 1
balloon: 512
cores: 4
hotplug: network,disk,usb,cpu
memory: 2048
name: web-1
shares: 0
smbios1: uuid=${UUID}
vcpus: 1

[before-upgrade]
#foreshade: workload=old
cores: 1
vcpus: 1
`;

t.test('a definition is the file up to its snapshots, and its notes ask', async (t) => {
  const { facts, request } = readDefinition(FILE, WORD);
  t.match(facts, {
    id: UUID,
    name: 'web-1',
    state: 'shut-off',
    entitlement: { cpuMillicores: 1_000, vcpuCount: 1, memoryBytes: 512 * MIB },
    ceiling: { cpuMillicores: 4_000, vcpuCount: 4, memoryBytes: 2048 * MIB },
    cpuLimited: false,
  });
  t.strictSame(request, {
    policy: 'require',
    tenant: 'studio',
    workload: 'render-node',
    priority: 'high',
    params: {
      frames: { kind: 'number', value: 240 },
      scene: { kind: 'category', value: 'dark forest' },
      assets: { kind: 'size', value: 734003200 },
    },
    ttlMs: 3_600_000,
    problems: [],
  });
  t.equal(readDefinition(FILE.replaceAll('foreshade', 'somebody'), WORD).request, undefined);
  t.equal(readDefinition('vmid: 104\ncores: 1', WORD).facts.name, 'VM 104');
  t.throws(() => readDefinition('cores: 1', WORD), { code: 'INVALID_REQUEST' });
  t.throws(() => readDefinition('vmid: 4', WORD), { code: 'INVALID_REQUEST' });
});

t.test('what is not quite right is said', async (t) => {
  const problems = (words: string) =>
    readDefinition(`vmid: 104\n#foreshade: ${words}`, WORD).request?.problems;
  t.strictSame(problems('workload=a'), []);
  t.strictSame(problems('render'), ['"render" is no NAME=VALUE']);
  t.strictSame(problems('workload=a workload=b'), ['"workload" is given twice']);
  t.strictSame(problems('worklod=a'), ['request has no attribute "worklod"']);
  t.strictSame(problems('number.n=1 number.n=2'), ['param "n" is given twice']);
  t.strictSame(problems('number.n=many'), ['number of param "n" is no number: "many"']);
  t.strictSame(problems('number.__proto__=1'), ['a param has a reserved name']);
});
