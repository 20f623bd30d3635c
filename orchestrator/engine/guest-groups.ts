import { combine, UNBOUNDED } from '../core/entitlement.ts';
import type { Clock } from '../core/ports.ts';
import type { Entitlement } from '../core/profile.ts';
import { fitsIn } from '../core/room.ts';
import { type Choice, chooseMember, type GuestGroup, type MemberState } from '../core/scale.ts';
import type { GuestBook } from './guest-book.ts';
import type { LeaseBook, LeaseRecord } from './lease-book.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';

/** The operator's groups over the guests as they are: who is in one, where each stands, and to whom a request goes. Changes nothing. */
export class GuestGroups {
  readonly #guests: GuestBook;
  readonly #leases: LeaseBook;
  readonly #clock: Clock;
  readonly #policy: Pick<EnginePolicy, 'scale'>;

  constructor(parts: {
    guests: GuestBook;
    leases: LeaseBook;
    clock: Clock;
    policy: Pick<EnginePolicy, 'scale'>;
  }) {
    this.#guests = parts.guests;
    this.#leases = parts.leases;
    this.#clock = parts.clock;
    this.#policy = parts.policy;
  }

  all(): Iterable<GuestGroup> {
    return this.#policy.scale?.groups.values() ?? [];
  }

  /** The group that a request names in a guest's place. */
  find(name: string): GuestGroup | undefined {
    return this.#policy.scale?.groups.get(name);
  }

  /** Its guests that are adopted, in their order. */
  members({ guests }: GuestGroup): ManagedGuest[] {
    return guests.flatMap((name) => this.#guests.managedAs(name) ?? []);
  }

  /** Whether what requests under this name get is put in force. */
  isEnforced(name: string): boolean {
    const group = this.find(name);
    const guest = group === undefined ? this.#guests.managedAs(name) : this.members(group)[0];
    return guest?.record.mode === 'enforce';
  }

  stateOf(guest: ManagedGuest): MemberState {
    const { facts, record } = guest;
    const nowMs = this.#clock.nowMs();
    if (guest.leaving || guest.unread || nowMs < guest.goneUntilMs) return 'away';
    if (guest.starting) return 'coming';
    if (facts.state === 'running') return this.bootLeftMs(guest) > 0 ? 'coming' : 'ready';
    const isStartable = record.mode === 'enforce' && facts.state === 'shut-off';
    return isStartable && nowMs >= guest.startNotBeforeMs ? 'stand-by' : 'away';
  }

  /** Time until a guest that runs can work, or one that is off could, were it started now; 0 when it can, ms. */
  bootLeftMs({ facts, startedAtMs }: ManagedGuest): number {
    const bootMs = this.#policy.scale?.bootMs ?? 0;
    if (facts.state !== 'running') return bootMs;
    return Math.max(0, startedAtMs + bootMs - this.#clock.nowMs());
  }

  /**
   * Who of a group serves a request.
   * @param requested of one guest by itself
   * @param own id of the request's lease, where it has one
   * @returns undefined when nobody can
   */
  choose(group: GuestGroup, requested: Entitlement, own?: string): Choice<ManagedGuest> | undefined {
    const members = this.members(group).map((guest) => {
      const state = this.stateOf(guest);
      return { guest, state, holds: this.#canHold(guest, state, requested, own) };
    });
    return chooseMember(members);
  }

  /** The group that a lease may still go to another guest of. */
  groupOf({ group }: LeaseRecord): GuestGroup | undefined {
    return group === undefined ? undefined : this.find(group);
  }

  /** Leases wait for it to come up, or run on it. */
  isAtWork({ record }: ManagedGuest): boolean {
    return this.#leases.ofGuest(record.id).length > 0;
  }

  /** Those that wait on a guest that works wait for room wherever it is; those on one that is to come wait for that one. */
  #canHold(
    { record, facts }: ManagedGuest,
    state: MemberState,
    requested: Entitlement,
    own?: string,
  ): boolean {
    const others = this.#leases
      .ofGuest(record.id)
      .filter(({ lease }) => lease.id !== own && (state !== 'ready' || lease.state !== 'QUEUED'))
      .map(({ lease }) => lease.requested);
    const all = combine(record.baseline.entitlement, [...others, requested], UNBOUNDED);
    return fitsIn(all, facts.ceiling);
  }
}
