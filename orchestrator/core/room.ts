import { MIB, MILLICORES_PER_VCPU } from './profile.ts';

/** CPU and memory of a host: what it has, promises or has left. */
export interface Room {
  readonly cpuMillicores: number;
  readonly memoryBytes: number;
}

export const NO_ROOM: Room = { cpuMillicores: 0, memoryBytes: 0 };

/** Resources that are promised, in the order in which reasons name them. */
export const ROOM_FIELDS = ['cpuMillicores', 'memoryBytes'] as const satisfies readonly (keyof Room)[];
export type RoomField = (typeof ROOM_FIELDS)[number];

/** One room computed from others, resource by resource. */
export function roomOf(value: (field: RoomField) => number): Room {
  return { cpuMillicores: value('cpuMillicores'), memoryBytes: value('memoryBytes') };
}

/** How much of `part` is not in `whole`; zero where it is. */
export function beyond(part: Room, whole: Room): Room {
  return roomOf((field) => Math.max(0, part[field] - whole[field]));
}

export function fitsIn(part: Room, whole: Room): boolean {
  return ROOM_FIELDS.every((field) => part[field] <= whole[field]);
}

export function plus(a: Room, b: Room): Room {
  return roomOf((field) => a[field] + b[field]);
}

/** The lesser of both, resource by resource. */
export function lesser(a: Room, b: Room): Room {
  return roomOf((field) => Math.min(a[field], b[field]));
}

/** A room in words. */
export function roomText({ cpuMillicores, memoryBytes }: Room): string {
  return `${cpuMillicores / MILLICORES_PER_VCPU} cores and ${Math.round(memoryBytes / MIB)} MiB`;
}
