import { PROFILE_FIELDS, type ProfileField } from '../core/profile.ts';
import { SAMPLE_FLAGS } from '../core/sample.ts';
import { CLASS_COLUMNS, GRANTED_COLUMNS, type GRANTED_FIELDS, PROFILE_COLUMNS } from '../core/shadow.ts';

/** Which part of the shadow is played. */
export interface StretchChoice {
  /** ms since epoch; absent: from the first sample. */
  readonly fromMs?: number;
  /** Not included; absent: to the last sample, included. */
  readonly toMs?: number;
  /** Absent: every guest. */
  readonly guests?: readonly string[];
  /** Absent: the only host there is. */
  readonly host?: string;
  /**
   * SQL expressions over the columns of `shadow` that give a field of the usage in its unit, for imported sets whose
   * metrics have names and units of their own. A field that is absent is its own column.
   */
  readonly usage?: Readonly<Partial<Record<ProfileField, string>>>;
}

/** A choice that was looked up. */
export interface Stretch {
  readonly host: string;
  readonly fromMs: number;
  /** Not included. */
  readonly toMs: number;
  readonly usage: Readonly<Record<ProfileField, string>>;
  /** True when the store has how long guests waited for a host CPU. */
  readonly hasDelay: boolean;
  /** By name; their places are their numbers in the events. */
  readonly guests: readonly SurveyedGuest[];
}

/** What a stretch tells of one guest before it is played. Absent: not recorded. */
export interface SurveyedGuest {
  readonly id: string;
  readonly rows: number;
  /** Largest usage. */
  readonly used: { readonly cpuMillicores?: number; readonly memoryBytes?: number };
  /** The least it was allowed of each, and the most of CPU and memory. */
  readonly granted: { readonly [F in (typeof GRANTED_FIELDS)[number]]?: number };
  readonly grantedMost: { readonly cpuMillicores?: number; readonly memoryBytes?: number };
}

/** Column that says how long a guest's vCPUs waited for a host CPU; stores without a sampler of ours lack it. */
export const DELAY_COLUMN = 'cpu_delay_fraction';

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function timeSql(ms: number): string {
  return `make_timestamptz(${Math.round(ms * 1000)})`;
}

const timeMsSql = (time: string): string => `epoch_us(${time})::DOUBLE / 1000`;

/** A number as a double; NaN where there is none, or none that a counter could have given. */
function readingSql(expression: string): string {
  const value = `(${expression})::DOUBLE`;
  return `CASE WHEN isfinite(${value}) AND ${value} >= 0 THEN ${value} ELSE 'nan'::DOUBLE END`;
}

/** What a client reported was never a sample of the engine's. */
const IS_REPORTED = "contains(coalesce(flags, ''), 'reported')";

/** A sample speaks of the time before it. */
const PERIOD_START = "time - to_microseconds((coalesce(nullif(period_ms, 'nan'::DOUBLE), 0) * 1000)::BIGINT)";

function conditions({ fromMs, toMs, guests, host }: StretchChoice): string {
  const all: string[] = [];
  if (host !== undefined) all.push(`host = ${literal(host)}`);
  if (fromMs !== undefined) all.push(`time >= ${timeSql(fromMs)}`);
  if (toMs !== undefined) all.push(`time < ${timeSql(toMs)}`);
  if (guests !== undefined) all.push(`guest IN (${guests.map(literal).join(', ')})`);
  return all.join(' AND ') || 'true';
}

/** The expressions of a choice, complete. */
export function usageOf(choice: StretchChoice): Record<ProfileField, string> {
  const entries = PROFILE_FIELDS.map((field, i) => [field, choice.usage?.[field] ?? PROFILE_COLUMNS[i]]);
  return Object.fromEntries(entries) as Record<ProfileField, string>;
}

/** One row a guest of a choice, by host and guest; numbers are NaN where nothing is known. */
export function surveySql(choice: StretchChoice): string {
  const usage = usageOf(choice);
  const most = (expression: string): string =>
    `max(nullif(${readingSql(expression)}, 'nan'::DOUBLE)) FILTER (NOT ${IS_REPORTED})`;
  const known = (sql: string): string => `coalesce(${sql}, 'nan'::DOUBLE)`;
  // A rate that was not always limited is not limited.
  const least = GRANTED_COLUMNS.map(
    (column) =>
      `${known(`CASE WHEN count(${column}) = count(granted_cpu_millicores) THEN min(${column}) END`)} AS ${column}`,
  );
  return `SELECT host, guest, (count(*) FILTER (NOT ${IS_REPORTED}))::DOUBLE AS rows,
      ${timeMsSql(`min(${PERIOD_START})`)} AS from_ms, ${timeMsSql('max(time)')} AS to_ms,
      ${known(most(usage.cpuMillicores))} AS used_cpu, ${known(most(usage.memoryBytes))} AS used_memory,
      ${known('max(granted_cpu_millicores)')} AS most_cpu, ${known('max(granted_memory_bytes)')} AS most_memory,
      ${least.join(', ')}
    FROM shadow WHERE ${conditions(choice)} GROUP BY host, guest ORDER BY host, guest`;
}

/** Kinds of rows of the events, in the order in which they come at one moment. */
export const SAMPLE_ROW = 0;
export const REQUEST_ROW = 2;

/**
 * Samples and requests between two moments of a stretch in one total order: time, kind, guest, and then every other
 * column, so that rows that change places are the same. All columns but `request` are doubles, NaN where there is nothing.
 */
export function eventsSql(stretch: Stretch, fromMs: number, toMs: number): string {
  const { host, guests, usage, hasDelay } = stretch;
  const names = guests.map(({ id }, i) => `(${literal(id)}, ${i})`).join(', ');
  const flags = SAMPLE_FLAGS.map(
    (flag, i) => `CASE WHEN contains(flags, ${literal(flag)}) THEN ${1 << i} ELSE 0 END`,
  );
  const sample = [
    `${timeMsSql('time')} AS at_ms`,
    `${SAMPLE_ROW}::DOUBLE AS kind`,
    'number::DOUBLE AS guest_number',
    `${readingSql('period_ms')} AS period_ms`,
    `${readingSql('instructions_at')} AS instructions_at`,
    `(${flags.join(' + ')})::DOUBLE AS flags`,
    `contains(coalesce(flags, ''), 'imported')::DOUBLE AS is_imported`,
    `(axis = 'instructions')::DOUBLE AS is_cut`,
    `CASE cadence WHEN 'fast' THEN 1 WHEN 'full' THEN 0 ELSE 'nan'::DOUBLE END AS is_fast`,
    `${hasDelay ? readingSql(DELAY_COLUMN) : "'nan'::DOUBLE"} AS delay_fraction`,
    ...PROFILE_FIELDS.map((field) => `${readingSql(usage[field])} AS ${field}`),
    ...CLASS_COLUMNS.map((column) => `${readingSql(column)} AS ${column}`),
  ];
  const nothing = Array.from({ length: sample.length - 3 }, () => "'nan'::DOUBLE");
  const inSlice = `time >= ${timeSql(fromMs)} AND time < ${timeSql(toMs)}`;
  return `WITH named(name, number) AS (VALUES ${names}),
    asked AS (
      SELECT guest, coalesce(tenant, '') AS tenant, request_id, min(coalesce(workload, '')) AS workload,
        greatest(min(time), ${timeSql(stretch.fromMs)}) AS time, min(time) < ${timeSql(stretch.fromMs)} AS is_under_way,
        list({name: name, kind: kind, text: text, number: nullif(number, 'nan'::DOUBLE)} ORDER BY name, kind, text, number) AS params
      FROM inputs WHERE host = ${literal(host)} AND time < ${timeSql(toMs)} AND greatest(time, ${timeSql(stretch.fromMs)}) >= ${timeSql(fromMs)}
      GROUP BY ALL),
    borne AS (
      SELECT guest, coalesce(tenant, '') AS tenant, request_id, min(coalesce(workload, '')) AS workload,
        max(time) FILTER (NOT ${IS_REPORTED}) AS last,
        min(${PERIOD_START}) FILTER (NOT ${IS_REPORTED}) AS first, true AS is_borne
      FROM shadow WHERE ${conditions({ host, fromMs: stretch.fromMs })} AND request_id IS NOT NULL GROUP BY ALL),
    bare AS (
      SELECT guest, tenant, request_id, workload, greatest(first, ${timeSql(stretch.fromMs)}) AS time, NULL AS params, last
      FROM borne WHERE last IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM inputs AS i
        WHERE i.guest = borne.guest AND coalesce(i.tenant, '') = borne.tenant AND i.request_id = borne.request_id)),
    requests AS (
      SELECT guest, tenant, request_id, asked.workload, asked.time, params, last
      FROM asked LEFT JOIN borne USING (guest, tenant, request_id) WHERE last IS NOT NULL OR (is_borne IS NULL AND NOT is_under_way)
      UNION ALL BY NAME SELECT * FROM bare WHERE ${inSlice})
    SELECT ${sample.join(', ')}, NULL::VARCHAR AS request
    FROM shadow JOIN named ON guest = name
    WHERE ${conditions({ host, fromMs, toMs })} AND NOT ${IS_REPORTED}
    UNION ALL
    SELECT ${timeMsSql('time')}, ${REQUEST_ROW}, number, ${nothing.join(', ')},
      to_json({guest: guest, request_id: request_id, tenant: tenant, workload: workload, end_ms: ${timeMsSql('last')}, params: params})::VARCHAR
    FROM requests JOIN named ON guest = name
    ORDER BY ALL`;
}
