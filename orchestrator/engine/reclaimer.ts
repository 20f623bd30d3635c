import { fallsShort } from '../core/adjust.ts';
import { combine, UNBOUNDED } from '../core/entitlement.ts';
import type { GuestId } from '../core/guest.ts';
import { type Adjustment, holdsRoom, isWorkOver, type Lease, withAdjustments } from '../core/lease.ts';
import { GRAIN, withHeadroom } from '../core/needs.ts';
import type { Actuated, Clock } from '../core/ports.ts';
import { type Entitlement, RESOURCE_OF } from '../core/profile.ts';
import { type Reclaimable, ReclaimBook, type Take } from '../core/reclaim.ts';
import { beyond, lesser, ROOM_FIELDS, type Room, roomOf, roomText } from '../core/room.ts';
import type { GuestSample } from '../core/sample.ts';
import type { GuestBook } from './guest-book.ts';
import type { HostRoom } from './host-room.ts';
import type { LatestTime } from './latest-time.ts';
import { decided, decisionOf, type LeaseBook, type LeaseRecord } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';
import type { Tenancy } from './tenancy.ts';

/** Waiting for a host CPU longer than this share of its time, or stalled on memory as long, a guest is under pressure. */
const PRESSURE_FRACTION = 0.1;
/** What a guest used in so many ms is what it uses: several samples of the slowest kind beside a lease. */
const LOOK_BACK_MS = 5_000;
/** Guests counted anew by one decision at most, some 5 us each: on hosts with more leases the tick does the rest. */
const LOOKS_PER_DECISION_MAX = 64;
/** The same by one tick: some 2 ms. */
const LOOKS_PER_TICK_MAX = 256;

export interface ReclaimerParts {
  readonly clock: Clock;
  readonly latest: LatestTime;
  readonly room: HostRoom;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly journal: LeaseJournal;
  readonly tenancy: Tenancy;
  readonly policy: EnginePolicy;
}

/** Finds what running leases could give up, and takes it: from what they were admitted, so that it is durable with who gets it. */
export class Reclaimer {
  readonly #parts: ReclaimerParts;
  readonly #book = new ReclaimBook();
  readonly #changed = new Set<GuestId>();
  /** Guests with leases in place, the one that was counted longest ago first. */
  readonly #countedAtMs = new Map<GuestId, number>();

  constructor(parts: ReclaimerParts) {
    this.#parts = parts;
    parts.room.onTouch((id) => this.#changed.add(id));
  }

  /** What leases could give up: what changed since, and what is older than a tick, is counted anew first, within a bound. */
  all(): ReclaimBook {
    this.#look(LOOKS_PER_DECISION_MAX);
    return this.#book;
  }

  /** A guest was sampled in full: what its leases could give up may have changed. */
  note(id: GuestId): void {
    if (this.#countedAtMs.has(id)) this.#changed.add(id);
  }

  /** Count anew what is due. */
  tend(): void {
    this.#look(LOOKS_PER_TICK_MAX);
  }

  /** Whether a guest's leases can give something up now. */
  mayGive(id: GuestId): boolean {
    const guest = this.#parts.guests.find(id);
    return guest !== undefined && isAtRest(guest);
  }

  /** What changed comes first, then whatever was counted longest ago. */
  #look(most: number): void {
    const { clock, policy } = this.#parts;
    const nowMs = clock.monotonicMs();
    let left = most;
    for (const id of this.#changed) {
      if (left === 0) return;
      left -= 1;
      this.#count(id, nowMs);
    }
    for (const [id, countedAtMs] of this.#countedAtMs) {
      if (left === 0 || nowMs - countedAtMs < policy.tickMs) return;
      left -= 1;
      this.#count(id, nowMs);
    }
  }

  #count(id: GuestId, nowMs: number): void {
    const guest = this.#parts.guests.find(id);
    const shares = guest === undefined ? undefined : this.#ofGuest(guest);
    this.#changed.delete(id);
    this.#countedAtMs.delete(id);
    this.#book.put(id, shares ?? []);
    if (shares !== undefined) this.#countedAtMs.set(id, nowMs);
  }

  /** Who gives what, in words. */
  text(takes: readonly Take[]): string {
    return takes
      .map(({ leaseId, room, kind }) => `${roomText(room)} (${kind}) from ${this.#nameOf(leaseId)}`)
      .join(', ');
  }

  /**
   * Lower what these leases were admitted; owed to the ledger, so that the next commit, with the lease that gets it, takes it
   * along. Returns the guests that are to move.
   */
  take(takes: readonly Take[], receiver: Lease): ManagedGuest[] {
    const { leases, guests, journal } = this.#parts;
    const moved = new Set<ManagedGuest>();
    for (const { leaseId, room, kind } of takes) {
      const record = leases.get(leaseId);
      journal.owe(this.#lowered(record, room, `${kind} reclaimed for ${whose(receiver)}`));
      const guest = guests.find(record.lease.guest);
      if (guest !== undefined) moved.add(guest);
    }
    return [...moved];
  }

  #lowered(record: LeaseRecord, room: Room, reason: string): LeaseRecord {
    const atMs = this.#parts.clock.nowMs();
    const admitted: Entitlement = {
      ...record.admitted,
      ...roomOf((field) => record.admitted[field] - room[field]),
    };
    const fields = ROOM_FIELDS.filter((field) => room[field] > 0);
    const adjustments = fields.map((field): Adjustment => {
      const [from, to] = [record.admitted[field], admitted[field]];
      const usage = record.lease.used[field];
      const residual = usage === undefined ? 0 : usage - (record.lease.predicted.fields[field]?.q50 ?? usage);
      return { atMs, resource: RESOURCE_OF[field], from, to, residual, reason };
    });
    const lease: Lease = {
      ...withAdjustments(record.lease, adjustments),
      state: 'DEGRADED',
      reason,
    };
    const decision = decisionOf(lease, {
      atMs,
      action: 'adjust',
      rule: 'reclaim',
      inputs: { millicores: room.cpuMillicores, memoryBytes: room.memoryBytes },
      outcome: reason,
    });
    return decided({ ...record, lease, admitted }, decision);
  }

  #nameOf(leaseId: string): string {
    return whose(this.#parts.leases.get(leaseId).lease);
  }

  /** What of a guest's entitlement its usage and its leases' forecasts leave over is shared out among its leases; undefined without any. */
  #ofGuest(guest: ManagedGuest): Reclaimable[] | undefined {
    const { leases, clock, latest } = this.#parts;
    const nowMs = clock.nowMs();
    const records = leases.ofGuest(guest.record.id).filter(({ lease }) => holdsRoom(lease.state));
    const inPlace = ({ lease: { state } }: LeaseRecord): boolean =>
      state === 'ACTIVE' || state === 'DEGRADED';
    if (records.length === 0) return undefined;
    if (!records.every(inPlace) || !isAtRest(guest)) return [];

    let idle = this.#idle(guest, records, nowMs);
    let unneeded = this.#unneeded(guest, records);
    const shares: Reclaimable[] = [];
    for (const record of records) {
      const { id: leaseId, tenant, priority } = record.lease;
      const isOver = isWorkOver(record.lease, latest.ms());
      const above = (keep: Room): Room => {
        const kept = roomOf((field) => Math.max(keep[field], guest.record.baseline.entitlement[field]));
        const free = lesser(beyond(record.admitted, kept), isOver ? lesser(idle, unneeded) : idle);
        return roomOf((field) => wholeGrainsIn(free[field], field));
      };
      const slack = above(stillNeeded(record, isOver));
      const pressed = above(record.least);
      const most = roomOf((field) => Math.max(slack[field], pressed[field]));
      shares.push({ leaseId, tenant, priority, slack, most });
      idle = beyond(idle, most);
      if (isOver) unneeded = beyond(unneeded, most);
    }
    return shares;
  }

  /** What a guest holds beyond what leases were promised whose work may still need it: no more can come from the others. */
  #unneeded(guest: ManagedGuest, records: readonly LeaseRecord[]): Room {
    const latestMs = this.#parts.latest.ms();
    const needed = records.filter(({ lease }) => !isWorkOver(lease, latestMs));
    return beyond(
      guest.target(records.map(({ admitted }) => admitted)),
      guest.combined(needed.map(({ admitted }) => admitted)),
    );
  }

  /** What a guest holds by its leases and has not used of late, headroom kept; nothing of what is not known or must rest. */
  #idle(guest: ManagedGuest, records: readonly LeaseRecord[], nowMs: number): Room {
    const { tenancy, policy, clock } = this.#parts;
    const monotonicMs = clock.monotonicMs();
    const admitted = records.map((record) => record.admitted);
    const target = guest.target(admitted);
    const asked = guest.asked(admitted);
    const { entitlement: baseline } = guest.record.baseline;
    const beyondCeiling = beyond(combine(baseline, admitted, UNBOUNDED), guest.combined(admitted));
    const policies = records.map(({ lease }) => tenancy.policy(lease.tenant));
    const cooldownMs = Math.max(...policies.map((one) => one.cooldownMs));
    const isPressed = underPressure(guest.lastSample, guest.held, policy);
    return roomOf((field) => {
      const resource = RESOURCE_OF[field] as 'cpu' | 'memory';
      const usage = guest.usageMax(field, nowMs - LOOK_BACK_MS);
      const movedAtMs = guest.changedAtMonotonicMs.get(resource) ?? Number.NEGATIVE_INFINITY;
      const rests = monotonicMs - movedAtMs < cooldownMs;
      // Beyond its ceiling a lease is promised what it does not hold: nothing would be freed by taking it.
      const isClipped = asked[field] > target[field] || beyondCeiling[field] > 0;
      const isOurs = !guest.record.relinquished.includes(resource);
      if (usage === undefined || isPressed || rests || isClipped || !isOurs) return 0;
      const headroom = Math.max(...policies.map((one) => one.needs.headroomFraction[resource]));
      // Adjustments may have taken already what a lease was promised: below the baseline nothing is freed.
      const kept = Math.max(withHeadroom(usage, field, headroom), baseline[field]);
      return Math.max(0, target[field] - kept);
    });
  }
}

/** A guest that is being changed, or is to be read first, is left to that. */
function isAtRest({ record, facts, busy, unread, leaving }: ManagedGuest): boolean {
  return record.mode === 'enforce' && facts.state === 'running' && !busy && !unread && !leaving;
}

/** The largest multiple of the field's grain in `value`: what is left must be something the actuators can set. */
function wholeGrainsIn(value: number, field: keyof Room): number {
  return Math.floor(value / GRAIN[field]) * GRAIN[field];
}

/** What a lease is foreseen to need at most; nothing once its time has passed. */
function stillNeeded({ lease, admitted }: LeaseRecord, isOver: boolean): Room {
  return roomOf((field) => (isOver ? 0 : (lease.predicted.fields[field]?.q95 ?? admitted[field])));
}

/** Whether a guest is short already: it stands at its entitlement, waits for the host's CPUs, or is stalled on memory. */
function underPressure(
  sample: GuestSample | undefined,
  held: Entitlement,
  { adjust }: EnginePolicy,
): boolean {
  if (sample === undefined) return true;
  const atLimit = ROOM_FIELDS.some((field) =>
    fallsShort(
      { field, entitled: held[field], usage: sample.usage[field] ?? 0, isDelayed: false },
      adjust[RESOURCE_OF[field] as Actuated],
    ),
  );
  const delay = Math.max(0, ...(sample.vcpus ?? []).map(({ delayFraction }) => delayFraction));
  const stalled = sample.pressure?.memorySome ?? 0;
  const swaps = (sample.memory?.swapInBytesPerS ?? 0) > 0;
  return atLimit || delay > PRESSURE_FRACTION || stalled > PRESSURE_FRACTION || swaps;
}

function whose({ tenant, guestName, id }: Lease): string {
  return `${tenant === '' ? '' : `tenant ${tenant}, `}guest ${guestName}, lease ${id}`;
}
