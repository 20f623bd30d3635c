import type { GuestId } from './guest.ts';
import type { Entitlement, Resource, ResourceProfile } from './profile.ts';
import type { Params, Priority } from './request.ts';
import type { ClassCounts } from './sample.ts';

export const LEASE_STATES = [
  'QUEUED', //     no room yet; waits for its turn
  'SCHEDULED', //  its start lies ahead; room is reserved
  'PREPARING', //  journalled; actuators are moving
  'ACTIVE', //     everything that was requested is in place
  'DEGRADED', //   less than requested is in place
  'RELEASING', //  being given back
  'RELEASED',
  'EXPIRED',
  'REJECTED',
] as const;
export type LeaseState = (typeof LEASE_STATES)[number];

/** Next states of each state. Anything else is a programming error. */
export const LEASE_TRANSITIONS: Readonly<Record<LeaseState, readonly LeaseState[]>> = {
  QUEUED: ['SCHEDULED', 'PREPARING', 'REJECTED', 'RELEASED', 'EXPIRED'],
  SCHEDULED: ['PREPARING', 'RELEASED', 'EXPIRED', 'REJECTED'],
  PREPARING: ['ACTIVE', 'DEGRADED', 'RELEASING', 'REJECTED', 'RELEASED', 'EXPIRED'],
  ACTIVE: ['DEGRADED', 'RELEASING', 'RELEASED', 'EXPIRED'],
  DEGRADED: ['ACTIVE', 'RELEASING', 'RELEASED', 'EXPIRED'],
  RELEASING: ['RELEASED', 'EXPIRED'],
  RELEASED: [],
  EXPIRED: [],
  REJECTED: [],
};

export function hasEnded(state: LeaseState): boolean {
  return LEASE_TRANSITIONS[state].length === 0;
}

/** True while the lease holds room on the host. */
export function holdsRoom(state: LeaseState): boolean {
  return (
    state === 'SCHEDULED' ||
    state === 'PREPARING' ||
    state === 'ACTIVE' ||
    state === 'DEGRADED' ||
    state === 'RELEASING'
  );
}

/** Quantiles of one forecast row that a lease keeps for good. */
export interface Interval {
  readonly q05: number;
  readonly q50: number;
  readonly q95: number;
}

/** What a lease remembers of the forecast it rests on. Fields without a forecast are absent. */
export interface PredictedNeed {
  readonly fields: Readonly<Partial<Record<keyof ResourceProfile, Interval>>>;
  /** Seconds the work lasts. */
  readonly durationS?: Interval;
  readonly reason: string;
  readonly runs: number;
}

/** One change made while the lease ran. */
export interface Adjustment {
  readonly atMs: number;
  readonly resource: Resource;
  /** Millicores, bytes or bytes per second, by the resource. */
  readonly from: number;
  readonly to: number;
  /** actual - forecast median, in the same unit. */
  readonly residual: number;
  readonly reason: string;
}

/** Adjustments kept per lease; a lease that moved more often keeps the latest. */
const ADJUSTMENTS_MAX = 64;

/** A promise of room on one guest, with a time to live. Immutable: each change makes a new value. */
export interface Lease {
  readonly id: string;
  readonly requestId: string;
  readonly tenant: string;
  readonly workload: string;
  readonly guest: GuestId;
  readonly guestName: string;
  readonly params: Params;
  readonly priority: Priority;
  readonly state: LeaseState;
  /** Why it is in this state, in words. */
  readonly reason: string;
  readonly requestedAtMs: number;
  /** When the work is to start. */
  readonly startMs: number;
  /** As requested: one that still waits then is REJECTED. */
  readonly latestStartMs?: number;
  readonly ttlMs: number;
  readonly expiresAtMs: number;
  readonly predicted: PredictedNeed;
  readonly requested: Entitlement;
  /** What the guest really has for it; equals `requested` only when every actuator got there. */
  readonly granted?: Entitlement;
  readonly inPlaceAtMs?: number;
  /** Read inside the guest, where an agent answers. */
  readonly guestSeen?: GuestSeen;
  readonly answeredAtMs?: number;
  /** Usage just before the lease was put in place. */
  readonly before: ResourceProfile;
  /** Largest usage seen so far. */
  readonly used: ResourceProfile;
  readonly adjustments: readonly Adjustment[];
  /** Instructions the guest executed from in place to the release; absent without a counter, or when it restarted meanwhile. */
  readonly executed?: { readonly total: number; readonly classes?: ClassCounts };
  readonly workStartedAtMs?: number;
  readonly workFinishedAtMs?: number;
  readonly releasedAtMs?: number;
  /** Set while QUEUED. */
  readonly queue?: { readonly position: number; readonly expectedWaitMs: number };
}

export interface GuestSeen {
  readonly vcpusOnline: number;
  readonly memTotalBytes: number;
}

/** The lease with adjustments added, bounded. */
export function withAdjustments(lease: Lease, more: readonly Adjustment[]): Lease {
  return { ...lease, adjustments: [...lease.adjustments, ...more].slice(-ADJUSTMENTS_MAX) };
}

/** When the work of a lease that is in place could begin, ms since epoch: a lease may be in place ahead of its start. */
export function workBeganAtMs(
  { inPlaceAtMs, startMs }: Pick<Lease, 'inPlaceAtMs' | 'startMs'>,
  nowMs: number,
): number {
  return Math.max(inPlaceAtMs ?? nowMs, startMs);
}

/** Whether the time that a lease's work was foreseen to take at most has passed; never where none was foreseen. */
export function isWorkOver(
  lease: Pick<Lease, 'inPlaceAtMs' | 'startMs' | 'predicted'>,
  nowMs: number,
): boolean {
  const durationS = lease.predicted.durationS?.q95;
  return durationS !== undefined && nowMs >= workBeganAtMs(lease, nowMs) + durationS * 1000;
}
