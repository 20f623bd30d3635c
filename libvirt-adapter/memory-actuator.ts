import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { Baseline, GuestId } from '../orchestrator/core/guest.ts';
import type { Actuator } from '../orchestrator/core/ports.ts';
import type { Entitlement } from '../orchestrator/core/profile.ts';
import type { TimerClock } from '../orchestrator/core/timer-clock.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import {
  balloonMaxKib,
  type DomainDescription,
  type VirtioMemDescription,
  virtioMemXml,
} from './domain-xml.ts';
import { translated } from './errors.ts';
import type { GuestChanges } from './guest-changes.ts';
import { heldMemoryKib } from './held-memory.ts';
import type { Libvirt, LibvirtEventKind } from './libvirt.ts';

/** Distance from the target that counts as there: a balloon moves by pages, a core counts in MiB. */
const TOLERANCE_KIB = 1024;
/** A guest whose memory has not come nearer for this long will not: a busy emulated one pauses for up to 2 s. */
const STALL_MS = 3_000;
/**
 * A virtio-mem device that has not shrunk for this long is asked again: Linux skips blocks whose pages are in use and comes
 * back to them only when its device's configuration changes, or after 50 s and then up to 5 min. Longer than the second
 * for which QEMU holds back its event, so that a size that moves is not taken for one that does not.
 * Source: Linux, drivers/virtio/virtio_mem.c, VIRTIO_MEM_RETRY_TIMER_MIN_MS.
 */
const ASK_AGAIN_MS = 1_200;
/** Size is read at least this often while it moves: QEMU holds its balloon event back to one a second. */
const POLL_MS = 100;

/** Events that say a guest's memory has moved. */
export const MEMORY_EVENTS = [
  'balloon-change',
  'memory-device-size-change',
  'lifecycle',
] as const satisfies LibvirtEventKind[];

const LIVE = { live: true } as const;

/** How a target is made up: the balloon gives what it can, virtio-mem the rest. */
interface MemorySplit {
  /** undefined: the guest has no balloon. */
  readonly balloonKib: number | undefined;
  /** Requested size of each virtio-mem device, in the order of the description. */
  readonly virtioMemKib: readonly number[];
}

/**
 * Moves a guest's memory: the balloon up to its maximum, virtio-mem above it. The target is the core's word; no floor
 * is applied here. A guest may follow slowly, in part or not at all: the result is what it has.
 *
 * When both shrink, virtio-mem goes first: a balloon that fills takes its pages from virtio-mem's memory too, and the guest
 * then cannot unplug the blocks they lie in.
 */
export class MemoryActuator implements Actuator {
  readonly resource = 'memory';
  readonly #libvirt: Libvirt;
  readonly #catalog: DomainCatalog;
  readonly #clock: TimerClock;
  readonly #changes: GuestChanges;

  constructor(libvirt: Libvirt, catalog: DomainCatalog, changes: GuestChanges, clock: TimerClock) {
    this.#libvirt = libvirt;
    this.#catalog = catalog;
    this.#clock = clock;
    this.#changes = changes;
  }

  apply(guest: GuestId, target: Entitlement, signal: AbortSignal): Promise<Partial<Entitlement>> {
    return translated(this.#apply(guest, target.memoryBytes, signal), { guest, resource: this.resource });
  }

  restore(guest: GuestId, baseline: Baseline, signal: AbortSignal): Promise<Partial<Entitlement>> {
    return this.apply(guest, baseline.entitlement, signal);
  }

  read(guest: GuestId): Promise<Partial<Entitlement>> {
    return translated(this.#heldKib(guest).then(entitlement), { guest, resource: this.resource });
  }

  async #apply(guest: GuestId, targetBytes: number, signal: AbortSignal): Promise<Partial<Entitlement>> {
    const targetKib = Math.ceil(targetBytes / 1024); // up: no guest gets less than decided
    const heldKib = await this.#heldKib(guest);
    const domain = await this.#catalog.devices(guest);
    const split = splitMemory(domain, targetKib);
    if (!domain.hasBalloon && domain.virtioMem.length === 0) {
      if (Math.abs(heldKib - targetKib) <= TOLERANCE_KIB) return entitlement(heldKib);
      throw new AllocatorError('NOT_SUPPORTED', 'the guest has neither a balloon nor virtio-mem', { guest });
    }
    const wantedKib = reachableKib(domain, split);
    const grows = heldKib < wantedKib;
    await this.#askVirtioMem(guest, domain, split);
    if (!grows) await this.#settle(guest, split, () => this.#excessKib(guest, split), signal);
    // Always sent: a balloon that hangs at this size may have another target from before.
    if (split.balloonKib !== undefined) {
      await this.#libvirt.setMemory(this.#catalog.ref(guest), BigInt(split.balloonKib), LIVE);
    }
    let reachedKib = heldKib;
    const leftKib = async () => {
      reachedKib = await this.#heldKib(guest);
      const aboveKib = reachedKib - wantedKib;
      return grows ? Math.max(0, -aboveKib) : Math.abs(aboveKib); // what grows has enough with more than was asked
    };
    await this.#settle(guest, split, leftKib, signal);
    return entitlement(reachedKib);
  }

  async #askVirtioMem(guest: GuestId, domain: DomainDescription, split: MemorySplit): Promise<void> {
    for (const [i, device] of domain.virtioMem.entries()) {
      const requestedKib = split.virtioMemKib[i] ?? 0;
      if (requestedKib !== device.requestedKib) await this.#update(guest, device, requestedKib);
    }
  }

  /** Make the guest try once more to unplug what it has too much of: only a changed request reaches its driver. */
  async #askAgain(guest: GuestId, split: MemorySplit): Promise<void> {
    const { virtioMem } = await this.#catalog.devices(guest);
    for (const [i, device] of virtioMem.entries()) {
      const requestedKib = split.virtioMemKib[i] ?? 0;
      if (device.currentKib <= requestedKib) continue;
      await this.#update(guest, device, device.currentKib);
      await this.#update(guest, device, requestedKib);
    }
  }

  async #update(guest: GuestId, device: VirtioMemDescription, requestedKib: number): Promise<void> {
    await this.#libvirt.updateDevice(this.#catalog.ref(guest), virtioMemXml(device, requestedKib), LIVE);
    this.#catalog.forget(guest);
  }

  /** Wait until `distanceKib` is within tolerance, falls no more or `signal` aborts. */
  async #settle(
    guest: GuestId,
    split: MemorySplit,
    distanceKib: () => Promise<number>,
    signal: AbortSignal,
  ): Promise<void> {
    let nearestKib = Number.POSITIVE_INFINITY;
    let progressAtMs = this.#clock.monotonicMs();
    let askedAtMs = progressAtMs;
    for (;;) {
      const leftKib = await distanceKib();
      if (leftKib <= TOLERANCE_KIB || signal.aborted) return;
      const nowMs = this.#clock.monotonicMs();
      if (leftKib < nearestKib - TOLERANCE_KIB) {
        nearestKib = leftKib;
        progressAtMs = nowMs;
      } else if (nowMs - progressAtMs >= STALL_MS) {
        return;
      }
      if (nowMs - Math.max(progressAtMs, askedAtMs) >= ASK_AGAIN_MS) {
        await this.#askAgain(guest, split);
        askedAtMs = nowMs;
      }
      await this.#changes.next(guest, POLL_MS, signal);
    }
  }

  /** What virtio-mem has plugged above its part of `split`. */
  async #excessKib(guest: GuestId, split: MemorySplit): Promise<number> {
    const { virtioMem } = await this.#catalog.devices(guest);
    return virtioMem.reduce(
      (sum, device, i) => sum + Math.max(0, device.currentKib - (split.virtioMemKib[i] ?? 0)),
      0,
    );
  }

  async #heldKib(guest: GuestId): Promise<number> {
    return heldMemoryKib(this.#libvirt, this.#catalog.ref(guest), await this.#catalog.devices(guest));
  }
}

function entitlement(heldKib: number): Partial<Entitlement> {
  return { memoryBytes: heldKib * 1024 };
}

function splitMemory(domain: DomainDescription, targetKib: number): MemorySplit {
  const maxKib = balloonMaxKib(domain);
  let restKib = Math.max(0, targetKib - maxKib);
  const virtioMemKib = domain.virtioMem.map((device) => {
    const requestedKib = wholeBlocks(device, restKib);
    restKib = Math.max(0, restKib - requestedKib);
    return requestedKib;
  });
  return { balloonKib: domain.hasBalloon ? Math.min(targetKib, maxKib) : undefined, virtioMemKib };
}

function wholeBlocks(device: VirtioMemDescription, kib: number): number {
  return Math.min(device.sizeKib, Math.ceil(kib / device.blockKib) * device.blockKib);
}

function reachableKib(domain: DomainDescription, split: MemorySplit): number {
  const virtioMemKib = split.virtioMemKib.reduce((sum, kib) => sum + kib, 0);
  return (split.balloonKib ?? balloonMaxKib(domain)) + virtioMemKib;
}
