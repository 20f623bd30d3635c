import type { DuckDBConnection } from '@duckdb/node-api';
import { emptySelect, KIND_OF, literal } from './columns.ts';
import { filesOf } from './layout.ts';
import type { Manifest, SealedFile, Tier } from './manifest.ts';
import { parquetSql } from './partitions.ts';
import { bucketsSql } from './roll-up.ts';

/**
 * Latest days that have a branch of their own in a view. A branch says which times it can hold, so that a question about
 * the last hour never opens the files of other days; each one costs half a millisecond of planning.
 */
const BRANCHES_MAX = 3;

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

/**
 * Make `shadow`, `shadow_minute`, `shadow_hour` and `inputs` of a connection what the manifest says, and the log beside it.
 * To be called again when the log has gained columns.
 */
export async function createViews(
  connection: DuckDBConnection,
  directory: string,
  manifest: Manifest,
): Promise<void> {
  const create = async (view: string, tier: Tier, beside: string): Promise<void> => {
    const sealed = sealedSql(directory, filesOf(manifest.files, tier));
    const selects = [emptySelect(KIND_OF[tier]), ...sealed, beside];
    await connection.run(`CREATE OR REPLACE VIEW ${view} AS ${selects.join(' UNION ALL BY NAME ')}`);
  };
  await create('shadow', 'raw', 'SELECT * FROM log_points');
  await create('inputs', 'inputs', 'SELECT * FROM log_input_rows');
  for (const tier of ['minute', 'hour'] as const) {
    const points = await createUnrolled(connection, directory, manifest, tier);
    const described = await connection.runAndReadAll(`DESCRIBE ${points}`);
    const columns = described.getRowsJson().map(([name]) => String(name));
    await create(`shadow_${tier}`, tier, bucketsSql(tier, columns, points));
  }
}

/**
 * Make a view of the points that a tier lacks, since their day goes on: a question about today is answered from them. A day
 * stands in the tier or here, never in both, so that each bucket comes once; a point that is late for its day's tier
 * shows in it with the next upkeep.
 * @returns its name
 */
async function createUnrolled(
  connection: DuckDBConnection,
  directory: string,
  manifest: Manifest,
  tier: 'minute' | 'hour',
): Promise<string> {
  const rolled = filesOf(manifest.files, tier);
  const key = ({ day, host }: SealedFile): string => `(${literal(day)}, ${literal(host)})`;
  const keys = [...new Set(rolled.map(key))];
  await connection.run(`CREATE OR REPLACE TABLE rolled_${tier} (day VARCHAR, host VARCHAR)`);
  if (keys.length > 0) await connection.run(`INSERT INTO rolled_${tier} VALUES ${keys.join(', ')}`);
  const files = filesOf(manifest.files, 'raw').filter((file) => !keys.includes(key(file)));
  const selects = [
    emptySelect('points'),
    ...(files.length > 0 ? [`SELECT * FROM ${parquetSql(directory, files)}`] : []),
    `SELECT p.* FROM log_points p ANTI JOIN rolled_${tier} r ON strftime(p.time, '%Y-%m-%d') = r.day AND p.host = r.host`,
  ];
  const view = `points_without_${tier}`;
  await connection.run(`CREATE OR REPLACE VIEW ${view} AS ${selects.join(' UNION ALL BY NAME ')}`);
  return view;
}
