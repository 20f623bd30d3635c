import { AllocatorError } from './errors.ts';
import { type Entitlement, RATE_FIELDS, type RateField } from './profile.ts';

/** Highest limit: QEMU's own, 10^15 (THROTTLE_VALUE_MAX), which no device comes near. */
const RATE_MAX = 1e15;

/** Limits of a device; an absent field is not limited. */
export type DeviceLimits = { readonly [F in RateField]?: number };

/** What is limited and how. `movable` is false where ours could not be put back or would not stand. */
export interface CommonLimits {
  readonly limits: DeviceLimits;
  readonly movable: boolean;
}

/** The limits above 0. */
export function limited(limits: DeviceLimits): DeviceLimits {
  return Object.fromEntries(Object.entries(limits).filter(([, limit]) => limit > 0));
}

/**
 * What `target` limits the devices of one resource to.
 * @param unit smallest step of a limit: a rate is rounded up to it, so that no guest gets less than decided
 * @throws {AllocatorError} INVALID_REQUEST
 */
export function wantedLimits(target: Entitlement, fields: readonly RateField[], unit: number): DeviceLimits {
  const limits = fields.map((field) => {
    const rate = target[field] ?? 0;
    if (rate >= 0 && rate <= RATE_MAX) return [field, Math.ceil(rate / unit) * unit];
    throw new AllocatorError('INVALID_REQUEST', `${field} must be in [0, ${RATE_MAX}], not ${rate}`, {
      field,
    });
  });
  return limited(Object.fromEntries(limits));
}

/** The limits all devices share; where they differ the loosest, and not movable. */
export function commonLimits(devices: readonly DeviceLimits[]): CommonLimits {
  const [first] = devices;
  if (first === undefined) return { limits: {}, movable: false };
  const limits: { -readonly [F in RateField]?: number } = {};
  for (const field of RATE_FIELDS) {
    const values = devices.map((device) => device[field]).filter((limit) => limit !== undefined);
    if (values.length === devices.length) limits[field] = Math.max(...values);
  }
  return { limits, movable: devices.every((device) => sameLimits(device, first)) };
}

export function sameLimits(a: DeviceLimits, b: DeviceLimits): boolean {
  return RATE_FIELDS.every((field) => a[field] === b[field]);
}
