import type { GuestId } from '../orchestrator/core/guest.ts';
import {
  type ClassCounts,
  type GuestSample,
  INSTRUCTION_CLASSES,
  type InstructionClass,
} from '../orchestrator/core/sample.ts';
import type { InstructionCut, InstructionCuts } from './host-readings.ts';

type Counts = { [C in InstructionClass]?: number };

/** One guest's samples on the axis of executed instructions, made of its vCPUs' cuts. */
export class CutTrack {
  readonly #guest: GuestId;
  #run = '';
  /** Last cut of each vCPU. */
  readonly #last = new Map<number, InstructionCut>();
  /** Instructions of all vCPUs up to their last cuts. */
  #total = 0;
  /** When the step at hand began. */
  #begunAtMs: number | undefined;
  /** Instructions of the step at hand. */
  #executed = 0;
  #classes: Counts = {};
  #hasGap = false;

  constructor(guest: GuestId) {
    this.#guest = guest;
  }

  /** Begin anew: what comes next does not follow on what came before. */
  clear(): void {
    this.#last.clear();
    this.#total = 0;
    this.#begunAtMs = undefined;
    this.#executed = 0;
    this.#classes = {};
    this.#hasGap = false;
  }

  /**
   * Samples that end at the first cut at which the guest had executed `step` more instructions than at the end of the one
   * before.
   * @param nowMs   wall clock of the reading
   * @param beside  what else was read of the guest last: a cut tells instructions alone
   */
  take({ run, cuts, lost }: InstructionCuts, step: number, nowMs: number, beside: Beside): GuestSample[] {
    if (run !== this.#run) this.clear();
    this.#run = run;
    if (lost > 0) this.#hasGap = true;
    const samples: GuestSample[] = [];
    for (const cut of cuts) {
      const before = this.#last.get(cut.vcpu);
      this.#last.set(cut.vcpu, cut);
      this.#total += cut.total - (before?.total ?? 0);
      const atMs = nowMs - cut.ageMs;
      this.#begunAtMs ??= atMs;
      // What a vCPU had executed before its first cut is no part of the step: nobody knows since when.
      if (before !== undefined) {
        this.#executed += cut.total - before.total;
        addClasses(this.#classes, before.classes, cut.classes);
      }
      if (this.#executed >= step) samples.push(this.#end(atMs, beside));
    }
    return samples;
  }

  #end(atMs: number, { memoryBytes, vcpus }: Beside): GuestSample {
    // Cuts of two vCPUs may stand in the file in another order than that of their times.
    const periodMs = Math.max(0, atMs - (this.#begunAtMs ?? atMs));
    const sample: GuestSample = {
      guest: this.#guest,
      atMs,
      periodMs,
      cadence: 'cut',
      usage: {
        ...(periodMs > 0 && { instructionsPerS: (this.#executed * 1000) / periodMs }),
        ...(memoryBytes !== undefined && { memoryBytes }),
      },
      ...(vcpus !== undefined && { vcpus }),
      instructionsAt: this.#total,
      ...(Object.keys(this.#classes).length > 0 && { classes: this.#classes }),
      flags: this.#hasGap ? ['gap'] : [],
    };
    this.#begunAtMs = Math.max(atMs, this.#begunAtMs ?? atMs);
    this.#executed = 0;
    this.#classes = {};
    this.#hasGap = false;
    return sample;
  }
}

/** What is known of a guest besides its instructions. */
export interface Beside {
  readonly memoryBytes?: number;
  readonly vcpus?: NonNullable<GuestSample['vcpus']>;
}

function addClasses(sums: Counts, from: ClassCounts | undefined, to: ClassCounts | undefined): void {
  if (from === undefined || to === undefined) return;
  for (const name of INSTRUCTION_CLASSES) {
    const count = to[name];
    if (count !== undefined) sums[name] = (sums[name] ?? 0) + count - (from[name] ?? 0);
  }
}
