import type { TimerClock } from '../../../orchestrator/core/timer-clock.ts';

/** The machine's time, so many times as fast: for parts that wait for each other over real sockets. */
export class FastClock implements TimerClock {
  readonly #speed: number;
  readonly #startMs = performance.now();
  readonly #wallMs = Date.now();

  constructor(speed: number) {
    this.#speed = speed;
  }

  nowMs(): number {
    return this.#wallMs + this.monotonicMs();
  }

  monotonicMs(): number {
    return (performance.now() - this.#startMs) * this.#speed;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = setTimeout(callback, delayMs / this.#speed);
    return () => clearTimeout(timer);
  }

  wait(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }
}
