import type { InstructionCounter } from './host-readings.ts';
import {
  IcountError,
  IcountReader,
  type IcountReading,
  type IcountRecords,
  totalInstructions,
} from './icount-reader.ts';

/** Counter of a guest whose QEMU runs the instruction-count plugin. Each answer is undefined while there is none. */
export interface IcountCounter extends InstructionCounter {
  /** Counts by vCPU, and by class where the plugin counts classes. */
  reading(): IcountReading | undefined;
  /** Cuts from number `since` on, as {@link IcountReader.records}. */
  cutsSince(since: bigint): IcountRecords | undefined;
}

/** Open the file of the instruction-count plugin; undefined when it is not there or not the plugin's. */
export function openIcountCounter(file: string): IcountCounter | undefined {
  const reader = orUndefined(() => new IcountReader(file));
  if (reader === undefined) return undefined;
  return {
    read: () => orUndefined(() => totalInstructions(reader.read())),
    reading: () => orUndefined(() => reader.read()),
    cutsSince: (since) => orUndefined(() => reader.records(since)),
    close: () => reader.close(),
  };
}

function orUndefined<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof IcountError) return undefined; // no counter is a missing value, not a failure
    throw cause;
  }
}
