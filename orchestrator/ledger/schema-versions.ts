import { AllocatorError } from '../core/errors.ts';
import type { LeaseLedger, LedgerEntry } from '../core/ports.ts';

/** Holds the version that the other entries are written in; a ledger without it is of the first. */
const VERSION_KEY = 'schema/version';

/** An entry's value in the next version; undefined: the entry is not kept. */
export type Upgrade = (entry: LedgerEntry) => unknown;

/** The step from version 1 to 2, from 2 to 3, and so on. A change of what an entry must hold adds one. */
const UPGRADES: readonly Upgrade[] = [];

/** The version a ledger's entries are written in, from 1. @throws {AllocatorError} LEDGER_UNAVAILABLE: it says none */
export function schemaVersionOf(ledger: LeaseLedger): number {
  const entry = ledger.get(VERSION_KEY);
  const version = entry === undefined ? 1 : entry.value;
  if (typeof version === 'number' && Number.isInteger(version) && version >= 1) return version;
  throw new AllocatorError(
    'LEDGER_UNAVAILABLE',
    `The ledger's version must be a whole number from 1; it says ${JSON.stringify(version)}`,
  );
}

/**
 * Bring a ledger to the present version, all of it or nothing: cut off, it is still whole and of the old one.
 * @returns the version it was of
 * @throws {AllocatorError} LEDGER_UNAVAILABLE: a later version wrote it, or it cannot be written
 */
export async function upgradeLedger(
  ledger: LeaseLedger,
  upgrades: readonly Upgrade[] = UPGRADES,
): Promise<number> {
  const from = schemaVersionOf(ledger);
  const present = 1 + upgrades.length;
  if (from > present) {
    throw new AllocatorError(
      'LEDGER_UNAVAILABLE',
      `The ledger is of version ${from}, and this Foreshade reads up to ${present}: run the version that wrote it, or a later one`,
      { version: from },
    );
  }
  const isNew = ledger.get(VERSION_KEY) === undefined;
  if (from === present && !isNew) return from;
  const steps = upgrades.slice(from - 1);
  const entries = steps.length === 0 ? [] : ledger.range('').filter(({ key }) => key !== VERSION_KEY);
  const rewritten = entries.map((entry) => ({
    key: entry.key,
    value: steps.reduce<unknown>(
      (value, upgrade) => (value === undefined ? undefined : upgrade({ ...entry, value })),
      entry.value,
    ),
  }));
  await ledger.commit([...rewritten, { key: VERSION_KEY, value: present }]);
  return from;
}
