import type { GuestId } from '../orchestrator/core/guest.ts';
import type { ClassCounts, InstructionReading } from '../orchestrator/core/sample.ts';

/**
 * What the host's kernel says of one guest's process, cumulative. Nanoseconds as float64: exact to 2^53, that is
 * 104 days of CPU, and to a few nanoseconds after.
 */
export interface HostReading {
  /** CPU of the whole process, emulator and I/O threads included. */
  readonly cpuNs: number;
  /** By vCPU index; a vCPU that is not plugged has no entry of its own and is undefined. */
  readonly vcpus: readonly ({ readonly runNs: number; readonly delayNs: number } | undefined)[];
}

/** Pressure stall totals of the guest's cgroup, microseconds. */
export interface PressureReading {
  readonly cpuSomeUs?: number;
  readonly memorySomeUs?: number;
  readonly ioSomeUs?: number;
}

/** One guest's process on this host. Reads are synchronous: procfs never waits for a disk. */
export interface GuestReadings {
  /** undefined when the process is gone. */
  read(): HostReading | undefined;
  /** undefined where the host has no pressure source for a single guest. */
  pressure(): PressureReading | undefined;
  close(): void;
}

/** Finds guests' processes on this host. */
export interface HostReadings {
  /** undefined when the guest has no process here: off, or another host's. */
  open(guest: GuestId): Promise<GuestReadings | undefined>;
}

/** One cut: a vCPU had executed `total` instructions since its guest's start. */
export interface InstructionCut {
  readonly vcpu: number;
  readonly total: number;
  readonly classes?: ClassCounts;
  /** How long before the reading it was cut. */
  readonly ageMs: number;
}

/** Cuts since the last time they were asked for, oldest first. */
export interface InstructionCuts {
  /** As in a reading. */
  readonly run: string;
  readonly cuts: readonly InstructionCut[];
  /** Cuts that were overwritten before they were read. */
  readonly lost: number;
}

/** Counts the executed instructions of a guest. */
export interface InstructionCounter {
  /** undefined while there is nothing to read. */
  read(): InstructionReading | undefined;
  /** undefined where none are cut, or there is nothing to read. The first answer holds none: it is what later ones are since. */
  newCuts(): InstructionCuts | undefined;
  close(): void;
}

/** Opens the counter that a domain's XML names; undefined when there is none or it cannot be read. */
export type OpenInstructionCounter = (file: string) => InstructionCounter | undefined;
