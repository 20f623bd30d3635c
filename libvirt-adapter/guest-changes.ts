import type { GuestId } from '../orchestrator/core/guest.ts';
import type { TimerClock } from '../orchestrator/core/timer-clock.ts';
import type { Libvirt, LibvirtEventKind } from './libvirt.ts';

/** Waits for libvirt's events about one guest, for as long as somebody waits. */
export class GuestChanges {
  readonly #clock: TimerClock;
  readonly #waiting = new Map<GuestId, Set<() => void>>();
  readonly #unsubscribe: (() => void)[];

  constructor(libvirt: Libvirt, kinds: readonly LibvirtEventKind[], clock: TimerClock) {
    this.#clock = clock;
    this.#unsubscribe = kinds.map((kind) =>
      libvirt.on(kind, (event) => {
        for (const wake of [...(this.#waiting.get(event.domain.uuid.toLowerCase()) ?? [])]) wake();
      }),
    );
  }

  /** Hear no more events; who waits still gets their time-out. */
  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }

  /** Resolves at the guest's next event, after `withinMs`, or when `signal` aborts, whichever is first. */
  next(guest: GuestId, withinMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(guest) ?? new Set();
      this.#waiting.set(guest, waiting);
      const wake = () => {
        cancel();
        signal.removeEventListener('abort', wake);
        waiting.delete(wake);
        if (waiting.size === 0) this.#waiting.delete(guest);
        resolve();
      };
      const cancel = this.#clock.after(withinMs, wake);
      waiting.add(wake);
      signal.addEventListener('abort', wake, { once: true });
      if (signal.aborted) wake();
    });
  }
}
