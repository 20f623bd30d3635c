import type { GuestSample, InstructionReading } from '../orchestrator/core/sample.ts';
import type { DomainStatValues } from './domain-stats.ts';
import { countedBetween, cyclesPerInstruction, type PerfReading, perfReading } from './perf-reading.ts';

/** What the perf events of one guest tell at the end of a step that they saw whole. */
export interface PerfStep {
  readonly instructions: InstructionReading;
  readonly hardware: NonNullable<GuestSample['hardware']>;
}

/**
 * One guest's perf events, as a source of instruction counts for guests without the plugin's. They include what QEMU and
 * the host executed for the guest. A step that they did not see whole begins another run, so that no rate spans it.
 */
export class PerfTrack {
  #last: PerfReading | undefined;
  #run = 0;

  /** @param values of the statistics groups `perf` and `cpuTotal`. @returns undefined for the first, and while not whole */
  take(values: DomainStatValues): PerfStep | undefined {
    const last = this.#last;
    const now = perfReading(values);
    this.#last = now;
    const counted = last && now && countedBetween(last, now);
    if (counted === undefined) this.#run += 1;
    if (counted?.instructions === undefined || now?.instructions === undefined) return undefined;
    const cycles = cyclesPerInstruction(counted);
    const { branchInstructions, cacheMisses } = counted;
    return {
      instructions: { run: `perf-${this.#run}`, total: now.instructions },
      hardware: {
        ...(cycles !== undefined && { cyclesPerInstruction: cycles }),
        ...(branchInstructions !== undefined && { branchInstructions }),
        ...(cacheMisses !== undefined && { cacheMisses }),
      },
    };
  }

  /** The guest has another process: nothing of before compares with what comes. */
  clear(): void {
    this.#last = undefined;
  }
}
