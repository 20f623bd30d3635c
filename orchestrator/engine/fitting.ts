import { type Admission, admit } from '../core/admit.ts';
import { AllocatorError } from '../core/errors.ts';
import type { Lease } from '../core/lease.ts';
import type { Entitlement } from '../core/profile.ts';
import { reclaim, type Take, totalOf } from '../core/reclaim.ts';
import type { Priority } from '../core/request.ts';
import { beyond, fitsIn, NO_ROOM, plus, ROOM_FIELDS, type Room, roomOf, roomText } from '../core/room.ts';
import type { GuestBook } from './guest-book.ts';
import type { HostRoom } from './host-room.ts';
import type { LeaseBook } from './lease-book.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { Reclaimer } from './reclaimer.ts';
import type { Tenancy } from './tenancy.ts';

/** What a lease asks for, and for whom. */
export interface Wish {
  readonly tenant: string;
  readonly priority: Priority;
  readonly requested: Entitlement;
  /** With less it would rather wait. */
  readonly least: Entitlement;
}

/** Whether a lease fits now, with whose room, or what it waits for. */
export type Fit =
  | {
      readonly kind: 'grant' | 'grant-part' | 'reclaim-then-grant';
      /** The lease's own share of what its guest is to have. */
      readonly admitted: Entitlement;
      readonly reason: string;
      readonly takes: readonly Take[];
    }
  | { readonly kind: 'no-room'; readonly waitsFor: 'quota' | 'host'; readonly reason: string };

/** Whether a lease fits: its tenant's quota, the host's room less what is kept for others, and what others can give up. Changes nothing. */
export class Fitting {
  readonly #guests: GuestBook;
  readonly #leases: LeaseBook;
  readonly #room: HostRoom;
  readonly #tenancy: Tenancy;
  readonly #reclaimer: Reclaimer;

  constructor(parts: {
    guests: GuestBook;
    leases: LeaseBook;
    room: HostRoom;
    tenancy: Tenancy;
    reclaimer: Reclaimer;
  }) {
    this.#guests = parts.guests;
    this.#leases = parts.leases;
    this.#room = parts.room;
    this.#tenancy = parts.tenancy;
    this.#reclaimer = parts.reclaimer;
  }

  fit(guest: ManagedGuest, wish: Wish): Fit {
    const { entitlement: baseline } = guest.record.baseline;
    const left = this.#tenancy.quotaLeft(wish.tenant);
    if (!fitsIn(beyond(wish.least, baseline), left)) {
      const reason = `the quota of tenant ${nameOf(wish.tenant)} has no room for the median need: it leaves ${roomText(left)}`;
      return { kind: 'no-room', waitsFor: 'quota', reason };
    }
    const requested = {
      ...wish.requested,
      ...roomOf((field) => Math.min(wish.requested[field], baseline[field] + left[field])),
    };
    const isCut = ROOM_FIELDS.some((field) => requested[field] < wish.requested[field]);
    const fit = this.#onHost(guest, { ...wish, requested });
    if (!isCut || fit.kind !== 'grant') return fit;
    const reason = `the quota of tenant ${nameOf(wish.tenant)} holds the median need and not all of the headroom`;
    return { ...fit, kind: 'grant-part', reason };
  }

  /** True when a lease's median need is within its tenant's quota. */
  isWithinQuota({ guest, tenant }: Lease, least: Entitlement): boolean {
    return fitsIn(this.#guests.aboveBaseline(guest, least), this.#tenancy.quotaLeft(tenant));
  }

  /** Whether a guest may be started for leases of these tenants: its baseline takes room like every promise. */
  canStart({ record }: ManagedGuest, tenants: ReadonlySet<string>): boolean {
    const taken = plus(this.#room.committed(), this.#tenancy.keptFrom(tenants));
    return fitsIn(record.baseline.entitlement, beyond(this.#room.capacity(), taken));
  }

  /**
   * That waiting can help at all.
   * @throws {AllocatorError} CAPACITY_EXHAUSTED, QUOTA_EXHAUSTED
   */
  assertEverFits({ guest, tenant }: Lease, least: Entitlement): void {
    const detail = { leastMillicores: least.cpuMillicores, leastMemoryBytes: least.memoryBytes };
    if (!fitsIn(least, beyond(this.#room.capacity(), this.#tenancy.guaranteedToOthers(tenant)))) {
      throw new AllocatorError(
        'CAPACITY_EXHAUSTED',
        'The median need is larger than the whole host, less what is guaranteed to other tenants: waiting would not help',
        detail,
      );
    }
    if (!fitsIn(this.#guests.aboveBaseline(guest, least), this.#tenancy.policy(tenant).quota)) {
      throw new AllocatorError(
        'QUOTA_EXHAUSTED',
        `The median need is larger than the whole quota of tenant ${nameOf(tenant)}: waiting would not help`,
        { ...detail, tenant },
      );
    }
  }

  /** True when all of the wish is part of what is guaranteed to its tenant: nobody's turn comes before that. */
  isGuaranteed(guest: ManagedGuest, { tenant, least }: Pick<Wish, 'tenant' | 'least'>): boolean {
    const own = beyond(least, guest.record.baseline.entitlement);
    return fitsIn(own, this.#tenancy.guaranteeLeft(tenant));
  }

  #onHost(guest: ManagedGuest, wish: Wish): Fit {
    const others = this.#leases.promised(guest.record.id);
    const held = guest.target(others);
    const wanted = guest.target([...others, wish.requested]);
    const least = guest.target([...others, wish.least]);
    const capacity = this.#room.capacity();
    const kept = this.#tenancy.keptFrom(new Set([wish.tenant]));
    const committed = plus(this.#room.committed(), kept);
    const { id } = guest.record;
    const demand = this.#room.demandBound(id, guest.target([...this.#leases.promisedLeast(id), wish.least]));
    const admission = admit(capacity, committed, held, wanted, least, demand);
    if (admission.kind === 'grant') return this.#granted(guest, wish, held, admission, []);

    const lacking = (total: Entitlement): Room =>
      roomOf((field) =>
        total[field] <= held[field]
          ? 0
          : Math.max(0, total[field] - held[field] + committed[field] - capacity[field]),
      );
    const lack = { wanted: lacking(wanted), needed: lacking(least), priority: wish.priority };
    const takes = reclaim(
      lack,
      this.#reclaimer.all(),
      (tenant) => this.#tenancy.spareOf(tenant),
      (giver) => giver !== id && this.#reclaimer.mayGive(giver),
    );
    if (takes !== undefined && takes.length > 0) {
      const after = beyond(committed, totalOf(takes));
      // Guests cannot use more than they are promised: what is taken from others leaves the tail as well.
      const bound = demand && {
        ...demand,
        tailWith: (given: Room): Room => {
          const tail = demand.tailWith(given);
          return roomOf((field) => Math.min(tail[field], after[field] - held[field] + given[field]));
        },
      };
      const second = admit(capacity, after, held, wanted, least, bound);
      if (second.kind !== 'no-room') return this.#granted(guest, wish, held, second, takes);
    }
    if (admission.kind === 'grant-part') return this.#granted(guest, wish, held, admission, []);
    const isKept = !fitsIn(kept, NO_ROOM);
    const reason = isKept
      ? `${admission.reason}; ${roomText(kept)} are kept for other tenants' guaranteed parts`
      : admission.reason;
    return { kind: 'no-room', waitsFor: 'host', reason };
  }

  #granted(
    guest: ManagedGuest,
    { requested }: Wish,
    held: Entitlement,
    admission: Exclude<Admission, { kind: 'no-room' }>,
    takes: readonly Take[],
  ): Fit {
    const { entitlement: baseline } = guest.record.baseline;
    const total = admission.entitlement;
    // Admission speaks of the guest's total; a lease keeps its own share of it, never more than it asked.
    const share = roomOf((field) =>
      Math.min(requested[field], Math.max(baseline[field], baseline[field] + total[field] - held[field])),
    );
    const admitted = { ...requested, ...share };
    if (takes.length === 0) return { kind: admission.kind, admitted, reason: admission.reason, takes };
    const reason = `${admission.reason} after reclaiming ${this.#reclaimer.text(takes)}`;
    return { kind: 'reclaim-then-grant', admitted, reason, takes };
  }
}

/** A tenant in a sentence; who names none is the nameless one. */
function nameOf(tenant: string): string {
  return tenant === '' ? '(none)' : tenant;
}
