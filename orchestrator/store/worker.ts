/** The process that questions and rewrites a store, so that neither its memory nor its crash is the writer's. */
import { writeFileSync } from 'node:fs';
import type { DuckDBConnection } from '@duckdb/node-api';
import { ShadowError } from '../core/shadow.ts';
import { openDatabase } from './database.ts';
import { yieldToOthers } from './priority.ts';
import type { FromWorker, ToWorker, WorkerOptions } from './worker-messages.ts';
import { WorkerQueries } from './worker-queries.ts';
import { WorkerTasks } from './worker-tasks.ts';

/** First to go when the host runs out of memory. */
const OOM_SCORE = 1000;

const options = JSON.parse(process.argv[2] ?? '{}') as WorkerOptions;
// Guests have control groups of their own, so that they do not starve it.
yieldToOthers(options.yields === true);
try {
  writeFileSync('/proc/self/oom_score_adj', String(OOM_SCORE));
} catch {
  // Not on this system: the kernel chooses by itself.
}
// A worker never outlives its parent.
process.on('disconnect', () => process.exit(0));
process.on('SIGINT', () => {});

let connection: DuckDBConnection;
let queries: WorkerQueries;
let tasks: WorkerTasks;
const ready = openDatabase(options.directory, options.limits, options.alsoBelow).then(async (opened) => {
  connection = opened;
  queries = await WorkerQueries.create(opened, options.directory);
  tasks = new WorkerTasks(opened, options.directory);
});
ready.catch(() => {}); // each request says so

/** Resolves when the parent wants the next piece. */
let wanted: (() => void) | undefined;
let turn: Promise<void> = Promise.resolve();
let current = -1;
/** The request under way is no longer wanted: an interrupt alone does not reach a result that waits to be fetched. */
let isStopped = false;
/** Requests that were given up before their turn. */
const unwanted = new Set<number>();

process.on('message', (message: ToWorker) => {
  if ('ask' in message) turn = turn.then(() => answer(message));
  else if (message.id !== current) {
    if ('stop' in message) unwanted.add(message.id);
  } else if ('more' in message) wanted?.();
  else {
    isStopped = true;
    wanted?.();
    connection?.interrupt();
  }
});

function tell(message: FromWorker): Promise<void> {
  return new Promise((resolve) => process.send?.(message, undefined, {}, () => resolve()));
}

async function answer({ id, ask }: Extract<ToWorker, { ask: unknown }>): Promise<void> {
  current = id;
  isStopped = unwanted.delete(id);
  try {
    await ready;
    if (isStopped) throw new ShadowError('QUERY_LOST', 'Its caller gave up');
    const result = await run(id, ask);
    await tell({ id, answer: result });
  } catch (cause) {
    await tell({ id, failure: failureOf(cause as Error) });
  } finally {
    current = -1;
  }
}

async function run(id: number, ask: Extract<ToWorker, { ask: unknown }>['ask']) {
  if (ask.kind === 'query') return await queries.query(ask.sql, (piece) => sendPiece(id, piece));
  if (ask.kind === 'export') return await queries.export(ask.sql, ask.format, ask.path);
  if (ask.kind === 'count-log') return await queries.countLog();
  return await tasks.run(ask);
}

async function sendPiece(id: number, piece: Uint8Array): Promise<void> {
  const more = new Promise<void>((resolve) => {
    wanted = resolve;
  });
  await tell({ id, piece });
  await more;
  if (isStopped) throw new ShadowError('QUERY_LOST', 'Its caller gave up');
}

function failureOf(error: Error): Extract<FromWorker, { failure: unknown }>['failure'] {
  if (error instanceof ShadowError) return { code: error.code, message: error.message };
  const { message } = error;
  const isTooLarge = /^Out of Memory Error|max_temp_directory_size/.test(message);
  const isIo = /^IO Error/.test(message);
  return { code: isTooLarge ? 'QUERY_TOO_LARGE' : isIo ? 'STORE_UNAVAILABLE' : 'QUERY_REFUSED', message };
}
