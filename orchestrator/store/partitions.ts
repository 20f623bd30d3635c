import { randomUUID } from 'node:crypto';
import { mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { DuckDBConnection } from '@duckdb/node-api';
import { KIND_OF, literal } from './columns.ts';
import { syncPath } from './files.ts';
import { sealedPath, WORK_FOLDER } from './layout.ts';
import type { SealedFile, Tier } from './manifest.ts';
import { type Pace, runPaced } from './pace.ts';
import { SCHEMA_VERSION, upgradeSealed } from './schema-versions.ts';

/** zstd levels: quick for what will be merged soon, thorough for what stays. */
const LEVEL = { seal: 3, keep: 9 } as const;
/** Rows of a row group, DuckDB's own default: smaller ones cost more to plan over than they save to read. */
const ROW_GROUP_ROWS = 122_880;

/**
 * Sealed files of one tier as a FROM clause's content, in the columns of the latest version; metrics that some of them
 * lack are null there.
 */
export function parquetSql(directory: string, files: readonly SealedFile[]): string {
  const versions = [...new Set(files.map(({ schema }) => schema))];
  const sources = versions.map((version) => {
    const written = files.filter(({ schema }) => schema === version);
    const paths = written.map(({ path }) => literal(join(directory, path)));
    const source = `read_parquet([${paths.join(', ')}], union_by_name = true, hive_partitioning = false)`;
    return upgradeSealed(KIND_OF[written[0]?.tier ?? 'raw'], version, source);
  });
  if (sources.length === 1) return sources.join();
  return `(${sources.map((source) => `SELECT * FROM ${source}`).join(' UNION ALL BY NAME ')})`;
}

/** Writes Parquet files, one per day and host. */
export class PartitionWriter {
  readonly #connection: DuckDBConnection;
  readonly #directory: string;
  readonly #purpose: keyof typeof LEVEL;
  readonly #pace: Pace | undefined;
  readonly files: SealedFile[] = [];

  /** @param pace absent: without rest */
  constructor(connection: DuckDBConnection, directory: string, purpose: keyof typeof LEVEL, pace?: Pace) {
    this.#connection = connection;
    this.#directory = directory;
    this.#purpose = purpose;
    this.#pace = pace;
  }

  /** Write what `source` (a FROM clause's content with a `time` and a `host`) holds, sorted, one file a day and host. */
  async writeAll(tier: Tier, source: string): Promise<void> {
    const parts = await this.#connection.runAndReadAll(
      `SELECT DISTINCT strftime(time, '%Y-%m-%d') AS day, host FROM ${source} ORDER BY ALL`,
    );
    for (const [day, host] of parts.getRowsJson()) {
      const name = String(host ?? '');
      const isHost = host === null ? 'host IS NULL' : `host = ${literal(name)}`;
      const from = literal(`${day} 00:00:00+00`);
      const where = `${isHost} AND time >= ${from}::TIMESTAMPTZ AND time < ${from}::TIMESTAMPTZ + INTERVAL 1 DAY`;
      await this.write(tier, String(day), name, `(SELECT * FROM ${source} WHERE ${where})`);
    }
  }

  /** Write one file of one day and host; none when `source` is empty. */
  async write(tier: Tier, day: string, host: string, source: string): Promise<void> {
    const order = tier === 'inputs' ? 'name, text, number, time' : 'guest, axis, time';
    const name = randomUUID();
    const path = sealedPath(tier, day, host, name);
    const work = join(this.#directory, WORK_FOLDER, `${name}.parquet`);
    try {
      const copy = `COPY (SELECT * FROM ${source} ORDER BY ${order}) TO ${literal(work)} (FORMAT parquet, COMPRESSION zstd,
           COMPRESSION_LEVEL ${LEVEL[this.#purpose]}, ROW_GROUP_SIZE ${ROW_GROUP_ROWS}, KV_METADATA { foreshade_schema: '${SCHEMA_VERSION}' })`;
      if (this.#pace === undefined) await this.#connection.run(copy);
      else await runPaced(await this.#connection.start(copy), this.#pace);
      const facts = await this.#connection.runAndReadAll(
        `SELECT count(*), epoch_ms(min(time)), epoch_ms(max(time)) FROM read_parquet(${literal(work)})`,
      );
      const [rows = 0, fromMs = 0, toMs = 0] = (facts.getRowsJson()[0] ?? []).map(Number);
      if (rows === 0) return;
      const bytes = statSync(work).size;
      this.files.push({ path, tier, day, host, rows, bytes, fromMs, toMs, schema: SCHEMA_VERSION });
      await this.#place(work, path);
    } finally {
      // Also what a full disk cut off: it would keep the disk full.
      rmSync(work, { force: true });
    }
  }

  /** Remove what was written: nobody lists it. */
  discard(): void {
    for (const { path } of this.files.splice(0)) rmSync(join(this.#directory, path), { force: true });
  }

  async #place(work: string, path: string): Promise<void> {
    const target = join(this.#directory, path);
    mkdirSync(dirname(target), { recursive: true, mode: 0o750 });
    await syncPath(work);
    renameSync(work, target);
    // The whole way up to the store's folder: each may be new, or made by a worker that was killed before it synced it.
    for (let folder = dirname(target); folder.length >= this.#directory.length; folder = dirname(folder))
      await syncPath(folder);
  }
}
