import { CLASS_COLUMNS, GRANTED_COLUMNS, PROFILE_COLUMNS, SHADOW_FLAGS } from '../core/shadow.ts';
import { CONTEXT_COLUMNS } from './log-rows.ts';
import type { Tier } from './manifest.ts';
import type { TableKind } from './schema-versions.ts';

/** A name as SQL takes it literally. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** Columns of every point, with their types; metrics beyond them are DOUBLE. */
const POINT_COLUMNS: readonly (readonly [name: string, type: string])[] = [
  ['time', 'TIMESTAMPTZ'],
  ['axis', 'VARCHAR'],
  ['guest', 'VARCHAR'],
  ['host', 'VARCHAR'],
  ['tenant', 'VARCHAR'],
  ['request_id', 'VARCHAR'],
  ['workload', 'VARCHAR'],
  ['cadence', 'VARCHAR'],
  ['period_ms', 'DOUBLE'],
  ['instructions_at', 'DOUBLE'],
  ['flags', 'VARCHAR'],
  ...[...PROFILE_COLUMNS, ...CLASS_COLUMNS, ...GRANTED_COLUMNS].map((name) => [name, 'DOUBLE'] as const),
];
const INPUT_COLUMNS: readonly (readonly [name: string, type: string])[] = [
  ['time', 'TIMESTAMPTZ'],
  ['request_id', 'VARCHAR'],
  ['guest', 'VARCHAR'],
  ['host', 'VARCHAR'],
  ['tenant', 'VARCHAR'],
  ['workload', 'VARCHAR'],
  ['name', 'VARCHAR'],
  ['kind', 'VARCHAR'],
  ['text', 'VARCHAR'],
  ['number', 'DOUBLE'],
];

/** What a bucket is one of; the first columns of a point. */
export const BUCKET_KEYS: readonly string[] = POINT_COLUMNS.slice(0, 8).map(([name]) => name);

/** Columns of a rolled-up tier that describe the bucket; each metric has `_min`, `_mean`, `_max`, `_p95` and `_count` beside them. */
const BUCKET_COLUMNS: readonly (readonly [name: string, type: string])[] = [
  ...POINT_COLUMNS.slice(0, BUCKET_KEYS.length),
  ['samples', 'BIGINT'],
  ['censored', 'BIGINT'],
];

/** What the files of each tier hold. */
export const KIND_OF: Readonly<Record<Tier, TableKind>> = {
  raw: 'points',
  minute: 'buckets',
  hour: 'buckets',
  inputs: 'inputs',
};

/** An empty SELECT that gives a view its columns, in their order, whatever files there are. */
export function emptySelect(kind: TableKind): string {
  const of = { points: POINT_COLUMNS, buckets: BUCKET_COLUMNS, inputs: INPUT_COLUMNS }[kind];
  const columns = of.map(([name, type]) => `NULL::${type} AS ${quoted(name)}`);
  if (kind === 'buckets')
    columns.push(...PROFILE_COLUMNS.flatMap((name) => statisticNames(name)).map(emptyStatistic));
  return `SELECT ${columns.join(', ')} WHERE false`;
}

export const STATISTICS = ['min', 'mean', 'max', 'p95', 'count'] as const;

function statisticNames(metric: string): string[] {
  return STATISTICS.map((statistic) => `${metric}_${statistic}`);
}

function emptyStatistic(name: string): string {
  return `NULL::${name.endsWith('_count') ? 'BIGINT' : 'DOUBLE'} AS ${quoted(name)}`;
}

/** Names that are not metrics of their own. */
export const NO_METRICS: ReadonlySet<string> = new Set([
  ...POINT_COLUMNS.slice(0, BUCKET_KEYS.length + 3).map(([name]) => name),
  ...GRANTED_COLUMNS,
  'day',
]);

/** Flags as words, comma-separated: read by anything, and a dictionary in Parquet. */
export function flagsSql(bits: string): string {
  const cases = SHADOW_FLAGS.map((flag, i) => `CASE WHEN ${bits} & ${1 << i} <> 0 THEN ${literal(flag)} END`);
  return `concat_ws(',', ${cases.join(', ')})`;
}

/** A point from a row of the log (`r`) and its context (`c`). */
export function pointSql(metrics: readonly string[]): string {
  const absent = (name: string): string => `nullif(${name}, 'nan'::DOUBLE)`;
  return [
    'r.time',
    ...CONTEXT_COLUMNS.map((name) => `c.${name}`),
    `${absent('r.period_ms')} AS period_ms`,
    `${absent('r.instructions_at')} AS instructions_at`,
    `${flagsSql('r.flags')} AS flags`,
    ...metrics.map((name) => `${absent(`r.${quoted(name)}`)} AS ${quoted(name)}`),
    ...GRANTED_COLUMNS.map((name) => `${absent(`c.${name}`)} AS ${name}`),
  ].join(', ');
}
