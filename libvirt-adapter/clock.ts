import type { TimerClock } from '../orchestrator/core/timer-clock.ts';

/** The machine's own time. */
export const systemClock: TimerClock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};
