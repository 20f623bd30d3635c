import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { GuestId } from '../orchestrator/core/guest.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import type { DomainDescription, InterfaceDescription } from './domain-xml.ts';
import { LIBVIRT_ERROR, type Libvirt, LibvirtError } from './libvirt.ts';
import { BYTES_PER_BANDWIDTH_UNIT, hasTap, interfaceLimits } from './limits.ts';
import { type RateDevices, RateLimitActuator } from './rate-limit-actuator.ts';
import type { TapShaper } from './tap-shaper.ts';

const LIVE = { live: true } as const;

/**
 * Limits what every interface of a guest receives and sends. libvirt shapes taps only, through tc, and needs the
 * kernel's htb and sfq: where it refuses, so does this (NOT_SUPPORTED).
 * @param shaper limits taps instead of libvirt
 */
export function createNetActuator(
  libvirt: Libvirt,
  catalog: DomainCatalog,
  shaper?: TapShaper,
): RateLimitActuator {
  return new RateLimitActuator(
    { ...DIRECTIONS, ...(shaper === undefined ? byLibvirt(libvirt) : byShaper(shaper)) },
    catalog,
  );
}

const DIRECTIONS = { resource: 'net', fields: ['netRxBytesPerS', 'netTxBytesPerS'] } as const;

type Shaping = Pick<RateDevices, 'unit' | 'select' | 'get' | 'set'>;

function byLibvirt(libvirt: Libvirt): Shaping {
  return {
    unit: BYTES_PER_BANDWIDTH_UNIT,
    select: (domain, guest) => shapeable(domain, guest).map(({ mac }) => mac),
    async get(ref, device) {
      const parameters = await libvirt.getInterfaceParameters(ref, device, LIVE);
      return interfaceLimits(
        Number(parameters['inbound.average'] ?? 0),
        Number(parameters['outbound.average'] ?? 0),
      );
    },
    async set(ref, device, limits) {
      const parameters = {
        'inbound.average': (limits.netRxBytesPerS ?? 0) / BYTES_PER_BANDWIDTH_UNIT,
        'outbound.average': (limits.netTxBytesPerS ?? 0) / BYTES_PER_BANDWIDTH_UNIT,
      };
      try {
        await libvirt.setInterfaceParameters(ref, device, parameters, LIVE);
      } catch (cause) {
        if (!isShapingFailure(cause)) throw cause;
        const message = `the host cannot shape the tap: ${cause.message}`;
        throw new AllocatorError('NOT_SUPPORTED', message, { device }, { cause });
      }
    },
  };
}

function byShaper(shaper: TapShaper): Shaping {
  return {
    unit: 1,
    select(domain, guest) {
      return shapeable(domain, guest).map(({ target }) => {
        if (target !== undefined) return target;
        throw new AllocatorError('GUEST_NOT_RUNNING', 'the guest has no tap on the host now', { guest });
      });
    },
    get: (ref, tap) => shaper.get(ref.uuid, tap),
    set: (ref, tap, limits) => shaper.set(ref.uuid, tap, limits),
  };
}

/** @throws {AllocatorError} NOT_SUPPORTED */
function shapeable({ interfaces }: DomainDescription, guest: GuestId): readonly InterfaceDescription[] {
  if (interfaces.length > 0 && interfaces.every((nic) => hasTap(nic.type))) return interfaces;
  const message = 'the guest has no interface, or one without a tap to shape';
  throw new AllocatorError('NOT_SUPPORTED', message, { guest });
}

/** libvirt reports a failed tc as an internal error. */
function isShapingFailure(cause: unknown): cause is LibvirtError {
  return cause instanceof LibvirtError && cause.code === LIBVIRT_ERROR.internal;
}
