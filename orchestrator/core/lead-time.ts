import type { Actuated } from './ports.ts';

/** How long the last growths of one guest took until they were read back, ms, oldest first, by resource. */
export type GrowthTimes = Readonly<Partial<Record<Actuated, readonly number[]>>>;
/** What to begin ahead of a start, ms, by resource; absent where none was measured. */
export type LeadTimes = Readonly<Partial<Record<Actuated, number>>>;

/** Growths kept by resource: two of them may be freaks and the rest still tells. */
const GROWTHS_MAX = 16;
/** Share of growths that the lead time covers. */
const LEAD_LEVEL = 0.9;

/** With one more growth; the oldest beyond the bound goes. @param tookMs 0 or more */
export function withGrowth(times: GrowthTimes, resource: Actuated, tookMs: number): GrowthTimes {
  return { ...times, [resource]: [...(times[resource] ?? []), tookMs].slice(-GROWTHS_MAX) };
}

/** By resource, the time that nine of ten growths took. */
export function leadTimes(times: GrowthTimes): LeadTimes {
  const leads: { -readonly [R in Actuated]?: number } = {};
  for (const [resource, took] of Object.entries(times) as [Actuated, readonly number[]][]) {
    const lead = [...took].sort((a, b) => a - b)[Math.ceil(took.length * LEAD_LEVEL) - 1];
    if (lead !== undefined) leads[resource] = lead;
  }
  return leads;
}
