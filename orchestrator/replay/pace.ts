import { setTimeout as sleep } from 'node:timers/promises';

/** Waits shorter than this are left to add up: a timer is no finer. */
const WAIT_MS_MIN = 2;
/** The longest a timer can wait. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Keeps a replay to a speed. It only waits: what is decided cannot depend on it. */
export class Pace {
  readonly #speed: number;
  readonly #fromMs: number;
  readonly #beganMs = performance.now();

  /** @param speed played time over real time; Infinity: never wait @param fromMs played time at the start */
  constructor(speed: number, fromMs: number) {
    this.#speed = speed;
    this.#fromMs = fromMs;
  }

  /** Resolves when played time `atMs` has come; rejects when the signal aborts. undefined: it has come already. */
  until(atMs: number, signal: AbortSignal): Promise<void> | undefined {
    return this.#waitMs(atMs) < WAIT_MS_MIN ? undefined : this.#wait(atMs, signal);
  }

  async #wait(atMs: number, signal: AbortSignal): Promise<void> {
    for (let waitMs = this.#waitMs(atMs); waitMs > 0; waitMs = this.#waitMs(atMs))
      await sleep(Math.min(waitMs, TIMER_MS_MAX), undefined, { signal });
  }

  #waitMs(atMs: number): number {
    return this.#beganMs + (atMs - this.#fromMs) / this.#speed - performance.now();
  }

  get secondsPassed(): number {
    return (performance.now() - this.#beganMs) / 1000;
  }
}
