import { type FleetGuest, type HostSize, PACKED_RESOURCES, stretchOf } from './fleet.ts';
import type { HostPlan, PackingRule } from './rules.ts';

/** Which half of the month a rule plans on: the first, and the second is judged, or the other way round. */
export const DIRECTIONS = ['forward', 'reverse'] as const;
export type Direction = (typeof DIRECTIONS)[number];

/** What a rule's placement came to. */
export interface PackingScore {
  readonly hosts: number;
  /** Share of the host-steps in which the demand on a host passed its CPU or its memory. */
  readonly overloadMean: number;
  /** The same of the host with the most. */
  readonly overloadWorst: number;
}

interface Filled {
  readonly plan: HostPlan<unknown>;
  readonly guests: FleetGuest[];
}

/**
 * Place a fleet by a rule that saw one half of its month, and judge it by the other. Best fit: guests in their order, each
 * onto the fullest host that the rule lets it on, else onto a new one, which takes any guest.
 */
export function playPacking(
  rule: PackingRule,
  fleet: readonly FleetGuest[],
  host: HostSize,
  direction: Direction,
): PackingScore {
  const bins = fleet[0]?.cpu.seen.length ?? 0;
  const middle = Math.floor(bins / 2);
  const halves = [
    { from: 0, to: middle },
    { from: middle, to: bins },
  ] as const;
  const [known, judged] = direction === 'forward' ? halves : [halves[1], halves[0]];
  const planned = rule.isClairvoyant ? judged : known;
  const filled: Filled[] = [];
  for (const guest of fleet) {
    const item = rule.weigh(stretchOf(guest, planned.from, planned.to), planned.from);
    place(rule, filled, item, stretchOf(guest, judged.from, judged.to), host);
  }
  const shares = filled.map(({ guests }) => overloadOf(guests, host));
  return {
    hosts: filled.length,
    overloadMean: shares.reduce((sum, share) => sum + share, 0) / shares.length,
    overloadWorst: shares.reduce((most, share) => Math.max(most, share), 0),
  };
}

function place(rule: PackingRule, filled: Filled[], item: unknown, guest: FleetGuest, host: HostSize): void {
  filled.sort((a, b) => b.plan.fullness - a.plan.fullness);
  let chosen = filled.find(({ plan }) => plan.fits(item));
  if (chosen === undefined) {
    chosen = { plan: rule.open(host), guests: [] };
    filled.push(chosen);
  }
  chosen.plan.add(item);
  chosen.guests.push(guest);
}

/** Share of the steps in which the guests together passed any resource of their host. */
function overloadOf(guests: readonly FleetGuest[], host: HostSize): number {
  const bins = guests[0]?.cpu.seen.length ?? 0;
  const overloaded = new Uint8Array(bins);
  for (const resource of PACKED_RESOURCES) {
    const sum = new Float64Array(bins);
    for (const guest of guests)
      for (let bin = 0; bin < bins; bin += 1)
        sum[bin] = (sum[bin] as number) + (guest[resource].seen[bin] as number);
    for (let bin = 0; bin < bins; bin += 1) if ((sum[bin] as number) > host[resource]) overloaded[bin] = 1;
  }
  return overloaded.reduce((count, one) => count + one, 0) / bins;
}
