import assert from 'node:assert';
import type { Interval } from './lease.ts';
import { MEMORY_RESERVE_BYTES, wholeGrains, withHeadroom } from './needs.ts';
import type { EntitlementField } from './profile.ts';

/** How a running guest is corrected. All fractions are of the present entitlement unless said otherwise. */
export interface AdjustPolicy {
  /** Kept above usage when growing or shrinking. */
  readonly headroomFraction: number;
  /** Usage at or above this share of the entitlement is demand cut off: grow at once. In (0, 1). */
  readonly limitFraction: number;
  /** How far beyond usage an emergency grows: what was cut off is not known. */
  readonly emergencyFraction: number;
  /** Largest shrink in one step. */
  readonly shrinkStepFraction: number;
  /** A change smaller than this is not worth making. */
  readonly deadbandFraction: number;
  /** Time after any change before a shrink, ms. */
  readonly cooldownMs: number;
}

/** What is known of one field of one guest when it is decided. */
export interface FieldSituation {
  readonly field: EntitlementField;
  readonly entitled: number;
  readonly usage: number;
  /** Largest usage of the last cooldown: what a shrink must still hold. */
  readonly usageRecentMax: number;
  /** The lease's forecast of the peak; absent when none. */
  readonly predicted?: Interval;
  /** Never below: the baseline, or what leases were promised while they may still need it. */
  readonly floor: number;
  /** Never above: the guest's ceiling and what the host has room for. */
  readonly ceiling: number;
  readonly sinceChangeMs: number;
  /** The host kept it waiting: what it used is what it got. */
  readonly isDelayed: boolean;
  /** Share of the time of late in which it fell short, and how much of it may be: beyond, nothing is taken back. */
  readonly shortShare: number;
  readonly shortTarget: number;
}

export type FieldDecision =
  | { readonly kind: 'hold'; readonly reason: string }
  | {
      readonly kind: 'grow' | 'shrink';
      readonly target: number;
      readonly residual: number;
      readonly reason: string;
    };

/**
 * A guest that waits for the host while it uses this much of its entitlement runs into it in bursts shorter than a sample.
 * One that waits and uses less waits for other guests, which no entitlement of its own would change.
 */
const DELAYED_FRACTION = 0.8;

/**
 * True when what is used may be less than what is wanted: it stands at the entitlement, waits just below it, or has left of its
 * memory only what it cannot use.
 */
export function fallsShort(
  { field, entitled, usage, isDelayed }: Pick<FieldSituation, 'field' | 'entitled' | 'usage' | 'isDelayed'>,
  { limitFraction }: Pick<AdjustPolicy, 'limitFraction'>,
): boolean {
  if (field === 'memoryBytes' && usage >= entitled - MEMORY_RESERVE_BYTES) return true;
  return usage >= entitled * (isDelayed ? Math.min(DELAYED_FRACTION, limitFraction) : limitFraction);
}

/**
 * Correct one field from its residual. Starvation is worse than waste, so growth is immediate; a shrink waits for the
 * cooldown and goes by steps, since the forecast may be right after all. It is a risk as well: while the field fell short
 * for more of the time than it may, none is taken, so that a demand which comes and goes is not followed down. Each target
 * is a level of usage, not a change, so nothing is left over for an integral part to correct, and none is kept. Pure.
 */
export function adjustField(situation: FieldSituation, policy: AdjustPolicy): FieldDecision {
  const { field, entitled, usage, predicted } = situation;
  assert(situation.floor <= situation.ceiling);
  assert(Number.isFinite(usage) && usage >= 0);
  const residual = usage - (predicted?.q50 ?? usage);
  const cutOff = fallsShort(situation, policy);
  const wanted = cutOff
    ? usage * (1 + policy.emergencyFraction)
    : withHeadroom(usage, field, policy.headroomFraction);
  const deadband = entitled * policy.deadbandFraction;

  if (cutOff || usage > (predicted?.q95 ?? Number.POSITIVE_INFINITY)) {
    const target = clip(wanted, situation);
    if (target - entitled > deadband) {
      return { kind: 'grow', target, residual, reason: growthReason(situation, policy, cutOff) };
    }
    if (cutOff) return { kind: 'hold', reason: 'at the ceiling, or the host has no room' };
  }
  const calm = withHeadroom(situation.usageRecentMax, field, policy.headroomFraction);
  const target = clip(Math.max(calm, entitled * (1 - policy.shrinkStepFraction)), situation);
  if (entitled - target <= deadband) return { kind: 'hold', reason: 'within the deadband' };
  if (situation.sinceChangeMs < policy.cooldownMs) return { kind: 'hold', reason: 'cooldown' };
  if (situation.shortShare > situation.shortTarget)
    return { kind: 'hold', reason: 'it fell short too often' };
  return { kind: 'shrink', target, residual, reason: 'usage has stayed below the entitlement' };
}

function growthReason(situation: FieldSituation, policy: AdjustPolicy, cutOff: boolean): string {
  if (!cutOff) return 'usage is above the forecast q95';
  const stands = fallsShort({ ...situation, isDelayed: false }, policy);
  return stands ? 'usage stands at the entitlement' : 'the host kept it waiting near its entitlement';
}

function clip(value: number, { field, floor, ceiling }: FieldSituation): number {
  return Math.min(Math.max(wholeGrains(value, field), floor), ceiling);
}
