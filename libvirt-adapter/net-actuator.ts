import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import { LIBVIRT_ERROR, type Libvirt, LibvirtError } from './libvirt.ts';
import { BYTES_PER_BANDWIDTH_UNIT, hasTap } from './limits.ts';
import { RateLimitActuator } from './rate-limit-actuator.ts';

const LIVE = { live: true } as const;

/**
 * Limits what every interface of a guest receives and sends. libvirt shapes taps only, through tc, and needs the
 * kernel's htb and sfq: where it refuses, so does this (NOT_SUPPORTED).
 */
export function createNetActuator(libvirt: Libvirt, catalog: DomainCatalog): RateLimitActuator {
  return new RateLimitActuator(
    {
      resource: 'net',
      inField: 'netRxBytesPerS',
      outField: 'netTxBytesPerS',
      unitBytes: BYTES_PER_BANDWIDTH_UNIT,
      select({ interfaces }, guest) {
        if (interfaces.length === 0 || interfaces.some((nic) => !hasTap(nic.type))) {
          throw new AllocatorError(
            'NOT_SUPPORTED',
            'the guest has no interface, or one without a tap to shape',
            {
              guest,
            },
          );
        }
        return interfaces.map((nic) => nic.mac);
      },
      async get(ref, device) {
        const parameters = await libvirt.getInterfaceParameters(ref, device, LIVE);
        return {
          inBytesPerS: Number(parameters['inbound.average'] ?? 0) * BYTES_PER_BANDWIDTH_UNIT,
          outBytesPerS: Number(parameters['outbound.average'] ?? 0) * BYTES_PER_BANDWIDTH_UNIT,
        };
      },
      async set(ref, device, limits) {
        const parameters = {
          'inbound.average': limits.inBytesPerS / BYTES_PER_BANDWIDTH_UNIT,
          'outbound.average': limits.outBytesPerS / BYTES_PER_BANDWIDTH_UNIT,
        };
        try {
          await libvirt.setInterfaceParameters(ref, device, parameters, LIVE);
        } catch (cause) {
          throw isShapingFailure(cause)
            ? new AllocatorError(
                'NOT_SUPPORTED',
                `the host cannot shape the tap: ${cause.message}`,
                { device },
                { cause },
              )
            : cause;
        }
      },
    },
    catalog,
  );
}

/** libvirt reports a failed tc as an internal error. */
function isShapingFailure(cause: unknown): cause is LibvirtError {
  return cause instanceof LibvirtError && cause.code === LIBVIRT_ERROR.internal;
}
