import { PRIORITIES, type Priority } from './request.ts';
import { beyond, fitsIn, NO_ROOM, plus, ROOM_FIELDS, type Room, type RoomField, roomOf } from './room.ts';

/** A lease from which room may be taken. One whose guest is under pressure, or not read of late, is none. */
export interface Reclaimable {
  readonly leaseId: string;
  readonly tenant: string;
  readonly priority: Priority;
  /** What it holds that its guest neither uses nor is predicted to; never below the baseline. */
  readonly slack: Room;
  /** What it could be pressed to give, slack included: down to its median need and to what its guest uses. */
  readonly most: Room;
}

/** What one lease gives up, and of what kind that is. */
export interface Take {
  readonly leaseId: string;
  readonly room: Room;
  readonly kind: 'slack' | 'lower-priority';
}

type Kind = Take['kind'];

/** What a lease has to give of one kind. */
type Gift = Pick<Reclaimable, 'leaseId' | 'tenant'> & { readonly guest: string; readonly room: Room };

/** Gifts of one kind and priority: by each resource those that have some of it, most first. */
type Sorted = Readonly<Record<RoomField, Gift[]>> & { sum: Room };

/** All leases from which room may be taken, kept in order guest by guest: who gives is found without looking at them all. */
export class ReclaimBook {
  readonly #ofGuest = new Map<string, readonly Reclaimable[]>();
  readonly #gifts: Readonly<Record<Kind, readonly Sorted[]>> = {
    slack: PRIORITIES.map(nothing),
    'lower-priority': PRIORITIES.map(nothing),
  };

  /** Take a guest's leases in, or anew; none drops it. */
  put(guest: string, leases: readonly Reclaimable[]): void {
    for (const known of this.#ofGuest.get(guest) ?? []) this.#each(guest, known, leave);
    if (leases.length === 0) this.#ofGuest.delete(guest);
    else this.#ofGuest.set(guest, leases);
    for (const one of leases) this.#each(guest, one, enter);
  }

  /** All there is to give of the kind. @param priorities how many, from the lowest */
  sum(kind: Kind, priorities: number): Room {
    return this.#gifts[kind].slice(0, priorities).reduce((sum, sorted) => plus(sum, sorted.sum), NO_ROOM);
  }

  /**
   * Who has something of what is lacking: of the lowest priority first, and of few rather than many.
   * @param priorities how many, from the lowest
   * @param lacking    asked before each step: what is no longer lacking calls nobody
   */
  *inTurn(kind: Kind, priorities: number, lacking: () => Room): Generator<Gift> {
    for (const sorted of this.#gifts[kind].slice(0, priorities)) {
      const seen = new Set<Gift>();
      const at = { cpuMillicores: 0, memoryBytes: 0 };
      for (;;) {
        const gift = next(sorted, at, seen, lacking());
        if (gift === undefined) break;
        seen.add(gift);
        yield gift;
      }
    }
  }

  #each(guest: string, one: Reclaimable, change: (sorted: Sorted, gift: Gift) => void): void {
    const { leaseId, tenant, slack, most } = one;
    const priority = PRIORITIES.indexOf(one.priority);
    change(this.#gifts.slack[priority] as Sorted, { leaseId, tenant, guest, room: slack });
    const room = beyond(most, slack);
    change(this.#gifts['lower-priority'][priority] as Sorted, { leaseId, tenant, guest, room });
  }
}

/**
 * From whom to take what one request lacks, or undefined when that does not get it as much as it needs: then nothing is to be
 * taken. Slack of all goes first, as much as the whole request lacks; what its median need lacks after that comes from
 * lower priorities. Of the lowest priority first, and of few rather than many. Changes nothing.
 *
 * @param wanted  what the request lacks
 * @param needed  what its median need lacks; at most `wanted`
 * @param spareOf what a tenant holds above its guaranteed part: no more than that is taken from it together
 * @param mayGive false for a guest from which nothing may be taken now
 */
export function reclaim(
  { wanted, needed, priority }: { readonly wanted: Room; readonly needed: Room; readonly priority: Priority },
  from: ReclaimBook,
  spareOf: (tenant: string) => Room,
  mayGive: (guest: string) => boolean = () => true,
): Take[] | undefined {
  const lower = PRIORITIES.indexOf(priority);
  const most = plus(from.sum('slack', PRIORITIES.length), from.sum('lower-priority', lower));
  if (!fitsIn(needed, most)) return undefined;
  const left = new Map<string, Room>();
  const takes: Take[] = [];
  const collect = (kind: Kind, priorities: number, lacking: Room): Room => {
    let rest = lacking;
    for (const { leaseId, tenant, guest, room: has } of from.inTurn(kind, priorities, () => rest)) {
      if (!mayGive(guest)) continue;
      const purse = left.get(tenant) ?? spareOf(tenant);
      const room = roomOf((field) => Math.min(rest[field], has[field], purse[field]));
      if (fitsIn(room, NO_ROOM)) continue;
      takes.push({ leaseId, room, kind });
      left.set(tenant, beyond(purse, room));
      rest = beyond(rest, room);
    }
    return rest;
  };
  const short = collect('slack', PRIORITIES.length, wanted);
  // The part of the wish beyond the median need is not worth pressing anybody for.
  const lacking = beyond(short, beyond(wanted, needed));
  return fitsIn(collect('lower-priority', lower, lacking), NO_ROOM) ? takes : undefined;
}

/** Sum of what is taken. */
export function totalOf(takes: readonly Take[]): Room {
  return takes.reduce((sum, { room }) => plus(sum, room), NO_ROOM);
}

/** The one that has most of anything lacking, as a share of that; of equals the one with the lesser id. */
function next(
  sorted: Sorted,
  at: Record<RoomField, number>,
  seen: ReadonlySet<Gift>,
  lacking: Room,
): Gift | undefined {
  let best: Gift | undefined;
  let most = 0;
  for (const field of ROOM_FIELDS) {
    if (lacking[field] <= 0) continue;
    const gifts = sorted[field];
    let gift = gifts[at[field]];
    while (gift !== undefined && seen.has(gift)) {
      at[field] += 1;
      gift = gifts[at[field]];
    }
    if (gift === undefined) continue;
    const weight = gift.room[field] / lacking[field];
    if (weight > most || (weight === most && best !== undefined && gift.leaseId < best.leaseId))
      [best, most] = [gift, weight];
  }
  return best;
}

function nothing(): Sorted {
  return { cpuMillicores: [], memoryBytes: [], sum: NO_ROOM };
}

function enter(sorted: Sorted, gift: Gift): void {
  for (const field of ROOM_FIELDS)
    if (gift.room[field] > 0) sorted[field].splice(placeOf(sorted[field], field, gift), 0, gift);
  sorted.sum = plus(sorted.sum, gift.room);
}

/** Its place is found by what it had and its id. */
function leave(sorted: Sorted, gift: Gift): void {
  for (const field of ROOM_FIELDS)
    if (gift.room[field] > 0) sorted[field].splice(placeOf(sorted[field], field, gift), 1);
  sorted.sum = beyond(sorted.sum, gift.room);
}

/** Of the first that is not before the gift. */
function placeOf(gifts: readonly Gift[], field: RoomField, { room, leaseId }: Gift): number {
  let low = 0;
  let high = gifts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const one = gifts[middle] as Gift;
    const isBefore =
      one.room[field] > room[field] || (one.room[field] === room[field] && one.leaseId < leaseId);
    if (isBefore) low = middle + 1;
    else high = middle;
  }
  return low;
}
