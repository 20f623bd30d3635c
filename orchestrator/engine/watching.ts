import type { GuestId } from '../core/guest.ts';
import { hasEnded, type Lease } from '../core/lease.ts';
import type { GuestSample } from '../core/sample.ts';
import type { LeaseBook } from './lease-book.ts';

/** Samples waiting for one slow watcher; older ones are dropped. */
const WATCH_QUEUE_MAX = 256;

/** A lease's present state, then each later one until it has ended or the signal aborts. A slow reader misses some between. */
export async function* watchLease(leases: LeaseBook, id: string, signal: AbortSignal): AsyncIterable<Lease> {
  let { lease } = leases.get(id);
  const bell = new Bell(signal);
  const unsubscribe = leases.watch(id, bell.ring);
  try {
    while (!signal.aborted) {
      yield lease;
      if (hasEnded(lease.state)) return;
      while (leases.get(id).lease === lease && !signal.aborted) await bell.rung();
      lease = leases.get(id).lease;
    }
  } finally {
    unsubscribe();
    bell.close();
  }
}

/** Hands each guest's samples to whoever watches it. */
export class SampleFeed {
  readonly #listeners = new Map<GuestId, Set<(sample: GuestSample) => void>>();

  emit(sample: GuestSample): void {
    for (const listener of this.#listeners.get(sample.guest) ?? []) listener(sample);
  }

  /** A guest's samples from now on, until the signal aborts. */
  async *watch(guest: GuestId, signal: AbortSignal): AsyncIterable<GuestSample> {
    const pending: GuestSample[] = [];
    const bell = new Bell(signal);
    const stop = this.#listen(guest, (sample) => {
      pending.push(sample);
      if (pending.length > WATCH_QUEUE_MAX) pending.shift();
      bell.ring();
    });
    try {
      while (!signal.aborted) {
        const sample = pending.shift();
        if (sample !== undefined) yield sample;
        else await bell.rung();
      }
    } finally {
      stop();
      bell.close();
    }
  }

  #listen(guest: GuestId, listener: (sample: GuestSample) => void): () => void {
    const listeners = this.#listeners.get(guest) ?? new Set();
    this.#listeners.set(guest, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(guest);
    };
  }
}

/** Wakes its one waiter when rung and when the signal aborts. Look before waiting: a ring nobody waits for is not kept. */
class Bell {
  readonly #signal: AbortSignal;
  #wake = () => {};
  readonly ring = () => this.#wake();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener('abort', this.ring, { once: true });
  }

  rung(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  close(): void {
    this.#signal.removeEventListener('abort', this.ring);
  }
}
