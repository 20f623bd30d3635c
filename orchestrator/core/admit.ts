import type { HostFacts } from './guest.ts';
import { type Entitlement, MIB, MILLICORES_PER_VCPU, RESOURCE_OF } from './profile.ts';
import { beyond, ROOM_FIELDS, type Room, type RoomField } from './room.ts';

/** What binds leases on a host that promises more than it has: the joint tail of demand beside the promises, or these alone. */
export const ADMIT_BY = ['joint-tail', 'promises'] as const;

/** What of a host may be promised. */
export interface CapacityPolicy {
  /** Absent: `joint-tail`. */
  readonly admitBy?: (typeof ADMIT_BY)[number];
  /** Sellable over physical, >= 1 means overcommitted. */
  readonly overcommit: { readonly cpu: number; readonly memory: number };
  /** Kept for the host itself. */
  readonly reserved: { readonly cpuMillicores: number; readonly memoryBytes: number };
}

/** What all guests together may come to use, as a second bound beside what they were promised. */
export interface DemandBound {
  /** Total - reserved. */
  readonly physical: Room;
  /** Upper tail of all guests' demand, were the guest in question given so much. Grows with it. */
  readonly tailWith: (given: Room) => Room;
}

/** Total - reserved: what guests can use together; never negative. */
export function physicalOf(host: HostFacts, { reserved }: CapacityPolicy): Room {
  return beyond(host, reserved);
}

/** (total - reserved) x overcommit ratio; never negative. */
export function capacityOf(host: HostFacts, policy: CapacityPolicy): Room {
  const physical = physicalOf(host, policy);
  return {
    cpuMillicores: physical.cpuMillicores * policy.overcommit.cpu,
    memoryBytes: physical.memoryBytes * policy.overcommit.memory,
  };
}

/** Closed set of answers; each carries the sentence that explains it. */
export type Admission =
  | { readonly kind: 'grant'; readonly entitlement: Entitlement; readonly reason: string }
  | { readonly kind: 'grant-part'; readonly entitlement: Entitlement; readonly reason: string }
  | { readonly kind: 'no-room'; readonly reason: string };

/** Steps of a search between two sizes: to a thousandth of their distance. */
const SEARCH_STEPS = 10;

/** How large one guest may be by its narrower bound, and which that is. */
interface Limit {
  readonly most: number;
  readonly why: string;
}

/**
 * Whether one guest can move from `held` to `wanted` beside everything already committed. What fits is granted whole; else what
 * is left, if it is at least `least` (the median need: with less the work would rather wait). Pure.
 *
 * @param committed sum of all guests' entitlements, this guest's `held` included
 * @param demand absent: only promises bind
 */
export function admit(
  capacity: Room,
  committed: Room,
  held: Entitlement,
  wanted: Entitlement,
  least: Entitlement,
  demand?: DemandBound,
): Admission {
  const limits = {
    cpuMillicores: limitOf('cpuMillicores', capacity, committed, held, wanted, demand),
    memoryBytes: limitOf('memoryBytes', capacity, committed, held, wanted, demand),
  };
  const short = ROOM_FIELDS.find((field) => wanted[field] > limits[field].most);
  if (short === undefined) return { kind: 'grant', entitlement: wanted, reason: 'fits the host' };
  const lacking = ROOM_FIELDS.find((field) => least[field] > limits[field].most);
  if (lacking !== undefined) {
    return {
      kind: 'no-room',
      reason: `the host has no room for the median need: short of ${RESOURCE_OF[lacking]}, ${limits[lacking].why}`,
    };
  }
  const cpuMillicores = Math.min(wanted.cpuMillicores, limits.cpuMillicores.most);
  const memoryBytes = Math.min(wanted.memoryBytes, limits.memoryBytes.most);
  return {
    kind: 'grant-part',
    entitlement: { ...wanted, cpuMillicores, memoryBytes },
    reason: `the host is short of ${RESOURCE_OF[short]}: the median need fits, the headroom does not; ${limits[short].why}`,
  };
}

function limitOf(
  field: RoomField,
  capacity: Room,
  committed: Room,
  held: Entitlement,
  wanted: Entitlement,
  demand: DemandBound | undefined,
): Limit {
  const promised: Limit = {
    most: held[field] + Math.max(0, capacity[field] - committed[field]),
    why: `${amount(field, committed[field])} of ${amount(field, capacity[field])} are promised`,
  };
  if (demand === undefined) return promised;
  const tailAt = (size: number): number => demand.tailWith({ ...held, [field]: size })[field];
  const physical = demand.physical[field];
  const top = Math.min(promised.most, wanted[field]);
  if (top <= held[field] || tailAt(top) <= physical) return promised;
  let most = held[field];
  let beyond = top;
  for (let step = 0; step < SEARCH_STEPS; step += 1) {
    const middle = (most + beyond) / 2;
    if (tailAt(middle) <= physical) most = middle;
    else beyond = middle;
  }
  const why = `with it the guests may come to use ${amount(field, tailAt(wanted[field]))} together, and there are ${amount(field, physical)}`;
  return { most: Math.floor(most), why };
}

/** One resource's amount in words. */
export function amount(field: RoomField, value: number): string {
  return field === 'cpuMillicores'
    ? `${(value / MILLICORES_PER_VCPU).toFixed(2)} cores`
    : `${Math.round(value / MIB)} MiB`;
}
