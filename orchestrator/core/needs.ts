import assert from 'node:assert';
import { CPU_WEIGHT_MAX, CPU_WEIGHT_MIN } from './cpu-weight.ts';
import { type Forecast, LEVELS, QUANTILE_LEVELS, quantileAt, quantileOf } from './forecast.ts';
import type { Interval, PredictedNeed } from './lease.ts';
import {
  ENTITLEMENT_FIELDS,
  type Entitlement,
  type EntitlementField,
  MIB,
  PROFILE_FIELDS,
  RESOURCE_OF,
  vcpusFor,
} from './profile.ts';
import type { Priority } from './request.ts';

/** How a forecast becomes an entitlement. */
export interface NeedsPolicy {
  /** Quantile level of the peak that each priority is given, in (0, 1). */
  readonly levels: Readonly<Record<Priority, number>>;
  /** Kept above the quantile, as a fraction of it. */
  readonly headroomFraction: Readonly<Record<'cpu' | 'memory' | 'disk' | 'net', number>>;
  /** Runs a forecast must rest on before a disk or network limit is set where there was none. */
  readonly rateLimitRunsMin: number;
  /** What a guest's own CPU weight is multiplied by while the work runs, above 0. */
  readonly cpuWeight: number;
}

/** Share of its time in which work of a priority may fall short: what its level leaves out. In (0, 1). */
export function shortTarget({ levels }: NeedsPolicy, priority: Priority): number {
  return 1 - levels[priority];
}

/** What a client says its work needs in all, where it knows better than the forecast. */
export type Need = Readonly<Partial<Pick<Entitlement, 'cpuMillicores' | 'memoryBytes'>>>;

/** Smallest step of each field: what the actuators can set and read back exactly. */
export const GRAIN: Readonly<Record<EntitlementField, number>> = {
  cpuMillicores: 10,
  memoryBytes: 4 * MIB,
  diskReadBytesPerS: 65_536,
  diskWriteBytesPerS: 65_536,
  netRxBytesPerS: 16_384,
  netTxBytesPerS: 16_384,
};

/** The least multiple of the field's grain that holds `value`; a rounding error of the product before it is not demand. */
export function wholeGrains(value: number, field: EntitlementField): number {
  return Math.ceil(value / GRAIN[field] - 1e-9) * GRAIN[field];
}

/**
 * What a guest cannot use of its memory: its kernel keeps some, and without the text of its running programs it does nothing but
 * read. Measured: a guest of 136 MiB with 7 MiB to spare stood still for seconds, its agent and statistics with it.
 */
export const MEMORY_RESERVE_BYTES = 12 * MIB;
/** Least headroom of memory: what is unusable, and some to grow in until the next reading. */
const MEMORY_HEADROOM_BYTES_MIN = 16 * MIB;

/** Demand with what is kept above it on purpose; without a fraction nothing is. */
export function withHeadroom(demand: number, field: EntitlementField, fraction: number): number {
  const wanted = demand * (1 + fraction);
  if (field !== 'memoryBytes' || fraction === 0) return wanted;
  return Math.max(wanted, demand + MEMORY_HEADROOM_BYTES_MIN);
}

/** A rate limit below this would make an unforeseen read or packet crawl: 4 MiB/s. */
export const RATE_FLOOR_BYTES_PER_S = 4 * MIB;

/**
 * What a guest is to be entitled to so that the request fits at its priority's quantile: at least its baseline, at most its
 * ceiling. Pure.
 */
export function needsOf(
  forecast: Forecast,
  priority: Priority,
  bounds: { readonly baseline: Entitlement; readonly ceiling: Entitlement },
  policy: NeedsPolicy,
): Entitlement {
  const level = policy.levels[priority];
  assert(level > 0 && level < 1);
  const at = (field: EntitlementField): number => {
    const resource = RESOURCE_OF[field] as 'cpu' | 'memory' | 'disk' | 'net';
    const demand = quantileOf(forecast.peak, field, level);
    return wholeGrains(withHeadroom(demand, field, policy.headroomFraction[resource]), field);
  };
  const cpuMillicores = between(at('cpuMillicores'), bounds, 'cpuMillicores');
  const need: { -readonly [K in keyof Entitlement]: Entitlement[K] } = {
    cpuMillicores,
    memoryBytes: between(at('memoryBytes'), bounds, 'memoryBytes'),
    vcpuCount: Math.min(
      Math.max(vcpusFor(cpuMillicores), bounds.baseline.vcpuCount),
      Math.max(bounds.ceiling.vcpuCount, bounds.baseline.vcpuCount),
    ),
  };
  for (const field of ENTITLEMENT_FIELDS) {
    if (field === 'cpuMillicores' || field === 'memoryBytes') continue;
    const limit = rateLimit(at(field), bounds.baseline[field], forecast.runs >= policy.rateLimitRunsMin);
    if (limit !== undefined) need[field] = limit;
  }
  const own = bounds.baseline.cpuWeight;
  if (own !== undefined)
    need.cpuWeight = Math.max(CPU_WEIGHT_MIN, Math.min(own * policy.cpuWeight, CPU_WEIGHT_MAX));
  return need;
}

/** A field without a forecast (NaN) keeps its baseline. */
function between(
  wanted: number,
  bounds: { readonly baseline: Entitlement; readonly ceiling: Entitlement },
  field: 'cpuMillicores' | 'memoryBytes',
): number {
  const floor = bounds.baseline[field];
  if (!Number.isFinite(wanted)) return floor;
  return Math.max(floor, Math.min(wanted, bounds.ceiling[field]));
}

/** A limit that was there is raised to the need; one that was not is set only on a forecast that has seen enough runs. */
function rateLimit(wanted: number, baseline: number | undefined, trusted: boolean): number | undefined {
  if (!Number.isFinite(wanted)) return baseline;
  if (baseline !== undefined) return Math.max(baseline, wanted);
  return trusted ? Math.max(wanted, RATE_FLOOR_BYTES_PER_S) : undefined;
}

/** What a lease keeps of the forecast it rests on. */
export function predictedNeed(forecast: Forecast): PredictedNeed {
  const fields: Partial<Record<(typeof PROFILE_FIELDS)[number], Interval>> = {};
  for (const field of PROFILE_FIELDS) {
    const interval = intervalOf(forecast.peak, PROFILE_FIELDS.indexOf(field) * LEVELS);
    if (interval !== undefined) fields[field] = interval;
  }
  const durationS = intervalOf(forecast.duration, 0);
  return {
    fields,
    ...(durationS === undefined ? {} : { durationS }),
    reason: forecast.reason,
    runs: forecast.runs,
  };
}

function intervalOf(row: Float64Array, offset: number): Interval | undefined {
  assert(QUANTILE_LEVELS[0] === 0.05);
  const q05 = quantileAt(row, offset, 0.05);
  const q50 = quantileAt(row, offset, 0.5);
  const q95 = quantileAt(row, offset, 0.95);
  return Number.isFinite(q05) && Number.isFinite(q50) && Number.isFinite(q95) ? { q05, q50, q95 } : undefined;
}
