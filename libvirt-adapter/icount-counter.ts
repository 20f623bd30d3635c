import type { InstructionCounter } from './host-readings.ts';
import { IcountError, IcountReader, totalInstructions } from './icount/reader.ts';

/** Open the file of the instruction-count plugin; undefined when it is not there or not the plugin's. */
export function openIcountCounter(file: string): InstructionCounter | undefined {
  const reader = orUndefined(() => new IcountReader(file));
  if (reader === undefined) return undefined;
  return {
    read: () => orUndefined(() => totalInstructions(reader.read())),
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
