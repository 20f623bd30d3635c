/** What is allocated to a guest by its five-minute bins. */
export const GUEST_RESOURCES = ['cpu', 'memory', 'disk', 'net'] as const;
export type GuestResource = (typeof GUEST_RESOURCES)[number];

/** Bins of a day: a bin is five minutes. */
export const DAY_BINS = 288;
/** Bins at the start that are not scored: a week. */
export const WARM_UP_BINS = 7 * DAY_BINS;

const MIB_KIB = 1024;

/** What an actuator can set. CPU in MHz, memory in KiB, disk and network in KB/s. */
export interface Actuator {
  /** Sizes are whole multiples of it. */
  readonly grain: number;
  readonly floor: number;
  /** Most it moves in one bin, up or down. */
  readonly moveMax: number;
}

/** Everyone's actuators, the oracle's too. */
export const ACTUATORS: Readonly<Record<GuestResource, Actuator>> = {
  cpu: { grain: 26, floor: 65, moveMax: Number.POSITIVE_INFINITY },
  // 100 MiB in ten seconds, as a balloon that is asked every ten seconds moves.
  memory: { grain: 4 * MIB_KIB, floor: 64 * MIB_KIB, moveMax: 3000 * MIB_KIB },
  disk: { grain: 64, floor: 256, moveMax: Number.POSITIVE_INFINITY },
  net: { grain: 16, floor: 128, moveMax: Number.POSITIVE_INFINITY },
};

/** One resource of one guest. */
export interface GuestSeries {
  readonly guest: string;
  /** f64[bins] in the actuator's unit, clipped to the ceiling. NaN: nothing was recorded, and nothing is scored. */
  readonly demand: Float64Array;
  /** f64[bins]: what a policy sees. The last demand where there is none, zero before the first. */
  readonly seen: Float64Array;
  /** Capacity; infinite for disk and network, which have none. */
  readonly ceiling: number;
  /** What the guest has without a policy: its capacity, or its peak of the month where it has none. */
  readonly provisioned: number;
}

/** @param capacity of CPU and memory; NaN for a resource without one */
export function guestSeries(guest: string, recorded: Float64Array, capacity: number): GuestSeries {
  const ceiling = Number.isNaN(capacity) ? Number.POSITIVE_INFINITY : capacity;
  const demand = recorded.map((value) => Math.min(value, ceiling));
  const seen = new Float64Array(demand.length);
  let last = 0;
  let peak = 0;
  for (const [bin, value] of demand.entries()) {
    if (!Number.isNaN(value)) last = value;
    seen[bin] = last;
    peak = Math.max(peak, last);
  }
  return { guest, demand, seen, ceiling, provisioned: Number.isNaN(capacity) ? peak : capacity };
}

/** One resource of all guests, of one length. */
export type Fleet = readonly GuestSeries[];
