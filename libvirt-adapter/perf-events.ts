import { AllocatorError, type ErrorCode } from '../orchestrator/core/errors.ts';
import { translated } from './errors.ts';
import type { DomainRef, Libvirt } from './libvirt.ts';

/** Hardware events that are counted of a guest, by libvirt's names. */
export const PERF_EVENTS = ['instructions', 'cpu_cycles', 'branch_instructions', 'cache_misses'] as const;

/**
 * CPU time of the threads that the events see, a software event that every Linux host has. libvirt opens an event on
 * QEMU's first thread and what that starts from then on: switched on while the guest runs, it misses the vCPUs that are
 * there, and only this event, switched on with the others, tells how much. Source: libvirt, src/util/virperf.c,
 * virPerfEventEnable (`inherit`, and the pid of the process).
 */
export const WITNESS_EVENT = 'task_clock';

const LIVE = { live: true };
/** A call is given up after this; the guest is asked anew when it is next enabled. */
const CALL_TIMEOUT_MS = 5_000;
/** Refusals that are the host's; any other failure is the guest's or the connection's. */
const HOST_REFUSES: ReadonlySet<ErrorCode> = new Set(['NOT_SUPPORTED', 'ACTUATION_REFUSED']);
const GUEST_IS_GONE: ReadonlySet<ErrorCode> = new Set(['GUEST_NOT_FOUND', 'GUEST_NOT_RUNNING']);
/** Lifecycle events between two runs of a guest. */
const RUN_BOUNDARIES = new Set(['started', 'stopped', 'crashed']);

export interface PerfEventsOptions {
  /** False: only those are counted that are on already, by the guest's definition or by somebody else. */
  readonly switchesOn?: boolean;
  /** Events to count instead of {@link PERF_EVENTS}. */
  readonly events?: readonly string[];
  /** Told why the host counts some or all of the events not; the same reason never twice. */
  readonly onUnsupported?: (reason: string) => void;
}

/**
 * Switches perf events of running guests on and off; their counts come with the `perf` group of statistics. An event
 * that the host refuses is not asked for again until libvirt's connection returns. Live settings only, and of those only
 * our own are taken back. Guests take turns, so that the first one learns for all what the host has.
 */
export class PerfEvents {
  readonly #libvirt: Libvirt;
  readonly #events: readonly string[];
  readonly #switchesOn: boolean;
  readonly #onUnsupported: (reason: string) => void;
  readonly #refused = new Set<string>();
  readonly #said = new Set<string>();
  /** What we switched on, by UUID. */
  readonly #ours = new Map<string, { readonly domain: DomainRef; readonly events: Set<string> }>();
  readonly #unsubscribe: readonly (() => void)[];
  #turn: Promise<unknown> = Promise.resolve();

  constructor(libvirt: Libvirt, options: PerfEventsOptions = {}) {
    this.#libvirt = libvirt;
    this.#events = options.events ?? PERF_EVENTS;
    this.#switchesOn = options.switchesOn ?? true;
    this.#onUnsupported = options.onUnsupported ?? (() => {});
    this.#unsubscribe = [
      libvirt.onConnection(({ state }) => {
        if (state === 'connected') this.#refused.clear();
      }),
      libvirt.on('lifecycle', ({ domain, event }) => {
        if (RUN_BOUNDARIES.has(event)) this.#ours.delete(domain.uuid); // live settings go with their run
      }),
    ];
  }

  /**
   * Switch on what is off. A guest whose {@link WITNESS_EVENT} somebody else has on is left as it is: what joined later
   * would see other threads. Again after a start of the guest or a return of the connection.
   * @returns the events that are counted now; none where the host has no PMU
   * @throws {AllocatorError} GUEST_NOT_FOUND, GUEST_NOT_RUNNING, GUEST_BUSY, NOT_SUPPORTED (a libvirt without perf
   *   events), HYPERVISOR_UNAVAILABLE
   */
  enable(domain: DomainRef): Promise<readonly string[]> {
    return this.#inTurn(() => this.#enable(domain));
  }

  /**
   * Switch off what we switched on.
   * @throws {AllocatorError} GUEST_BUSY, ACTUATION_REFUSED, HYPERVISOR_UNAVAILABLE; they are still ours then
   */
  release(domain: DomainRef): Promise<void> {
    return this.#inTurn(() => this.#release(domain));
  }

  /** Release every guest. What cannot be reached stays on until its guest stops. */
  async close(): Promise<void> {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    await Promise.allSettled([...this.#ours.values()].map(({ domain }) => this.release(domain)));
  }

  async #enable(domain: DomainRef): Promise<readonly string[]> {
    const wanted = this.#events.filter((event) => !this.#refused.has(event));
    if (wanted.length === 0) return [];
    const before = await this.#read(domain);
    if (!this.#switchesOn) return wanted.filter((event) => before[event] && before[WITNESS_EVENT]);
    const ours = this.#ours.get(domain.uuid)?.events ?? new Set();
    if (before[WITNESS_EVENT] && !ours.has(WITNESS_EVENT)) return wanted.filter((event) => before[event]);

    // Ours from here on, for an answer that is lost may have switched on.
    const missing = wanted.filter((event) => !before[event]);
    const touched = new Set([...ours, ...missing, WITNESS_EVENT]);
    this.#ours.set(domain.uuid, { domain, events: touched });
    const refusals = await this.#switchOn(domain, missing);
    if (wanted.some((event) => !refusals.has(event))) await this.#set(domain, [WITNESS_EVENT], true);
    // A guest that ended meanwhile refuses too: only one that still answers tells about the host.
    const after = await this.#read(domain);
    this.#ours.set(domain.uuid, { domain, events: new Set([...touched].filter((event) => after[event])) });
    this.#refuse(refusals);
    return wanted.filter((event) => after[event]);
  }

  /** All at once, then one by one: libvirt stops at the first that it cannot open. @returns refusals by event */
  async #switchOn(domain: DomainRef, events: readonly string[]): Promise<Map<string, string>> {
    const refusals = new Map<string, string>();
    if (events.length === 0 || (await this.#refusalOf(domain, events)) === undefined) return refusals;
    for (const event of events) {
      const refusal = await this.#refusalOf(domain, [event]);
      if (refusal !== undefined) refusals.set(event, refusal);
    }
    return refusals;
  }

  /** Why the host does not switch them on; undefined when it did. */
  async #refusalOf(domain: DomainRef, events: readonly string[]): Promise<string | undefined> {
    try {
      await this.#set(domain, events, true);
      return undefined;
    } catch (error) {
      if (error instanceof AllocatorError && HOST_REFUSES.has(error.code)) return error.message;
      throw error;
    }
  }

  #set(domain: DomainRef, events: readonly string[], isOn: boolean): Promise<void> {
    const parameters = Object.fromEntries(events.map((event) => [event, isOn]));
    const options = { timeoutMs: CALL_TIMEOUT_MS };
    return translated(this.#libvirt.setPerfEvents(domain, parameters, LIVE, options), { guest: domain.uuid });
  }

  #read(domain: DomainRef): Promise<Readonly<Record<string, boolean>>> {
    const options = { timeoutMs: CALL_TIMEOUT_MS };
    return translated(this.#libvirt.getPerfEvents(domain, LIVE, options), { guest: domain.uuid });
  }

  async #release(domain: DomainRef): Promise<void> {
    const ours = this.#ours.get(domain.uuid);
    if (ours === undefined) return;
    try {
      await this.#set(domain, [...ours.events], false);
    } catch (error) {
      if (!(error instanceof AllocatorError && GUEST_IS_GONE.has(error.code))) throw error;
    }
    this.#ours.delete(domain.uuid);
  }

  #refuse(refusals: ReadonlyMap<string, string>): void {
    const [reason] = refusals.values();
    if (reason === undefined) return;
    for (const event of refusals.keys()) this.#refused.add(event);
    if (this.#said.has(reason)) return;
    this.#said.add(reason);
    this.#onUnsupported(reason);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {}); // the caller has it
    return result;
  }
}
