import type { Clock } from './ports.ts';

/** A clock with timers, so that a test can move time by hand. */
export interface TimerClock extends Clock {
  /** Run `callback` once, `delayMs` from now. Returns the function that cancels it. */
  after(delayMs: number, callback: () => void): () => void;
}

/** Wait `delayMs` or until `signal` aborts, whichever is first. Resolves to whether the whole time has passed. */
export function pause(clock: TimerClock, delayMs: number, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve(false);
      return;
    }
    const onAbort = () => {
      cancel();
      resolve(false);
    };
    const cancel = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve(true);
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
