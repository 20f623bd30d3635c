import { type Neighbour, overbearing } from '../core/neighbours.ts';
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
    const { guests, leases, clock, policy, background, restraints } = this.#parts;
    const nowMs = clock.nowMs();
    const monotonicMs = clock.monotonicMs();
    for (const [guest, untilMs] of this.#heldUntilMs) if (monotonicMs >= untilMs) this.#letGo(guest);
    // Most of the time nobody bursts, and then nobody need be asked how he fares. Who has no lease does not.
    const bursts = new Map<ManagedGuest, number>();
    for (const id of leases.guests()) {
      const guest = guests.find(id);
      const burst = guest === undefined ? 0 : this.#burst(guest);
      if (guest !== undefined && burst > 0) bursts.set(guest, burst);
    }
    if (bursts.size === 0) return;
    const found = overbearing(this.#seen(bursts, nowMs), policy.delayLimitFraction);
    const guest = found && guests.find(found.guest);
    if (found === undefined || guest === undefined) return;
    const name = guests.find(found.sufferer)?.record.name ?? found.sufferer;
    const percent = Math.round(found.delayFraction * 100);
    const reason = `brought back to its promise: guest ${name} waits ${percent} % of the time for CPUs`;
    guest.heldBack = true;
    this.#heldUntilMs.set(guest, monotonicMs + HELD_BACK_MS);
    background.keep(restraints.bringBack(guest, 'noisy-neighbour', reason));
  }

  /** Those that burst, and those that wait for host CPUs at all. */
  *#seen(bursts: ReadonlyMap<ManagedGuest, number>, nowMs: number): Generator<Neighbour> {
    for (const guest of this.#parts.guests.managed.values()) {
      const burstMillicores = bursts.get(guest) ?? 0;
      const delayFraction = delayOf(guest, nowMs);
      if (burstMillicores > 0 || delayFraction > 0)
        yield { guest: guest.record.id, burstMillicores, delayFraction };
    }
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

/** Longest wait of any of its vCPUs for a host CPU; 0 when that is not known of late. */
function delayOf({ lastSample }: ManagedGuest, nowMs: number): number {
  if (lastSample?.vcpus === undefined || nowMs - lastSample.atMs > SAMPLE_AGE_MS_MAX) return 0;
  let longest = 0;
  for (const { delayFraction } of lastSample.vcpus) if (delayFraction > longest) longest = delayFraction;
  return longest;
}
