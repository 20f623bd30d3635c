import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { RecordBatchReader } from 'apache-arrow';
import { PROFILE_COLUMNS, ShadowError } from '../core/shadow.ts';
import { ShadowReader } from '../store/reader.ts';

/** Spacing of what is made of a record, s: that of the long track, on which the model serves. */
const STEP_S = 300;
/** Days of a record that are looked at, from its newest on: what a course remembers. */
const DAYS_MAX = 28;
const DAY_S = 86_400;

/** A record as a set of series, in a folder of its own. */
export interface RecordedSet {
  readonly folder: string;
  /** Bins of each series. */
  readonly steps: number;
  /** Remove the folder. */
  remove(): void;
}

/**
 * Make a set of series of a record: a guest a series, the fields of its profile as metrics, means of five minutes over its last
 * four weeks at most. A service may go on writing the record.
 * @param store the record's folder
 * @throws {ShadowError} STORE_UNAVAILABLE, and what a question may; SET_REFUSED when there is not a whole bin
 */
export async function recordedSet(store: string, signal: AbortSignal): Promise<RecordedSet> {
  const directory = resolve(store);
  if (!existsSync(directory)) throw new ShadowError('STORE_UNAVAILABLE', `${directory} does not exist`);
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-record-'));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  const reader = new ShadowReader(directory);
  try {
    const [first, last] = await endsOf(reader, signal);
    // The newest bin goes on.
    const endS = Math.floor(last / STEP_S) * STEP_S;
    const startS = Math.max(Math.floor(first / STEP_S) * STEP_S, endS - DAYS_MAX * DAY_S);
    const steps = (endS - startS) / STEP_S;
    if (!(steps > 0)) throw new ShadowError('SET_REFUSED', `${directory} holds no whole five minutes`);
    await reader.export(seriesSql(startS, endS), 'parquet', join(folder, 'series.parquet'), signal);
    writeFileSync(join(folder, 'dataset.json'), JSON.stringify(factsOf(startS, endS, steps)));
    return { folder, steps, remove };
  } catch (error) {
    remove();
    throw error;
  } finally {
    await reader.close();
  }
}

/** What `dataset.json` says. The name tells one night's set from another's: a model has learned from none but its own. */
function factsOf(startS: number, endS: number, steps: number) {
  const name = `shadow until ${new Date(endS * 1000).toISOString()}`;
  const licence = 'recorded by this service';
  return { name, kind: 'series', step_seconds: STEP_S, start: startS, steps, licence };
}

/** Rows of whole guests by time: no fast readings, for they lack fields, and no steps of instructions. */
const WHOLE = "axis = 'seconds' AND (cadence = 'full' OR cadence IS NULL)";

/** Times of the oldest and the newest row, s; NaN: there is none. */
async function endsOf(reader: ShadowReader, signal: AbortSignal): Promise<[number, number]> {
  const sql = `SELECT min(epoch(time))::DOUBLE AS first, max(epoch(time))::DOUBLE AS last FROM shadow_minute WHERE ${WHOLE}`;
  let ends: [number, number] = [Number.NaN, Number.NaN];
  for await (const batch of await RecordBatchReader.from(reader.query(sql, signal)))
    for (const row of batch) ends = [Number(row.first ?? Number.NaN), Number(row.last ?? Number.NaN)];
  return ends;
}

function seriesSql(startS: number, endS: number): string {
  const means = PROFILE_COLUMNS.map(
    (column) => `sum(${column}_mean * ${column}_count) / nullif(sum(${column}_count), 0) AS ${column}`,
  );
  return `SELECT guest AS series, floor(epoch(time) / ${STEP_S}) * ${STEP_S} AS t, ${means.join(', ')}
    FROM shadow_minute WHERE ${WHOLE} AND epoch(time) >= ${startS} AND epoch(time) < ${endS} GROUP BY ALL`;
}
