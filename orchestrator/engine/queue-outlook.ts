import { PRIORITIES, type Priority } from '../core/request.ts';
import type { LeaseBook } from './lease-book.ts';

/** Longest wait foretold, ticks: further ahead nothing is known. */
const FORETOLD_TICKS_MAX = 60;

/** Where a new lease of this priority would stand, and how long it should wait there, ms. */
export function placeInQueue(
  leases: LeaseBook,
  priority: Priority,
  nowMs: number,
  tickMs: number,
): { position: number; expectedWaitMs: number } {
  const mine = PRIORITIES.indexOf(priority);
  const ahead = leases.queued().filter(({ lease }) => PRIORITIES.indexOf(lease.priority) >= mine).length;
  return { position: ahead + 1, expectedWaitMs: expectedWaitMs(leases, nowMs, tickMs) * (ahead + 1) };
}

/** Time until the next lease should end, ms: its predicted length, or its time to live where that is shorter or unknown. */
export function expectedWaitMs(leases: LeaseBook, nowMs: number, tickMs: number): number {
  let waitMs = tickMs * FORETOLD_TICKS_MAX;
  for (const { lease } of leases.open()) {
    if (lease.inPlaceAtMs === undefined) continue;
    const predicted = lease.predicted.durationS?.q50;
    const endMs = predicted === undefined ? lease.expiresAtMs : lease.inPlaceAtMs + predicted * 1000;
    waitMs = Math.min(waitMs, Math.min(endMs, lease.expiresAtMs) - nowMs);
  }
  return Math.max(tickMs, waitMs);
}
