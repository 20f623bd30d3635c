import type { DeviceLimits } from '../../orchestrator/core/device-limits.ts';
import { limited } from '../../orchestrator/core/device-limits.ts';
import type { GuestId } from '../../orchestrator/core/guest.ts';
import { MIB, MILLICORES_PER_VCPU } from '../../orchestrator/core/profile.ts';
import { type Fields, numberIn, textIn } from './answers.ts';
import { PropertyString } from './property-string.ts';

/** What Proxmox VE takes where a key is absent. */
const MEMORY_MIB_DEFAULT = 512;
/** Most memory of a guest: QEMU's own bound on x86 is below it. */
const MEMORY_MIB_MAX = 2 ** 32;
const SHARES_DEFAULT = 1000;
const HOTPLUG_DEFAULT = 'network,disk,usb';
/** `hotplug: 1` means the default, `0` nothing. */
const HOTPLUG_SWITCH: Readonly<Record<string, string>> = { 0: '', 1: HOTPLUG_DEFAULT };
/** Weight of a guest that nobody gave one, in the unified cgroup hierarchy. */
export const CPU_UNITS_DEFAULT = 100;
/** Bytes in Proxmox VE's unit of rates, of disks and interfaces alike. */
export const BYTES_PER_RATE_UNIT = MIB;

const DISK_KEY = /^(?:ide|sata|scsi|virtio)\d+$/;
const NET_KEY = /^net\d+$/;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Limits of reads and writes that ours are written to. */
export const DISK_PARTS = {
  diskReadBytesPerS: 'mbps_rd',
  diskWriteBytesPerS: 'mbps_wr',
  diskReadOpsPerS: 'iops_rd',
  diskWriteOpsPerS: 'iops_wr',
} as const;
/** Limits beside which ours cannot stand: of totals, of bursts, and the same by another name. */
const FOREIGN_DISK_PART =
  /^(?:mbps|iops|(?:mbps|iops)_max|(?:mbps|iops)_(?:rd|wr)_max|bps(?:_.*)?|iops_.*_length)=/;

/** A disk or an interface of a guest, and the key it stands under. */
export interface Device {
  readonly key: string;
  readonly properties: PropertyString;
  readonly limits: DeviceLimits;
  /** False where somebody has limits of a kind on it beside which ours cannot stand. */
  readonly isFree: boolean;
}

/** A guest's configuration, as far as it can be moved. Sizes in bytes unless the name says otherwise. */
export interface GuestConfig {
  /** Changes with the file: what a change must name to be refused when somebody else was there first. */
  readonly digest: string;
  readonly name: string | undefined;
  /** From `smbios1`; undefined where the guest has none. */
  readonly uuid: string | undefined;
  /** Why nobody may change the guest now, such as `backup`. */
  readonly lock: string | undefined;
  readonly isTemplate: boolean;
  readonly hasAgent: boolean;
  /** vCPUs it can have without a reboot. */
  readonly vcpusMax: number;
  readonly vcpus: number;
  /** Cores; undefined: not limited. */
  readonly cpuLimit: number | undefined;
  readonly cpuUnits: number;
  readonly memoryMib: number;
  /** Target of the balloon; the memory where nobody set one. */
  readonly balloonMib: number;
  readonly hasBalloon: boolean;
  readonly shares: number;
  readonly canPlugVcpus: boolean;
  readonly canPlugMemory: boolean;
  readonly disks: readonly Device[];
  readonly nics: readonly Device[];
}

/** Read what `GET /nodes/{node}/qemu/{vmid}/config` answers. */
export function readGuestConfig(fields: Fields): GuestConfig {
  const memoryMib = memoryOf(textIn(fields, 'memory'));
  const balloonMib = numberIn(fields, 'balloon');
  const vcpusMax = (numberIn(fields, 'cores') || 1) * (numberIn(fields, 'sockets') || 1);
  const hotplug = hotplugOf(textIn(fields, 'hotplug'));
  const hasOwnNumaCells = Object.keys(fields).some((key) => /^numa\d+$/.test(key));
  return {
    digest: textIn(fields, 'digest') ?? '',
    name: textIn(fields, 'name'),
    uuid: uuidOf(textIn(fields, 'smbios1')),
    lock: textIn(fields, 'lock'),
    isTemplate: numberIn(fields, 'template') === 1,
    hasAgent: agentOf(textIn(fields, 'agent')),
    vcpusMax,
    vcpus: Math.min(numberIn(fields, 'vcpus') || vcpusMax, vcpusMax),
    cpuLimit: numberIn(fields, 'cpulimit') || undefined,
    cpuUnits: numberIn(fields, 'cpuunits') || CPU_UNITS_DEFAULT,
    memoryMib,
    balloonMib: balloonMib || memoryMib,
    hasBalloon: balloonMib !== 0,
    shares: numberIn(fields, 'shares') ?? SHARES_DEFAULT,
    canPlugVcpus: hotplug.includes('cpu'),
    canPlugMemory: hotplug.includes('memory') && numberIn(fields, 'numa') === 1 && !hasOwnNumaCells,
    disks: devicesOf(fields, DISK_KEY, diskOf),
    nics: devicesOf(fields, NET_KEY, nicOf),
  };
}

/** A guest without a UUID of its own is known by its VMID, as the last digits of one that nobody else makes. */
export function guestIdOf({ uuid }: GuestConfig, vmid: number): GuestId {
  return uuid ?? `70766500-0000-4000-8000-${String(vmid).padStart(12, '0')}`;
}

/** Millicores the guest may use: its limit, or what its vCPUs come to. */
export function cpuMillicoresOf({ cpuLimit, vcpus }: GuestConfig): number {
  const plugged = vcpus * MILLICORES_PER_VCPU;
  return cpuLimit === undefined ? plugged : Math.min(Math.round(cpuLimit * MILLICORES_PER_VCPU), plugged);
}

/**
 * Whether a new target reaches the balloon of a guest. While `shares` are above 0 and the target is below the memory, the
 * host itself moves the balloon between the two, and undoes what anybody else set.
 */
export function isBalloonFree({ hasBalloon, shares, balloonMib, memoryMib }: GuestConfig): boolean {
  return hasBalloon && (shares === 0 || balloonMib >= memoryMib);
}

/** `memory` is a number of MiB, or `current=` one. */
function memoryOf(text: string | undefined): number {
  const properties = new PropertyString(text ?? '');
  const mib = Number(properties.bare ?? properties.get('current'));
  return mib > 0 && mib <= MEMORY_MIB_MAX ? mib : MEMORY_MIB_DEFAULT;
}

function hotplugOf(text: string | undefined): readonly string[] {
  return (HOTPLUG_SWITCH[text ?? '1'] ?? text ?? '').split(/[,;\s]/);
}

function uuidOf(smbios: string | undefined): string | undefined {
  const uuid = new PropertyString(smbios ?? '').get('uuid')?.toLowerCase();
  return uuid !== undefined && UUID.test(uuid) ? uuid : undefined;
}

function agentOf(text: string | undefined): boolean {
  const properties = new PropertyString(text ?? '');
  return (properties.bare ?? properties.get('enabled')) === '1';
}

function devicesOf(
  fields: Fields,
  keys: RegExp,
  read: (key: string, properties: PropertyString) => Device | undefined,
): Device[] {
  return Object.keys(fields)
    .filter((key) => keys.test(key))
    .sort()
    .flatMap((key) => read(key, new PropertyString(textIn(fields, key) ?? '')) ?? []);
}

/** undefined: a CD-ROM drive, which has no work to limit. */
function diskOf(key: string, properties: PropertyString): Device | undefined {
  const volume = properties.bare ?? properties.get('file') ?? properties.get('volume') ?? 'none';
  if (volume === 'none' || properties.get('media') === 'cdrom') return undefined;
  const rate = (part: string) => Math.round((properties.number(part) ?? 0) * BYTES_PER_RATE_UNIT);
  const limits = limited({
    diskReadBytesPerS: rate(DISK_PARTS.diskReadBytesPerS),
    diskWriteBytesPerS: rate(DISK_PARTS.diskWriteBytesPerS),
    diskReadOpsPerS: properties.number(DISK_PARTS.diskReadOpsPerS) ?? 0,
    diskWriteOpsPerS: properties.number(DISK_PARTS.diskWriteOpsPerS) ?? 0,
  });
  const isFree = !properties
    .toString()
    .split(',')
    .some((part) => FOREIGN_DISK_PART.test(part));
  return { key, properties, limits, isFree };
}

/** One rate holds both directions. */
function nicOf(key: string, properties: PropertyString): Device {
  const rate = Math.round((properties.number('rate') ?? 0) * BYTES_PER_RATE_UNIT);
  return { key, properties, limits: limited({ netRxBytesPerS: rate, netTxBytesPerS: rate }), isFree: true };
}
