import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DuckDBConnection } from '@duckdb/node-api';
import { PROFILE_COLUMNS, ShadowError } from '../core/shadow.ts';
import { literal, quoted } from './columns.ts';

/** What `dataset.json` says that an import needs. */
interface DatasetFacts {
  readonly name: string;
  readonly kind: string;
  readonly step_seconds?: number;
  /** Units of parameters, by column, in words. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** Profile fields, by metric. */
  readonly profile?: Readonly<Record<string, string>>;
}

/** A set in tables of the connection, ready to be written: `imported` and `imported_inputs`. */
export interface LoadedSet {
  readonly name: string;
  readonly rows: number;
  readonly hasInputs: boolean;
}

/** Rows in which a column's type is looked for: parameters may begin with a long run of missing values. */
const SNIFFED_ROWS = 200_000;

/**
 * Load a series set or a request set. A series becomes a guest of a host that bears the set's name; a request becomes one
 * point at its end, with its parameters as production input. Metrics keep their names and units, but for those that
 * `profile` in dataset.json maps.
 * @throws {ShadowError} SET_REFUSED
 */
export async function loadSet(connection: DuckDBConnection, folder: string): Promise<LoadedSet> {
  const facts = readFacts(folder);
  const requests = fileOf(folder, 'requests');
  const series = fileOf(folder, 'series');
  if (facts.kind === 'requests' && requests !== undefined)
    return await loadRequests(connection, facts, requests);
  if (facts.kind.endsWith('series') && series !== undefined)
    return await loadSeries(connection, facts, series);
  throw new ShadowError(
    'SET_REFUSED',
    `${folder} is of kind ${facts.kind}: it must be "series" with series.csv.gz or .parquet, or "requests" with requests.csv.gz`,
  );
}

function readFacts(folder: string): DatasetFacts {
  const path = join(folder, 'dataset.json');
  try {
    const facts = JSON.parse(readFileSync(path, 'utf8')) as Partial<DatasetFacts>;
    if (typeof facts.name !== 'string' || typeof facts.kind !== 'string')
      throw new Error('it lacks a name or a kind');
    return facts as DatasetFacts;
  } catch (cause) {
    throw new ShadowError('SET_REFUSED', `${path} cannot be used: ${(cause as Error).message}`, { cause });
  }
}

function fileOf(folder: string, stem: string): string | undefined {
  const paths = ['.csv.gz', '.csv', '.parquet'].map((end) => join(folder, `${stem}${end}`));
  return paths.find((path) => existsSync(path));
}

function sourceSql(path: string, texts: readonly string[]): string {
  if (path.endsWith('.parquet')) return `read_parquet(${literal(path)})`;
  const types = texts.map((name) => `${literal(name)}: 'VARCHAR'`).join(', ');
  return `read_csv(${literal(path)}, header = true, sample_size = ${SNIFFED_ROWS}, types = {${types}})`;
}

async function columnsOf(
  connection: DuckDBConnection,
  source: string,
): Promise<{ name: string; type: string }[]> {
  const described = await connection.runAndReadAll(`DESCRIBE SELECT * FROM ${source}`);
  return described
    .getRowObjectsJson()
    .map((row) => ({ name: String(row.column_name), type: String(row.column_type) }));
}

function requireColumns(names: readonly string[], needed: readonly string[], path: string): void {
  const missing = needed.filter((name) => !names.includes(name));
  if (missing.length > 0) throw new ShadowError('SET_REFUSED', `${path} has no column ${missing.join(', ')}`);
}

/** Columns of a point that a set does not have. */
const FIXED =
  "NULL::VARCHAR AS tenant, NULL::DOUBLE AS instructions_at, 'imported' AS flags, 'seconds' AS axis, NULL::VARCHAR AS cadence";

async function finish(connection: DuckDBConnection, name: string, hasInputs: boolean): Promise<LoadedSet> {
  const counted = await connection.runAndReadAll('SELECT count(*) FROM imported');
  return { name, rows: Number(counted.getRowsJson()[0]?.[0] ?? 0), hasInputs };
}

async function loadSeries(
  connection: DuckDBConnection,
  facts: DatasetFacts,
  path: string,
): Promise<LoadedSet> {
  const source = sourceSql(path, ['series']);
  const columns = (await columnsOf(connection, source)).map(({ name }) => name);
  requireColumns(columns, ['series', 't'], path);
  const metrics = columns.filter((name) => name !== 'series' && name !== 't');
  const select = metrics.map((name) => `${quoted(name)}::DOUBLE AS ${quoted(columnOf(facts, name))}`);
  const periodMs = facts.step_seconds === undefined ? 'NULL::DOUBLE' : `${facts.step_seconds * 1000}::DOUBLE`;
  await connection.run(
    `CREATE OR REPLACE TABLE imported AS SELECT make_timestamptz((t * 1000000)::BIGINT) AS time, series::VARCHAR AS guest,
       ${literal(facts.name)} AS host, NULL::VARCHAR AS request_id, NULL::VARCHAR AS workload, ${periodMs} AS period_ms,
       ${FIXED}, ${select.join(', ')} FROM ${source}`,
  );
  return await finish(connection, facts.name, false);
}

function columnOf(facts: DatasetFacts, metric: string): string {
  const mapped = facts.profile?.[metric];
  if (mapped === undefined) return metric;
  if (!PROFILE_COLUMNS.includes(mapped)) {
    throw new ShadowError(
      'SET_REFUSED',
      `dataset.json maps ${metric} to ${mapped}, which is no field of a profile: ${PROFILE_COLUMNS.join(', ')}`,
    );
  }
  return mapped;
}

async function loadRequests(
  connection: DuckDBConnection,
  facts: DatasetFacts,
  path: string,
): Promise<LoadedSet> {
  const source = sourceSql(path, ['workload']);
  const columns = await columnsOf(connection, source);
  const names = columns.map(({ name }) => name);
  requireColumns(names, ['workload'], path);
  const has = (name: string): boolean => names.includes(name);
  const id = has('id') ? 'id::VARCHAR' : 'row_number() OVER ()::VARCHAR';
  // Without times the order of the rows is the order of time: a second each.
  const startS = has('submit_s') ? 'submit_s' : 'row_number() OVER ()';
  const runtimeS = has('runtime_s') ? 'coalesce(runtime_s, 0)' : '0';
  const metrics = names.filter((name) => /^(requested|used)_|^runtime_s$/.test(name));
  const params = columns.filter(({ name }) => name.startsWith('p_'));
  await connection.run(
    `CREATE OR REPLACE TABLE imported_requests AS SELECT ${id} AS request_id, workload::VARCHAR AS workload, ${startS} AS start_s,
       ${runtimeS} AS run_s, * EXCLUDE (workload${has('id') ? ', id' : ''}) FROM ${source};
     CREATE OR REPLACE TABLE imported AS SELECT make_timestamptz(((start_s + run_s) * 1000000)::BIGINT) AS time, workload AS guest,
       ${literal(facts.name)} AS host, request_id, workload, run_s * 1000.0 AS period_ms, ${FIXED}
       ${metrics.map((name) => `, ${quoted(name)}::DOUBLE AS ${quoted(name)}`).join('')} FROM imported_requests;
     CREATE OR REPLACE TABLE imported_inputs (time TIMESTAMPTZ, request_id VARCHAR, guest VARCHAR, host VARCHAR, tenant VARCHAR,
       workload VARCHAR, name VARCHAR, kind VARCHAR, text VARCHAR, number DOUBLE)`,
  );
  for (const { name, type } of params) {
    const isText = type === 'VARCHAR';
    const kind = isText ? 'category' : /\bB\b|bytes/.test(facts.parameters?.[name] ?? '') ? 'size' : 'number';
    await connection.run(
      `INSERT INTO imported_inputs SELECT make_timestamptz((start_s * 1000000)::BIGINT), request_id, workload, ${literal(facts.name)},
         NULL, workload, ${literal(name.slice(2))}, ${literal(kind)}, ${isText ? quoted(name) : 'NULL'},
         ${isText ? 'NULL' : `${quoted(name)}::DOUBLE`} FROM imported_requests WHERE ${quoted(name)} IS NOT NULL`,
    );
  }
  return await finish(connection, facts.name, true);
}
