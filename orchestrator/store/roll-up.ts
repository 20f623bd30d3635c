import { BUCKET_KEYS, NO_METRICS, quoted, STATISTICS } from './columns.ts';

const SQL_OF: Readonly<Record<(typeof STATISTICS)[number], (column: string) => string>> = {
  min: (column) => `min(${column})`,
  mean: (column) => `avg(${column})`,
  max: (column) => `max(${column})`,
  // The value at or above 95 % of the bucket's: one that was measured, not one between two.
  p95: (column) => `quantile_disc(${column}, 0.95)`,
  count: (column) => `count(${column})`,
};

/**
 * A SELECT of buckets from points: min, mean, max, p95 and count of every metric, by guest, axis, request and cadence. Both tiers
 * are made from the points, since a p95 cannot be made of p95s. A point belongs to the bucket its time falls in.
 * @param columns of `source`
 */
export function bucketsSql(tier: 'minute' | 'hour', columns: readonly string[], source: string): string {
  const metrics = columns.filter((name) => !NO_METRICS.has(name));
  const statistics = metrics.flatMap((metric) =>
    STATISTICS.map((name) => `${SQL_OF[name](quoted(metric))} AS ${quoted(`${metric}_${name}`)}`),
  );
  const granted = columns
    .filter((name) => name.startsWith('granted_'))
    .map((name) => `min(${quoted(name)}) AS ${quoted(name)}`);
  return `SELECT date_trunc('${tier}', time) AS time, ${BUCKET_KEYS.slice(1).join(', ')},
    count(*) AS samples, count(*) FILTER (contains(flags, 'censored')) AS censored,
    ${[...statistics, ...granted].join(', ')} FROM ${source} GROUP BY ALL`;
}
