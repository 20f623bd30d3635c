import { type AdjustPolicy, adjustField } from '../core/adjust.ts';
import type { Room } from '../core/admit.ts';
import type { Adjustment, Interval, Lease } from '../core/lease.ts';
import type { Actuated } from '../core/ports.ts';
import { ENTITLEMENT_FIELDS, type Entitlement, type EntitlementField, RESOURCE_OF } from '../core/profile.ts';
import type { GuestSample } from '../core/sample.ts';
import type { ManagedGuest } from './managed-guest.ts';

/** One field to move, and how it will be recorded. */
export interface Correction {
  readonly field: EntitlementField;
  readonly target: number;
  readonly adjustment: Adjustment;
}

export interface CorrectionInput {
  readonly guest: ManagedGuest;
  readonly sample: GuestSample;
  /** Leases in force on the guest, oldest first; at least one. */
  readonly leases: readonly Lease[];
  /** What the leases were admitted for together. */
  readonly promised: Entitlement;
  /** The most the guest may have, given the host. */
  readonly room: Room;
  readonly policy: Readonly<Record<Actuated, AdjustPolicy>>;
  readonly nowMs: number;
}

/** Which fields of a guest a sample says to move. Pure but for reading the guest's recent samples. */
export function correct(input: CorrectionInput): Correction[] {
  const corrections: Correction[] = [];
  for (const field of ENTITLEMENT_FIELDS) {
    const correction = correctField(field, input);
    if (correction !== undefined) corrections.push(correction);
  }
  return corrections;
}

function correctField(field: EntitlementField, input: CorrectionInput): Correction | undefined {
  const { guest, sample, nowMs } = input;
  const resource = RESOURCE_OF[field] as Actuated;
  const usage = sample.usage[field];
  const entitled = guest.held[field];
  if (usage === undefined || entitled === undefined || guest.record.relinquished.includes(resource))
    return undefined;
  const policy = input.policy[resource];
  const floor = floorOf(field, input);
  const predicted = predictedFor(field, input.leases);
  const decision = adjustField(
    {
      field,
      entitled,
      usage,
      usageRecentMax: guest.usageMax(field, nowMs - policy.cooldownMs) ?? usage,
      ...(predicted === undefined ? {} : { predicted }),
      floor,
      ceiling: Math.max(floor, ceilingOf(field, input)),
      sinceChangeMs: nowMs - (guest.changedAtMs.get(resource) ?? 0),
    },
    policy,
  );
  if (decision.kind === 'hold') return undefined;
  const { target, residual, reason } = decision;
  return {
    field,
    target,
    adjustment: { atMs: nowMs, resource, from: entitled, to: target, residual, reason },
  };
}

/** What leases were promised stands while they may still need it; afterwards the baseline does. */
function floorOf(field: EntitlementField, { guest, leases, promised, nowMs }: CorrectionInput): number {
  const baseline = guest.record.baseline.entitlement[field];
  const running = leases.some((lease) => {
    const durationS = lease.predicted.durationS?.q95;
    return durationS === undefined || nowMs < (lease.inPlaceAtMs ?? nowMs) + durationS * 1000;
  });
  return Math.max(baseline ?? 0, running ? (promised[field] ?? 0) : 0);
}

function ceilingOf(field: EntitlementField, { guest, room }: CorrectionInput): number {
  const ceiling = guest.facts.ceiling[field] ?? Number.MAX_SAFE_INTEGER;
  if (field === 'cpuMillicores' || field === 'memoryBytes') return Math.min(ceiling, room[field]);
  return ceiling;
}

/** With one lease in force its own interval; with several no single forecast speaks for the guest. */
function predictedFor(field: EntitlementField, leases: readonly Lease[]): Interval | undefined {
  return leases.length === 1 ? leases[0]?.predicted.fields[field] : undefined;
}
