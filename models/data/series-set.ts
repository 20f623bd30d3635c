import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import { ShadowError } from '../../orchestrator/core/shadow.ts';

/** What `dataset.json` says of a series set. */
export interface SetFacts {
  readonly name: string;
  /** Spacing of the set's own grid, s. */
  readonly stepS?: number;
  /** Begin of every series' grid, s, and its bins. Absent: a grid runs from a series' own first row to its own last. */
  readonly grid?: { readonly startS: number; readonly steps: number };
  /** Bins after which the set's courses are expected to repeat; 0: they do not. Absent: nobody said. */
  readonly seasonSteps?: number;
  /** As the set states it. */
  readonly licence: string;
  /** Profile fields, by metric. */
  readonly profile: Readonly<Record<string, string>>;
}

/** Rows of one series in order of time. A missing value is NaN. */
export interface SeriesRows {
  readonly series: string;
  /** Seconds, not decreasing. */
  readonly times: readonly number[];
  /** One array a metric, in the order asked for. */
  readonly columns: readonly (readonly number[])[];
}

/** Memory of the database that sorts the rows; what does not fit goes to a temporary folder. */
const MEMORY_MIB = 256;
/** Columns of a series file that are no metrics. */
const KEYS: readonly string[] = ['series', 't'];

/** A file of a set; of a labelled one `series` is the train part. */
export type SetPart = 'series' | 'test' | 'labels';

/** @returns undefined when the set has no such part */
export function fileOf(folder: string, part: SetPart): string | undefined {
  return ['.csv.gz', '.csv', '.parquet']
    .map((end) => join(folder, part + end))
    .find((file) => existsSync(file));
}

/** A recorded set of series: a folder with `dataset.json` and `series.csv.gz`, `.csv` or `.parquet`. */
export class SeriesSet {
  readonly facts: SetFacts;
  /** Every metric of the file, in its order. */
  readonly metrics: readonly string[];
  readonly #connection: DuckDBConnection;
  readonly #instance: DuckDBInstance;
  readonly #source: string;
  readonly #path: string;
  readonly #spill: string;

  private constructor(
    facts: SetFacts,
    metrics: readonly string[],
    database: { connection: DuckDBConnection; instance: DuckDBInstance; path: string; spill: string },
  ) {
    this.facts = facts;
    this.metrics = metrics;
    this.#connection = database.connection;
    this.#instance = database.instance;
    this.#path = database.path;
    this.#source = sourceSql(database.path);
    this.#spill = database.spill;
  }

  /**
   * @param part which of the set's files
   * @throws {ShadowError} SET_REFUSED
   */
  static async open(folder: string, part: SetPart = 'series'): Promise<SeriesSet> {
    const facts = readFacts(folder);
    const path = fileOf(folder, part);
    if (path === undefined) throw refused(`${folder} has no ${part}.csv.gz, ${part}.csv or ${part}.parquet`);
    const spill = mkdtempSync(join(tmpdir(), 'foreshade-set-'));
    const instance = await DuckDBInstance.create(':memory:', {
      threads: '1',
      memory_limit: `${MEMORY_MIB}MiB`,
      temp_directory: spill,
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
    });
    const connection = await instance.connect();
    try {
      const names = await columnsOf(connection, sourceSql(path));
      const missing = KEYS.filter((name) => !names.includes(name));
      if (missing.length > 0) throw refused(`${path} has no column ${missing.join(', ')}`);
      const metrics = names.filter((name) => !KEYS.includes(name));
      return new SeriesSet(facts, metrics, { connection, instance, path, spill });
    } catch (error) {
      connection.closeSync();
      instance.closeSync();
      rmSync(spill, { recursive: true, force: true });
      throw error instanceof ShadowError ? error : refused(`${path} cannot be read`, error);
    }
  }

  /**
   * Read the file for these metrics.
   * @returns how many series it has, and each in turn, by name: a series is held only while it is asked for
   * @throws {ShadowError} SET_REFUSED: a value that is no number, an infinite one, or a row without a time
   */
  async read(
    metrics: readonly string[],
  ): Promise<{ readonly count: number; readonly series: AsyncGenerator<SeriesRows> }> {
    const list = metrics.map((name) => `${quoted(name)}::DOUBLE AS ${quoted(name)}`);
    try {
      await this.#connection.run(
        `CREATE OR REPLACE TEMP TABLE loaded AS SELECT series::VARCHAR AS series, t::DOUBLE AS t, ${list.join(', ')} FROM ${this.#source}`,
      );
    } catch (error) {
      throw refused(`${this.#path} cannot be read`, error);
    }
    const [bad, infinite] = await this.#numbers(
      `SELECT count(*) FILTER (series IS NULL OR t IS NULL OR NOT isfinite(t)),
         count(*) FILTER (${metrics.map((name) => `isinf(${quoted(name)})`).join(' OR ')}) FROM loaded`,
    );
    if (bad) throw refused(`${this.#path}: rows without a series or a time: ${bad}`);
    if (infinite)
      throw refused(`${this.#path}: rows with an infinite value of ${metrics.join(' or ')}: ${infinite}`);
    const names = await this.#names();
    if (names.length === 0) throw refused(`${this.#path}: the set has no rows`);
    return { count: names.length, series: this.#seriesOf(metrics, names) };
  }

  /** Names of the series in order; their places stand in for them, which sorts and reads much faster. */
  async #names(): Promise<string[]> {
    await this.#connection.run(
      `CREATE OR REPLACE TEMP TABLE names AS SELECT series, (row_number() OVER (ORDER BY series) - 1)::INTEGER AS place
         FROM (SELECT DISTINCT series FROM loaded)`,
    );
    const read = await this.#connection.runAndReadAll('SELECT series FROM names ORDER BY place');
    return read.getRowsJson().map(([name]) => String(name));
  }

  async *#seriesOf(metrics: readonly string[], names: readonly string[]): AsyncGenerator<SeriesRows> {
    const columns = metrics.map(quoted).join(', ');
    const result = await this.#connection.stream(
      `SELECT place, t, ${columns} FROM loaded JOIN names USING (series) ORDER BY place, t`,
    );
    let place = -1;
    let rows = newRows('', metrics.length);
    for (let chunk = await result.fetchChunk(); chunk?.rowCount; chunk = await result.fetchChunk()) {
      const [places = [], times = [], ...values] = chunk.getColumns();
      for (const [i, found] of places.entries()) {
        if (found !== place) {
          if (place >= 0) yield rows;
          place = Number(found);
          rows = newRows(names[place] ?? '', metrics.length);
        }
        rows.times.push(Number(times[i]));
        for (const [m, column] of rows.columns.entries()) column.push(numberOf(values[m]?.[i]));
      }
    }
    if (place >= 0) yield rows;
  }

  async #numbers(sql: string): Promise<number[]> {
    const [row = []] = (await this.#connection.runAndReadAll(sql)).getRowsJson();
    return row.map(Number);
  }

  close(): void {
    this.#connection.closeSync();
    this.#instance.closeSync();
    rmSync(this.#spill, { recursive: true, force: true });
  }
}

function newRows(series: string, metrics: number) {
  return { series, times: [] as number[], columns: Array.from({ length: metrics }, (): number[] => []) };
}

/** An empty value and a NaN both say that nothing was read. */
function numberOf(value: unknown): number {
  return typeof value === 'number' ? value : Number.NaN;
}

function refused(message: string, cause?: unknown): ShadowError {
  const reason = cause instanceof Error ? `: ${cause.message.split('\n')[0]}` : '';
  return new ShadowError('SET_REFUSED', `${message}${reason}`, { cause });
}

/** Facts as the file has them; nothing in it is believed yet. */
type RawFacts = Readonly<Record<string, unknown>>;

function readFacts(folder: string): SetFacts {
  const path = join(folder, 'dataset.json');
  try {
    return checkedFacts(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    throw refused(`${path} cannot be used`, error);
  }
}

/** What kind of set a folder holds, in dataset.json's words. @throws {ShadowError} SET_REFUSED */
export function kindOfSet(folder: string): string {
  const path = join(folder, 'dataset.json');
  try {
    const { kind } = JSON.parse(readFileSync(path, 'utf8')) as { kind?: unknown };
    if (typeof kind !== 'string') throw new Error('it lacks a kind');
    return kind;
  } catch (error) {
    throw refused(`${path} cannot be used`, error);
  }
}

function checkedFacts(raw: RawFacts): SetFacts {
  if (typeof raw !== 'object' || raw === null) throw new Error('it is no object');
  const { name, kind, profile = {} } = raw;
  if (typeof name !== 'string' || typeof kind !== 'string') throw new Error('it lacks a name or a kind');
  if (!kind.endsWith('series')) throw new Error(`its kind is "${kind}", and only series can be evaluated`);
  if (typeof profile !== 'object' || profile === null)
    throw new Error('profile must map metrics to profile fields');
  const stepS = optionalNumber(raw, 'step_seconds', (value) => value > 0);
  const startS = optionalNumber(raw, 'start', () => true);
  const steps = optionalNumber(raw, 'steps', (value) => value > 0 && Number.isInteger(value));
  const seasonSteps = optionalNumber(raw, 'season_steps', (value) => value >= 0 && Number.isInteger(value));
  if ((startS === undefined) !== (steps === undefined)) throw new Error('it has one of start and steps only');
  return {
    name,
    ...(stepS !== undefined && { stepS }),
    ...(startS !== undefined && steps !== undefined && { grid: { startS, steps } }),
    ...(seasonSteps !== undefined && { seasonSteps }),
    licence: typeof raw.licence === 'string' ? raw.licence : 'none stated',
    profile: profile as Readonly<Record<string, string>>,
  };
}

function optionalNumber(raw: RawFacts, key: string, isGood: (value: number) => boolean): number | undefined {
  const value = raw[key];
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isFinite(value) && isGood(value)) return value;
  throw new Error(`${key} is ${JSON.stringify(value)}`);
}

/** Every column as text: a guess of types from the first rows would fail on later ones. */
function sourceSql(path: string): string {
  const file = `'${path.replaceAll("'", "''")}'`;
  return path.endsWith('.parquet')
    ? `read_parquet(${file})`
    : `read_csv(${file}, header = true, delim = ',', all_varchar = true)`;
}

async function columnsOf(connection: DuckDBConnection, source: string): Promise<string[]> {
  const described = await connection.runAndReadAll(`DESCRIBE SELECT * FROM ${source}`);
  return described.getRowObjectsJson().map((row) => String(row.column_name));
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
