import type { Clock } from '../core/ports.ts';

/** The latest that the wall clock has shown: work that was over is over, also when the clock goes back. */
export class LatestTime {
  readonly #clock: Clock;
  #latestMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** ms since epoch; never goes back. */
  ms(): number {
    this.note(this.#clock.nowMs());
    return this.#latestMs;
  }

  /** It was so late already. */
  note(ms: number): void {
    this.#latestMs = Math.max(this.#latestMs, ms);
  }
}
