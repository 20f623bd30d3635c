import { type AllocationScore, AllocationSheet } from './allocation-sheet.ts';
import type { Actuator, Fleet } from './guest-series.ts';
import { OWN_LEVELS, PricedPolicy } from './priced-policy.ts';
import { doublings, FORECAST_LEVELS, tailFeatures } from './tail-features.ts';
import { TailForest } from './tail-forest.ts';

/** One resource of all guests with the forecasts of its bins. */
export interface ForecastFleet {
  readonly fleet: Fleet;
  readonly actuator: Actuator;
  readonly lead: number;
  /** First bin at whose end is forecast. */
  readonly from: number;
  /** f32[bins - from, OWN_LEVELS] a guest: of the bin `lead` later. */
  readonly forecasts: readonly Float32Array[];
}

/** What a month teaches of another. @param random draws from [0, 1) */
export function growForest(month: ForecastFleet, random: () => number): TailForest {
  const { fleet, actuator, lead, from } = month;
  const features = featuresOf(month);
  return new TailForest(
    fleet.map(({ demand }, g) => {
      const outcomes = new Float32Array(demand.length - lead - from);
      for (const row of outcomes.keys())
        outcomes[row] = doublings(demand[from + row + lead] as number, actuator);
      return { features: features[g] as Float32Array, outcomes };
    }),
    random,
  );
}

/** A month under our policy, bin after bin. */
export class OurPlay {
  readonly #fleet: Fleet;
  readonly #policy: PricedPolicy;

  constructor(month: ForecastFleet, forest: TailForest, targets: readonly number[]) {
    const { fleet, actuator, lead, from, forecasts } = month;
    const known = { forest, features: featuresOf(month), from, forecasts };
    this.#fleet = fleet;
    this.#policy = new PricedPolicy(fleet, actuator, lead, known, targets);
  }

  step(bin: number): void {
    this.#policy.step(bin);
  }

  /** A score a target. */
  scores(): AllocationScore[] {
    return this.#policy.inForce.map((own) => {
      const sheet = new AllocationSheet();
      for (const [g, series] of this.#fleet.entries()) sheet.add(series, own[g] as Float64Array);
      return sheet.total();
    });
  }
}

function featuresOf({ fleet, actuator, lead, from, forecasts }: ForecastFleet): Float32Array[] {
  const places = FORECAST_LEVELS.map((level) => OWN_LEVELS.indexOf(level));
  return fleet.map((series, g) => {
    const fan = forecasts[g] as Float32Array;
    const picked = new Float32Array((series.demand.length - from) * places.length);
    for (let at = 0; at < picked.length; at += 1) {
      const row = Math.floor(at / places.length);
      picked[at] = fan[row * OWN_LEVELS.length + (places[at % places.length] as number)] as number;
    }
    return tailFeatures(series, actuator, lead, picked, from);
  });
}
