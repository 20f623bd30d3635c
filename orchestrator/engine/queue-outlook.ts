import type { Lease } from '../core/lease.ts';
import { byTurn, type Waiting } from '../core/queue-order.ts';
import { beyond, fitsIn, NO_ROOM, plus } from '../core/room.ts';
import { ForeseenEnds } from './foreseen-ends.ts';
import type { GuestBook } from './guest-book.ts';
import type { GuestGroups } from './guest-groups.ts';
import type { HostRoom } from './host-room.ts';
import type { LeaseBook, LeaseRecord } from './lease-book.ts';
import type { EnginePolicy } from './policy.ts';
import type { Tenancy } from './tenancy.ts';

/** Longest wait foretold beyond the last end that is foreseen, ticks: further ahead nothing is known. */
const FORETOLD_TICKS_MAX = 60;

/** A lease that waits or might: what its turn depends on, and what it needs. */
export type Aspirant = Pick<LeaseRecord, 'lease' | 'least'>;

/** In which order leases get room, and when each should, as things stand. Changes nothing. */
export class QueueOutlook {
  readonly #guests: GuestBook;
  readonly #leases: LeaseBook;
  readonly #room: HostRoom;
  readonly #tenancy: Tenancy;
  readonly #groups: GuestGroups;
  readonly #policy: EnginePolicy;
  readonly #ends: ForeseenEnds;

  constructor(parts: {
    guests: GuestBook;
    leases: LeaseBook;
    room: HostRoom;
    tenancy: Tenancy;
    groups: GuestGroups;
    policy: EnginePolicy;
  }) {
    this.#guests = parts.guests;
    this.#leases = parts.leases;
    this.#room = parts.room;
    this.#tenancy = parts.tenancy;
    this.#groups = parts.groups;
    this.#policy = parts.policy;
    this.#ends = new ForeseenEnds(parts.leases, parts.guests, parts.room);
  }

  /** Those that wait, next first. Shares, and so the order, change with each grant. */
  inTurn(nowMs: number): LeaseRecord[] {
    return this.#sorted(this.#leases.queued(), nowMs);
  }

  /** The first in turn of a newcomer and those that wait and are `eligible`. */
  next(nowMs: number, newcomer: Aspirant, eligible: (one: LeaseRecord) => boolean): Aspirant {
    const waiting: Aspirant[] = this.#leases.queued().filter(eligible);
    return this.#sorted([...waiting, newcomer], nowMs)[0] ?? newcomer;
  }

  /** Where each would stand and how long it should wait there, by id; a newcomer is placed among those that wait. */
  places(nowMs: number, newcomer?: Aspirant): ReadonlyMap<string, NonNullable<Lease['queue']>> {
    const waiting: Aspirant[] = this.#leases.queued();
    const order = this.#sorted(newcomer === undefined ? waiting : [...waiting, newcomer], nowMs);
    const ends = this.#ends.soonest(nowMs);
    let passed = 0;
    let free = beyond(this.#room.capacity(), this.#room.committed());
    let needed = NO_ROOM;
    let waitMs = 0;
    const places = new Map<string, NonNullable<Lease['queue']>>();
    order.forEach(({ lease, least }, ahead) => {
      needed = plus(needed, this.#guests.aboveBaseline(lease.guest, least));
      while (!fitsIn(needed, free)) {
        const end = ends[passed];
        passed += 1;
        if (end === undefined) {
          waitMs += this.#policy.tickMs * FORETOLD_TICKS_MAX;
          break;
        }
        free = plus(free, end.room);
        waitMs = Math.max(waitMs, end.atMs - nowMs);
      }
      const guest = this.#guests.find(lease.guest);
      const bootMs = guest === undefined ? 0 : this.#groups.bootLeftMs(guest);
      const expectedWaitMs = Math.max(this.#policy.tickMs, waitMs, bootMs);
      places.set(lease.id, { position: ahead + 1, expectedWaitMs });
    });
    return places;
  }

  /** Tenants' shares are looked up once each. */
  #sorted<T extends Aspirant>(waiting: readonly T[], nowMs: number): T[] {
    const shares = new Map<string, number>();
    const turnOf = ({ lease }: T): Waiting => {
      const share = shares.get(lease.tenant) ?? this.#tenancy.share(lease.tenant);
      shares.set(lease.tenant, share);
      return { ...lease, share };
    };
    const compare = byTurn(nowMs, this.#policy.queueAgeingMs);
    return waiting
      .map((one) => ({ one, turn: turnOf(one) }))
      .sort((a, b) => compare(a.turn, b.turn))
      .map(({ one }) => one);
  }
}
