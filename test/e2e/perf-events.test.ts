/**
 * Goal: perf events of a real libvirt are what the fake's are: where the host has no PMU it is said once and statistics go
 * on; what a guest is started with sees all of it, what is switched on later does not.
 * Method: the contract over a private libvirtd and TCG guests that do nothing but spin, from the first sector of their
 * disk on. The host's clocks, software events, stand for hardware events that a virtual machine seldom has.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { DomainRef } from '../../libvirt-adapter/libvirt.ts';
import { NativeLibvirt } from '../../libvirt-adapter/native/connection.ts';
import { addonUnavailableReason } from '../bench/libvirt-shim.ts';
import { perfContract } from '../contract/perf-contract.ts';
import { daemonUnavailableReason, PrivateDaemon } from './private-daemon.ts';

const unavailable = addonUnavailableReason() ?? daemonUnavailableReason();
if (unavailable !== undefined) {
  t.plan(0, `perf events are not tested on real guests here: ${unavailable}`);
  process.exit(0);
}

/** Four guests of 5 s each; a loaded machine takes longer. */
t.setTimeout(120_000);

const GUEST = 'perf-guest';
const SECTOR_BYTES = 512;
/** A busy guest has used this much after its BIOS, and does nothing but spin. */
const BOOTED_CPU_NS = 1.5e9;
const BOOT_MS_MAX = 30_000;

const daemon = new PrivateDaemon();
await daemon.start();
const libvirt = await NativeLibvirt.open(daemon.uri);
t.teardown(async () => {
  await libvirt.close();
  await daemon.remove([GUEST]);
});

const disk = join(daemon.folder, 'spin.img');
const sector = Buffer.alloc(SECTOR_BYTES);
sector.write('ebfe', 0, 'hex'); // jmp to itself
sector.write('55aa', SECTOR_BYTES - 2, 'hex');
writeFileSync(disk, sector);

function guestXml(events: readonly string[]): string {
  const perf = events.map((event) => `<event name='${event}' enabled='yes'/>`).join('');
  return `<domain type='qemu'><name>${GUEST}</name><memory unit='MiB'>64</memory><vcpu current='1'>2</vcpu>
    <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><perf>${perf}</perf>
    <devices><controller type='usb' model='none'/><memballoon model='none'/>
      <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${disk}'/><target dev='hda' bus='ide'/></disk>
    </devices></domain>`;
}

async function cpuNs(domain: DomainRef): Promise<bigint> {
  const { keys, keyIds, values } = await libvirt.allDomainStats(['cpuTotal'], { domains: [domain] });
  return values[[...keyIds].findIndex((id) => keys[id] === 'cpu.time')] ?? 0n;
}

async function until(what: string, isDone: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + BOOT_MS_MAX;
  while (!(await isDone())) {
    if (performance.now() > deadline) throw new Error(`waited ${BOOT_MS_MAX} ms for ${what}`);
    await sleep(50);
  }
}

perfContract({
  libvirt,
  async start(events) {
    const domain = await libvirt.createDomainFromXml(guestXml(events));
    await until('the guest to spin', async () => (await cpuNs(domain)) > BOOTED_CPU_NS);
    return domain;
  },
  wait: (ms) => sleep(ms),
  async restartDaemon() {
    daemon.signal('SIGKILL');
    await until('the loss to be noticed', async () => libvirt.connection.state === 'disconnected');
    await daemon.start();
    await until('the connection', async () => libvirt.connection.state === 'connected');
  },
});
