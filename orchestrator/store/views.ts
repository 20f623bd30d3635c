import type { DuckDBConnection } from '@duckdb/node-api';
import { emptySelect } from './columns.ts';
import { filesOf } from './layout.ts';
import type { Manifest, SealedFile, Tier } from './manifest.ts';
import { parquetSql } from './partitions.ts';

/**
 * Latest days that have a branch of their own in a view. A branch says which times it can hold, so that a question about
 * the last hour never opens the files of other days; each one costs half a millisecond of planning.
 */
const BRANCHES_MAX = 8;

/** A SELECT over sealed files, one branch a day for the latest days. */
function sealedSql(directory: string, files: readonly SealedFile[]): string[] {
  const days = [...new Set(files.map(({ day }) => day))].sort().toReversed();
  const recent = days.slice(0, BRANCHES_MAX - 1);
  const groups = recent.map((day) => files.filter((file) => file.day === day));
  groups.push(files.filter(({ day }) => !recent.includes(day)));
  return groups
    .filter((group) => group.length > 0)
    .map((group) => {
      const from = Math.min(...group.map(({ fromMs }) => fromMs));
      const to = Math.max(...group.map(({ toMs }) => toMs));
      // To the next whole ms: the manifest's bounds are in ms, times in microseconds.
      return `SELECT * FROM ${parquetSql(directory, group)} WHERE time >= make_timestamptz(${Math.floor(from)}000) AND time <= make_timestamptz(${Math.ceil(to)}999)`;
    });
}

const VIEW_OF: Readonly<
  Record<Tier, { readonly view: string; readonly kind: 'points' | 'buckets' | 'inputs' }>
> = {
  raw: { view: 'shadow', kind: 'points' },
  minute: { view: 'shadow_minute', kind: 'buckets' },
  hour: { view: 'shadow_hour', kind: 'buckets' },
  inputs: { view: 'inputs', kind: 'inputs' },
};

/** Make `shadow`, `shadow_minute`, `shadow_hour` and `inputs` of a connection what the manifest says, and the log beside it. */
export async function createViews(
  connection: DuckDBConnection,
  directory: string,
  manifest: Manifest,
): Promise<void> {
  for (const [tier, { view, kind }] of Object.entries(VIEW_OF)) {
    const selects = [emptySelect(kind), ...sealedSql(directory, filesOf(manifest.files, tier as Tier))];
    if (tier === 'raw') selects.push('SELECT * FROM log_points');
    if (tier === 'inputs') selects.push('SELECT * FROM log_input_rows');
    await connection.run(`CREATE OR REPLACE VIEW ${view} AS ${selects.join(' UNION ALL BY NAME ')}`);
  }
}
