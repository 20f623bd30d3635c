import { mkdirSync } from 'node:fs';
import { DuckDBInstance } from '@duckdb/node-api';
import { LOG_FOLDER } from '../../orchestrator/store/layout.ts';
import { publishManifest, readManifest } from '../../orchestrator/store/manifest.ts';
import { PartitionWriter } from '../../orchestrator/store/partitions.ts';

/** A store made for questions. */
export interface FilledStore {
  readonly directory: string;
  readonly samples: number;
  readonly bytes: number;
  readonly guests: number;
  readonly toMs: number;
  /** A whole day of it. */
  readonly dayMs: number;
  requestOf(i: number): string;
}

const GUESTS = 1000;
/** A day of a guest: a sample each ten seconds. */
const STEP_S = 10;
const STEPS_OF_DAY = 86_400 / STEP_S;
/** Steps of one request; between two as many without one. */
const REQUEST_STEPS = 50;
const FROM_MS = Date.UTC(2026, 0, 1);

/**
 * Write days of a thousand guests straight into partitions, as sealing and merging leave them: what is measured is the
 * answering. Values are noisy on purpose, and compress badly.
 */
export async function fillStore(directory: string, samples: number): Promise<FilledStore> {
  mkdirSync(`${directory}/${LOG_FOLDER}`, { recursive: true });
  mkdirSync(`${directory}/work`, { recursive: true });
  const instance = await DuckDBInstance.create(':memory:', { threads: '2', memory_limit: '4GB' });
  const connection = await instance.connect();
  await connection.run("SET TimeZone = 'UTC'");
  const writer = new PartitionWriter(connection, directory, 'seal');
  const steps = Math.ceil(samples / GUESTS);
  for (let from = 0; from < steps; from += STEPS_OF_DAY) {
    const count = Math.min(STEPS_OF_DAY, steps - from);
    const atMs = FROM_MS + from * STEP_S * 1000;
    const day = new Date(atMs).toISOString().slice(0, 10);
    const request = `'req-' || g || '-' || ((s + ${from}) // ${2 * REQUEST_STEPS})`;
    const isRequest = `(s + ${from}) % ${2 * REQUEST_STEPS} < ${REQUEST_STEPS}`;
    const grid = `(SELECT unnest(range(${GUESTS})) AS g), (SELECT unnest(range(${count})) AS s)`;
    await writer.write(
      'raw',
      day,
      'h1',
      `(SELECT make_timestamptz((${atMs} + s * ${STEP_S * 1000})::BIGINT * 1000) AS time, 'seconds' AS axis,
      'guest-' || g AS guest, 'h1' AS host, 'acme' AS tenant, CASE WHEN ${isRequest} THEN ${request} END AS request_id,
      'w' || (g % 20) AS workload, ${STEP_S * 1000}.0 AS period_ms, NULL::DOUBLE AS instructions_at, '' AS flags,
      round(500 + 400 * sin(s / 500.0) + 100 * random()) AS cpu_millicores, round(5e5 + 3e4 * random()) * 4096.0 AS memory_bytes,
      round(1e5 * random() * random()) AS disk_read_bytes_per_s, round(1e5 * random()) AS disk_write_bytes_per_s,
      round(1e5 * random()) AS net_rx_bytes_per_s, round(1e4 * random()) AS net_tx_bytes_per_s,
      round(1e9 * random()) AS instructions_per_s, 2000.0 AS granted_cpu_millicores, 4e9 AS granted_memory_bytes FROM ${grid})`,
    );
    const inputs = `SELECT make_timestamptz((${atMs} + s * ${STEP_S * 1000})::BIGINT * 1000) AS time, ${request} AS request_id, 'guest-' || g AS guest,
      'h1' AS host, 'acme' AS tenant, 'w' || (g % 20) AS workload`;
    const where = `FROM ${grid} WHERE (s + ${from}) % ${2 * REQUEST_STEPS} = 0`;
    await writer.write(
      'inputs',
      day,
      'h1',
      `(${inputs}, 'rows' AS name, 'number' AS kind, NULL::VARCHAR AS text, floor(random() * 1e5) AS number ${where}
      UNION ALL ${inputs}, 'mode' AS name, 'category' AS kind, ['fast', 'good', 'best'][1 + (random() * 2)::INTEGER] AS text, NULL::DOUBLE AS number ${where})`,
    );
  }
  const manifest = await publishManifest(directory, { ...readManifest(directory), files: writer.files });
  const raw = manifest.files.filter(({ tier }) => tier === 'raw');
  connection.closeSync();
  return {
    directory,
    samples: raw.reduce((sum, { rows }) => sum + rows, 0),
    bytes: raw.reduce((sum, { bytes }) => sum + bytes, 0),
    guests: GUESTS,
    toMs: Math.max(...raw.map(({ toMs }) => toMs)),
    dayMs: FROM_MS,
    requestOf: (i) => `req-${(i * 37) % GUESTS}-${Math.floor(steps / (4 * REQUEST_STEPS))}`,
  };
}
