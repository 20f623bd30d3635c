import type { GuestId } from './guest.ts';
import type { ResourceProfile } from './profile.ts';

/** Why a sample, or a part of it, must not be read as ordinary demand. */
export const SAMPLE_FLAGS = [
  'counter-reset', // a counter went back (reboot, restore, migration); rates over the step are absent
  'gap', //           more than two periods since the last sample
  'paused', //        the guest did not run for some of the period
  'clock-step', //    the host's wall clock jumped; times are ours, rates use the monotonic clock
  'memory-stale', //  the balloon statistics are older than two of their periods
] as const;
export type SampleFlag = (typeof SAMPLE_FLAGS)[number];

/**
 * Classes of executed instructions, decided when the guest's code is translated: privileged and I/O, crypto, floating point
 * and SIMD, branches, loads and stores. `other` is what no counted class took.
 */
export const INSTRUCTION_CLASSES = ['system', 'crypto', 'vector', 'branch', 'memory', 'other'] as const;
export type InstructionClass = (typeof INSTRUCTION_CLASSES)[number];

/** Instructions by class. */
export type ClassCounts = Readonly<Partial<Record<InstructionClass, number>>>;

/** Instructions executed by all vCPUs of a guest since one start of it. */
export interface InstructionReading {
  /** Which start: readings of two starts have nothing in common. */
  readonly run: string;
  readonly total: number;
  /** Absent where they are not told apart. */
  readonly classes?: ClassCounts;
}

/** Instructions executed between two readings; undefined when the guest was started anew between them. */
export function executedBetween(
  from: InstructionReading,
  to: InstructionReading,
): Omit<InstructionReading, 'run'> | undefined {
  if (from.run !== to.run) return undefined;
  const total = to.total - from.total;
  if (from.classes === undefined || to.classes === undefined) return { total };
  const classes: { -readonly [C in InstructionClass]?: number } = {};
  for (const name of INSTRUCTION_CLASSES) {
    const count = to.classes[name];
    if (count !== undefined) classes[name] = count - (from.classes[name] ?? 0);
  }
  return { total, classes };
}

/** How one guest is sampled: complete samples only, samples of the host's own readings beside them, or not at all. */
export type Cadence = 'full' | 'fast' | 'none';

/** The granularity of one guest's samples. */
export interface Sampling {
  /** Between complete samples, ms. */
  readonly fullMs: number;
  /** Between samples of the host's own readings while a lease is in force, ms. */
  readonly fastMs: number;
  /** Executed instructions between samples on that axis; 0: none are made. */
  readonly instructionStep: number;
}

/** Least and most of each, in its unit: what procfs and libvirt tell is no finer, and nobody plans by what is coarser. */
export const SAMPLING_BOUNDS: Readonly<
  Record<keyof Sampling, { readonly min: number; readonly max: number }>
> = {
  fullMs: { min: 200, max: 600_000 },
  fastMs: { min: 50, max: 60_000 },
  instructionStep: { min: 0, max: 1e12 },
};

/** One reading of one guest: rates over the period that ends at `atMs`. */
export interface GuestSample {
  readonly guest: GuestId;
  /** End of the period, host's wall clock, ms since epoch. */
  readonly atMs: number;
  /** Length of the period over which rates are taken. */
  readonly periodMs: number;
  /**
   * `fast` samples carry what procfs and the cgroup give; `full` ones everything that was read; a `cut` ends where the
   * guest had executed a number of instructions.
   */
  readonly cadence: 'fast' | 'full' | 'cut';
  readonly usage: ResourceProfile;
  /** Share of the period each online vCPU thread ran and waited for a host CPU, in [0, ...]; absent when unknown. */
  readonly vcpus?: readonly { readonly runFraction: number; readonly delayFraction: number }[];
  /** Present when read in this sample. `balloonBytes` is the balloon's actual size plus virtio-mem. */
  readonly memory?: {
    readonly balloonBytes: number;
    readonly usableBytes?: number;
    readonly unusedBytes?: number;
    readonly availableBytes?: number;
    readonly rssBytes?: number;
    readonly swapInBytesPerS?: number;
    readonly swapOutBytesPerS?: number;
    readonly majorFaultsPerS?: number;
  };
  /** Pressure stall shares in [0, 1] where the host or the guest's cgroup has PSI. */
  readonly pressure?: { readonly cpuSome?: number; readonly memorySome?: number; readonly ioSome?: number };
  /** Instructions the guest had executed at the end of the period, since its start; absent without a counter. */
  readonly instructionsAt?: number;
  /** Instructions executed in the period, by class; absent where they are not told apart. */
  readonly classes?: ClassCounts;
  /** What the host's counters tell of the period; absent where they are not read. */
  readonly hardware?: {
    /** Host cycles by executed instruction. */
    readonly cyclesPerInstruction?: number;
    readonly branchInstructions?: number;
    readonly cacheMisses?: number;
  };
  readonly flags: readonly SampleFlag[];
}
