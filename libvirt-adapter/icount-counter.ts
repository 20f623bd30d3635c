import type { ClassCounts as Classes } from '../orchestrator/core/sample.ts';
import type { InstructionCounter, InstructionCuts } from './host-readings.ts';
import {
  type ClassCounts,
  IcountError,
  IcountReader,
  type IcountRecord,
  totalClasses,
  totalInstructions,
} from './icount-reader.ts';

/** Behind every cut there may ever be: asks only where the next one will stand. */
const AT_THE_END = 2n ** 63n;

/** Counter of a guest whose QEMU runs the instruction-count plugin; undefined when the file is not there or not the plugin's. */
export function openIcountCounter(file: string): InstructionCounter | undefined {
  const reader = orUndefined(() => new IcountReader(file));
  if (reader === undefined) return undefined;
  let since = AT_THE_END;
  let run: bigint | undefined;
  const newCuts = (): InstructionCuts | undefined => {
    let records = reader.records(since);
    if (records.every === 0n) return undefined;
    if (run !== undefined && run !== records.startNs) records = reader.records(0n);
    run = records.startNs;
    since = records.next;
    const nowNs = process.hrtime.bigint();
    return {
      run: String(records.startNs),
      cuts: records.records.map((record) => toCut(record, nowNs)),
      lost: Number(records.lost),
    };
  };
  return {
    read: () =>
      orUndefined(() => {
        const reading = reader.read();
        const classes = totalClasses(reading);
        return {
          run: String(reading.startNs),
          total: Number(totalInstructions(reading)),
          ...(classes && { classes: toNumbers(classes) }),
        };
      }),
    newCuts: () => orUndefined(newCuts),
    close: () => reader.close(),
  };
}

function toCut({ vcpu, instructions, monotonicNs, classes }: IcountRecord, nowNs: bigint) {
  return {
    vcpu,
    total: Number(instructions),
    ageMs: Number(nowNs - monotonicNs) / 1e6,
    ...(classes && { classes: toNumbers(classes) }),
  };
}

/** Exact to 2^53, that is months of a busy guest. */
function toNumbers(classes: ClassCounts): Classes {
  return Object.fromEntries([...classes].map(([name, count]) => [name, Number(count)]));
}

function orUndefined<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof IcountError) return undefined; // no counter is a missing value, not a failure
    throw cause;
  }
}
