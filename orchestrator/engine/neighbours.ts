import { overbearing } from '../core/neighbours.ts';
import type { Clock } from '../core/ports.ts';
import type { Background } from './background.ts';
import type { GuestBook } from './guest-book.ts';
import type { LeaseBook } from './lease-book.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';
import type { Restraints } from './restraints.ts';

/** How long a guest that was brought back may not burst anew: long enough for others' delay to show whether it was the cause. */
const HELD_BACK_MS = 30_000;
/** A sample older than this says nothing of the delay now: two full periods of an idle guest. */
const SAMPLE_AGE_MS_MAX = 10_000;

export interface NeighboursParts {
  readonly clock: Clock;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly restraints: Restraints;
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
    const { guests, clock, policy, background, restraints } = this.#parts;
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
    guest.heldBack = true;
    this.#heldUntilMs.set(guest, nowMs + HELD_BACK_MS);
    background.keep(restraints.bringBack(guest, 'noisy-neighbour', reason));
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

  #letGo(guest: ManagedGuest): void {
    guest.heldBack = false;
    this.#heldUntilMs.delete(guest);
  }
}
