import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { Baseline, GuestId } from '../orchestrator/core/guest.ts';
import type { Actuator } from '../orchestrator/core/ports.ts';
import type { Entitlement, EntitlementField } from '../orchestrator/core/profile.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import type { DomainDescription } from './domain-xml.ts';
import { translate, translated } from './errors.ts';
import type { DomainRef } from './libvirt.ts';
import { commonRates, type RateLimits } from './limits.ts';

/** What sets disks and interfaces apart. */
export interface RateDevices {
  readonly resource: 'disk' | 'net';
  readonly inField: EntitlementField;
  readonly outField: EntitlementField;
  /** Smallest step of a limit, bytes per second. */
  readonly unitBytes: number;
  /** Devices to limit. @throws {AllocatorError} NOT_SUPPORTED when they cannot all be */
  select(domain: DomainDescription, guest: GuestId): readonly string[];
  get(ref: DomainRef, device: string): Promise<RateLimits>;
  /** @throws {AllocatorError} NOT_SUPPORTED when the device has limits of a kind that ours cannot stand beside */
  set(ref: DomainRef, device: string, limits: RateLimits): Promise<void>;
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
    const wanted = this.#limitsOf(target);
    const now = commonRates(await this.#current(guest, await this.#catalog.devices(guest)));
    // In force already; or devices differ and the loosest is as wanted: somebody's own arrangement, left as it is.
    if (isSame(now.limits, wanted)) return this.#read(guest);
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
    const { limits } = commonRates(await this.#current(guest, await this.#catalog.devices(guest)));
    const { inField, outField } = this.#devices;
    return {
      ...(limits.inBytesPerS > 0 && { [inField]: limits.inBytesPerS }),
      ...(limits.outBytesPerS > 0 && { [outField]: limits.outBytesPerS }),
    };
  }

  /** Limits of the devices that can have any; none where the guest has no such device. */
  async #current(guest: GuestId, domain: DomainDescription): Promise<RateLimits[]> {
    const ref = this.#catalog.ref(guest);
    const limits: RateLimits[] = [];
    for (const name of this.#selectable(domain, guest)) limits.push(await this.#devices.get(ref, name));
    return limits;
  }

  #selectable(domain: DomainDescription, guest: GuestId): readonly string[] {
    try {
      return this.#devices.select(domain, guest);
    } catch (cause) {
      const error = translate(cause, { guest });
      if (error instanceof AllocatorError && error.code === 'NOT_SUPPORTED') return [];
      throw error;
    }
  }

  #limitsOf(target: Entitlement): RateLimits {
    const { inField, outField, unitBytes } = this.#devices;
    const round = (bytes: number | undefined) => Math.ceil((bytes ?? 0) / unitBytes) * unitBytes; // up: never less
    return { inBytesPerS: round(target[inField]), outBytesPerS: round(target[outField]) };
  }
}

function isSame(a: RateLimits, b: RateLimits): boolean {
  return a.inBytesPerS === b.inBytesPerS && a.outBytesPerS === b.outBytesPerS;
}
