import { UNBOUNDED } from './entitlement.ts';
import type { Forecast } from './forecast.ts';
import type { GuestFacts } from './guest.ts';
import { type NeedsPolicy, needsOf } from './needs.ts';
import type { Entitlement } from './profile.ts';
import type { Priority } from './request.ts';

/** A guest that cannot grow to what a request needs before its next boot. */
export interface CeilingShort {
  readonly resource: 'cpu' | 'memory';
  /** What would be requested if no ceiling bound: what the guest's is to hold. */
  readonly wished: Entitlement;
}

/** What a request asks of a guest, as the forecast sees it. */
export interface Plan {
  readonly forecast: Forecast;
  /** At the priority's quantile, with headroom. */
  readonly requested: Entitlement;
  /** The median need, without headroom: with less the work would rather wait. */
  readonly least: Entitlement;
  /** Set when the guest's own ceiling is below the median need. */
  readonly ceilingShort?: CeilingShort;
}

/** Turn a forecast into what to ask for. Pure. */
export function planOf(
  forecast: Forecast,
  priority: Priority,
  baseline: Entitlement,
  facts: Pick<GuestFacts, 'ceiling'>,
  policy: NeedsPolicy,
): Plan {
  const bounds = { baseline, ceiling: facts.ceiling };
  const median: NeedsPolicy = {
    ...policy,
    levels: { low: 0.5, normal: 0.5, high: 0.5, critical: 0.5 },
    headroomFraction: { cpu: 0, memory: 0, disk: 0, net: 0 },
  };
  const unbounded = { baseline, ceiling: UNBOUNDED };
  const least = needsOf(forecast, priority, bounds, median);
  const wish = needsOf(forecast, priority, unbounded, median);
  const short = shortOf(wish, least);
  return {
    forecast,
    requested: needsOf(forecast, priority, bounds, policy),
    least,
    ...(short === undefined
      ? {}
      : { ceilingShort: { resource: short, wished: needsOf(forecast, priority, unbounded, policy) } }),
  };
}

function shortOf(wish: Entitlement, bounded: Entitlement): 'cpu' | 'memory' | undefined {
  if (wish.memoryBytes > bounded.memoryBytes) return 'memory';
  return wish.cpuMillicores > bounded.cpuMillicores ? 'cpu' : undefined;
}
