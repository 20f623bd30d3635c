import { type AllocationScore, AllocationSheet } from './allocation-sheet.ts';
import { BoostedChances } from './boosted-chances.ts';
import { edgesOf, exceededOf, UNKNOWN } from './chance-edges.ts';
import { chanceFeatures } from './chance-features.ts';
import { ACTUATORS, type Fleet, type GuestResource } from './guest-series.ts';
import { PricedPolicy } from './priced-policy.ts';

/** A month of guests with the forecasts of one resource's bins. */
export interface ForecastFleet {
  /** The same guests in the same order for every resource. */
  readonly fleets: Readonly<Record<GuestResource, Fleet>>;
  readonly resource: GuestResource;
  readonly lead: number;
  /** First bin at whose end is forecast. */
  readonly from: number;
  /** f32[bins - from, OWN_LEVELS] a guest: of the bin `lead` later. */
  readonly forecasts: readonly Float32Array[];
}

/** Bins that are learned from: more are thinned out, for the memory they would take. */
const ROWS_MAX = 700_000;

/** What a month teaches of another's chances. @param random draws from [0, 1) */
export function learnChances(month: ForecastFleet, random: () => number): BoostedChances {
  const { fleets, resource, lead, from } = month;
  const fleet = fleets[resource];
  const parts = fleet.map(({ demand }, g) => {
    const { edges, features } = foreseen(month, g);
    const exceeded = exceededOf(edges, demand.subarray(from + lead), ACTUATORS[resource]);
    const share = ROWS_MAX / (fleet.length * exceeded.length);
    const rows = Array.from(exceeded.keys()).filter(
      (row) => exceeded[row] !== UNKNOWN && (share >= 1 || random() < share),
    );
    const width = features.length / (demand.length - from);
    const kept = new Float32Array(rows.length * width);
    for (const [i, row] of rows.entries())
      kept.set(features.subarray(row * width, (row + 1) * width), i * width);
    return { features: kept, exceeded: Uint8Array.from(rows, (row) => exceeded[row] as number) };
  });
  const count = parts.reduce((sum, { exceeded }) => sum + exceeded.length, 0);
  const all = {
    features: new Float32Array(parts.reduce((sum, { features }) => sum + features.length, 0)),
    exceeded: new Uint8Array(count),
    guest: new Uint16Array(count),
  };
  let row = 0;
  let value = 0;
  for (const [g, { features, exceeded }] of parts.entries()) {
    all.features.set(features, value);
    all.exceeded.set(exceeded, row);
    all.guest.fill(g, row, row + exceeded.length);
    value += features.length;
    row += exceeded.length;
  }
  return new BoostedChances(all, random);
}

/** Play a month under our policy. @returns a score a target */
export function playOurs(
  month: ForecastFleet,
  learned: BoostedChances,
  targets: readonly number[],
): AllocationScore[] {
  const { fleets, resource, lead, from } = month;
  const fleet = fleets[resource];
  const known = fleet.map((_, g) => {
    const { edges, features } = foreseen(month, g);
    return { edges, chances: learned.of(features) };
  });
  const foresight = {
    from,
    edges: known.map(({ edges }) => edges),
    chances: known.map(({ chances }) => chances),
  };
  const policy = new PricedPolicy(fleet, ACTUATORS[resource], lead, foresight, targets);
  const bins = fleet[0]?.demand.length ?? 0;
  for (let bin = from; bin < bins; bin += 1) policy.step(bin);
  return policy.inForce.map((own) => {
    const sheet = new AllocationSheet();
    for (const [g, series] of fleet.entries()) sheet.add(series, own[g] as Float64Array);
    return sheet.total();
  });
}

function foreseen({ fleets, resource, lead, from, forecasts }: ForecastFleet, guest: number) {
  const edges = edgesOf(forecasts[guest] as Float32Array, ACTUATORS[resource]);
  return { edges, features: chanceFeatures(fleets, guest, resource, lead, edges, from) };
}
