import { setTimeout as sleep } from 'node:timers/promises';
import type { LabGuest } from '../../libvirt-adapter/lab/guest.ts';
import type { RunOutcome } from '../../libvirt-adapter/lab/runner-client.ts';
import type { DomainRef, Libvirt } from '../../libvirt-adapter/libvirt.ts';
import type { PlannedRun } from './plan.ts';

const MIB_KIB = 1024;
/** What two runs of the same parameters may differ by: three deviations of the lab's noise on 180 MiB. */
const NOISE_MIB = 16; /** A balloon that has not arrived after this long is stuck. */
const SETTLE_MS_MAX = 15_000;

/** A guest whose sizes a rival sets by itself, in the plainest way libvirt offers. */
class OwnGuest {
  readonly guest: LabGuest;
  readonly #libvirt: Libvirt;
  readonly #ref: DomainRef;

  private constructor(libvirt: Libvirt, guest: LabGuest, ref: DomainRef) {
    this.#libvirt = libvirt;
    this.guest = guest;
    this.#ref = ref;
  }

  static async take(libvirt: Libvirt, guest: LabGuest): Promise<OwnGuest> {
    return new OwnGuest(libvirt, guest, await libvirt.lookupByName(guest.name));
  }

  async setMemory(mib: number): Promise<void> {
    await this.#libvirt.setMemory(this.#ref, BigInt(Math.round(mib) * MIB_KIB), { live: true });
  }

  /** Set the memory and wait until the guest has got there. */
  async settleMemory(mib: number): Promise<void> {
    await this.setMemory(mib);
    for (let waited = 0; waited < SETTLE_MS_MAX; waited += 200) {
      if (Math.abs((await this.memory()).heldMib - mib) < 2) return;
      await sleep(200);
    }
  }

  /** Plug what is lacking; what is too much is switched off in the guest, since an emulated guest gives no vCPU back. */
  async setVcpus(count: number): Promise<void> {
    const plugged = await this.#libvirt.getVcpus(this.#ref, { live: true });
    if (count > plugged) await this.#libvirt.setVcpus(this.#ref, count, { live: true });
    else await this.#libvirt.setVcpus(this.#ref, count, { guest: true });
  }

  async memory(): Promise<{ heldMib: number; usedMib: number }> {
    const { actualBalloonKib = 0, usableKib = 0 } = await this.#libvirt.memoryStats(this.#ref);
    return { heldMib: actualBalloonKib / MIB_KIB, usedMib: (actualBalloonKib - usableKib) / MIB_KIB };
  }

  /** CPU time so far, ns. */
  async cpuNs(): Promise<bigint> {
    const stats = await this.#libvirt.allDomainStats(['cpuTotal'], { domains: [this.#ref] });
    const record = stats.keyIds.findIndex((id) => stats.keys[id] === 'cpu.time');
    return stats.values[record] ?? 0n;
  }
}

/** One burst: how long, and whether it lived. */
export interface Burst {
  readonly seconds: number;
  readonly isDone: boolean;
}

async function burstOn({ guest }: OwnGuest, planned: PlannedRun): Promise<RunOutcome> {
  return guest.runner.run({ workload: 'encode', params: planned.params, seed: planned.seed });
}

function burstOf(beganAtMs: number, outcome: RunOutcome): Burst {
  return { seconds: (outcome.finishedAtMs - beganAtMs) / 1000, isDone: outcome.status === 'done' };
}

/** One vCPU without quota, and the least memory that does not kill the work. */
export class Fixed {
  readonly #own: OwnGuest;
  #memoryMib: number;

  private constructor(own: OwnGuest, memoryMib: number) {
    this.#own = own;
    this.#memoryMib = memoryMib;
  }

  get memoryMib(): number {
    return this.#memoryMib;
  }

  /** Find the least memory in which bursts live: by 8 MiB for one, and room for the noise of the others. @param startMib a size that may be too small */
  static async find(
    libvirt: Libvirt,
    guest: LabGuest,
    startMib: number,
    planned: PlannedRun,
  ): Promise<Fixed> {
    const own = await OwnGuest.take(libvirt, guest);
    for (let mib = Math.ceil(startMib / 8) * 8; ; mib += 8) {
      await own.settleMemory(mib);
      if ((await burstOn(own, planned)).status !== 'done') continue;
      await own.settleMemory(mib + NOISE_MIB);
      return new Fixed(own, mib + NOISE_MIB);
    }
  }

  async burst(planned: PlannedRun): Promise<Burst> {
    const began = Date.now();
    const burst = burstOf(began, await burstOn(this.#own, planned));
    // Another seed may need a little more: then what was found was not yet "does not kill the work".
    if (!burst.isDone) {
      this.#memoryMib += 8;
      await this.#own.settleMemory(this.#memoryMib);
    }
    return burst;
  }
}

/** Rules of the reactive rival. */
const REACT = { periodMs: 1000, growAbove: 0.8, shrinkBelow: 0.4, memoryStep: 0.25, vcpusMax: 4 } as const;

/** Looks once a second; above 80 % of use one vCPU and a quarter of the memory more, below 40 % one step back. */
export class Reactive {
  readonly #own: OwnGuest;
  readonly #baselineMib: number;
  #vcpus = 1;
  #memoryMib: number;

  private constructor(own: OwnGuest, baselineMib: number) {
    this.#own = own;
    this.#baselineMib = baselineMib;
    this.#memoryMib = baselineMib;
  }

  static async start(libvirt: Libvirt, guest: LabGuest, baselineMib: number): Promise<Reactive> {
    return new Reactive(await OwnGuest.take(libvirt, guest), baselineMib);
  }

  async burst(planned: PlannedRun): Promise<Burst> {
    await this.#rest();
    const stop = new AbortController();
    const watching = this.#watch(stop.signal);
    const began = Date.now();
    const outcome = await burstOn(this.#own, planned);
    stop.abort();
    await watching;
    return burstOf(began, outcome);
  }

  /** Idle long enough to have stepped all the way back. */
  async #rest(): Promise<void> {
    this.#vcpus = 1;
    this.#memoryMib = this.#baselineMib;
    await this.#own.setVcpus(1);
    await this.#own.settleMemory(this.#baselineMib);
  }

  async #watch(signal: AbortSignal): Promise<void> {
    let cpuNs = await this.#own.cpuNs();
    let atMs = performance.now();
    while (!signal.aborted) {
      await sleep(REACT.periodMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const nowNs = await this.#own.cpuNs();
      const nowMs = performance.now();
      await this.#reactCpu(Number(nowNs - cpuNs) / 1e6 / (nowMs - atMs) / this.#vcpus);
      await this.#reactMemory(await this.#own.memory());
      [cpuNs, atMs] = [nowNs, nowMs];
    }
  }

  async #reactCpu(use: number): Promise<void> {
    const step = use > REACT.growAbove ? 1 : use < REACT.shrinkBelow ? -1 : 0;
    const next = Math.min(REACT.vcpusMax, Math.max(1, this.#vcpus + step));
    if (next === this.#vcpus) return;
    this.#vcpus = next;
    await this.#own.setVcpus(next);
  }

  async #reactMemory({ heldMib, usedMib }: { heldMib: number; usedMib: number }): Promise<void> {
    const use = usedMib / heldMib;
    if (use > REACT.growAbove) this.#memoryMib *= 1 + REACT.memoryStep;
    else if (use < REACT.shrinkBelow && this.#memoryMib > this.#baselineMib)
      this.#memoryMib /= 1 + REACT.memoryStep;
    else return;
    await this.#own.setMemory(this.#memoryMib);
  }
}
