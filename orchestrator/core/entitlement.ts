import type { Actuated } from './ports.ts';
import {
  ENTITLEMENT_FIELDS,
  type Entitlement,
  type EntitlementField,
  MIB,
  MILLICORES_PER_VCPU,
  vcpusFor,
} from './profile.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A ceiling that binds nothing. */
export const UNBOUNDED: Entitlement = {
  cpuMillicores: Number.MAX_SAFE_INTEGER,
  vcpuCount: Number.MAX_SAFE_INTEGER,
  memoryBytes: Number.MAX_SAFE_INTEGER,
};

/** Fields of an entitlement that belong to one actuator. */
export const FIELDS_OF: Readonly<Record<Actuated, readonly (keyof Entitlement)[]>> = {
  cpu: ['cpuMillicores', 'vcpuCount'],
  memory: ['memoryBytes'],
  disk: ['diskReadBytesPerS', 'diskWriteBytesPerS'],
  net: ['netRxBytesPerS', 'netTxBytesPerS'],
};

/** Differences below these are not differences: the balloon moves by pages and stops within one MiB. */
const TOLERANCE: Readonly<Record<keyof Entitlement, number>> = {
  cpuMillicores: 1,
  vcpuCount: 0,
  memoryBytes: 2 * MIB,
  diskReadBytesPerS: 1024,
  diskWriteBytesPerS: 1024,
  netRxBytesPerS: 1024,
  netTxBytesPerS: 1024,
};

/**
 * What a guest needs for all its leases at once: each adds what it asks above the baseline. A rate is limited
 * only while every lease has a limit for it.
 */
export function combine(
  baseline: Entitlement,
  requests: readonly Entitlement[],
  ceiling: Entitlement,
): Entitlement {
  if (requests.length === 0) return baseline;
  const sum = (field: 'cpuMillicores' | 'memoryBytes'): number => {
    const above = requests.reduce(
      (total, request) => total + Math.max(0, request[field] - baseline[field]),
      0,
    );
    return Math.min(baseline[field] + above, Math.max(ceiling[field], baseline[field]));
  };
  const cpuMillicores = sum('cpuMillicores');
  const vcpusMost = Math.max(ceiling.vcpuCount, baseline.vcpuCount);
  const combined: Mutable<Entitlement> = {
    cpuMillicores,
    vcpuCount: Math.min(Math.max(baseline.vcpuCount, vcpusFor(cpuMillicores)), vcpusMost),
    memoryBytes: sum('memoryBytes'),
  };
  for (const field of ENTITLEMENT_FIELDS) {
    if (field === 'cpuMillicores' || field === 'memoryBytes') continue;
    const limits = requests.map((request) => request[field]);
    if (limits.every((limit) => limit !== undefined)) {
      combined[field] = Math.max(
        baseline[field] ?? 0,
        limits.reduce((total, limit) => total + limit, 0),
      );
    }
  }
  return combined;
}

/** Resources on which two entitlements differ by more than the actuators' own coarseness. */
export function differing(a: Entitlement, b: Entitlement): Actuated[] {
  return (Object.keys(FIELDS_OF) as Actuated[]).filter((resource) =>
    FIELDS_OF[resource].some((field) => !sameValue(field, a[field], b[field])),
  );
}

function sameValue(field: keyof Entitlement, a: number | undefined, b: number | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return Math.abs(a - b) <= TOLERANCE[field];
}

/** True when `held` gives the guest everything `target` promises. A held rate without a limit satisfies any. */
export function satisfies(held: Entitlement, target: Entitlement): boolean {
  return (
    held.cpuMillicores >= target.cpuMillicores - TOLERANCE.cpuMillicores &&
    held.vcpuCount >= target.vcpuCount &&
    held.memoryBytes >= target.memoryBytes - TOLERANCE.memoryBytes &&
    RATES.every(
      (rate) =>
        held[rate] === undefined ||
        held[rate] >= (target[rate] ?? Number.POSITIVE_INFINITY) - TOLERANCE[rate],
    )
  );
}

const RATES = ENTITLEMENT_FIELDS.filter(
  (field): field is Exclude<EntitlementField, 'cpuMillicores' | 'memoryBytes'> =>
    field !== 'cpuMillicores' && field !== 'memoryBytes',
);

/** `held` with one actuator's fields replaced by what was read back; an absent rate means its limit is gone. */
export function withResource(held: Entitlement, resource: Actuated, read: Partial<Entitlement>): Entitlement {
  const next: Mutable<Partial<Entitlement>> = { ...held };
  for (const field of FIELDS_OF[resource]) {
    const value = read[field];
    if (value !== undefined) next[field] = value;
    else if (resource === 'disk' || resource === 'net') delete next[field];
  }
  return next as Entitlement;
}

/** `to`'s fields of the resources named, `from`'s elsewhere. */
export function takeResources(
  from: Entitlement,
  to: Entitlement,
  resources: readonly Actuated[],
): Entitlement {
  return resources.reduce((held, resource) => withResource(held, resource, to), from);
}

/**
 * Whether a reading of one resource can be our own doing: it equals something we asked for or held, or, while a move was
 * under way, lies between two of those (a balloon travels), or is that of vCPUs which were plugged and not limited yet.
 */
export function explainedBy(
  resource: Actuated,
  read: Entitlement,
  known: readonly Entitlement[],
  moving: boolean,
): boolean {
  return FIELDS_OF[resource].every((field) => {
    const value = read[field];
    const values = known.map((entitlement) => entitlement[field]);
    if (values.some((one) => sameValue(field, value, one))) return true;
    if (value === undefined) return false;
    if (field === 'cpuMillicores') return moving && isUnlimited(value, known);
    const numbers = values.filter((one) => one !== undefined);
    const travels = field === 'vcpuCount' || (field === 'memoryBytes' && moving);
    return travels && value >= Math.min(...numbers) && value <= Math.max(...numbers);
  });
}

/** What whole vCPUs give without a quota, no more of them than we ever asked for. */
function isUnlimited(cpuMillicores: number, known: readonly Entitlement[]): boolean {
  const vcpusMost = Math.max(...known.map(({ vcpuCount }) => vcpuCount));
  return cpuMillicores % MILLICORES_PER_VCPU === 0 && cpuMillicores <= vcpusMost * MILLICORES_PER_VCPU;
}
