import { type Adjustment, hasEnded, withAdjustments } from '../core/lease.ts';
import { overbearing } from '../core/neighbours.ts';
import type { Clock } from '../core/ports.ts';
import type { Background } from './background.ts';
import type { GuestBook } from './guest-book.ts';
import type { GuestMoves } from './guest-moves.ts';
import type { HostRoom } from './host-room.ts';
import { decided, decisionOf, type LeaseBook } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';

/** How long a guest that was brought back may not burst anew: long enough for others' delay to show whether it was the cause. */
const HELD_BACK_MS = 30_000;
/** A sample older than this says nothing of the delay now: two full periods of an idle guest. */
const SAMPLE_AGE_MS_MAX = 10_000;

export interface NeighboursParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly room: HostRoom;
  readonly journal: LeaseJournal;
  readonly moves: GuestMoves;
  readonly background: Background;
  readonly policy: Pick<EnginePolicy, 'delayLimitFraction'>;
}

/** Brings guests that use CPU beyond their promise back to it while others wait for theirs. */
export class Neighbours {
  readonly #parts: NeighboursParts;
  readonly #heldUntilMs = new Map<ManagedGuest, number>();

  constructor(parts: NeighboursParts) {
    this.#parts = parts;
  }

  /** One look at all managed guests; at most one is brought back. */
  tend(): void {
    const { guests, clock, policy, background } = this.#parts;
    const nowMs = clock.nowMs();
    for (const [guest, untilMs] of this.#heldUntilMs) if (nowMs >= untilMs) this.#letGo(guest);
    const managed = [...guests.managed.values()];
    // Most of the time nobody bursts, and then nobody need be asked how he fares.
    if (!managed.some((guest) => this.#burst(guest) > 0)) return;
    const found = overbearing(
      managed.map((guest) => this.#seen(guest, nowMs)),
      policy.delayLimitFraction,
    );
    const guest = found && guests.find(found.guest);
    if (found === undefined || guest === undefined) return;
    const name = guests.find(found.sufferer)?.record.name ?? found.sufferer;
    const percent = Math.round(found.delayFraction * 100);
    const reason = `brought back to its promise: guest ${name} waits ${percent} % of the time for CPUs`;
    background.keep(this.#bringBack(guest, reason, nowMs));
  }

  #seen(guest: ManagedGuest, nowMs: number) {
    const { atMs = Number.NEGATIVE_INFINITY, vcpus = [] } = guest.lastSample ?? {};
    const delays = nowMs - atMs <= SAMPLE_AGE_MS_MAX ? vcpus.map(({ delayFraction }) => delayFraction) : [];
    return {
      guest: guest.record.id,
      burstMillicores: this.#burst(guest),
      ...(delays.length === 0 ? {} : { delayFraction: Math.max(...delays) }),
    };
  }

  /** What live adjustment added to a guest's CPU beyond what its leases were admitted. */
  #burst(guest: ManagedGuest): number {
    const isOurs = !guest.record.relinquished.includes('cpu');
    if (!guest.adjusted.has('cpuMillicores') || !isOurs || guest.record.mode !== 'enforce') return 0;
    if (guest.busy || guest.unread) return 0;
    const admitted = this.#parts.leases.admitted(guest.record.id);
    return Math.max(0, guest.target(admitted).cpuMillicores - guest.combined(admitted).cpuMillicores);
  }

  async #bringBack(guest: ManagedGuest, reason: string, nowMs: number): Promise<void> {
    const { leases, room, moves, journal, log } = this.#parts;
    const newest = leases.newestInPlace(guest.record.id);
    if (newest === undefined) return;
    const from = guest.target(leases.admitted(guest.record.id)).cpuMillicores;
    guest.adjusted.delete('cpuMillicores');
    guest.heldBack = true;
    this.#heldUntilMs.set(guest, nowMs + HELD_BACK_MS);
    room.touch(guest.record.id);
    const { shortfalls } = await guest.serialize(() => moves.reach(guest));
    const record = leases.has(newest.id) ? leases.get(newest.id) : undefined;
    if (record === undefined || hasEnded(record.lease.state)) return;
    const to = guest.held.cpuMillicores;
    const adjustment: Adjustment = { atMs: nowMs, resource: 'cpu', from, to, residual: from - to, reason };
    const decision = decisionOf(record.lease, {
      atMs: nowMs,
      action: 'adjust',
      rule: 'noisy-neighbour',
      inputs: { from, to, reason },
      outcome: shortfalls.join('; ') || 'in force',
    });
    journal.owe(decided({ ...record, lease: withAdjustments(record.lease, [adjustment]) }, decision));
    log.info({ guest: guest.record.name, leaseId: newest.id, decision: 'adjust', reason }, 'burst ended');
  }

  #letGo(guest: ManagedGuest): void {
    guest.heldBack = false;
    this.#heldUntilMs.delete(guest);
  }
}
