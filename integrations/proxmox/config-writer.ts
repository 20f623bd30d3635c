import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { GuestId } from '../../orchestrator/core/guest.ts';
import { pause, type TimerClock } from '../../orchestrator/core/timer-clock.ts';
import { listOf, numberIn, textIn } from './answers.ts';
import type { ProxmoxApi } from './api.ts';
import type { GuestCatalog } from './catalog.ts';
import { isBusy, isConflict, isTaskFailure, isUnanswered } from './errors.ts';
import type { GuestConfig } from './guest-config.ts';
import { finished } from './tasks.ts';

const CONFIG_CALL = '/nodes/{node}/qemu/{vmid}/config';
const PENDING_CALL = '/nodes/{node}/qemu/{vmid}/pending';
/**
 * A change that finds the guest locked, or the configuration changed under it, is made anew so many times: a start holds
 * the lock until its hookscript has returned, and Proxmox VE itself waits 10 s for it each time.
 */
const TRIES_MAX = 3;
const RETRY_PAUSE_MS = 1_000;

/** Keys of a guest's configuration to set and to take out. */
export interface ConfigChange {
  readonly set?: Readonly<Record<string, string | number>>;
  readonly delete?: readonly string[];
}

/** What a change to the configuration in force comes to; undefined: it is as wanted. */
export type ChangeOf = (config: GuestConfig) => ConfigChange | undefined;

/**
 * Changes guests' configurations, one change of a guest at a time. What Proxmox VE took and could not bring into force is
 * taken back: else it would wait, and shape the guest at its next start, when nobody wants it any more.
 */
export class ConfigWriter {
  readonly #api: ProxmoxApi;
  readonly #catalog: GuestCatalog;
  readonly #clock: TimerClock;
  readonly #onFailure: (cause: unknown) => void;
  /** Keys of changes that were lost from sight: they may wait for a reboot, and nobody has looked. */
  readonly #unsure = new Map<GuestId, readonly string[]>();
  /** The end of the last change of each guest. */
  readonly #queues = new Map<number, Promise<unknown>>();

  constructor(
    api: ProxmoxApi,
    catalog: GuestCatalog,
    { clock, onFailure }: { readonly clock: TimerClock; readonly onFailure: (cause: unknown) => void },
  ) {
    this.#api = api;
    this.#catalog = catalog;
    this.#clock = clock;
    this.#onFailure = onFailure;
  }

  /**
   * Bring a change into force, as far as it goes. A change that has begun goes on after `signal` aborts; then the
   * configuration as it is at that moment is what is returned.
   * @returns the configuration in force afterwards
   * @throws {AllocatorError} GUEST_NOT_FOUND, NOT_SUPPORTED when it takes a reboot
   * @throws {ProxmoxError} when nothing of it could be brought into force
   */
  async change(guest: GuestId, changeOf: ChangeOf, signal: AbortSignal): Promise<GuestConfig> {
    const vmid = await this.#catalog.vmid(guest);
    const before = this.#queues.get(vmid) ?? Promise.resolve();
    const work = before.catch(() => {}).then(() => this.#change(guest, changeOf, signal));
    this.#queues.set(vmid, work);
    const isLast = () => this.#queues.get(vmid) === work && this.#queues.delete(vmid);
    work.then(isLast, isLast);
    const first = await firstOf(work, signal);
    if (first !== undefined) return first;
    work.catch(this.#onFailure); // nobody waits for it any more
    return this.#catalog.config(guest);
  }

  async #change(guest: GuestId, changeOf: ChangeOf, signal: AbortSignal): Promise<GuestConfig> {
    const lost = this.#unsure.get(guest);
    if (lost !== undefined) await this.#takeBack(guest, lost);
    this.#unsure.delete(guest);
    for (let tries = 1; ; tries += 1) {
      const config = await this.#catalog.config(guest);
      const change = changeOf(config);
      if (change === undefined) return config;
      try {
        return await this.#write(guest, config, change);
      } catch (cause) {
        const isWorthIt = isConflict(cause) || (isBusy(cause) && config.lock === undefined);
        if (!isWorthIt || tries >= TRIES_MAX || signal.aborted) throw cause;
        if (!isConflict(cause)) await pause(this.#clock, RETRY_PAUSE_MS, signal);
      }
    }
  }

  async #write(guest: GuestId, before: GuestConfig, change: ConfigChange): Promise<GuestConfig> {
    const keys = [...Object.keys(change.set ?? {}), ...(change.delete ?? [])];
    const failure = await this.#post(guest, {
      ...change.set,
      ...(change.delete !== undefined && change.delete.length > 0 && { delete: change.delete.join(',') }),
      digest: before.digest,
    }).then(
      () => undefined,
      (cause: unknown) => cause,
    );
    if (isUnanswered(failure)) this.#unsure.set(guest, keys);
    if (failure !== undefined && !isTaskFailure(failure)) throw failure;
    const left = await this.#takeBack(guest, keys);
    const after = await this.#catalog.config(guest);
    const isMoved = after.digest !== before.digest;
    if (failure !== undefined && !isMoved) throw failure;
    if (failure === undefined && left.length === keys.length) {
      const message = `${left.join(', ')} takes a reboot of the guest: its hotplug setting does not cover it`;
      throw new AllocatorError('NOT_SUPPORTED', message, { guest });
    }
    return after;
  }

  /** Take back what of a change waits for a reboot. @returns its keys */
  async #takeBack(guest: GuestId, keys: readonly string[]): Promise<string[]> {
    const left = (await this.#pendingKeys(guest)).filter((key) => keys.includes(key));
    if (left.length > 0) await this.#post(guest, { revert: left.join(',') });
    return left;
  }

  async #post(guest: GuestId, parameters: Readonly<Record<string, string | number>>): Promise<void> {
    const { node } = this.#catalog;
    const vmid = await this.#catalog.vmid(guest);
    const answer = await this.#api.post(CONFIG_CALL, { node, vmid, ...parameters });
    await finished(this.#api, this.#clock, { node, call: `POST ${CONFIG_CALL}`, answer });
  }

  /** Keys whose change waits for a reboot. */
  async #pendingKeys(guest: GuestId): Promise<string[]> {
    const { node } = this.#catalog;
    const vmid = await this.#catalog.vmid(guest);
    const entries = listOf(await this.#api.get(PENDING_CALL, { node, vmid }), PENDING_CALL);
    return entries.flatMap((entry) => {
      const waits = entry.pending !== undefined || (numberIn(entry, 'delete') ?? 0) > 0;
      return waits ? (textIn(entry, 'key') ?? []) : [];
    });
  }
}

/** The outcome of `work`, or undefined once `signal` aborts before it. */
function firstOf<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const onAbort = () => resolve(undefined);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
