import { parseXml, writeXml, type XmlElement } from './xml.ts';

/** Limits of a disk by their names in libvirt, in bytes or operations per second; 0: none. */
export const IO_TUNE_NAMES = [
  'total_bytes_sec',
  'read_bytes_sec',
  'write_bytes_sec',
  'total_iops_sec',
  'read_iops_sec',
  'write_iops_sec',
] as const;
export type IoTune = Readonly<Record<(typeof IO_TUNE_NAMES)[number], number>>;

export interface DiskDescription {
  /** Name by which libvirt tunes it, as `vda`. */
  readonly target: string;
  readonly ioTune: IoTune;
}

export interface InterfaceDescription {
  /** libvirt's interface type: `user` and `vhostuser` have no tap to shape. */
  readonly type: string;
  readonly mac: string;
  /** Host side device, as `vnet0`; absent when the domain is off or has none. */
  readonly target: string | undefined;
  /** libvirt's kilobytes (1,000 bytes) per second; 0: not limited. */
  readonly inboundAverage: number;
  readonly outboundAverage: number;
}

export interface VirtioMemDescription {
  readonly alias: string;
  readonly sizeKib: number;
  readonly blockKib: number;
  readonly requestedKib: number;
  readonly currentKib: number;
  readonly element: XmlElement;
}

/** Quotas in microseconds, of which a negative or absent one is no limit. */
export interface CpuTune {
  /** In the unit of the host's cgroups; absent: the kernel's default. */
  readonly shares?: number;
  readonly globalQuotaUs: number;
  readonly globalPeriodUs: number;
  readonly vcpuQuotaUs: number;
  readonly vcpuPeriodUs: number;
}

/** What Foreshade needs of a domain's definition. Settings are those of the moment it was written. */
export interface DomainDescription {
  readonly uuid: string;
  readonly name: string;
  /** `qemu` is emulation (TCG), `kvm` hardware virtualisation. */
  readonly type: string;
  readonly vcpusMax: number;
  readonly vcpusPlugged: number;
  /** All memory: boot memory and the full size of each memory device. */
  readonly memoryKib: number;
  /** Balloon's actual size and what virtio-mem has plugged. */
  readonly currentMemoryKib: number;
  readonly cpuTune: CpuTune;
  /** Disks that carry data; CD-ROM and floppy drives are left out. */
  readonly disks: readonly DiskDescription[];
  readonly interfaces: readonly InterfaceDescription[];
  readonly hasBalloon: boolean;
  readonly virtioMem: readonly VirtioMemDescription[];
  readonly agent: 'absent' | 'disconnected' | 'connected';
  /** Arguments handed to QEMU past libvirt. */
  readonly qemuArguments: readonly string[];
}

/** The XML lacks what every domain has, or states a size that is none. */
export class DomainXmlError extends Error {
  override readonly name = 'DomainXmlError';
}

/** Default period of the CFS quota, us; libvirt reports it even where no quota is in force. */
export const PERIOD_US_DEFAULT = 100_000;

const AGENT_CHANNEL = 'org.qemu.guest_agent.0';

/** KiB per unit of libvirt's scaled integers. Source: libvirt, "Domain XML format", Memory Allocation. */
const KIB_PER_UNIT: Readonly<Record<string, number>> = {
  b: 1 / 1024,
  bytes: 1 / 1024,
  KB: 1000 / 1024,
  k: 1,
  KiB: 1,
  MB: 1e6 / 1024,
  M: 1024,
  MiB: 1024,
  GB: 1e9 / 1024,
  G: 1024 ** 2,
  GiB: 1024 ** 2,
  TB: 1e12 / 1024,
  T: 1024 ** 3,
  TiB: 1024 ** 3,
};

/**
 * Read a domain's XML.
 * @throws {XmlError} when it is not well formed
 * @throws {DomainXmlError} when it is well formed and no domain
 */
export function readDomainXml(source: string): DomainDescription {
  return describeDomain(parseXml(source));
}

/** As `readDomainXml`, of XML that was parsed. @throws {DomainXmlError} */
export function describeDomain(root: XmlElement): DomainDescription {
  if (root.name !== 'domain') throw new DomainXmlError(`root element is <${root.name}>, not <domain>`);
  const devices = child(root, 'devices');
  const vcpu = child(root, 'vcpu');
  const vcpusMax = vcpu ? whole(vcpu.text, 'vcpu') : 1;
  const memoryKib = sizeKib(child(root, 'memory'), 'memory');
  const current = child(root, 'currentMemory');
  return {
    uuid: textOf(root, 'uuid').toLowerCase(),
    name: textOf(root, 'name'),
    type: root.attributes.type ?? '',
    vcpusMax,
    vcpusPlugged: vcpu?.attributes.current ? whole(vcpu.attributes.current, 'vcpu current') : vcpusMax,
    memoryKib,
    currentMemoryKib: current ? sizeKib(current, 'currentMemory') : memoryKib,
    cpuTune: readCpuTune(child(root, 'cputune')),
    disks: all(devices, 'disk').flatMap(readDisk),
    interfaces: all(devices, 'interface').map(readInterface),
    hasBalloon: (child(devices, 'memballoon')?.attributes.model ?? 'none') !== 'none',
    virtioMem: all(devices, 'memory')
      .filter((element) => element.attributes.model === 'virtio-mem')
      .map(readVirtioMem),
    agent: readAgent(devices),
    qemuArguments: all(child(root, 'qemu:commandline'), 'qemu:arg').map((a) => a.attributes.value ?? ''),
  };
}

/** Most that the balloon can give, KiB: all memory without the virtio-mem devices. */
export function balloonMaxKib(domain: DomainDescription): number {
  return domain.memoryKib - domain.virtioMem.reduce((sum, device) => sum + device.sizeKib, 0);
}

/** XML of a virtio-mem device with another requested size; all else as it was. */
export function virtioMemXml(device: VirtioMemDescription, requestedKib: number): string {
  const requested: XmlElement = {
    name: 'requested',
    attributes: { unit: 'KiB' },
    children: [],
    text: `${requestedKib}`,
  };
  return writeXml(
    mapChild(device.element, 'target', (target) => mapChild(target, 'requested', () => requested)),
  );
}

/** File of the instruction counter that a QEMU plugin writes, from `-plugin PATH,...,out=FILE`. */
export function instructionCounterFile(domain: DomainDescription): string | undefined {
  const { qemuArguments } = domain;
  for (const [i, argument] of qemuArguments.entries()) {
    if (argument !== '-plugin') continue;
    const out = /(?:^|,)out=((?:[^,]|,,)+)/.exec(qemuArguments[i + 1] ?? '')?.[1];
    if (out !== undefined) return out.replaceAll(',,', ','); // QEMU reads two commas as one
  }
  return undefined;
}

function mapChild(element: XmlElement, name: string, map: (child: XmlElement) => XmlElement): XmlElement {
  return {
    ...element,
    children: element.children.map((inner) => (inner.name === name ? map(inner) : inner)),
  };
}

function readCpuTune(element: XmlElement | undefined): CpuTune {
  const shares = optionalWhole(element, 'shares', 0);
  return {
    ...(shares > 0 && { shares }),
    globalQuotaUs: optionalWhole(element, 'global_quota', -1),
    globalPeriodUs: optionalWhole(element, 'global_period', PERIOD_US_DEFAULT),
    vcpuQuotaUs: optionalWhole(element, 'quota', -1),
    vcpuPeriodUs: optionalWhole(element, 'period', PERIOD_US_DEFAULT),
  };
}

function readDisk(element: XmlElement): DiskDescription[] {
  const device = element.attributes.device ?? 'disk';
  const target = child(element, 'target')?.attributes.dev;
  if ((device !== 'disk' && device !== 'lun') || target === undefined) return [];
  const tune = child(element, 'iotune');
  return [{ target, ioTune: ioTuneOf((name) => optionalWhole(tune, name, 0)) }];
}

/** A disk's limits, each asked for by its name. */
export function ioTuneOf(limit: (name: (typeof IO_TUNE_NAMES)[number]) => number): IoTune {
  return Object.fromEntries(IO_TUNE_NAMES.map((name) => [name, limit(name)])) as unknown as IoTune;
}

function readInterface(element: XmlElement): InterfaceDescription {
  const bandwidth = child(element, 'bandwidth');
  const average = (direction: string) => {
    const value = child(bandwidth, direction)?.attributes.average;
    return value === undefined ? 0 : whole(value, `${direction} average`);
  };
  return {
    type: element.attributes.type ?? '',
    mac: child(element, 'mac')?.attributes.address ?? '',
    target: child(element, 'target')?.attributes.dev,
    inboundAverage: average('inbound'),
    outboundAverage: average('outbound'),
  };
}

function readVirtioMem(element: XmlElement): VirtioMemDescription {
  const target = child(element, 'target');
  const current = child(target, 'current');
  return {
    alias: child(element, 'alias')?.attributes.name ?? '',
    sizeKib: sizeKib(child(target, 'size'), 'virtio-mem size'),
    blockKib: sizeKib(child(target, 'block'), 'virtio-mem block'),
    requestedKib: sizeKib(child(target, 'requested'), 'virtio-mem requested'),
    currentKib: current ? sizeKib(current, 'virtio-mem current') : 0,
    element,
  };
}

function readAgent(devices: XmlElement | undefined): DomainDescription['agent'] {
  const target = all(devices, 'channel')
    .map((channel) => child(channel, 'target'))
    .find((candidate) => candidate?.attributes.name === AGENT_CHANNEL);
  if (target === undefined) return 'absent';
  return target.attributes.state === 'connected' ? 'connected' : 'disconnected';
}

function child(element: XmlElement | undefined, name: string): XmlElement | undefined {
  return element?.children.find((candidate) => candidate.name === name);
}

function all(element: XmlElement | undefined, name: string): XmlElement[] {
  return element?.children.filter((candidate) => candidate.name === name) ?? [];
}

function textOf(element: XmlElement, name: string): string {
  const text = child(element, name)?.text.trim() ?? '';
  if (text === '') throw new DomainXmlError(`<${name}> is missing or empty`);
  return text;
}

function sizeKib(element: XmlElement | undefined, name: string): number {
  if (element === undefined) throw new DomainXmlError(`<${name}> is missing`);
  const unit = element.attributes.unit ?? 'KiB';
  const scale = Object.hasOwn(KIB_PER_UNIT, unit) ? KIB_PER_UNIT[unit] : undefined;
  if (scale === undefined) throw new DomainXmlError(`<${name}> has the unknown unit "${unit}"`);
  return Math.round(whole(element.text, name) * scale);
}

function optionalWhole(element: XmlElement | undefined, name: string, absent: number): number {
  const found = child(element, name);
  return found === undefined ? absent : whole(found.text, name);
}

function whole(text: string, name: string): number {
  const trimmed = text.trim();
  const value = /^-?\d{1,20}$/.test(trimmed) ? Number(trimmed) : Number.NaN;
  if (Number.isNaN(value))
    throw new DomainXmlError(`<${name}> must be a whole number, not "${trimmed.slice(0, 40)}"`);
  return value;
}
