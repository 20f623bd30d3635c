import {
  commonLimits,
  type DeviceLimits,
  sameLimits,
  wantedLimits,
} from '../orchestrator/core/device-limits.ts';
import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { Baseline, GuestId } from '../orchestrator/core/guest.ts';
import type { Actuator } from '../orchestrator/core/ports.ts';
import type { Entitlement, RateField } from '../orchestrator/core/profile.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import type { DomainDescription } from './domain-xml.ts';
import { translate, translated } from './errors.ts';
import type { DomainRef } from './libvirt.ts';

/** What sets disks and interfaces apart. */
export interface RateDevices {
  readonly resource: 'disk' | 'net';
  readonly fields: readonly RateField[];
  /** Smallest step of a limit: a rate is rounded up to it. */
  readonly unit: number;
  /** Devices to limit. @throws {AllocatorError} NOT_SUPPORTED when they cannot all be */
  select(domain: DomainDescription, guest: GuestId): readonly string[];
  get(ref: DomainRef, device: string): Promise<DeviceLimits>;
  /** @throws {AllocatorError} NOT_SUPPORTED when the device has limits of a kind that ours cannot stand beside */
  set(ref: DomainRef, device: string, limits: DeviceLimits): Promise<void>;
}

/**
 * Limits the rates of a guest's devices. Each device gets the whole limit: a guest with two disks may use it on both,
 * since one that is idle would otherwise take half from the one that works.
 */
export class RateLimitActuator implements Actuator {
  readonly #devices: RateDevices;
  readonly #catalog: DomainCatalog;

  constructor(devices: RateDevices, catalog: DomainCatalog) {
    this.#devices = devices;
    this.#catalog = catalog;
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
    return translated(this.#read(guest), { guest, resource: this.resource });
  }

  async #apply(guest: GuestId, target: Entitlement, signal: AbortSignal): Promise<Partial<Entitlement>> {
    const wanted = wantedLimits(target, this.#devices.fields, this.#devices.unit);
    const now = commonLimits(await this.#current(guest, await this.#catalog.devices(guest)));
    // In force already; or devices differ and the loosest is as wanted: somebody's own arrangement, left as it is.
    if (sameLimits(now.limits, wanted)) return this.#read(guest);
    const ref = this.#catalog.ref(guest);
    let moved = 0;
    for (const name of this.#devices.select(await this.#catalog.devices(guest), guest)) {
      if (signal.aborted) break;
      try {
        await this.#devices.set(ref, name, wanted);
        moved += 1;
      } catch (cause) {
        // The devices already moved are a result; with none moved the refusal is the answer.
        if (moved === 0) throw cause;
        break;
      }
    }
    return this.#read(guest);
  }

  async #read(guest: GuestId): Promise<Partial<Entitlement>> {
    return commonLimits(await this.#current(guest, await this.#catalog.devices(guest))).limits;
  }

  /** Limits of the devices; none where they cannot all have ours. */
  async #current(guest: GuestId, domain: DomainDescription): Promise<DeviceLimits[]> {
    const ref = this.#catalog.ref(guest);
    try {
      const limits: DeviceLimits[] = [];
      for (const name of this.#devices.select(domain, guest)) limits.push(await this.#devices.get(ref, name));
      return limits;
    } catch (cause) {
      const error = translate(cause, { guest });
      if (error instanceof AllocatorError && error.code === 'NOT_SUPPORTED') return [];
      throw error;
    }
  }
}
