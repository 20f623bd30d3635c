/** What is measured and forecast of a guest, in the order of every buffer and table. */
export const PROFILE_FIELDS = [
  'cpuMillicores',
  'memoryBytes',
  'diskReadBytesPerS',
  'diskWriteBytesPerS',
  'netRxBytesPerS',
  'netTxBytesPerS',
  'instructionsPerS',
] as const;
export type ProfileField = (typeof PROFILE_FIELDS)[number];

/**
 * Usage or demand at one time, in the units of the names. `cpuMillicores` counts everything the guest
 * makes the host compute, its emulator included; `memoryBytes` is what the guest cannot give back
 * (balloon actual - usable). An absent field was not read: never zero.
 */
export type ResourceProfile = { readonly [F in ProfileField]?: number };

/** Names of the resources in tables, JSON and metrics. */
export const RESOURCES = ['cpu', 'memory', 'disk', 'net', 'instructions'] as const;
export type Resource = (typeof RESOURCES)[number];

export const RESOURCE_OF: Readonly<Record<ProfileField, Resource>> = {
  cpuMillicores: 'cpu',
  memoryBytes: 'memory',
  diskReadBytesPerS: 'disk',
  diskWriteBytesPerS: 'disk',
  netRxBytesPerS: 'net',
  netTxBytesPerS: 'net',
  instructionsPerS: 'instructions',
};

/** The fields of an entitlement that can be held back at the host. */
export const ENTITLEMENT_FIELDS = [
  'cpuMillicores',
  'memoryBytes',
  'diskReadBytesPerS',
  'diskWriteBytesPerS',
  'netRxBytesPerS',
  'netTxBytesPerS',
] as const;
export type EntitlementField = (typeof ENTITLEMENT_FIELDS)[number];

/** The rates that a guest's devices can be limited to. */
export const RATE_FIELDS = [
  'diskReadBytesPerS',
  'diskWriteBytesPerS',
  'diskReadOpsPerS',
  'diskWriteOpsPerS',
  'netRxBytesPerS',
  'netTxBytesPerS',
] as const;
export type RateField = (typeof RATE_FIELDS)[number];

/**
 * What the host lets a guest use. CPU and memory always have a value; an absent disk or net rate
 * means "not limited". `vcpuCount` is topology: how many vCPUs are online in the guest. `cpuWeight` is the guest's
 * share of a contended CPU beside others', 1 where nobody set one; absent: not known, and not to be moved.
 */
export interface Entitlement {
  readonly cpuMillicores: number;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskReadBytesPerS?: number;
  readonly diskWriteBytesPerS?: number;
  readonly diskReadOpsPerS?: number;
  readonly diskWriteOpsPerS?: number;
  readonly netRxBytesPerS?: number;
  readonly netTxBytesPerS?: number;
  readonly cpuWeight?: number;
}

export const MILLICORES_PER_VCPU = 1000;
export const MIB = 1024 * 1024;

/** Whole vCPUs that can burn `cpuMillicores`; at least one. */
export function vcpusFor(cpuMillicores: number): number {
  return Math.max(1, Math.ceil(cpuMillicores / MILLICORES_PER_VCPU));
}
