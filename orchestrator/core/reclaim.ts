import { PRIORITIES, type Priority } from './request.ts';
import { beyond, NO_ROOM, plus, ROOM_FIELDS, type Room, roomOf } from './room.ts';

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

/**
 * From whom to take what one request lacks, or undefined when that does not get it as much as it needs: then nothing is to be
 * taken. Slack of all goes first, as much as the whole request lacks; what its median need lacks after that comes from
 * lower priorities. Of the lowest priority first, and of few rather than many. Pure.
 *
 * @param wanted what the request lacks
 * @param needed what its median need lacks; at most `wanted`
 * @param spare  what each tenant holds above its guaranteed part: no more than that is taken from it together
 */
export function reclaim(
  { wanted, needed, priority }: { readonly wanted: Room; readonly needed: Room; readonly priority: Priority },
  from: readonly Reclaimable[],
  spare: ReadonlyMap<string, Room>,
): Take[] | undefined {
  const purse = new Map(spare);
  const slack = collect(wanted, from, 'slack', purse);
  const lacking = beyond(needed, totalOf(slack));
  const lower = from
    .filter((one) => PRIORITIES.indexOf(one.priority) < PRIORITIES.indexOf(priority))
    .map((one) => ({ ...one, most: beyond(one.most, takenFrom(slack, one.leaseId)) }));
  const pressed = collect(lacking, lower, 'lower-priority', purse);
  const takes = [...slack, ...pressed];
  const stillLacking = beyond(needed, totalOf(takes));
  return ROOM_FIELDS.every((field) => stillLacking[field] === 0) ? takes : undefined;
}

/** Sum of what is taken. */
export function totalOf(takes: readonly Take[]): Room {
  return takes.reduce((sum, { room }) => plus(sum, room), NO_ROOM);
}

function takenFrom(takes: readonly Take[], leaseId: string): Room {
  return totalOf(takes.filter((take) => take.leaseId === leaseId));
}

function collect(
  lacking: Room,
  from: readonly Reclaimable[],
  kind: Take['kind'],
  purse: Map<string, Room>,
): Take[] {
  const has = (one: Reclaimable): Room => (kind === 'slack' ? one.slack : one.most);
  const weight = (one: Reclaimable): number =>
    Math.max(...ROOM_FIELDS.map((field) => (lacking[field] > 0 ? has(one)[field] / lacking[field] : 0)));
  const takes: Take[] = [];
  let rest = lacking;
  const inTurn = [...from].sort(
    (a, b) =>
      PRIORITIES.indexOf(a.priority) - PRIORITIES.indexOf(b.priority) ||
      weight(b) - weight(a) ||
      (a.leaseId < b.leaseId ? -1 : 1),
  );
  for (const one of inTurn) {
    const left = purse.get(one.tenant) ?? NO_ROOM;
    const room = roomOf((field) => Math.max(0, Math.min(rest[field], has(one)[field], left[field])));
    if (ROOM_FIELDS.every((field) => room[field] === 0)) continue;
    takes.push({ leaseId: one.leaseId, room, kind });
    purse.set(one.tenant, beyond(left, room));
    rest = beyond(rest, room);
  }
  return takes;
}
