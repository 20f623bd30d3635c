import { PRIORITIES, type Priority } from './request.ts';

/** What decides the turn of a lease that waits. */
export interface Waiting {
  readonly id: string;
  readonly priority: Priority;
  readonly requestedAtMs: number;
  /** ms since epoch; later it need not start at all. Absent: whenever there is room. */
  readonly latestStartMs?: number;
  /** Its tenant's dominant share over its weight, at this moment. */
  readonly share: number;
}

/**
 * Who goes first, as a comparator: the higher class; then the tenant with the least share; then the earliest latest start;
 * then the oldest. The class is the priority and one more for each `ageingMs` waited, so that nobody starves: no request goes
 * before one that came `overtakenMs` earlier, whatever its priority and its tenant. Pure.
 */
export function byTurn(nowMs: number, ageingMs: number): (a: Waiting, b: Waiting) => number {
  return (a, b) =>
    classOf(b, nowMs, ageingMs) - classOf(a, nowMs, ageingMs) ||
    a.share - b.share ||
    difference(a.latestStartMs, b.latestStartMs) ||
    a.requestedAtMs - b.requestedAtMs ||
    (a.id < b.id ? -1 : 1);
}

/** Longest time after a request in which others may still come and go before it, ms. */
export function overtakenMs(priority: Priority, ageingMs: number): number {
  return (PRIORITIES.length - PRIORITIES.indexOf(priority)) * ageingMs;
}

function classOf({ priority, requestedAtMs }: Waiting, nowMs: number, ageingMs: number): number {
  const waitedMs = Math.max(0, nowMs - requestedAtMs);
  return PRIORITIES.indexOf(priority) + Math.floor(waitedMs / ageingMs);
}

/** Absent is later than any. */
function difference(a = Number.MAX_SAFE_INTEGER, b = Number.MAX_SAFE_INTEGER): number {
  return a - b;
}
