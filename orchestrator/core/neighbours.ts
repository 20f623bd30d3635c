/** How one guest fares on the host's CPUs. */
export interface Neighbour {
  readonly guest: string;
  /** What it may use now beyond its leases' promises and its baseline, millicores; 0 when nothing. */
  readonly burstMillicores: number;
  /** Share of the time its vCPUs waited for a host CPU; absent when unknown. */
  readonly delayFraction?: number;
}

/** Whose burst others pay for, and who pays. */
export interface Overbearing {
  readonly guest: string;
  readonly sufferer: string;
  readonly delayFraction: number;
}

/**
 * The guest to bring back to its promise: the one that bursts furthest beyond it while another, which keeps to its own, waits for
 * host CPUs longer than `limitFraction` of its time. One at a time: the next sample tells whether it was enough. Pure.
 *
 * @param limitFraction of vCPU delay, in (0, 1)
 */
export function overbearing(
  neighbours: readonly Neighbour[],
  limitFraction: number,
): Overbearing | undefined {
  const within = neighbours.filter(({ burstMillicores }) => burstMillicores === 0);
  const sufferer = largest(within, ({ delayFraction = 0 }) => delayFraction);
  const delayFraction = sufferer?.delayFraction ?? 0;
  const burster = largest(neighbours, ({ burstMillicores }) => burstMillicores);
  if (sufferer === undefined || burster === undefined) return undefined;
  if (delayFraction <= limitFraction || burster.burstMillicores === 0) return undefined;
  return { guest: burster.guest, sufferer: sufferer.guest, delayFraction };
}

/** The first of those with the most. */
function largest(all: readonly Neighbour[], of: (one: Neighbour) => number): Neighbour | undefined {
  return all.reduce<Neighbour | undefined>(
    (most, one) => (most === undefined || of(one) > of(most) ? one : most),
    undefined,
  );
}
