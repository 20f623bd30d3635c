import type { Actuator, GuestSeries } from './guest-series.ts';

/** Decimal noise below which a size counts as a whole number of grains. */
const NOISE_GRAINS = 1e-9;

/** The size that a guest can have for a wanted one: whole grains, from the floor to its ceiling. */
export function fitted({ grain, floor }: Actuator, ceiling: number, wanted: number): number {
  const whole = Math.ceil(wanted / grain - NOISE_GRAINS) * grain;
  return Math.min(Math.max(whole, floor), ceiling);
}

/** What the actuator makes of a wanted size when `current` is in force. */
export function actuated(actuator: Actuator, ceiling: number, wanted: number, current: number): number {
  const bounded = fitted(actuator, ceiling, wanted);
  const { moveMax } = actuator;
  return Math.min(Math.max(bounded, current - moveMax), current + moveMax);
}

/**
 * Sizes in force, bin by bin: what was decided at the end of bin t is in force in bin t + lead. Before the first
 * decision arrives, what is provisioned.
 * @param decided f64[bins] @param inForce f64[bins], filled
 */
export function putInForce(
  series: GuestSeries,
  actuator: Actuator,
  lead: number,
  decided: Float64Array,
  inForce: Float64Array,
): void {
  let current = series.provisioned;
  for (let bin = 0; bin < inForce.length; bin += 1) {
    if (bin >= lead) current = actuated(actuator, series.ceiling, decided[bin - lead] as number, current);
    inForce[bin] = current;
  }
}
