import { LeaseState as WireLeaseState } from '../../proto/gen/foreshade/v1/allocation.ts';
import {
  PlacementGoal as WireGoal,
  HostVerdict as WireVerdict,
} from '../../proto/gen/foreshade/v1/placement.ts';
import {
  Axis as WireAxis,
  Mode as WireMode,
  Priority as WirePriority,
  Track as WireTrack,
} from '../../proto/gen/foreshade/v1/resources.ts';
import type { Axis, Track } from '../core/forecast.ts';
import type { Mode } from '../core/guest.ts';
import type { LeaseState } from '../core/lease.ts';
import type { PlacementGoal, RankedHost } from '../core/rank-hosts.ts';
import type { Priority } from '../core/request.ts';

/** The contract's numbers of the core's words. A new word does not compile until it has one. */
export const WIRE_LEASE_STATE: Readonly<Record<LeaseState, WireLeaseState>> = {
  QUEUED: WireLeaseState.LEASE_STATE_QUEUED,
  SCHEDULED: WireLeaseState.LEASE_STATE_SCHEDULED,
  PREPARING: WireLeaseState.LEASE_STATE_PREPARING,
  ACTIVE: WireLeaseState.LEASE_STATE_ACTIVE,
  DEGRADED: WireLeaseState.LEASE_STATE_DEGRADED,
  RELEASING: WireLeaseState.LEASE_STATE_RELEASING,
  RELEASED: WireLeaseState.LEASE_STATE_RELEASED,
  EXPIRED: WireLeaseState.LEASE_STATE_EXPIRED,
  REJECTED: WireLeaseState.LEASE_STATE_REJECTED,
};

export const WIRE_PRIORITY: Readonly<Record<Priority, WirePriority>> = {
  low: WirePriority.PRIORITY_LOW,
  normal: WirePriority.PRIORITY_NORMAL,
  high: WirePriority.PRIORITY_HIGH,
  critical: WirePriority.PRIORITY_CRITICAL,
};

export const WIRE_MODE: Readonly<Record<Mode, WireMode>> = {
  shadow: WireMode.MODE_SHADOW,
  advise: WireMode.MODE_ADVISE,
  enforce: WireMode.MODE_ENFORCE,
};

export const WIRE_AXIS: Readonly<Record<Axis, WireAxis>> = {
  seconds: WireAxis.AXIS_SECONDS,
  instructions: WireAxis.AXIS_INSTRUCTIONS,
};

export const WIRE_TRACK: Readonly<Record<Track, WireTrack>> = {
  short: WireTrack.TRACK_SHORT,
  long: WireTrack.TRACK_LONG,
};

export const WIRE_GOAL: Readonly<Record<PlacementGoal, WireGoal>> = {
  spread: WireGoal.PLACEMENT_GOAL_SPREAD,
  pack: WireGoal.PLACEMENT_GOAL_PACK,
};

export const WIRE_VERDICT: Readonly<Record<RankedHost['verdict'], WireVerdict>> = {
  pass: WireVerdict.HOST_VERDICT_PASS,
  veto: WireVerdict.HOST_VERDICT_VETO,
};

function inverse<W extends string>(table: Readonly<Record<W, number>>): ReadonlyMap<number, W> {
  return new Map(Object.entries(table).map(([word, number]) => [number as number, word as W]));
}

/** The core's words of the contract's numbers; an unknown number has none. */
export const LEASE_STATE_OF = inverse(WIRE_LEASE_STATE);
export const PRIORITY_OF = inverse(WIRE_PRIORITY);
export const MODE_OF = inverse(WIRE_MODE);
export const AXIS_OF = inverse(WIRE_AXIS);
export const TRACK_OF = inverse(WIRE_TRACK);
export const GOAL_OF = inverse(WIRE_GOAL);
export const VERDICT_OF = inverse(WIRE_VERDICT);
