import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { open } from 'lmdb';
import { AllocatorError } from '../core/errors.ts';
import { DATA_FILE, damageOf, syncFile, syncFolders } from './lmdb-file.ts';
import { LmdbLedger } from './lmdb-ledger.ts';
import { schemaVersionOf } from './schema-versions.ts';

/** What a ledger's folder holds. */
export interface LedgerFacts {
  readonly version: number;
  /** By kind: what stands before the first slash of their keys. */
  readonly entries: Readonly<Record<string, number>>;
}

/**
 * Copy a ledger as it was at one moment into a new folder, while the service goes on writing; durable when this resolves.
 * @throws {AllocatorError} INVALID_REQUEST: the folder is not empty; LEDGER_UNAVAILABLE: there is none, or it is damaged
 */
export async function backupLedger(directory: string, target: string): Promise<LedgerFacts> {
  refuseDamaged(directory);
  if (existsSync(target) && readdirSync(target).length > 0) {
    throw new AllocatorError('INVALID_REQUEST', `${target} must be a new or an empty folder`, { target });
  }
  mkdirSync(target, { recursive: true, mode: 0o750 });
  const source = open({ path: directory, readOnly: true, noSubdir: false });
  try {
    await source.backup(target, true);
  } finally {
    await source.close();
  }
  syncFile(join(target, DATA_FILE));
  syncFolders(target);
  return await ledgerFacts(target);
}

/**
 * Put a backup in the place of a ledger that no service uses. What was there is kept beside it.
 * @param directory of the ledger; its lock must be held
 * @returns what was restored, and the folder that now holds what was there
 * @throws {AllocatorError} LEDGER_UNAVAILABLE: the backup is none, or is damaged
 */
export async function restoreLedger(
  backup: string,
  directory: string,
  nowMs: number,
): Promise<LedgerFacts & { readonly replaced?: string }> {
  const facts = await ledgerFacts(backup);
  const fresh = `${directory}.restoring`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true, mode: 0o750 });
  copyFileSync(join(backup, DATA_FILE), join(fresh, DATA_FILE));
  syncFile(join(fresh, DATA_FILE));
  syncFolders(fresh);
  const replaced = existsSync(directory) ? `${directory}.replaced-${nowMs}` : undefined;
  if (replaced !== undefined) renameSync(directory, replaced);
  renameSync(fresh, directory);
  syncFolders(dirname(directory));
  return { ...facts, ...(replaced !== undefined && { replaced }) };
}

/** @throws {AllocatorError} LEDGER_UNAVAILABLE: there is no whole ledger in the folder */
export async function ledgerFacts(directory: string): Promise<LedgerFacts> {
  refuseDamaged(directory);
  const ledger = LmdbLedger.open(directory, { readOnly: true });
  try {
    const entries: Record<string, number> = {};
    for (const { key } of ledger.range('')) {
      const kind = key.split('/', 1).join();
      if (kind !== 'schema') entries[kind] = (entries[kind] ?? 0) + 1;
    }
    return { version: schemaVersionOf(ledger), entries };
  } finally {
    await ledger.close();
  }
}

function refuseDamaged(directory: string): void {
  const damage = existsSync(join(directory, DATA_FILE))
    ? damageOf(directory)
    : `${directory} holds no ledger`;
  if (damage === undefined) return;
  throw new AllocatorError('LEDGER_UNAVAILABLE', `The ledger cannot be read: ${damage}`, { directory });
}
