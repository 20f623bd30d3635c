import {
  type CommonLimits,
  commonLimits,
  type DeviceLimits,
  sameLimits,
  wantedLimits,
} from '../../orchestrator/core/device-limits.ts';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { Baseline, GuestId } from '../../orchestrator/core/guest.ts';
import type { Actuator } from '../../orchestrator/core/ports.ts';
import type { Entitlement, RateField } from '../../orchestrator/core/profile.ts';
import type { GuestCatalog } from './catalog.ts';
import type { ConfigWriter } from './config-writer.ts';
import { translated } from './errors.ts';
import { BYTES_PER_RATE_UNIT, type Device, DISK_PARTS, type GuestConfig } from './guest-config.ts';

/** What sets disks and interfaces apart. */
interface RateDevices {
  readonly resource: 'disk' | 'net';
  readonly fields: readonly RateField[];
  of(config: GuestConfig): readonly Device[];
  /** What of the limits can be held. */
  holdable(limits: DeviceLimits): DeviceLimits;
  /** Parts of a device's properties that hold `limits`. */
  parts(limits: DeviceLimits): Readonly<Record<string, number | undefined>>;
}

/** Reads and writes of every disk, by bytes and by operations. */
const DISKS: RateDevices = {
  resource: 'disk',
  fields: ['diskReadBytesPerS', 'diskWriteBytesPerS', 'diskReadOpsPerS', 'diskWriteOpsPerS'],
  of: ({ disks }) => disks,
  holdable: (limits) => limits,
  parts: (limits) => ({
    [DISK_PARTS.diskReadBytesPerS]: inUnits(limits.diskReadBytesPerS),
    [DISK_PARTS.diskWriteBytesPerS]: inUnits(limits.diskWriteBytesPerS),
    [DISK_PARTS.diskReadOpsPerS]: limits.diskReadOpsPerS,
    [DISK_PARTS.diskWriteOpsPerS]: limits.diskWriteOpsPerS,
  }),
};

/** Interfaces have one rate for both directions: it is the higher one's, and none where a direction is to have none. */
const INTERFACES: RateDevices = {
  resource: 'net',
  fields: ['netRxBytesPerS', 'netTxBytesPerS'],
  of: ({ nics }) => nics,
  holdable({ netRxBytesPerS, netTxBytesPerS }) {
    if (netRxBytesPerS === undefined || netTxBytesPerS === undefined) return {};
    const rate = Math.max(netRxBytesPerS, netTxBytesPerS);
    return { netRxBytesPerS: rate, netTxBytesPerS: rate };
  },
  parts: ({ netRxBytesPerS }) => ({ rate: inUnits(netRxBytesPerS) }),
};

/** Bytes a second in Proxmox VE's unit; a whole number of bytes has an exact one. */
function inUnits(bytesPerS: number | undefined): number | undefined {
  return bytesPerS === undefined ? undefined : bytesPerS / BYTES_PER_RATE_UNIT;
}

/** Limits all devices of a guest share, and whether ours could be put on them and taken off again. */
export function limitsOf(config: GuestConfig, resource: 'disk' | 'net'): CommonLimits {
  const devices = (resource === 'disk' ? DISKS : INTERFACES).of(config);
  const { limits, movable } = commonLimits(devices.map((device) => device.limits));
  return { limits, movable: movable && devices.every(({ isFree }) => isFree) };
}

/**
 * Limits the rates of a guest's disks or interfaces, all of them in one change. Each device gets the whole limit: one that
 * is idle would otherwise take its part from the one that works.
 */
export class RateLimitActuator implements Actuator {
  readonly #devices: RateDevices;
  readonly #catalog: GuestCatalog;
  readonly #writer: ConfigWriter;

  constructor(resource: 'disk' | 'net', catalog: GuestCatalog, writer: ConfigWriter) {
    this.#devices = resource === 'disk' ? DISKS : INTERFACES;
    this.#catalog = catalog;
    this.#writer = writer;
  }

  get resource(): 'disk' | 'net' {
    return this.#devices.resource;
  }

  apply(guest: GuestId, target: Entitlement, signal: AbortSignal): Promise<Partial<Entitlement>> {
    return translated(this.#apply(guest, target, signal), { guest, resource: this.resource });
  }

  restore(guest: GuestId, baseline: Baseline, signal: AbortSignal): Promise<Partial<Entitlement>> {
    return this.apply(guest, baseline.entitlement, signal);
  }

  read(guest: GuestId): Promise<Partial<Entitlement>> {
    const work = this.#catalog.config(guest).then((config) => limitsOf(config, this.resource).limits);
    return translated(work, { guest, resource: this.resource });
  }

  async #apply(guest: GuestId, target: Entitlement, signal: AbortSignal): Promise<Partial<Entitlement>> {
    const wanted = this.#devices.holdable(wantedLimits(target, this.#devices.fields, 1));
    const config = await this.#writer.change(
      guest,
      (before) => {
        const devices = this.#devices.of(before);
        // In force already; or devices differ and the loosest is as wanted: somebody's own arrangement, left as it is.
        if (sameLimits(limitsOf(before, this.resource).limits, wanted)) return undefined;
        this.#assertMovable(guest, devices);
        const parts = this.#devices.parts(wanted);
        const set = devices.map(({ key, properties }) => [key, properties.with(parts).toString()]);
        return { set: Object.fromEntries(set) };
      },
      signal,
    );
    return limitsOf(config, this.resource).limits;
  }

  /** @throws {AllocatorError} NOT_SUPPORTED */
  #assertMovable(guest: GuestId, devices: readonly Device[]): void {
    const name = this.resource === 'disk' ? 'disk' : 'interface';
    if (devices.length === 0)
      throw new AllocatorError('NOT_SUPPORTED', `the guest has no ${name}`, { guest });
    const taken = devices.find(({ isFree }) => !isFree);
    if (taken === undefined) return;
    const message = `${taken.key} has a limit on its total or its bursts; separate limits cannot stand beside it`;
    throw new AllocatorError('NOT_SUPPORTED', message, { guest, device: taken.key });
  }
}
