import { isDeepStrictEqual } from 'node:util';
import type { GuestId, GuestState } from '../../orchestrator/core/guest.ts';
import type { Actuated, GuestEvent } from '../../orchestrator/core/ports.ts';
import type { TimerClock } from '../../orchestrator/core/timer-clock.ts';
import { numberIn, textIn } from './answers.ts';
import { type GuestCatalog, type ListedGuest, READ_AT_ONCE } from './catalog.ts';
import { isMissing } from './errors.ts';
import type { GuestConfig } from './guest-config.ts';
import { balloonOf, stateOf } from './guest-status.ts';

/** Proxmox VE tells nobody of what happens: the node's list is read this often, one call whatever the number of guests. */
const POLL_MS = 2_000;
/** Guests looked at more closely at each poll: a configuration and a status each, some 10 ms of the node's CPU. */
const LOOKS_MAX = 16;

/** What was last seen of a guest. */
interface Seen {
  readonly id: GuestId;
  readonly name: string;
  readonly isRunning: boolean;
  /** The start it is in: a restart between two polls is one too. */
  readonly pid: number | undefined;
}

/** What is compared of a guest that somebody asked about. */
interface Look {
  readonly config: GuestConfig;
  readonly state: GuestState;
  readonly balloonBytes: number | undefined;
}

/** A balloon that is nearer than this to where it was stands still. */
const STILL_BYTES = 1024 * 1024;

/** Finds out what happened to guests by looking again and again, and whether Proxmox VE answers at all. */
export class GuestPoll {
  readonly #catalog: GuestCatalog;
  readonly #clock: TimerClock;
  readonly #onFailure: (cause: unknown) => void;
  readonly #eventListeners = new Set<(event: GuestEvent) => void>();
  readonly #availabilityListeners = new Set<(available: boolean) => void>();
  #seen: Map<number, Seen> | undefined;
  /** Guests somebody asked about, in the order in which they are looked at. */
  readonly #followed = new Map<GuestId, Look | undefined>();
  #available = true;
  #cancel: () => void = () => {};
  #underWay: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(
    catalog: GuestCatalog,
    { clock, onFailure }: { readonly clock: TimerClock; readonly onFailure: (cause: unknown) => void },
  ) {
    this.#catalog = catalog;
    this.#clock = clock;
    this.#onFailure = onFailure;
    this.#arm();
  }

  get available(): boolean {
    return this.#available;
  }

  onAvailability(listener: (available: boolean) => void): () => void {
    this.#availabilityListeners.add(listener);
    return () => this.#availabilityListeners.delete(listener);
  }

  onEvent(listener: (event: GuestEvent) => void): () => void {
    this.#eventListeners.add(listener);
    return () => this.#eventListeners.delete(listener);
  }

  /** Somebody has read the node's list: what happens from now on is told, also before the first look of our own. */
  async startFrom(listed: readonly ListedGuest[]): Promise<void> {
    if (this.#seen === undefined) await this.#compareList(listed);
  }

  /** Look at the guest closely from now on: at its configuration, whether it is paused, at its balloon. */
  follow(guest: GuestId): void {
    if (!this.#followed.has(guest)) this.#followed.set(guest, undefined);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    await this.#underWay;
  }

  #arm(): void {
    if (this.#isClosed) return;
    this.#cancel = this.#clock.after(POLL_MS, () => {
      this.#underWay = this.#poll().finally(() => this.#arm());
    });
  }

  async #poll(): Promise<void> {
    try {
      await this.#compareList(await this.#catalog.list());
      await this.#lookAtSome();
      this.#become(true);
    } catch (cause) {
      if (this.#available) this.#onFailure(cause); // said once, not at every look
      this.#become(false);
    }
  }

  #become(available: boolean): void {
    if (available === this.#available) return;
    this.#available = available;
    for (const listener of [...this.#availabilityListeners]) listener(available);
  }

  async #compareList(listed: readonly ListedGuest[]): Promise<void> {
    const before = this.#seen;
    const now = new Map<number, Seen>();
    for (const { vmid, fields } of listed) {
      const known = before?.get(vmid);
      const id = this.#catalog.guestOf(vmid) ?? (await this.#meet(vmid)) ?? known?.id;
      if (id === undefined) continue;
      const isRunning = stateOf(fields) !== 'shut-off';
      now.set(vmid, { id, name: textIn(fields, 'name') ?? id, isRunning, pid: numberIn(fields, 'pid') });
    }
    this.#seen = now;
    if (before === undefined) return;
    for (const [vmid, last] of before) {
      if (now.get(vmid)?.id === last.id) continue;
      this.#catalog.forget(vmid);
      this.#followed.delete(last.id);
      this.#tell({ kind: 'removed', guest: last.id, name: last.name });
    }
    for (const [vmid, { id, name, isRunning, pid }] of now) {
      const last = before.get(vmid);
      const isNewRun = isRunning && last?.isRunning === true && pid !== undefined && pid !== last.pid;
      if (last?.isRunning === true && (!isRunning || isNewRun))
        this.#tell({ kind: 'stopped', guest: id, name });
      if (isRunning && (last?.isRunning !== true || isNewRun))
        this.#tell({ kind: 'started', guest: id, name });
      if (isNewRun || isRunning !== last?.isRunning) this.#forgetLook(id);
    }
  }

  /** Learn who a VMID is that was not there before. */
  async #meet(vmid: number): Promise<GuestId | undefined> {
    try {
      this.#catalog.note(vmid, await this.#catalog.configOf(vmid));
    } catch (cause) {
      if (!isMissing(cause)) throw cause; // gone again already
    }
    return this.#catalog.guestOf(vmid);
  }

  #forgetLook(guest: GuestId): void {
    if (this.#followed.has(guest)) this.#followed.set(guest, undefined);
  }

  /** The next few guests in turn. */
  async #lookAtSome(): Promise<void> {
    const due = [...this.#followed.keys()].slice(0, LOOKS_MAX);
    for (let i = 0; i < due.length; i += READ_AT_ONCE) {
      await Promise.all(due.slice(i, i + READ_AT_ONCE).map((guest) => this.#lookAt(guest)));
    }
  }

  async #lookAt(guest: GuestId): Promise<void> {
    const vmid = this.#vmidOf(guest);
    if (vmid === undefined) {
      this.#followed.delete(guest);
      return;
    }
    let look: Look;
    try {
      const [config, status] = await Promise.all([this.#catalog.configOf(vmid), this.#catalog.status(vmid)]);
      look = { config, state: stateOf(status), balloonBytes: balloonOf(status)?.actualBytes };
    } catch (cause) {
      if (!isMissing(cause)) throw cause;
      return;
    }
    const last = this.#followed.get(guest);
    if (!this.#followed.has(guest)) return;
    // To the end of the line.
    this.#followed.delete(guest);
    this.#followed.set(guest, look);
    if (last !== undefined) this.#compareLooks(guest, look.config.name ?? guest, last, look);
  }

  #compareLooks(guest: GuestId, name: string, last: Look, look: Look): void {
    if (last.state === 'running' && look.state === 'paused') this.#tell({ kind: 'paused', guest, name });
    if (last.state === 'paused' && look.state === 'running') this.#tell({ kind: 'resumed', guest, name });
    for (const resource of tuned(last, look)) this.#tell({ kind: 'tuned', guest, resource });
  }

  #vmidOf(guest: GuestId): number | undefined {
    for (const [vmid, { id }] of this.#seen ?? []) if (id === guest) return vmid;
    return undefined;
  }

  #tell(event: GuestEvent): void {
    for (const listener of [...this.#eventListeners]) listener(event);
  }
}

/** Resources of which something is set otherwise than before. */
function tuned(last: Look, look: Look): Actuated[] {
  const parts: Record<Actuated, (one: Look) => unknown> = {
    cpu: ({ config: { cpuLimit, cpuUnits, vcpus, vcpusMax } }) => [cpuLimit, cpuUnits, vcpus, vcpusMax],
    memory: ({ config: { memoryMib, balloonMib, shares } }) => [memoryMib, balloonMib, shares],
    disk: ({ config }) => config.disks.map(({ key, limits, isFree }) => [key, limits, isFree]),
    net: ({ config }) => config.nics.map(({ key, limits, isFree }) => [key, limits, isFree]),
  };
  const changed = (Object.keys(parts) as Actuated[]).filter(
    (resource) => !isDeepStrictEqual(parts[resource](last), parts[resource](look)),
  );
  const { balloonBytes: before } = last;
  const { balloonBytes: now } = look;
  const hasMoved = before !== undefined && now !== undefined && Math.abs(now - before) > STILL_BYTES;
  return hasMoved && !changed.includes('memory') ? [...changed, 'memory'] : changed;
}
