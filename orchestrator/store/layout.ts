import { join } from 'node:path';
import type { SealedFile, Tier } from './manifest.ts';

/** Files and folders of a store. */
export const MANIFEST_FILE = 'manifest.json';
/** Holds nothing but room. */
export const SPARE_FILE = 'spare-room';
export const KEY_FILE = 'input-key';
export const LOG_FOLDER = 'log';
export const SEALED_FOLDER = 'parquet';
export const WORK_FOLDER = 'work';

/**
 * Where a sealed file stands: `parquet/raw/day=2026-01-31/host=h1/NAME.parquet`, as Spark, Trino and DuckDB read partitions.
 * @param name never used before: a worker whose parent was killed may still be at work beside the next one's
 */
export function sealedPath(tier: Tier, day: string, host: string, name: string): string {
  return join(SEALED_FOLDER, tier, `day=${day}`, `host=${encodeURIComponent(host)}`, `${name}.parquet`);
}

export function filesOf(files: readonly SealedFile[], tier: Tier): SealedFile[] {
  return files.filter((file) => file.tier === tier);
}
