import type { NeedsPolicy } from './needs.ts';
import type { Room } from './room.ts';

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

export function policyOf(tenants: TenantsPolicy, tenant: string): TenantPolicy {
  return tenants.named.get(tenant) ?? tenants.fallback;
}
