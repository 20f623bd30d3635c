import { type AllocationScore, AllocationSheet } from './allocation-sheet.ts';
import { type Actuator, type Fleet, WARM_UP_BINS } from './guest-series.ts';
import { putInForce } from './in-force.ts';
import type { Peer } from './peers.ts';

/** A peer at one setting. */
export interface PeerPoint {
  readonly parameter: string;
  readonly score: AllocationScore;
}

/** Play every setting of a policy over one resource of all guests. */
export function playPeer(peer: Peer, fleet: Fleet, actuator: Actuator, lead: number): PeerPoint[] {
  const bins = Math.max(WARM_UP_BINS, ...fleet.map(({ demand }) => demand.length));
  const shape = new Float64Array(bins);
  const decided = new Float64Array(bins);
  const inForce = new Float64Array(bins);
  return peer.shapes.flatMap(({ name, decide }) => {
    const sheets = peer.margins.map(() => new AllocationSheet());
    for (const series of fleet) {
      const { length } = series.demand;
      const own = shape.subarray(0, length);
      decide({ series, actuator, lead }, own);
      for (const [m, margin] of peer.margins.entries()) {
        for (let bin = 0; bin < length; bin += 1) decided[bin] = (own[bin] as number) * margin;
        putInForce(series, actuator, lead, decided, inForce.subarray(0, length));
        sheets[m]?.add(series, inForce);
      }
    }
    return peer.margins.map((margin, m) => ({
      parameter: margin === 1 ? name : `${name} x ${margin}`,
      score: (sheets[m] as AllocationSheet).total(),
    }));
  });
}
