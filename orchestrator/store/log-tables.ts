import {
  DOUBLE,
  type DuckDBAppender,
  type DuckDBConnection,
  DuckDBDataChunk,
  DuckDBTimestampTZValue,
  type DuckDBType,
  INTEGER,
  TIMESTAMPTZ,
} from '@duckdb/node-api';
import type { Table, Utf8, Vector } from 'apache-arrow';
import { GRANTED_COLUMNS } from '../core/shadow.ts';
import { emptySelect, pointSql, quoted } from './columns.ts';
import { LogReader, type LogReaderOptions } from './log-reader.ts';
import { CONTEXT_COLUMNS, INPUT_COLUMNS, ROW_COLUMNS } from './log-rows.ts';
import type { Pace } from './pace.ts';

/** Rows DuckDB takes at once. */
const CHUNK_ROWS = 2048;

interface RowTable {
  readonly name: string;
  readonly metrics: readonly string[];
  readonly types: readonly DuckDBType[];
  readonly appender: DuckDBAppender;
}

/** What the log holds, as tables of one connection: `log_points` and `log_inputs`. */
export class LogTables {
  readonly #connection: DuckDBConnection;
  readonly #reader: LogReader;
  readonly #rowTables = new Map<string, RowTable>();
  readonly #contextOf = new Map<string, number>();
  /** By the segment's own number: the context's in the table. Of the segment being read. */
  #idsOfSegment = new Map<number, number>();
  #segment = -1;
  #contexts: DuckDBAppender;
  #inputs: DuckDBAppender;
  rows = 0;
  /** Rows whose context could not be read. */
  orphans = 0;

  private constructor(
    connection: DuckDBConnection,
    reader: LogReader,
    contexts: DuckDBAppender,
    inputs: DuckDBAppender,
  ) {
    this.#connection = connection;
    this.#reader = reader;
    this.#contexts = contexts;
    this.#inputs = inputs;
  }

  static async create(connection: DuckDBConnection, options: LogReaderOptions): Promise<LogTables> {
    const old = await connection.runAndReadAll(
      "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'log\\_%' ESCAPE '\\'",
    );
    await connection.run(
      `CREATE OR REPLACE VIEW log_points AS ${emptySelect('points')}; CREATE OR REPLACE VIEW log_input_rows AS ${emptySelect('inputs')}`,
    );
    for (const [name] of old.getRows()) await connection.run(`DROP TABLE ${name}`);
    const texts = (names: readonly string[]) => names.map((name) => `${name} VARCHAR`);
    const numbers = (names: readonly string[]) => names.map((name) => `${name} DOUBLE`);
    await connection.run(
      `CREATE TABLE log_contexts (key INTEGER, ${[...texts(CONTEXT_COLUMNS), ...numbers(GRANTED_COLUMNS)].join(', ')});
       CREATE TABLE log_inputs (time TIMESTAMPTZ, ${texts(INPUT_COLUMNS).join(', ')}, number DOUBLE);
       CREATE OR REPLACE VIEW log_input_rows AS SELECT * REPLACE (nullif(number, 'nan'::DOUBLE) AS number) FROM log_inputs`,
    );
    return new LogTables(
      connection,
      new LogReader(options),
      await connection.createAppender('log_contexts'),
      await connection.createAppender('log_inputs'),
    );
  }

  /** Kinds of rows so far; a new one may bring columns. */
  get layouts(): number {
    return this.#rowTables.size;
  }

  get reader(): LogReader {
    return this.#reader;
  }

  /** Take in what was added to the log since the last call. @param pace absent: without rest */
  async refresh(pace?: Pace): Promise<void> {
    let read = false;
    for (const { segment, kind, table } of this.#reader.read()) {
      read = true;
      if (segment !== this.#segment) {
        this.#segment = segment;
        this.#idsOfSegment = new Map();
      }
      if (kind === 'contexts') this.#takeContexts(table);
      else if (kind === 'inputs') this.#takeInputs(table);
      else await this.#takeRows(table);
      await pace?.rest();
    }
    if (!read) return;
    this.#contexts.flushSync();
    this.#inputs.flushSync();
    for (const { appender } of this.#rowTables.values()) appender.flushSync();
  }

  #takeContexts(table: Table): void {
    const ids = column(table, 'id');
    const texts = CONTEXT_COLUMNS.map((name) => textColumn(table, name));
    const granted = GRANTED_COLUMNS.map((name) => column(table, name));
    for (let row = 0; row < table.numRows; row += 1) {
      const values = [
        ...texts.map((text) => text.get(row)),
        ...granted.map((values) => values[row] as number),
      ];
      const content = values.join('\u0000');
      let key = this.#contextOf.get(content);
      if (key === undefined) {
        key = this.#contextOf.size;
        this.#contextOf.set(content, key);
        this.#contexts.appendInteger(key);
        for (const value of values) {
          if (value === null) this.#contexts.appendNull();
          else if (typeof value === 'string') this.#contexts.appendVarchar(value);
          else this.#contexts.appendDouble(value);
        }
        this.#contexts.endRow();
      }
      this.#idsOfSegment.set(ids[row] as number, key);
    }
  }

  #takeInputs(table: Table): void {
    const at = column(table, 'at_ms');
    const number = column(table, 'number');
    const texts = INPUT_COLUMNS.map((name) => textColumn(table, name));
    for (let row = 0; row < table.numRows; row += 1) {
      this.#inputs.appendTimestampTZ(new DuckDBTimestampTZValue(micros(at[row] as number)));
      for (const text of texts) {
        const word = text.get(row);
        if (word === null) this.#inputs.appendNull();
        else this.#inputs.appendVarchar(word);
      }
      this.#inputs.appendDouble(number[row] as number);
      this.#inputs.endRow();
    }
  }

  async #takeRows(table: Table): Promise<void> {
    const target = await this.#tableFor(table);
    const at = column(table, 'at_ms');
    const fixed = ['period_ms', 'instructions_at'].map((name) => column(table, name));
    const context = column(table, 'context');
    const flags = column(table, 'flags');
    const metrics = target.metrics.map((name) => column(table, name));
    const keys = new Int32Array(table.numRows);
    for (let row = 0; row < keys.length; row += 1)
      keys[row] = this.#idsOfSegment.get(context[row] as number) ?? -1;
    for (let from = 0; from < table.numRows; from += CHUNK_ROWS) {
      const to = Math.min(table.numRows, from + CHUNK_ROWS);
      const chunk = DuckDBDataChunk.create(target.types, to - from);
      const times = vectorOf<BigInt64Array>(chunk, 0);
      for (let row = from; row < to; row += 1) times.items[row - from] = micros(at[row] as number);
      times.flush();
      for (const [i, values] of [keys.subarray(from, to), flags.subarray(from, to)].entries()) {
        const vector = vectorOf<Int32Array>(chunk, 1 + i);
        vector.items.set(values);
        vector.flush();
      }
      for (const [i, values] of [...fixed, ...metrics].entries()) {
        const vector = vectorOf<Float64Array>(chunk, 3 + i);
        vector.items.set(values.subarray(from, to));
        vector.flush();
      }
      target.appender.appendDataChunk(chunk);
    }
    for (const key of keys) if (key < 0) this.orphans += 1;
    this.rows += table.numRows;
  }

  async #tableFor(table: Table): Promise<RowTable> {
    const metrics = table.schema.names.map(String).slice(ROW_COLUMNS.length);
    const key = metrics.join();
    const known = this.#rowTables.get(key);
    if (known !== undefined) return known;
    const name = `log_rows_${this.#rowTables.size}`;
    const doubles = ['period_ms', 'instructions_at', ...metrics].map((column) => `${quoted(column)} DOUBLE`);
    await this.#connection.run(
      `CREATE TABLE ${name} (time TIMESTAMPTZ, context INTEGER, flags INTEGER, ${doubles.join(', ')})`,
    );
    const types = [TIMESTAMPTZ, INTEGER, INTEGER, ...doubles.map(() => DOUBLE)];
    const created = { name, metrics, types, appender: await this.#connection.createAppender(name) };
    this.#rowTables.set(key, created);
    const selects = [...this.#rowTables.values()].map(
      ({ name, metrics }) =>
        `SELECT ${pointSql(metrics)} FROM ${name} r JOIN log_contexts c ON r.context = c.key`,
    );
    await this.#connection.run(
      `CREATE OR REPLACE VIEW log_points AS ${[emptySelect('points'), ...selects].join(' UNION ALL BY NAME ')}`,
    );
    return created;
  }
}

/** A vector's memory, which its class keeps to itself: set by value it takes four times as long. */
interface RawVector<Items> {
  readonly items: Items;
  flush(): void;
}

function vectorOf<Items>(chunk: DuckDBDataChunk, index: number): RawVector<Items> {
  return chunk.getColumnVector(index) as unknown as RawVector<Items>;
}

/** A column's numbers, without a copy. */
function column(table: Table, name: string): Float64Array | Uint32Array {
  const values: unknown = table.getChild(name)?.data[0]?.values;
  if (values instanceof Float64Array || values instanceof Uint32Array)
    return values.subarray(0, table.numRows);
  return new Float64Array(table.numRows).fill(Number.NaN);
}

function textColumn(table: Table, name: string): Vector<Utf8> {
  const column = table.getChild(name);
  if (column === null) throw new TypeError(`a frame of the log has no column ${name}`);
  return column;
}

function micros(atMs: number): bigint {
  return BigInt(Math.round(atMs * 1000));
}
