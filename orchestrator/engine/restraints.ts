import type { Anomaly } from '../core/anomaly.ts';
import { AllocatorError } from '../core/errors.ts';
import type { GuestId } from '../core/guest.ts';
import { type Adjustment, hasEnded, withAdjustments } from '../core/lease.ts';
import type { Clock } from '../core/ports.ts';
import type { Background } from './background.ts';
import type { Endings } from './endings.ts';
import type { GuestBook } from './guest-book.ts';
import type { GuestDesk } from './guest-desk.ts';
import type { GuestMoves } from './guest-moves.ts';
import type { HostRoom } from './host-room.ts';
import { decided, decisionOf, type LeaseBook } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';

export interface RestraintsParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly room: HostRoom;
  readonly journal: LeaseJournal;
  readonly moves: GuestMoves;
  readonly background: Background;
  readonly endings: Endings;
  readonly desk: GuestDesk;
}

/** Holds guests to their promises, or to their baselines: for their neighbours' sake, or for what they do. */
export class Restraints {
  readonly #parts: RestraintsParts;
  readonly #capped = new Set<ManagedGuest>();

  constructor(parts: RestraintsParts) {
    this.#parts = parts;
  }

  /** Take from a guest the CPU that live adjustment added to what its leases were admitted; it is on record with the newest of them. */
  async bringBack(guest: ManagedGuest, rule: string, reason: string): Promise<void> {
    const { leases, room, moves, journal, clock, log } = this.#parts;
    const newest = leases.newestInPlace(guest.record.id);
    if (newest === undefined) return;
    const from = guest.target(leases.admitted(guest.record.id)).cpuMillicores;
    guest.adjusted.delete('cpuMillicores');
    room.touch(guest.record.id);
    const { shortfalls } = await guest.serialize(() => moves.reach(guest));
    const record = leases.has(newest.id) ? leases.get(newest.id) : undefined;
    if (record === undefined || hasEnded(record.lease.state)) return;
    const atMs = clock.nowMs();
    const to = guest.held.cpuMillicores;
    const adjustment: Adjustment = { atMs, resource: 'cpu', from, to, residual: from - to, reason };
    const decision = decisionOf(record.lease, {
      atMs,
      action: 'adjust',
      rule,
      inputs: { from, to, reason },
      outcome: shortfalls.join('; ') || 'in force',
    });
    journal.owe(decided({ ...record, lease: withAdjustments(record.lease, [adjustment]) }, decision));
    log.info({ guest: guest.record.name, leaseId: newest.id, decision: 'adjust', reason }, 'burst ended');
  }

  /**
   * Hold these guests to what their leases were admitted, and let go of all others: they grow no further, and CPU beyond the
   * promise is taken back. Memory that they have they keep: taken away, it would end them.
   * @param capped why, by guest; nothing is written here, so it is asked for anew after a restart
   */
  tend(capped: ReadonlyMap<GuestId, string>): void {
    const { guests, background } = this.#parts;
    for (const guest of this.#capped) {
      if (capped.has(guest.record.id)) continue;
      guest.capped = false;
      this.#capped.delete(guest);
    }
    for (const [id, reason] of capped) {
      const guest = guests.find(id);
      if (guest === undefined || guest.capped || guest.record.mode !== 'enforce') continue;
      guest.capped = true;
      this.#capped.add(guest);
      if ((guest.adjusted.get('cpuMillicores') ?? 0) > 0)
        background.keep(this.bringBack(guest, 'cap', `held to its promise: ${reason}`));
    }
  }

  /** End its leases, put its baseline back and leave it in shadow, until an operator sets its mode anew. */
  quarantine({ guest: id, guestName, kind }: Anomaly): void {
    const { guests, endings, desk, background, log } = this.#parts;
    const guest = guests.find(id);
    if (guest?.record.mode !== 'enforce') return;
    const isolate = async (): Promise<void> => {
      await endings.endAll(guest, `the guest was quarantined: ${kind}`);
      await desk.setMode(id, 'shadow').catch((cause: unknown) => {
        // Disowned meanwhile: then nothing of ours is on it.
        if (!(cause instanceof AllocatorError)) throw cause;
      });
      log.warn({ guest: guestName, anomaly: kind, decision: 'quarantine' }, 'guest quarantined');
    };
    background.keep(isolate());
  }
}
