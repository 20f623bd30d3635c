import { join } from 'node:path';
import type { Config } from './config.ts';
import { MIB } from './core/profile.ts';
import type { InputRule } from './store/input-rules.ts';
import type { StoreOptions } from './store/store.ts';

const DAY_MS = 86_400_000;
/** Disk that a question may lay aside, against its memory: a sort or a join of a few times its size. */
const SPILL_PER_MEMORY = 4;

/** The operator's configuration in the store's terms. */
export function storeOptions({ stateDir, shadow }: Config): StoreOptions {
  const memoryBytes = shadow.queryMemoryMib * MIB;
  return {
    directory: join(stateDir, 'shadow'),
    retention: {
      rawMs: shadow.rawDays * DAY_MS,
      minuteMs: shadow.minuteDays * DAY_MS,
      ...(shadow.hourDays !== undefined && { hourMs: shadow.hourDays * DAY_MS }),
      bytesMax: shadow.sizeMaxMib * MIB,
    },
    freeBytesMin: shadow.freeMinMib * MIB,
    inputRules: [
      ...shadow.redactInputs.map((name) => inputRule(name, 'redact')),
      ...shadow.hashInputs.map((name) => inputRule(name, 'hash')),
    ],
    limits: { threads: shadow.queryThreads, memoryBytes, spillBytes: SPILL_PER_MEMORY * memoryBytes },
    maintainEveryMs: shadow.upkeepPeriodS * 1000,
  };
}

/** `TENANT/WORKLOAD/NAME`, the first one or two left out. */
function inputRule(text: string, action: 'hash' | 'redact'): InputRule {
  const [name = '', workload, tenant] = text.split('/').reverse();
  return {
    name,
    action,
    ...(workload !== undefined && { workload }),
    ...(tenant !== undefined && { tenant }),
  };
}
