import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import { literal } from './columns.ts';
import { isUnwritable } from './files.ts';
import { SEALED_FOLDER, WORK_FOLDER } from './layout.ts';

/** What one database may use. */
export interface DatabaseLimits {
  readonly threads: number;
  readonly memoryBytes: number;
  /** Bytes it may lay aside on disk while it sorts or joins. */
  readonly spillBytes: number;
}

/**
 * A database in memory for one store. It reads and writes the store's sealed files and its work folder, and what is
 * `alsoBelow`; never the log, the manifest or the key.
 */
export async function openDatabase(
  directory: string,
  limits: DatabaseLimits,
  alsoBelow: readonly string[] = [],
): Promise<DuckDBConnection> {
  const spill = join(directory, WORK_FOLDER, `spill-${process.pid}`);
  try {
    mkdirSync(join(directory, WORK_FOLDER), { recursive: true, mode: 0o750 });
  } catch (cause) {
    // Without it a question is answered all the same, unless it is too large for memory.
    if (!isUnwritable(cause)) throw cause;
  }
  const instance = await DuckDBInstance.create(':memory:', {
    threads: String(limits.threads),
    memory_limit: `${Math.floor(limits.memoryBytes / 1024)}KiB`,
    temp_directory: spill,
    max_temp_directory_size: `${Math.floor(limits.spillBytes / 1024)}KiB`,
    // Never the network: what is not built in is not wanted.
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
  });
  const connection = await instance.connect();
  const own = [SEALED_FOLDER, WORK_FOLDER].map((folder) => join(directory, folder));
  const folders = [...own, ...alsoBelow].map((folder) => literal(`${folder}/`));
  await connection.run(
    `SET TimeZone = 'UTC'; SET parquet_metadata_cache = true; SET validate_external_file_cache = 'NO_VALIDATION';
     SET preserve_insertion_order = true; SET allowed_directories = [${folders.join(', ')}];
     SET enable_external_access = false; SET lock_configuration = true`,
  );
  return connection;
}
