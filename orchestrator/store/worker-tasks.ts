import { join } from 'node:path';
import type { DuckDBConnection } from '@duckdb/node-api';
import { literal } from './columns.ts';
import { loadSet } from './import-set.ts';
import { LOG_FOLDER } from './layout.ts';
import { LogTables } from './log-tables.ts';
import { readManifest, type SealedFile } from './manifest.ts';
import { Pace } from './pace.ts';
import { PartitionWriter, parquetSql } from './partitions.ts';
import { bucketsSql } from './roll-up.ts';
import type { Answers, Ask } from './worker-messages.ts';

/**
 * What changes the sealed files. Nothing here publishes: the files that are made stand beside the others, unknown to
 * readers, until the writer's process lists them in the manifest. Cut off anywhere, a task leaves only files that the
 * next opening removes.
 */
export class WorkerTasks {
  readonly #connection: DuckDBConnection;
  readonly #directory: string;
  /** Of the task under way. */
  #writers: PartitionWriter[] = [];

  constructor(connection: DuckDBConnection, directory: string) {
    this.#connection = connection;
    this.#directory = directory;
  }

  /** A task that fails leaves no file: on a disk that is nearly full each try would take more of it. */
  async run(ask: Ask): Promise<Answers[Ask['kind']]> {
    this.#writers = [];
    try {
      return await this.#do(ask);
    } catch (cause) {
      for (const writer of this.#writers) writer.discard();
      throw cause;
    }
  }

  async #do(ask: Ask): Promise<Answers[Ask['kind']]> {
    switch (ask.kind) {
      case 'seal':
        return await this.#seal(ask);
      case 'merge':
        return await this.#merge(ask);
      case 'roll-up':
        return await this.#rollUp(ask);
      case 'erase':
        return await this.#erase(ask);
      case 'load-set':
        return await this.#loadSet(ask.set);
      default:
        throw new TypeError(`a writing worker cannot ${ask.kind}`);
    }
  }

  #writer(purpose: 'seal' | 'keep', pace?: Pace): PartitionWriter {
    const writer = new PartitionWriter(this.#connection, this.#directory, purpose, pace);
    this.#writers.push(writer);
    return writer;
  }

  async #seal({ through, hasTime }: Extract<Ask, { kind: 'seal' }>): Promise<Answers['seal']> {
    const pace = hasTime ? new Pace() : undefined;
    const { sealedSegment, sealedSequence } = readManifest(this.#directory);
    const log = await LogTables.create(this.#connection, {
      directory: join(this.#directory, LOG_FOLDER),
      afterSegment: sealedSegment,
      afterSequence: sealedSequence,
      throughSegment: through,
    });
    await log.refresh(pace);
    const writer = this.#writer('seal', pace);
    await writer.writeAll('raw', 'log_points');
    await writer.writeAll('inputs', 'log_input_rows');
    const { damage, sequence } = log.reader;
    const { orphans } = log;
    // An empty log takes the place of this one, whose memory goes with it.
    await LogTables.create(this.#connection, { directory: '', afterSegment: 0, afterSequence: 0 });
    return { files: writer.files, sealedSequence: sequence, damage, orphans };
  }

  async #merge({ tier, files }: Extract<Ask, { kind: 'merge' }>): Promise<Answers['merge']> {
    const writer = this.#writer('keep', new Pace());
    const [first] = files;
    if (first !== undefined) await writer.write(tier, first.day, first.host, this.#read(files));
    return { files: writer.files };
  }

  async #rollUp({ tier, files }: Extract<Ask, { kind: 'roll-up' }>): Promise<Answers['roll-up']> {
    const writer = this.#writer('keep', new Pace());
    const [first] = files;
    if (first === undefined) return { files: [] };
    const source = this.#read(files);
    const described = await this.#connection.runAndReadAll(`DESCRIBE SELECT * FROM ${source}`);
    const columns = described.getRowsJson().map(([name]) => String(name));
    await writer.write(tier, first.day, first.host, `(${bucketsSql(tier, columns, source)})`);
    return { files: writer.files };
  }

  async #erase({ file, tenant }: Extract<Ask, { kind: 'erase' }>): Promise<Answers['erase']> {
    const source = this.#read([file]);
    const held = await this.#connection.runAndReadAll(
      `SELECT count(*) FROM ${source} WHERE tenant = ${literal(tenant)}`,
    );
    if (Number(held.getRowsJson()[0]?.[0]) === 0) return { files: [file], held: false };
    const writer = this.#writer('keep', new Pace());
    const rest = `(SELECT * FROM ${source} WHERE tenant IS DISTINCT FROM ${literal(tenant)})`;
    await writer.write(file.tier, file.day, file.host, rest);
    return { files: writer.files, held: true };
  }

  async #loadSet(set: string): Promise<Answers['load-set']> {
    const { name, rows, hasInputs } = await loadSet(this.#connection, set);
    const writer = this.#writer('keep', new Pace());
    await writer.writeAll('raw', 'imported');
    if (hasInputs) await writer.writeAll('inputs', 'imported_inputs');
    for (const table of ['imported', 'imported_requests', 'imported_inputs'])
      await this.#connection.run(`DROP TABLE IF EXISTS ${table}`);
    return { files: writer.files, name, rows };
  }

  #read(files: readonly SealedFile[]): string {
    return parquetSql(this.#directory, files);
  }
}
