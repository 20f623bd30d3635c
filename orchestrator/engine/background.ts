import { AllocatorError } from '../core/errors.ts';
import type { Log } from './log.ts';

/** Work nobody awaits, kept hold of so that a drain can. */
export class Background {
  readonly #log: Log;
  readonly #kept = new Set<Promise<unknown>>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** An expected failure is logged, and the tick tries again; anything else is a broken assumption and stops the process. */
  keep(work: Promise<unknown>): void {
    const kept = work
      .catch((cause) => {
        if (!(cause instanceof AllocatorError)) throw cause;
        this.#log.error({ code: cause.code, detail: cause.detail, err: cause }, 'background work failed');
      })
      .finally(() => this.#kept.delete(kept));
    this.#kept.add(kept);
  }

  /** Resolves when what is kept now is done; failures are no matter. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#kept]);
  }

  /** Resolves when nothing is left, what was begun meanwhile included. */
  async drained(): Promise<void> {
    while (this.#kept.size > 0) await this.settled();
  }
}
