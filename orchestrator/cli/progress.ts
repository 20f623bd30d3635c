import type { Io } from './io.ts';

/** Tells a terminal how far long work has come, on one line that changes with each percent. */
export class Progress {
  readonly #io: Io;
  #percent = -1;

  constructor(io: Io) {
    this.#io = io;
  }

  /** @param fraction in [0, 1] @param place where the work is, in words */
  tell(fraction: number, place: string): void {
    const percent = Math.floor(fraction * 100);
    if (!this.#io.errIsTerminal || percent === this.#percent) return;
    this.#percent = percent;
    this.#io.err(`\r${String(percent).padStart(3)} %  ${place}`);
  }

  end(): void {
    if (this.#percent >= 0) this.#io.err('\n');
  }
}
