import type { DomainStatValues } from './domain-stats.ts';
import { WITNESS_EVENT } from './perf-events.ts';

/** Share of the guest's CPU that the events must have seen for their counts to be the guest's. */
export const SEEN_FRACTION_MIN = 0.95;

/** Counts of hardware events; absent where one is not counted. float64, exact to 2^53. */
export interface PerfCounts {
  readonly instructions?: number;
  readonly cpuCycles?: number;
  readonly branchInstructions?: number;
  readonly cacheMisses?: number;
}

/**
 * Counts since the events were switched on, of QEMU's threads that the events see, and of these all that they do: guest,
 * QEMU and the host's kernel on their behalf.
 */
export interface PerfReading extends PerfCounts {
  /** CPU time of the threads that are seen, ns; absent where nobody counts it. */
  readonly seenNs?: number;
  /** CPU time of the whole process, ns; absent when it was not read. */
  readonly usedNs?: number;
}

const STAT_OF = {
  instructions: 'perf.instructions',
  cpuCycles: 'perf.cpu_cycles',
  branchInstructions: 'perf.branch_instructions',
  cacheMisses: 'perf.cache_misses',
} as const satisfies Record<keyof PerfCounts, string>;
const COUNTS = Object.keys(STAT_OF) as (keyof PerfCounts)[];

/** What the statistics groups `perf` and `cpuTotal` say; undefined when no event is counted. */
export function perfReading(values: DomainStatValues): PerfReading | undefined {
  const counts: { -readonly [C in keyof PerfCounts]: number } = {};
  for (const name of COUNTS) {
    const count = values.number(STAT_OF[name]);
    if (count !== undefined) counts[name] = count;
  }
  const seenNs = values.number(`perf.${WITNESS_EVENT}`);
  if (Object.keys(counts).length === 0 && seenNs === undefined) return undefined;
  const usedNs = values.number('cpu.time');
  return { ...counts, ...(seenNs !== undefined && { seenNs }), ...(usedNs !== undefined && { usedNs }) };
}

/**
 * What a guest's events counted between two readings. Undefined when it cannot be told or is not the whole guest's: an
 * event was switched on anew between them, or they see less than {@link SEEN_FRACTION_MIN} of its CPU.
 */
export function countedBetween(from: PerfReading, to: PerfReading): PerfCounts | undefined {
  const seenNs = (to.seenNs ?? Number.NaN) - (from.seenNs ?? Number.NaN);
  const usedNs = (to.usedNs ?? Number.NaN) - (from.usedNs ?? Number.NaN);
  if (!(seenNs >= 0 && usedNs >= 0 && seenNs >= SEEN_FRACTION_MIN * usedNs)) return undefined;
  const counted: { -readonly [C in keyof PerfCounts]: number } = {};
  for (const name of COUNTS) {
    const [before, after] = [from[name], to[name]];
    if (before === undefined || after === undefined) continue;
    if (after < before) return undefined;
    counted[name] = after - before;
  }
  return counted;
}

/** Cycles per instruction; undefined where either is missing or nothing was executed. */
export function cyclesPerInstruction({ instructions, cpuCycles }: PerfCounts): number | undefined {
  return instructions && cpuCycles !== undefined ? cpuCycles / instructions : undefined;
}
