import assert from 'node:assert';
import { ROOM_FIELDS, type Room } from './room.ts';

/**
 * The largest share of any one resource that a tenant holds, over its weight: who has the least is served next. Weighted
 * dominant resource fairness. Pure.
 *
 * @param held     what the tenant's leases hold above their guests' baselines
 * @param capacity what all tenants share; a resource of which there is none does not count
 * @returns        0 for a tenant that holds nothing; 1 for one of weight 1 that holds all of some resource
 * Source: Ghodsi et al., "Dominant Resource Fairness: Fair Allocation of Multiple Resource Types", NSDI 2011, ch. 4.
 */
export function dominantShare(held: Room, capacity: Room, weight: number): number {
  assert(weight > 0, 'a weight must be above 0');
  const shares = ROOM_FIELDS.filter((field) => capacity[field] > 0).map(
    (field) => held[field] / capacity[field],
  );
  return Math.max(0, ...shares) / weight;
}
