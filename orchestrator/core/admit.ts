import type { HostFacts } from './guest.ts';
import type { Entitlement } from './profile.ts';

/** What of a host may be promised. */
export interface CapacityPolicy {
  /** Sellable over physical, >= 1 means overcommitted. */
  readonly overcommit: { readonly cpu: number; readonly memory: number };
  /** Kept for the host itself. */
  readonly reserved: { readonly cpuMillicores: number; readonly memoryBytes: number };
}

export interface Room {
  readonly cpuMillicores: number;
  readonly memoryBytes: number;
}

/** (total - reserved) x overcommit ratio; never negative. */
export function capacityOf(host: HostFacts, policy: CapacityPolicy): Room {
  return {
    cpuMillicores: Math.max(0, host.cpuMillicores - policy.reserved.cpuMillicores) * policy.overcommit.cpu,
    memoryBytes: Math.max(0, host.memoryBytes - policy.reserved.memoryBytes) * policy.overcommit.memory,
  };
}

/** Closed set of answers; each carries the sentence that explains it. */
export type Admission =
  | { readonly kind: 'grant'; readonly entitlement: Entitlement; readonly reason: string }
  | { readonly kind: 'grant-part'; readonly entitlement: Entitlement; readonly reason: string }
  | { readonly kind: 'no-room'; readonly reason: string };

/**
 * Whether one guest can move from `held` to `wanted` beside everything already committed. What fits is granted whole; else what
 * is left, if it is at least `least` (the median need: with less the work would rather wait). Pure.
 *
 * @param committed sum of all guests' entitlements, this guest's `held` included
 */
export function admit(
  capacity: Room,
  committed: Room,
  held: Entitlement,
  wanted: Entitlement,
  least: Entitlement,
): Admission {
  const most = {
    cpuMillicores: held.cpuMillicores + Math.max(0, capacity.cpuMillicores - committed.cpuMillicores),
    memoryBytes: held.memoryBytes + Math.max(0, capacity.memoryBytes - committed.memoryBytes),
  };
  if (wanted.cpuMillicores <= most.cpuMillicores && wanted.memoryBytes <= most.memoryBytes) {
    return { kind: 'grant', entitlement: wanted, reason: 'fits the host' };
  }
  const short = wanted.cpuMillicores > most.cpuMillicores ? 'cpu' : 'memory';
  if (least.cpuMillicores <= most.cpuMillicores && least.memoryBytes <= most.memoryBytes) {
    const cpuMillicores = Math.min(wanted.cpuMillicores, most.cpuMillicores);
    const memoryBytes = Math.min(wanted.memoryBytes, most.memoryBytes);
    return {
      kind: 'grant-part',
      entitlement: { ...wanted, cpuMillicores, memoryBytes },
      reason: `the host is short of ${short}: the median need fits, the headroom does not`,
    };
  }
  const lacking = least.cpuMillicores > most.cpuMillicores ? 'cpu' : 'memory';
  return { kind: 'no-room', reason: `the host has no room for the median need: short of ${lacking}` };
}
