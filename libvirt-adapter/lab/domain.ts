import { SINK_PORT } from './daemon.ts';
import type { GuestState, LabPaths } from './state.ts';

/**
 * QEMU's translation cache. It is cut into regions, and a vCPU that is plugged in needs a free one at once: where all
 * are taken, QEMU 7.2 aborts (tcg_region_initial_alloc__locked). A lab guest fills some 30 MiB in its first minutes,
 * so a small cache ends in a crash at a later plug. What is not used costs address space only.
 */
const TB_CACHE_MIB = 256;

/**
 * Serial number by which Linux takes the machine for VMware's. Kernels since 2025, Debian 13's among them, let vCPUs be
 * plugged in only where they know the hypervisor (acpi_is_processor_usable), and they do not know TCG. They ask the CPU
 * first, so it must not say that it is emulated; then this number and the VMware port, which QEMU's pc has.
 */
const KNOWN_HYPERVISOR_SERIAL = 'VMware-lab';

/** What a guest's definition needs beside its sizes. */
export interface DomainFiles {
  readonly vmlinux: string;
  readonly initramfs: string;
  /** The instruction-count plugin, or undefined to start the guest without it. */
  readonly icountPlugin: string | undefined;
}

/** Name of guest `index`'s tap; at most 15 bytes, and private to the lab's network namespace. */
export function tapName(index: number): string {
  return `lab-tap${index}`;
}

/** Guest `index`'s own network: host and guest address of a /24. `index` is 1 to 250. */
export function addresses(index: number): { host: string; guest: string; netmask: string } {
  return { host: `10.77.${index}.1`, guest: `10.77.${index}.2`, netmask: '255.255.255.0' };
}

function xmlText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll("'", '&apos;');
}

function kernelArguments(index: number): string {
  const { host, guest, netmask } = addresses(index);
  return [
    'console=ttyS0 quiet panic=-1',
    'mitigations=off tsc=reliable no_timer_check audit=0 init_on_alloc=0', // each saves time under TCG
    'swiotlb=noforce', // saves 64 MiB: no device of the guest bounces its DMA
    `lab.address=${guest} lab.netmask=${netmask} lab.sink=${host}:${SINK_PORT}`,
  ].join(' ');
}

function virtioMem(guest: GuestState): string {
  if (guest.virtioMemMib === 0) return '';
  return `<memory model='virtio-mem'><target><size unit='MiB'>${guest.virtioMemMib}</size><node>0</node>
      <block unit='MiB'>2</block><requested unit='MiB'>0</requested></target></memory>`;
}

function plugin(guest: GuestState, files: DomainFiles, paths: LabPaths): string {
  if (files.icountPlugin === undefined) return '';
  // QEMU ends an option's value at a comma and reads two as one.
  const [file, out] = [files.icountPlugin, paths.icount(guest.name)].map((path) =>
    path.replaceAll(',', ',,'),
  );
  const value = [`file=${file}`, `out=${out}`, guest.icountArguments ?? []].flat().join(',');
  return `<qemu:commandline><qemu:arg value='-plugin'/><qemu:arg value='${xmlText(value)}'/></qemu:commandline>`;
}

/**
 * libvirt's definition of a lab guest: machine type pc under TCG, kernel and initramfs given directly, balloon,
 * virtio-mem, one disk, one NIC on a tap of the lab's, the agent's channel and the runner's.
 * @param partition cgroup partition, or undefined where cgroups cannot be used
 */
export function domainXml(
  guest: GuestState,
  files: DomainFiles,
  paths: LabPaths,
  partition: string | undefined,
): string {
  const mac = `52:54:00:4c:41:${guest.index.toString(16).padStart(2, '0')}`;
  return `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>${guest.name}</name>
  <uuid>${guest.uuid}</uuid>
  ${guest.metadata === undefined ? '' : `<metadata>${guest.metadata}</metadata>`}
  <maxMemory slots='4' unit='MiB'>${guest.memoryMib + guest.virtioMemMib + 1024}</maxMemory>
  <memory unit='MiB'>${guest.memoryMib + guest.virtioMemMib}</memory>
  <currentMemory unit='MiB'>${guest.baselineMib}</currentMemory>
  <vcpu placement='static' current='${guest.vcpus}'>${guest.maxVcpus}</vcpu>
  ${partition === undefined ? '' : `<resource><partition>/${partition}</partition></resource>`}
  <os><type arch='x86_64' machine='pc'>hvm</type>
    <kernel>${xmlText(files.vmlinux)}</kernel><initrd>${xmlText(files.initramfs)}</initrd>
    <cmdline>${kernelArguments(guest.index)}</cmdline><smbios mode='sysinfo'/></os>
  <sysinfo type='smbios'><system><entry name='serial'>${KNOWN_HYPERVISOR_SERIAL}</entry></system></sysinfo>
  <features><acpi/><apic/><vmport state='on'/><tcg><tb-cache unit='MiB'>${TB_CACHE_MIB}</tb-cache></tcg></features>
  <cpu mode='custom' match='exact'><model fallback='allow'>qemu64</model><feature policy='disable' name='hypervisor'/>
    <feature policy='require' name='aes'/><feature policy='require' name='pclmuldq'/>
    <numa><cell id='0' cpus='0-${guest.maxVcpus - 1}' memory='${guest.memoryMib}' unit='MiB'/></numa></cpu>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='${xmlText(paths.console(guest.name))}'/><target port='0'/></serial>
    <channel type='unix'><source mode='bind' path='${xmlText(paths.agent(guest.name))}'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <channel type='unix'><source mode='bind' path='${xmlText(paths.runner(guest.name))}'/>
      <target type='virtio' name='org.foreshade.runner'/></channel>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${xmlText(paths.disk(guest.name))}'/>
      <target dev='vda' bus='virtio'/></disk>
    <interface type='ethernet'><mac address='${mac}'/><target dev='${tapName(guest.index)}' managed='no'/>
      <model type='virtio'/></interface>
    <memballoon model='virtio'><stats period='1'/></memballoon>
    ${virtioMem(guest)}
  </devices>
  ${plugin(guest, files, paths)}
</domain>
`;
}
