import { DAY_BINS } from '../guests/guest-series.ts';

/** What a host is filled with. CPU in MHz, memory in MiB. */
export const PACKED_RESOURCES = ['cpu', 'memory'] as const;
export type PackedResource = (typeof PACKED_RESOURCES)[number];

/** Bins of an hour: a bin is five minutes. */
const HOUR_BINS = 12;
export const SHIFT_BINS = { days: DAY_BINS, hours: HOUR_BINS } as const;
export type Shift = keyof typeof SHIFT_BINS;

/** One resource of a guest that is to be placed. */
export interface Demand {
  /** f64[bins]: demand, the last one known where nothing was recorded. */
  readonly seen: Float64Array;
  readonly ceiling: number;
}

export type FleetGuest = Readonly<Record<PackedResource, Demand>>;
export type HostSize = Readonly<Record<PackedResource, number>>;

/** Bins [from, to) of a guest, clipped from its month. */
export function stretchOf(guest: FleetGuest, from: number, to: number): FleetGuest {
  const cut = ({ seen, ceiling }: Demand): Demand => ({ seen: seen.subarray(from, to), ceiling });
  return { cpu: cut(guest.cpu), memory: cut(guest.memory) };
}

/**
 * A larger fleet of the same kind: guests drawn with replacement, each moved round its month by whole days or hours.
 * @param below a whole number in [0, count), at random
 */
export function drawFleet(
  guests: readonly FleetGuest[],
  count: number,
  shift: Shift,
  below: (count: number) => number,
): FleetGuest[] {
  return Array.from({ length: count }, () => {
    const guest = guests[below(guests.length)] as FleetGuest;
    const bins = guest.cpu.seen.length;
    const by = below(Math.floor(bins / SHIFT_BINS[shift])) * SHIFT_BINS[shift];
    return { cpu: moved(guest.cpu, by), memory: moved(guest.memory, by) };
  });
}

/** What ran over the end comes first. */
function moved({ seen, ceiling }: Demand, by: number): Demand {
  const round = new Float64Array(seen.length);
  round.set(seen.subarray(seen.length - by));
  round.set(seen.subarray(0, seen.length - by), by);
  return { seen: round, ceiling };
}
