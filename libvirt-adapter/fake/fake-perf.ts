/** Events that every host counts. */
const SOFTWARE_EVENTS = ['cpu_clock', 'task_clock'];
const HARDWARE_EVENTS = ['cpu_cycles', 'instructions', 'cache_misses', 'branch_instructions'];

/** A vCPU thread as its events see it. */
interface Thread {
  readonly plugged: boolean;
  readonly runNs: number;
}

/**
 * Perf events of one guest as libvirt has them: one that is switched on while the guest runs does not see the vCPUs that
 * are there, only those plugged later.
 */
export class FakePerf {
  readonly #perNs: Readonly<Record<string, number>>;
  readonly #defined: readonly string[];
  /** CPU of each vCPU that an event does not see, by event. */
  readonly #unseen = new Map<string, readonly number[]>();

  /** @param defined events that the definition switches on at each start, whatever the host has */
  constructor(perNs: Readonly<Record<string, number>>, defined: readonly string[]) {
    this.#perNs = perNs;
    this.#defined = defined;
    this.start();
  }

  /** The guest's process starts: what its definition names sees all of it. */
  start(): void {
    this.#unseen.clear();
    for (const event of this.#defined) this.#unseen.set(event, []);
  }

  /** The daemon started anew, and opens what was on once more. */
  reopen(threads: readonly Thread[]): void {
    for (const event of this.#unseen.keys()) this.#unseen.set(event, unseenOf(threads));
  }

  /**
   * @param counted hardware events that the host counts
   * @returns `unknown` or `absent` where that is so, and nothing has changed
   */
  switch(
    event: string,
    isOn: boolean,
    counted: readonly string[],
    threads: readonly Thread[],
  ): 'done' | 'unknown' | 'absent' {
    const isHardware = HARDWARE_EVENTS.includes(event);
    if (!isHardware && !SOFTWARE_EVENTS.includes(event)) return 'unknown';
    if (!isOn) this.#unseen.delete(event);
    else if (isHardware && !counted.includes(event)) return 'absent';
    else if (!this.#unseen.has(event)) this.#unseen.set(event, unseenOf(threads));
    return 'done';
  }

  /** Every event that libvirt knows, and whether it is on. */
  state(): Record<string, boolean> {
    return Object.fromEntries(
      [...SOFTWARE_EVENTS, ...HARDWARE_EVENTS].map((event) => [event, this.#unseen.has(event)]),
    );
  }

  /** Counts of the events that are on. */
  counts(threads: readonly Thread[]): [event: string, count: number][] {
    return [...this.#unseen].map(([event, unseen]) => {
      const perNs = this.#perNs[event] ?? (SOFTWARE_EVENTS.includes(event) ? 1 : 0);
      const seenNs = threads.reduce((sum, { runNs }, i) => sum + runNs - Math.min(runNs, unseen[i] ?? 0), 0);
      return [event, seenNs * perNs];
    });
  }
}

function unseenOf(threads: readonly Thread[]): number[] {
  return threads.map(({ plugged, runNs }) => (plugged ? Number.POSITIVE_INFINITY : runNs));
}
