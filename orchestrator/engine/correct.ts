import { type AdjustPolicy, adjustField } from '../core/adjust.ts';
import { type Adjustment, type Interval, isWorkOver } from '../core/lease.ts';
import { RATE_FLOOR_BYTES_PER_S } from '../core/needs.ts';
import type { Actuated } from '../core/ports.ts';
import { ENTITLEMENT_FIELDS, type Entitlement, type EntitlementField, RESOURCE_OF } from '../core/profile.ts';
import type { Room } from '../core/room.ts';
import type { GuestSample } from '../core/sample.ts';
import { isDelayed } from './censoring.ts';
import type { LeaseRecord } from './lease-book.ts';
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
  /** Leases in place on the guest, oldest first; at least one. */
  readonly leases: readonly LeaseRecord[];
  /** What admission let the guest's leases have. */
  readonly admitted: readonly Entitlement[];
  /** The most the guest may have, given the host. */
  readonly room: Room;
  readonly policy: Readonly<Record<Actuated, AdjustPolicy>>;
  /** Share of the time in which a field may fall short. */
  readonly shortTarget: number;
  readonly nowMs: number;
  /** The latest it ever was, ms since epoch: work that was over is over. */
  readonly latestMs: number;
  readonly monotonicMs: number;
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
  const { guest, sample, admitted, nowMs } = input;
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
      sinceChangeMs:
        input.monotonicMs - (guest.changedAtMonotonicMs.get(resource) ?? Number.NEGATIVE_INFINITY),
      isDelayed: field === 'cpuMillicores' && isDelayed(sample),
      shortShare: guest.shortShare(field),
      shortTarget: input.shortTarget,
    },
    policy,
  );
  if (decision.kind === 'hold') return undefined;
  const { target, residual, reason } = decision;
  // What it holds beyond its leases, a move that is still to succeed takes back; a step down to there would promise it.
  if (decision.kind === 'shrink' && target >= (guest.target(admitted)[field] ?? target)) return undefined;
  return {
    field,
    target,
    adjustment: { atMs: nowMs, resource, from: entitled, to: target, residual, reason },
  };
}

/** What a lease was promised stands while its work may still need it; the baseline stands always. */
function floorOf(field: EntitlementField, { guest, leases, latestMs }: CorrectionInput): number {
  // Where there was no limit, one of ours never makes what is unforeseen crawl.
  const unlimited = field === 'cpuMillicores' || field === 'memoryBytes' ? 0 : RATE_FLOOR_BYTES_PER_S;
  const baseline = guest.record.baseline.entitlement[field] ?? unlimited;
  const needed = leases.filter(({ lease }) => !isWorkOver(lease, latestMs));
  if (needed.length === 0) return baseline;
  return Math.max(baseline, guest.combined(needed.map(({ admitted }) => admitted))[field] ?? 0);
}

function ceilingOf(field: EntitlementField, { guest, room }: CorrectionInput): number {
  const ceiling = guest.facts.ceiling[field] ?? Number.MAX_SAFE_INTEGER;
  if (field === 'cpuMillicores' || field === 'memoryBytes') return Math.min(ceiling, room[field]);
  return ceiling;
}

/** With one lease in force its own interval; with several no single forecast speaks for the guest. */
function predictedFor(field: EntitlementField, leases: readonly LeaseRecord[]): Interval | undefined {
  return leases.length === 1 ? leases[0]?.lease.predicted.fields[field] : undefined;
}
