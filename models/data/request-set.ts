import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { Params, ParamValue } from '../../orchestrator/core/request.ts';
import { ShadowError } from '../../orchestrator/core/shadow.ts';

/** What a finished request used, in the order of every table. */
export const REQUEST_RESOURCES = ['memory', 'cpu', 'disk_read', 'disk_write', 'duration'] as const;
export type RequestResource = (typeof REQUEST_RESOURCES)[number];

/** Columns that carry a resource, the first that is there, and what one of their units is in bytes, cores or seconds. */
const COLUMNS: Readonly<Record<RequestResource, readonly (readonly [name: string, scale: number])[]>> = {
  memory: [
    ['used_memory_bytes', 1],
    ['used_peak_rss_bytes', 1],
  ],
  cpu: [
    ['used_cpu_cores', 1],
    ['used_cpu_pct', 0.01],
  ],
  disk_read: [['used_read_bytes', 1]],
  disk_write: [['used_write_bytes', 1]],
  duration: [['runtime_s', 1]],
};
const REQUESTED_MEMORY = 'requested_memory_bytes';
/** Bytes of one file when unpacked; more is no list of requests. */
const BYTES_MAX = 1 << 30;

/** One finished request, in bytes, cores and seconds. */
export interface RecordedRequest {
  readonly workload: string;
  /** What was known before the run, the memory its user requested included. */
  readonly params: Params;
  /** Size of its input, for rules that are linear in it. NaN: not known. */
  readonly inputBytes: number;
  readonly requestedMemoryBytes?: number;
  /** NaN: not recorded. Memory and duration always are. */
  readonly used: Readonly<Record<RequestResource, number>>;
}

/** A recorded set of requests. */
export interface RequestSet {
  readonly name: string;
  /** In order of the file. */
  readonly requests: readonly RecordedRequest[];
  /** What is compared: recorded, and not itself a parameter. */
  readonly resources: readonly RequestResource[];
}

/**
 * Read a folder with `dataset.json` and `requests.csv.gz` or `.csv`: columns `workload`, `runtime_s`, the memory used, and
 * as far as recorded CPU and bytes; parameters are `p_*`. An empty cell was not recorded.
 * @throws {ShadowError} SET_REFUSED, with the line of what is wrong
 */
export function readRequestSet(folder: string): RequestSet {
  const { name, parameters } = readFacts(folder);
  const path = ['.csv.gz', '.csv']
    .map((end) => join(folder, `requests${end}`))
    .find((file) => existsSync(file));
  if (path === undefined) throw refused(`${folder} has no requests.csv.gz or requests.csv`);
  const [header = [], ...lines] = parseCsv(readText(path));
  if (lines.length === 0) throw refused(`${path} has no requests`);
  const table = new Table(path, header, lines);
  const readsAreGiven = Object.values(parameters).some((meaning) => /bytes read/i.test(meaning));
  return {
    name,
    requests: requestsOf(table, parameters),
    resources: REQUEST_RESOURCES.filter(
      (resource) => table.columnOf(resource) !== undefined && !(resource === 'disk_read' && readsAreGiven),
    ),
  };
}

function requestsOf(table: Table, parameters: Readonly<Record<string, string>>): RecordedRequest[] {
  table.require('workload');
  for (const resource of ['memory', 'duration'] as const) {
    if (table.columnOf(resource) === undefined)
      table.require(COLUMNS[resource].map(([column]) => column).join(' or '));
  }
  const kinds = table.header
    .filter((column) => column.startsWith('p_'))
    .map((column) => [column, kindOf(table, column, parameters[column])] as const);
  const sizes = kinds.filter(([, kind]) => kind === 'size').map(([column]) => column);
  const input = sizes.find((column) => /_in(put)?_/.test(column)) ?? sizes[0];
  const requested = table.header.includes(REQUESTED_MEMORY);
  return table.lines.map((_, line) => {
    const params: Record<string, ParamValue> = {};
    for (const [column, kind] of kinds) {
      const param = paramOf(table, line, column, kind);
      if (param !== undefined) params[column] = param;
    }
    const memory = requested ? table.amount(line, REQUESTED_MEMORY) : Number.NaN;
    if (!Number.isNaN(memory)) params[REQUESTED_MEMORY] = { kind: 'size', value: memory };
    const workload = table.cell(line, 'workload');
    if (workload === '') throw table.wrong(line, 'workload');
    return {
      workload,
      params,
      inputBytes: input === undefined ? Number.NaN : table.amount(line, input),
      ...(!Number.isNaN(memory) && { requestedMemoryBytes: memory }),
      used: usedOf(table, line),
    };
  });
}

function usedOf(table: Table, line: number): Record<RequestResource, number> {
  const used = {} as Record<RequestResource, number>;
  for (const resource of REQUEST_RESOURCES) {
    const found = table.columnOf(resource);
    used[resource] = found === undefined ? Number.NaN : table.amount(line, found[0]) * found[1];
    if (
      found !== undefined &&
      (resource === 'memory' || resource === 'duration') &&
      Number.isNaN(used[resource])
    )
      throw table.wrong(line, found[0]);
  }
  return used;
}

type ParamKind = 'category' | 'size' | 'number';

/** A column that the set calls a category or that has words in it is one; bytes are a size, the rest are numbers. */
function kindOf(table: Table, column: string, meaning: string | undefined): ParamKind {
  const words = table.lines.some((_, line) => Number.isNaN(Number(table.cell(line, column))));
  if (meaning === 'category' || words) return 'category';
  return column.endsWith('_bytes') ? 'size' : 'number';
}

function paramOf(table: Table, line: number, column: string, kind: ParamKind): ParamValue | undefined {
  const text = table.cell(line, column);
  if (text === '') return undefined;
  if (kind === 'category') return { kind, value: text };
  const value = Number(text);
  if (!Number.isFinite(value) || (kind === 'size' && value < 0)) throw table.wrong(line, column);
  return { kind, value };
}

/** Cells of a file by name. */
class Table {
  readonly header: readonly string[];
  readonly lines: readonly (readonly string[])[];
  readonly #path: string;
  readonly #places: ReadonlyMap<string, number>;

  constructor(path: string, header: readonly string[], lines: readonly (readonly string[])[]) {
    this.#path = path;
    this.header = header;
    this.lines = lines;
    this.#places = new Map(header.map((name, place) => [name, place]));
    const uneven = lines.findIndex((cells) => cells.length !== header.length);
    if (uneven >= 0) {
      const found = lines[uneven]?.length;
      throw refused(`${path}: request ${uneven + 1} has ${found} cells, the header has ${header.length}`);
    }
  }

  require(column: string): void {
    if (!this.#places.has(column)) throw refused(`${this.#path} has no column ${column}`);
  }

  columnOf(resource: RequestResource): readonly [name: string, scale: number] | undefined {
    return COLUMNS[resource].find(([name]) => this.#places.has(name));
  }

  cell(line: number, column: string): string {
    return this.lines[line]?.[this.#places.get(column) as number] ?? '';
  }

  /** A number that is not negative; NaN for an empty cell. */
  amount(line: number, column: string): number {
    const text = this.cell(line, column);
    if (text === '') return Number.NaN;
    const value = Number(text);
    if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) throw this.wrong(line, column);
    return value;
  }

  wrong(line: number, column: string): ShadowError {
    const text = this.cell(line, column);
    const found = text === '' ? 'is empty' : `is "${text}", no number from 0`;
    return refused(`${this.#path}: ${column} of request ${line + 1} ${found}`);
  }
}

function readText(path: string): string {
  try {
    const bytes = readFileSync(path);
    return (path.endsWith('.gz') ? gunzipSync(bytes, { maxOutputLength: BYTES_MAX }) : bytes).toString();
  } catch (error) {
    throw refused(`${path} cannot be read`, error);
  }
}

/** Cells of each line. Source: RFC 4180, "Common Format and MIME Type for CSV Files". */
function parseCsv(text: string): string[][] {
  const lines: string[][] = [];
  let cells: string[] = [];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    cells.push(quoted === undefined ? (plain ?? '') : quoted.replaceAll('""', '"'));
    if (end === ',') continue;
    if (cells.length > 1 || cells[0] !== '') lines.push(cells);
    cells = [];
  }
  return lines;
}

function readFacts(folder: string): { name: string; parameters: Readonly<Record<string, string>> } {
  const path = join(folder, 'dataset.json');
  try {
    const raw: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (typeof raw !== 'object' || raw === null) throw new Error('it is no object');
    const { name, kind, parameters = {} } = raw as Readonly<Record<string, unknown>>;
    if (typeof name !== 'string' || typeof kind !== 'string') throw new Error('it lacks a name or a kind');
    if (kind !== 'requests')
      throw new Error(`its kind is "${kind}", and only requests can be backtested here`);
    if (typeof parameters !== 'object' || parameters === null)
      throw new Error('parameters must map columns to their meaning');
    return { name, parameters: parameters as Readonly<Record<string, string>> };
  } catch (error) {
    throw refused(`${path} cannot be used`, error);
  }
}

function refused(message: string, cause?: unknown): ShadowError {
  const reason = cause instanceof Error ? `: ${cause.message.split('\n')[0]}` : '';
  return new ShadowError('SET_REFUSED', `${message}${reason}`, { cause });
}
