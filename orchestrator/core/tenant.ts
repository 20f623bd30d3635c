import type { Room } from './admit.ts';
import type { NeedsPolicy } from './needs.ts';

/** What the operator grants one tenant. Rooms are above guests' baselines: those belong to guests, not to who asks. */
export interface TenantPolicy {
  /** Its say where tenants compete: at 2 it is due twice what one at 1 is. Above 0. */
  readonly weight: number;
  /** The most its leases may be promised together; infinite where there is no cap. */
  readonly quota: Room;
  /** Always kept available to it; what it holds above this is its burst part. At most the quota. */
  readonly guaranteed: Room;
  /** How sure and how ample its leases are. */
  readonly needs: NeedsPolicy;
  /** Time after any change of a guest before room is reclaimed from its lease there, ms. */
  readonly cooldownMs: number;
  /** True: its requests are forecast and recorded, and nothing is moved for them. */
  readonly shadow: boolean;
}

/** All tenants; one that is not listed has the default's policy, as a tenant of its own. */
export interface TenantsPolicy {
  readonly named: ReadonlyMap<string, TenantPolicy>;
  readonly fallback: TenantPolicy;
}

export const NO_ROOM: Room = { cpuMillicores: 0, memoryBytes: 0 };

/** Resources that are promised, in the order in which reasons name them. */
export const ROOM_FIELDS = ['cpuMillicores', 'memoryBytes'] as const satisfies readonly (keyof Room)[];

export function policyOf(tenants: TenantsPolicy, tenant: string): TenantPolicy {
  return tenants.named.get(tenant) ?? tenants.fallback;
}

/** One room computed from others, resource by resource. */
export function roomOf(value: (field: keyof Room) => number): Room {
  return { cpuMillicores: value('cpuMillicores'), memoryBytes: value('memoryBytes') };
}

/** How much of `part` is not in `whole`; zero where it is. */
export function beyond(part: Room, whole: Room): Room {
  return roomOf((field) => Math.max(0, part[field] - whole[field]));
}

export function fitsIn(part: Room, whole: Room): boolean {
  return ROOM_FIELDS.every((field) => part[field] <= whole[field]);
}

export function plus(a: Room, b: Room): Room {
  return roomOf((field) => a[field] + b[field]);
}
