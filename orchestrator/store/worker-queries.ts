import { statSync } from 'node:fs';
import { join } from 'node:path';
import { type DuckDBConnection, type DuckDBPreparedStatement, StatementType } from '@duckdb/node-api';
import { ShadowError } from '../core/shadow.ts';
import { ArrowStream } from './arrow-stream.ts';
import { literal } from './columns.ts';
import { registerHashed } from './hashed.ts';
import { heldInputKey } from './input-rules.ts';
import { LOG_FOLDER, MANIFEST_FILE } from './layout.ts';
import { LogTables } from './log-tables.ts';
import { EMPTY, type Manifest, readManifest } from './manifest.ts';
import { runPaced } from './pace.ts';
import { createViews } from './views.ts';

/** Bytes gathered before they are sent on. */
const PIECE_BYTES = 256 * 1024;
const EXPLAIN = /^\s*EXPLAIN\s+(ANALYZE\s+)?/i;
/** A question that may call `hashed`; one that only says the word loses nothing. */
const HASHES = /hashed/i;
/** Times the manifest may change under one look at the store. */
const LOOKS_MAX = 10;

/** Answers questions over the store as it is at the moment of the question. */
export class WorkerQueries {
  readonly #connection: DuckDBConnection;
  readonly #directory: string;
  #log: LogTables | undefined;
  #seen = '';
  #manifest: Manifest = EMPTY;
  #inputKey: string | undefined;

  private constructor(connection: DuckDBConnection, directory: string) {
    this.#connection = connection;
    this.#directory = directory;
  }

  static async create(connection: DuckDBConnection, directory: string): Promise<WorkerQueries> {
    const queries = new WorkerQueries(connection, directory);
    await registerHashed(connection, () => queries.#inputKey);
    return queries;
  }

  /**
   * Bring the views up to date. A seal may happen meanwhile: what the manifest says counts only if it still says so once
   * the log was read.
   */
  async #look(): Promise<LogTables> {
    this.#inputKey = heldInputKey(this.#directory);
    for (let look = 0; look < LOOKS_MAX; look += 1) {
      const before = this.#manifestMark();
      if (this.#log === undefined || before !== this.#seen) {
        const manifest = readManifest(this.#directory);
        this.#log = undefined;
        const log = await LogTables.create(this.#connection, {
          directory: join(this.#directory, LOG_FOLDER),
          afterSegment: manifest.sealedSegment,
          afterSequence: manifest.sealedSequence,
        });
        await log.refresh();
        await createViews(this.#connection, this.#directory, manifest);
        if (this.#manifestMark() !== before) continue;
        this.#log = log;
        this.#seen = before;
        this.#manifest = manifest;
        return log;
      }
      const { layouts } = this.#log;
      await this.#log.refresh();
      if (this.#log.layouts > layouts) await createViews(this.#connection, this.#directory, this.#manifest);
      if (this.#manifestMark() === before) return this.#log;
    }
    throw new ShadowError(
      'STORE_UNAVAILABLE',
      'The store changed too often to be looked at; repeat in a moment',
    );
  }

  #manifestMark(): string {
    const stat = statSync(join(this.#directory, MANIFEST_FILE), { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? 'none' : `${stat.ino} ${stat.mtimeNs} ${stat.size}`;
  }

  async countLog() {
    const log = await this.#look();
    return { rows: log.rows, damage: log.reader.damage, orphans: log.orphans };
  }

  /** @param send resolves when the next piece may be sent; the last one is the answer, which saves most questions a round trip */
  async query(sql: string, send: (piece: Uint8Array) => Promise<void>): Promise<{ last: Uint8Array }> {
    await this.#look();
    const prepared = await this.#prepare(sql);
    // The hash is worked out by this thread, which a task run on it would wait for without end: such questions do not rest.
    const result = HASHES.test(sql) ? await prepared.stream() : await runPaced(prepared.startStream());
    const stream = new ArrowStream(result);
    let pieces: Uint8Array[] = [];
    let bytes = 0;
    for (
      let chunk = await result.fetchChunk();
      chunk !== null && chunk.rowCount > 0;
      chunk = await result.fetchChunk()
    ) {
      const piece = stream.piece(chunk);
      pieces.push(piece);
      bytes += piece.byteLength;
      if (bytes < PIECE_BYTES) continue;
      await send(Buffer.concat(pieces));
      pieces = [];
      bytes = 0;
    }
    return { last: Buffer.concat([...pieces, stream.end()]) };
  }

  /** Write a result to a file in the store's work folder. */
  async export(sql: string, format: 'parquet' | 'csv', path: string): Promise<{ rows: number }> {
    await this.#look();
    await this.#prepare(sql);
    const how = format === 'parquet' ? 'FORMAT parquet, COMPRESSION zstd' : 'FORMAT csv, HEADER true';
    const { rowsChanged } = await this.#connection.run(
      `COPY (${sql.replace(/;\s*$/, '')}\n) TO ${literal(path)} (${how})`,
    );
    return { rows: rowsChanged };
  }

  /** One statement that only reads, or a refusal. */
  async #prepare(sql: string): Promise<DuckDBPreparedStatement> {
    const statements = await this.#connection.extractStatements(sql);
    if (statements.count !== 1) {
      throw new ShadowError('QUERY_REFUSED', `One SELECT at a time; this is ${statements.count} statements`);
    }
    const prepared = await statements.prepare(0);
    const { statementType } = prepared;
    if (statementType === StatementType.SELECT) return prepared;
    // EXPLAIN ANALYZE runs what it explains.
    const explained = EXPLAIN.exec(sql);
    if (statementType === StatementType.EXPLAIN && explained !== null) {
      await this.#prepare(sql.slice(explained[0].length));
      return prepared;
    }
    throw new ShadowError('QUERY_REFUSED', 'Only SELECT, and EXPLAIN of one: a query changes nothing');
  }
}
