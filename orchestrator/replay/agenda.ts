/** What is to happen at some time: kept in order of time, guest and request. */
export interface Due {
  readonly atMs: number;
  readonly guest: string;
  readonly requestId: string;
  readonly leaseId: string;
}

/** Ends of requests that are under way, the next one first. */
export class Agenda {
  /** Latest first, so that taking the next one moves none. */
  readonly #due: Due[] = [];

  get next(): Due | undefined {
    return this.#due.at(-1);
  }

  add(due: Due): void {
    let low = 0;
    let high = this.#due.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(due, this.#due[middle] as Due)) low = middle + 1;
      else high = middle;
    }
    this.#due.splice(low, 0, due);
  }

  take(): Due | undefined {
    return this.#due.pop();
  }
}

function isBefore(a: Due, b: Due): boolean {
  if (a.atMs !== b.atMs) return a.atMs < b.atMs;
  if (a.guest !== b.guest) return a.guest < b.guest;
  return a.requestId < b.requestId;
}
