import { join } from 'node:path';
import type { SealedFile, Tier } from './manifest.ts';

/** Folders of a store. */
export const LOG_FOLDER = 'log';
export const SEALED_FOLDER = 'parquet';
export const WORK_FOLDER = 'work';

/** Where a sealed file stands: `parquet/raw/day=2026-01-31/host=h1/000012-0.parquet`, as Spark, Trino and DuckDB read partitions. */
export function sealedPath(tier: Tier, day: string, host: string, generation: number, index: number): string {
  const name = `${String(generation).padStart(8, '0')}-${index}.parquet`;
  return join(SEALED_FOLDER, tier, `day=${day}`, `host=${encodeURIComponent(host)}`, name);
}

export function filesOf(files: readonly SealedFile[], tier: Tier): SealedFile[] {
  return files.filter((file) => file.tier === tier);
}
