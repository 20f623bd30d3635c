import assert from 'node:assert';
import type { TimerClock } from '../../orchestrator/core/timer-clock.ts';

interface Timer {
  readonly dueMs: number;
  readonly order: number;
  readonly callback: () => void;
}

/** Timers run in one `advance` at most: a loop of zero delays is a bug of the test, not of the clock. */
const TIMERS_PER_ADVANCE_MAX = 1_000_000;

/** Time that stands still until a test moves it. */
export class ManualClock implements TimerClock {
  #monotonicMs = 0;
  #wallOffsetMs: number;
  #timers: Timer[] = [];
  #order = 0;

  /** @param startMs wall clock at the start, ms since epoch */
  constructor(startMs = 1_700_000_000_000) {
    this.#wallOffsetMs = startMs;
  }

  nowMs(): number {
    return this.#wallOffsetMs + this.#monotonicMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { dueMs: this.#monotonicMs + Math.max(0, delayMs), order: this.#order++, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((candidate) => candidate !== timer);
    };
  }

  /** Move the wall clock alone, as an administrator or a time service does. */
  stepWall(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }

  /** Let `forMs` pass: each timer runs at its time, and the promises it settles are followed before the next. */
  async advance(forMs: number): Promise<void> {
    assert(forMs >= 0, 'time does not run backwards');
    const endMs = this.#monotonicMs + forMs;
    await followPromises();
    for (let run = 0; run < TIMERS_PER_ADVANCE_MAX; run += 1) {
      const next = this.#takeDue(endMs);
      if (next === undefined) {
        this.#monotonicMs = endMs;
        return;
      }
      this.#monotonicMs = next.dueMs;
      next.callback();
      await followPromises();
    }
    throw new Error(`more than ${TIMERS_PER_ADVANCE_MAX} timers ran in one advance`);
  }

  #takeDue(endMs: number): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.dueMs > endMs) continue;
      const isEarlier =
        first === undefined ||
        timer.dueMs < first.dueMs ||
        (timer.dueMs === first.dueMs && timer.order < first.order);
      if (isEarlier) first = timer;
    }
    if (first !== undefined) this.#timers = this.#timers.filter((timer) => timer !== first);
    return first;
  }
}

/** Everything that runs without time passing: chains of promises and what they queue. */
function followPromises(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Longest a settling takes before the work counts as stuck. */
const SETTLE_MS_MAX = 600_000;
const SETTLE_STEP_MS = 20;

/** Move time until `work` has settled; its outcome. Stuck work fails after ten minutes of its time. */
export async function settle<T>(clock: ManualClock, work: Promise<T>): Promise<T> {
  let isSettled = false;
  const done = () => {
    isSettled = true;
  };
  work.then(done, done);
  const startMs = clock.monotonicMs();
  await clock.advance(0);
  while (!isSettled) {
    if (clock.monotonicMs() - startMs > SETTLE_MS_MAX)
      throw new Error(`not settled within ${SETTLE_MS_MAX} ms`);
    await clock.advance(SETTLE_STEP_MS);
  }
  return work;
}
