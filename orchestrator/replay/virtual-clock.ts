import assert from 'node:assert';
import type { Clock } from '../core/ports.ts';

/** Time that stands where it was last put, and never goes back. */
export class VirtualClock implements Clock {
  readonly #startMs: number;
  #nowMs: number;

  /** @param startMs ms since epoch */
  constructor(startMs: number) {
    this.#startMs = startMs;
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs - this.#startMs;
  }

  moveTo(ms: number): void {
    assert(ms >= this.#nowMs, 'time does not go back');
    this.#nowMs = ms;
  }
}
