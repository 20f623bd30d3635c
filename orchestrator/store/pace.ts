import { readFileSync } from 'node:fs';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { type DuckDBPendingResult, DuckDBPendingResultState, type DuckDBResult } from '@duckdb/node-api';

/** A parent that computes for more of the time than this is answering somebody. */
const BUSY_FRACTION = 0.2;
/** Rest for each stretch of work beside a busy parent: a tenth of the time is worked, so that nothing waits for ever. */
const REST_PER_WORK = 9;
const REST_MS_MAX = 1_000;
/** Work that is done without rest: a light question is answered at once. */
const GRACE_MS = 50;
const NO_TASK_MS = 1;
/** What the database's binding puts before the database's own words. */
const PREFIX = 'Failure running pending result task: ';

/**
 * Rests between stretches of work while the process that started this one computes. Priorities alone leave every processor
 * busy, and a thread that wakes on a busy processor waits, whoever keeps it busy.
 */
export class Pace {
  readonly #parent: number;
  #workedMs = 0;
  #fromMs = performance.now();
  /** NaN while work needs no rest: a light question is not to pay for looking. */
  #parentFromMs = Number.NaN;

  constructor(parent = process.ppid) {
    this.#parent = parent;
  }

  /** True while the work needs no rest. */
  get isLight(): boolean {
    return this.#workedMs <= GRACE_MS;
  }

  /** A stretch of work has ended: rest as long as it asks for, then begin the next. */
  async rest(): Promise<void> {
    const tookMs = performance.now() - this.#fromMs;
    this.#workedMs += tookMs;
    if (!this.isLight) {
      const isBusy = computedMs(this.#parent) - this.#parentFromMs > BUSY_FRACTION * tookMs;
      if (isBusy) await sleep(Math.min(REST_PER_WORK * tookMs, REST_MS_MAX));
      this.#parentFromMs = computedMs(this.#parent);
    }
    this.#fromMs = performance.now();
  }
}

/** Run a statement task by task, at a pace. Of a database with several threads only this one rests. */
export async function runPaced(pending: DuckDBPendingResult, pace = new Pace()): Promise<DuckDBResult> {
  for (;;) {
    const state = nextTask(pending);
    if (state === DuckDBPendingResultState.RESULT_READY) return await pending.getResult();
    // Another of the database's threads has the last task: of a light question the wait would be most of its time.
    if (state === DuckDBPendingResultState.NO_TASKS_AVAILABLE && !pace.isLight) await sleep(NO_TASK_MS);
    else await setImmediate(); // a caller that gives up is heard
    await pace.rest();
  }
}

function nextTask(pending: DuckDBPendingResult): DuckDBPendingResultState {
  try {
    return pending.runTask();
  } catch (cause) {
    throw new Error((cause as Error).message.replace(PREFIX, ''), { cause });
  }
}

/** Time that a process's first thread has computed; 0 where the system does not tell. */
function computedMs(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
  } catch {
    return 0;
  }
}
