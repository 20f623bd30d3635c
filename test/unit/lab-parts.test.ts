/**
 * Goal: the parts of the lab that need no guest are right: the kernel is found in however its image is packed, the
 * initramfs is an archive that others read, the suggested configuration is one the service takes.
 * Method: images are packed here with the distribution's own tools, the archive is listed by cpio's reader in busybox.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t from 'tap';
import { cpioArchive } from '../../libvirt-adapter/lab/cpio.ts';
import { domainXml } from '../../libvirt-adapter/lab/domain.ts';
import { collectModules, extractVmlinux } from '../../libvirt-adapter/lab/kernel.ts';
import { labServiceConfig } from '../../libvirt-adapter/lab/service-config.ts';
import { LabPaths } from '../../libvirt-adapter/lab/state.ts';
import { parseConfig } from '../../orchestrator/config.ts';

const folder = mkdtempSync(join(tmpdir(), 'foreshade-lab-parts-'));
t.teardown(() => rmSync(folder, { recursive: true }));

function lacks(program: string): string | false {
  return spawnSync(program, ['--help']).error === undefined ? false : `${program} is not installed`;
}

function pack(command: readonly string[], input: Buffer): Buffer {
  const [file = '', ...args] = command;
  return execFileSync(file, args, { input });
}

/** A boot image of 4 setup sectors and a payload, as the boot protocol lays it out. */
function bzImage(payload: Buffer): Buffer {
  const setup = Buffer.alloc(5 * 512);
  setup[0x1f1] = 4;
  setup.write('HdrS', 0x202, 'latin1');
  setup.writeUInt32LE(32, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(32), payload, Buffer.alloc(100)]);
}

const vmlinux = Buffer.concat([Buffer.from('7f454c46', 'hex'), Buffer.alloc(100_000, 'kernel')]);
const length = Buffer.alloc(4);
length.writeUInt32LE(vmlinux.length);

for (const { name, command, trailer } of [
  { name: 'lz4', command: ['lz4', '-lq', '-c'], trailer: length },
  { name: 'xz', command: ['xz', '--check=crc32', '-c'], trailer: length },
  { name: 'zstd', command: ['zstd', '-qc'], trailer: length },
  { name: 'gzip', command: ['gzip', '-c'], trailer: Buffer.alloc(0) },
]) {
  t.test(`a kernel packed with ${name} is found`, { skip: lacks(name) }, async (t) => {
    const image = bzImage(Buffer.concat([pack(command, vmlinux), trailer]));
    t.ok((await extractVmlinux(image)).equals(vmlinux));
  });
}

t.test('what is no kernel is refused', async (t) => {
  await t.rejects(extractVmlinux(Buffer.alloc(4096)), { message: /no boot header/ });
  await t.rejects(extractVmlinux(bzImage(Buffer.from('unknown packing'))), { message: /packed in a way/ });
});

t.test('modules come after what they depend on, packed or not', { skip: lacks('xz') }, async (t) => {
  const tree = join(folder, 'tree');
  const module = (path: string, depends: string, xz: boolean) => {
    const file = join(tree, 'lib/modules/6.1/kernel', path);
    mkdirSync(dirname(file), { recursive: true });
    const content = Buffer.from(`\x7fELF..license=GPL\0depends=${depends}\0name=x\0`, 'latin1');
    writeFileSync(file, xz ? pack(['xz', '-c'], content) : content);
  };
  module('net/virtio_net.ko.xz', 'net-failover,virtio_ring', true);
  module('net/net_failover.ko', 'failover', false);
  module('net/failover.ko.xz', '', true);
  module('virtio/virtio_ring.ko', '', false);
  const found = await collectModules(tree, ['virtio_net', 'virtio_ring', 'built_in']);
  t.strictSame(
    found.map((entry) => entry.name),
    ['failover', 'net_failover', 'virtio_ring', 'virtio_net'],
  );
  t.ok(found.every((entry) => entry.content.includes('license=GPL')));
});

t.test('the archive is one that busybox unpacks', { skip: lacks('busybox') }, async (t) => {
  const archive = cpioArchive([
    { kind: 'folder', path: 'bin' },
    { kind: 'file', path: 'bin/a', content: Buffer.from('odd'), executable: true },
    { kind: 'link', path: 'bin/b', target: 'a' },
  ]);
  const listing = execFileSync('busybox', ['cpio', '-tv'], { input: archive, encoding: 'utf8' });
  t.match(listing, /^drwxr-xr-x .* bin$/m);
  t.match(listing, /^-rwxr-xr-x .* 3 .* bin\/a$/m);
  t.match(listing, /^lrwxrwxrwx .* bin\/b( -> a)?$/m);
});

t.test('the service takes the suggested configuration', async (t) => {
  const uri = 'qemu+unix:///system?socket=/run/x/libvirt-sock';
  const config = parseConfig(labServiceConfig(uri), 'lab');
  t.equal(config.libvirt.uri, uri);
  t.strictSame(config.host.overcommit, { cpu: 3, memory: 1, admitBy: 'promises' });
  t.strictSame(config.host.reserved, { cpuMillicores: 200, memoryMib: 1024 });
});

t.test('a state folder must leave room for a socket', async (t) => {
  t.equal(new LabPaths('/run/lab').uri, 'qemu+unix:///system?socket=/run/lab/run/libvirt-sock');
  t.throws(() => new LabPaths(`/${'x'.repeat(90)}`), { message: /absolute path of at most 84 bytes/ });
  t.throws(() => new LabPaths('lab'), { message: /absolute path/ });
  t.doesNotThrow(() => new LabPaths(`/${'x'.repeat(83)}`));
});

t.test('paths in the definition are escaped for XML and for QEMU', async (t) => {
  const guest = {
    index: 1,
    name: 'lab-1',
    uuid: '0',
    vcpus: 1,
    maxVcpus: 4,
    memoryMib: 512,
    baselineMib: 128,
    virtioMemMib: 0,
    diskMib: 1,
    icount: true,
    bootMs: 0,
  };
  const files = { vmlinux: '/a&b/vmlinux', initramfs: '/i', icountPlugin: '/a,b/icount.so' };
  const xml = domainXml(guest, files, new LabPaths('/run/lab'), undefined);
  t.match(xml, '<kernel>/a&amp;b/vmlinux</kernel>');
  t.match(xml, 'file=/a,,b/icount.so,out=/run/lab/lab-1.icount');
  t.notMatch(xml, 'virtio-mem');
  t.notMatch(xml, '<resource>');
});
