import type { Actuated } from './ports.ts';
import {
  ENTITLEMENT_FIELDS,
  type Entitlement,
  MIB,
  MILLICORES_PER_VCPU,
  RATE_FIELDS,
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
  cpu: ['cpuMillicores', 'vcpuCount', 'cpuWeight'],
  memory: ['memoryBytes'],
  disk: ['diskReadBytesPerS', 'diskWriteBytesPerS', 'diskReadOpsPerS', 'diskWriteOpsPerS'],
  net: ['netRxBytesPerS', 'netTxBytesPerS'],
};

/** What a guest holds whatever it is forecast to need: a lease that does not state one leaves the baseline's. */
const STANDING_FIELDS = ['diskReadOpsPerS', 'diskWriteOpsPerS', 'cpuWeight'] as const;

/** Differences below these are not differences: the balloon moves by pages and stops within one MiB. */
const TOLERANCE: Readonly<Record<keyof Entitlement, number>> = {
  cpuMillicores: 1,
  vcpuCount: 0,
  memoryBytes: 2 * MIB,
  diskReadBytesPerS: 1024,
  diskWriteBytesPerS: 1024,
  diskReadOpsPerS: 0,
  diskWriteOpsPerS: 0,
  netRxBytesPerS: 1024,
  netTxBytesPerS: 1024,
  cpuWeight: 0.01, // the kernel's unit: 1 / 100 in the unified hierarchy, 1 / 1,024 in the older one
};

/**
 * What a guest needs for all its leases at once: each adds what it asks above the baseline. A rate is limited
 * only while every lease has a limit for it. Of weights and operations a second the highest that a lease states counts.
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
  for (const field of STANDING_FIELDS) {
    const stated = requests.map((request) => request[field]).filter((value) => value !== undefined);
    const value = stated.length > 0 ? Math.max(...stated) : baseline[field];
    if (value !== undefined) combined[field] = value;
  }
  // Where nobody knows the weight to go back to, none is set.
  if (baseline.cpuWeight === undefined) delete combined.cpuWeight;
  return combined;
}

/** Resources on which two entitlements differ by more than the actuators' own coarseness. */
export function differing(a: Entitlement, b: Entitlement): Actuated[] {
  return (Object.keys(FIELDS_OF) as Actuated[]).filter((resource) =>
    FIELDS_OF[resource].some((field) => !sameValue(field, a[field], b[field])),
  );
}

function sameValue(field: keyof Entitlement, a: number | undefined, b: number | undefined): boolean {
  if (a === undefined || b === undefined) return a === b || field === 'cpuWeight';
  return Math.abs(a - b) <= TOLERANCE[field];
}

/** True when `held` gives the guest everything `target` promises. A held rate without a limit satisfies any. */
export function satisfies(held: Entitlement, target: Entitlement): boolean {
  return (
    held.cpuMillicores >= target.cpuMillicores - TOLERANCE.cpuMillicores &&
    held.vcpuCount >= target.vcpuCount &&
    held.memoryBytes >= target.memoryBytes - TOLERANCE.memoryBytes &&
    (held.cpuWeight ?? Number.POSITIVE_INFINITY) >= (target.cpuWeight ?? 0) - TOLERANCE.cpuWeight &&
    RATE_FIELDS.every(
      (rate) =>
        held[rate] === undefined ||
        held[rate] >= (target[rate] ?? Number.POSITIVE_INFINITY) - TOLERANCE[rate],
    )
  );
}

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
