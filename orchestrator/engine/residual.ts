import { fallsShort } from '../core/adjust.ts';
import { hasEnded, withAdjustments } from '../core/lease.ts';
import { shortTarget } from '../core/needs.ts';
import type { Actuated, Clock } from '../core/ports.ts';
import {
  ENTITLEMENT_FIELDS,
  type Entitlement,
  PROFILE_FIELDS,
  type ProfileField,
  RESOURCE_OF,
} from '../core/profile.ts';
import type { GuestSample } from '../core/sample.ts';
import type { Background } from './background.ts';
import { isCutOff, isDelayed } from './censoring.ts';
import { type Correction, correct } from './correct.ts';
import type { GuestBook } from './guest-book.ts';
import type { GuestMoves } from './guest-moves.ts';
import type { HostRoom } from './host-room.ts';
import type { LatestTime } from './latest-time.ts';
import { decided, decisionOf, type LeaseBook, type LeaseRecord } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';
import type { Tenancy } from './tenancy.ts';

export interface ResidualParts {
  readonly clock: Clock;
  readonly latest: LatestTime;
  readonly log: Log;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly room: HostRoom;
  readonly tenancy: Tenancy;
  readonly journal: LeaseJournal;
  readonly moves: GuestMoves;
  readonly background: Background;
  readonly policy: Pick<EnginePolicy, 'adjust'>;
}

/** What samples say of running leases: their usage, and where the guest must move because the forecast was wrong. */
export class Residual {
  readonly #parts: ResidualParts;

  constructor(parts: ResidualParts) {
    this.#parts = parts;
  }

  /** Take a sample into its guest's recent past and its leases' peaks. */
  note(sample: GuestSample): void {
    const guest = this.#parts.guests.find(sample.guest);
    if (guest === undefined) return;
    guest.note(sample);
    this.#parts.room.note(sample);
    const running = this.#parts.leases.inPlace(guest.record.id);
    for (const record of running) this.#parts.leases.put(withUsage(record, sample, guest.held));
    if (running.length > 0) this.#noteShort(guest, sample, running);
  }

  /** Move the guest where the sample says it must be. One that is being changed, or is to be read first, is left to that. */
  correct(sample: GuestSample): void {
    const { guests, leases, room, tenancy, background, clock, latest, policy } = this.#parts;
    const guest = guests.find(sample.guest);
    if (guest === undefined || guest.record.mode !== 'enforce') return;
    if (guest.busy || guest.unread) return;
    const running = this.#parts.leases.inPlace(guest.record.id);
    const newest = running.at(-1);
    if (newest === undefined) return;
    // One that is still to be put in place has its move to come, and needs its room till then.
    if (running.length < leases.inForce(guest.record.id).length) return;
    const admitted = leases.admitted(guest.record.id);
    const corrections = correct({
      guest,
      sample,
      leases: running,
      admitted,
      room: room.roomFor(guest, tenancy.keptFrom(new Set(running.map(({ lease }) => lease.tenant)))),
      policy: policy.adjust,
      shortTarget: this.#shortTarget(running),
      nowMs: clock.nowMs(),
      latestMs: latest.ms(),
      monotonicMs: clock.monotonicMs(),
    });
    if (corrections.length === 0) return;
    for (const { field, target } of corrections) guest.adjust(field, target, admitted);
    room.touch(guest.record.id);
    background.keep(guest.serialize(() => this.#apply(guest, newest.lease.id, corrections)));
  }

  /** What falls short at the ceiling is not for a shrink to mend: counted, it would hold what is not needed long after. */
  #noteShort(guest: ManagedGuest, sample: GuestSample, running: readonly LeaseRecord[]): void {
    const target = this.#shortTarget(running);
    for (const field of ENTITLEMENT_FIELDS) {
      const usage = sample.usage[field];
      const entitled = guest.held[field];
      if (usage === undefined || entitled === undefined) continue;
      if (entitled >= (guest.facts.ceiling[field] ?? Number.POSITIVE_INFINITY)) continue;
      const waits = field === 'cpuMillicores' && isDelayed(sample);
      const policy = this.#parts.policy.adjust[RESOURCE_OF[field] as Actuated];
      guest.noteShort(
        field,
        fallsShort({ field, entitled, usage, isDelayed: waits }, policy),
        sample,
        target,
      );
    }
  }

  /** The strictest of the leases', by priority and tenant. */
  #shortTarget(running: readonly LeaseRecord[]): number {
    const { tenancy } = this.#parts;
    return Math.min(
      ...running.map(({ lease }) => shortTarget(tenancy.policy(lease.tenant).needs, lease.priority)),
    );
  }

  /** @param id the lease that the adjustments are recorded with */
  async #apply(guest: ManagedGuest, id: string, corrections: readonly Correction[]): Promise<void> {
    const { leases, journal, moves, log } = this.#parts;
    const { shortfalls } = await moves.reach(guest);
    let record = leases.get(id);
    if (hasEnded(record.lease.state)) return;
    for (const correction of corrections) {
      record = this.#recorded(record, correction, shortfalls);
      log.info(
        { guest: guest.record.name, leaseId: id, decision: 'adjust', ...correction.adjustment },
        'entitlement adjusted',
      );
    }
    await journal.save(record, [guest.write()]);
  }

  #recorded(record: LeaseRecord, { adjustment }: Correction, shortfalls: readonly string[]): LeaseRecord {
    const { resource, from, to, residual, reason } = adjustment;
    const decision = decisionOf(record.lease, {
      atMs: this.#parts.clock.nowMs(),
      action: 'adjust',
      rule: resource,
      inputs: { from, to, residual: Math.round(residual), reason },
      outcome: shortfalls.join('; ') || 'in force',
    });
    return decided({ ...record, lease: withAdjustments(record.lease, [adjustment]) }, decision);
  }
}

/** The record with a sample's usage taken into its peaks. */
function withUsage(record: LeaseRecord, sample: GuestSample, held: Entitlement): LeaseRecord {
  const used: { -readonly [F in ProfileField]?: number } = { ...record.lease.used };
  let censored = record.censored;
  for (const field of PROFILE_FIELDS) {
    const usage = sample.usage[field];
    if (usage === undefined || usage <= (used[field] ?? Number.NEGATIVE_INFINITY)) continue;
    used[field] = usage;
    const isCut = isCutOff(sample, field, held);
    if (isCut !== censored.includes(field)) {
      censored = isCut ? [...censored, field] : censored.filter((other) => other !== field);
    }
  }
  return { ...record, censored, lease: { ...record.lease, used } };
}
