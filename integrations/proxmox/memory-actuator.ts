import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { Baseline, GuestId } from '../../orchestrator/core/guest.ts';
import type { Actuator } from '../../orchestrator/core/ports.ts';
import { type Entitlement, MIB } from '../../orchestrator/core/profile.ts';
import { pause, type TimerClock } from '../../orchestrator/core/timer-clock.ts';
import type { GuestCatalog } from './catalog.ts';
import type { ConfigChange, ConfigWriter } from './config-writer.ts';
import { isTaskFailure, translated } from './errors.ts';
import { type GuestConfig, isBalloonFree } from './guest-config.ts';
import { balloonOf } from './guest-status.ts';
import { plugSizeMib } from './plug-sizes.ts';

/** Distance from the target that counts as there: a balloon moves by pages, a core counts in MiB. */
const TOLERANCE_BYTES = MIB;
/** A guest whose memory has not come nearer for this long will not. */
const STALL_MS = 3_000;
/** Size is read this often while it moves: each reading is a question to QEMU. */
const POLL_MS = 250;
/** Smallest target: what Proxmox VE takes as memory at all. 0 would take the device away. */
const BALLOON_MIB_MIN = 16;

/**
 * Moves a guest's memory: the balloon up to the guest's `memory`, plugged DIMMs above it. Each new target comes with
 * `shares: 0`: with shares the host moves the balloon itself, and a target only changes what it moves to under pressure.
 * A guest may follow slowly, in part or not at all: the result is what it has.
 *
 * When both shrink, DIMMs go first: a balloon that fills takes its pages from them too, and they then cannot go. Only what
 * was plugged since the service began is taken back: how large the guest was before is written nowhere.
 */
export class MemoryActuator implements Actuator {
  readonly resource = 'memory';
  readonly #catalog: GuestCatalog;
  readonly #writer: ConfigWriter;
  readonly #clock: TimerClock;
  readonly #plugToMib: number;
  /** `memory` of guests before the first DIMM was plugged by us. */
  readonly #unpluggedMib = new Map<GuestId, number>();

  constructor(
    catalog: GuestCatalog,
    writer: ConfigWriter,
    {
      clock,
      plugToMib,
    }: {
      readonly clock: TimerClock;
      /** Guests that can be plugged memory are grown to this at most; 0: nothing is plugged. */
      readonly plugToMib: number;
    },
  ) {
    this.#catalog = catalog;
    this.#writer = writer;
    this.#clock = clock;
    this.#plugToMib = plugToMib;
  }

  apply(guest: GuestId, target: Entitlement, signal: AbortSignal): Promise<Partial<Entitlement>> {
    const work = this.#apply(guest, target.memoryBytes, signal, false);
    return translated(work, { guest, resource: this.resource });
  }

  restore(guest: GuestId, baseline: Baseline, signal: AbortSignal): Promise<Partial<Entitlement>> {
    const work = this.#apply(guest, baseline.entitlement.memoryBytes, signal, true);
    return translated(work, { guest, resource: this.resource });
  }

  read(guest: GuestId): Promise<Partial<Entitlement>> {
    const work = this.#heldBytes(guest).then((memoryBytes) => ({ memoryBytes }));
    return translated(work, { guest, resource: this.resource });
  }

  async #apply(
    guest: GuestId,
    targetBytes: number,
    signal: AbortSignal,
    isRestore: boolean,
  ): Promise<Partial<Entitlement>> {
    const targetMib = Math.max(BALLOON_MIB_MIN, Math.ceil(targetBytes / MIB)); // up: no guest gets less than decided
    const config = await this.#catalog.config(guest);
    const heldBytes = await this.#heldBytes(guest);
    this.#assertMovable(guest, config, targetMib * MIB - heldBytes);
    const plugged = await this.#plug(guest, config, targetMib, signal);
    const wantedMib = Math.min(targetMib, plugged.memoryMib);
    if (plugged.hasBalloon) {
      await this.#writer.change(guest, (now) => balloonChange(now, wantedMib, isRestore), signal);
    }
    const memoryBytes = await this.#settle(guest, wantedMib * MIB, signal);
    return { memoryBytes };
  }

  /** @throws {AllocatorError} NOT_SUPPORTED */
  #assertMovable(guest: GuestId, config: GuestConfig, distanceBytes: number): void {
    if (config.hasBalloon && !isBalloonFree(config)) {
      const message =
        'the host itself moves the balloon of this guest: set its shares to 0 to have it moved here';
      throw new AllocatorError('NOT_SUPPORTED', message, { guest });
    }
    if (config.hasBalloon || config.canPlugMemory || Math.abs(distanceBytes) <= TOLERANCE_BYTES) return;
    throw new AllocatorError('NOT_SUPPORTED', 'the guest has no balloon and cannot be plugged memory', {
      guest,
    });
  }

  /** Plug or take back DIMMs for a target. @returns the configuration afterwards */
  async #plug(
    guest: GuestId,
    config: GuestConfig,
    targetMib: number,
    signal: AbortSignal,
  ): Promise<GuestConfig> {
    const unpluggedMib = this.#unpluggedMib.get(guest) ?? config.memoryMib;
    const mostMib = Math.max(unpluggedMib, this.#plugToMib);
    const wantedMib =
      targetMib <= unpluggedMib ? unpluggedMib : Math.max(unpluggedMib, plugSizeMib(targetMib, mostMib));
    if (!config.canPlugMemory || wantedMib === config.memoryMib) return config;
    this.#unpluggedMib.set(guest, unpluggedMib);
    const change = this.#writer.change(
      guest,
      ({ memoryMib }) => (memoryMib === wantedMib ? undefined : { set: { memory: wantedMib } }),
      signal,
    );
    const after = await change.catch((cause: unknown) => {
      // No DIMM came or went: the balloon may still give, or cover, what it can.
      const isAllThereIs = wantedMib > config.memoryMib && config.balloonMib >= config.memoryMib;
      if (!isTaskFailure(cause) || isAllThereIs) throw cause;
      return config;
    });
    if (after.memoryMib === unpluggedMib) this.#unpluggedMib.delete(guest);
    return after;
  }

  /** Wait until the guest holds `wantedBytes`, comes no nearer or `signal` aborts. @returns what it holds then */
  async #settle(guest: GuestId, wantedBytes: number, signal: AbortSignal): Promise<number> {
    let nearestBytes = Number.POSITIVE_INFINITY;
    let progressAtMs = this.#clock.monotonicMs();
    for (;;) {
      const heldBytes = await this.#heldBytes(guest);
      const leftBytes = Math.abs(heldBytes - wantedBytes);
      if (leftBytes <= TOLERANCE_BYTES || signal.aborted) return heldBytes;
      const nowMs = this.#clock.monotonicMs();
      if (leftBytes < nearestBytes - TOLERANCE_BYTES) {
        nearestBytes = leftBytes;
        progressAtMs = nowMs;
      } else if (nowMs - progressAtMs >= STALL_MS) {
        return heldBytes;
      }
      await pause(this.#clock, POLL_MS, signal);
    }
  }

  /** The balloon's size in a running guest; what the configuration says of any other. */
  async #heldBytes(guest: GuestId): Promise<number> {
    const balloon = balloonOf(await this.#catalog.status(await this.#catalog.vmid(guest)));
    if (balloon !== undefined) return balloon.actualBytes;
    const { hasBalloon, balloonMib, memoryMib } = await this.#catalog.config(guest);
    return (hasBalloon ? balloonMib : memoryMib) * MIB;
  }
}

/** A guest that is given back all its memory needs no target. */
function balloonChange(config: GuestConfig, wantedMib: number, isRestore: boolean): ConfigChange | undefined {
  const { balloonMib, memoryMib, shares } = config;
  if (isRestore && wantedMib >= memoryMib && balloonMib >= memoryMib) return undefined;
  if (isRestore && wantedMib >= memoryMib) return { delete: ['balloon', 'shares'] };
  if (balloonMib === wantedMib && (shares === 0 || wantedMib >= memoryMib)) return undefined;
  return { set: { balloon: wantedMib, shares: 0 } };
}
