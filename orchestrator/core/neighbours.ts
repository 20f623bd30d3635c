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
export function overbearing(neighbours: Iterable<Neighbour>, limitFraction: number): Overbearing | undefined {
  let sufferer: Neighbour | undefined;
  let burster: Neighbour | undefined;
  for (const one of neighbours) {
    const isWithin = one.burstMillicores === 0;
    if (isWithin && (one.delayFraction ?? 0) > (sufferer?.delayFraction ?? limitFraction)) sufferer = one;
    if (one.burstMillicores > (burster?.burstMillicores ?? 0)) burster = one;
  }
  if (sufferer?.delayFraction === undefined || burster === undefined) return undefined;
  return { guest: burster.guest, sufferer: sufferer.guest, delayFraction: sufferer.delayFraction };
}
