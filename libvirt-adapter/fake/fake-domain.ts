import { createHash } from 'node:crypto';
import { IO_TUNE_NAMES } from '../domain-xml.ts';
import type { DomainRef, DomainState, MemoryStats, TypedParameters } from '../libvirt.ts';
import { escapeXml } from '../xml.ts';
import { FakePerf } from './fake-perf.ts';
import type { FakeAgent, FakeDemand, FakeDemandCurve, FakeGuestScript, FakeHeld } from './guest-script.ts';

/** A guest that does nothing: all its time passes in one step. */
const NO_DEMAND: FakeDemandCurve = () => ({});
/** Longest stretch over which demand is taken as constant. */
const STEP_MS = 100;
/** Steps of one advance at most, so that a guest left alone for an hour costs no more than one polled each second. */
const STEPS_MAX = 32;
/** Real balloons deflate at gigabytes and inflate at some tens of megabytes per second under emulation. */
const GROW_KIB_PER_S = 1024 * 1024;
const SHRINK_KIB_PER_S = 64 * 1024;
const BOOT_MEMORY_KIB = 1024 * 1024;
const ONLINE_DELAY_MS = 150;
const PERIOD_US = 100_000;
/** Memory a guest's kernel keeps for itself: MemTotal is less than the balloon. */
const KERNEL_KIB = 24 * 1024;
const BLOCK_KIB = 2048;
/** Host memory of an idle QEMU. */
const QEMU_RSS_KIB = 40 * 1024;
const SWAP_KIB_PER_S_MAX = 20 * 1024;
const NS_PER_MS = 1e6;

export interface FakeDisk {
  readonly target: string;
  readBytes: number;
  writeBytes: number;
  tune: Record<string, bigint>;
}

export interface FakeInterface {
  readonly type: string;
  readonly mac: string;
  readonly target: string;
  rxBytes: number;
  txBytes: number;
  /** Bandwidth parameters by libvirt's names. */
  bandwidth: Record<string, number>;
}

export interface FakeVcpu {
  plugged: boolean;
  /** Online in the guest. */
  online: boolean;
  onlineAtMs: number;
  runNs: number;
  delayNs: number;
}

export interface FakeVirtioMem {
  readonly alias: string;
  readonly sizeKib: number;
  requestedKib: number;
  currentKib: number;
  /** Requests to shrink at which the guest still finds pages in use. */
  busyRequests: number;
}

/** One guest in memory. Time reaches it by `advance`; everything it reports is as of the last one. */
export class FakeDomain {
  readonly uuid: string;
  readonly name: string;
  readonly type: 'kvm' | 'qemu';
  readonly vcpus: FakeVcpu[];
  readonly bootMemoryKib: number;
  readonly virtioMem: FakeVirtioMem[];
  readonly disks: FakeDisk[];
  readonly interfaces: FakeInterface[];
  readonly hasBalloon: boolean;
  readonly vcpuUnplugWorks: boolean;
  readonly ignoresShutdown: boolean;
  readonly onlineDelayMs: number;
  readonly qemuArguments: readonly string[];
  readonly instructionsPerNs: number | undefined;
  readonly metadata = new Map<string, string>();
  readonly perf: FakePerf;
  readonly #hostShare: number;
  readonly #growKibPerS: number;
  readonly #shrinkKibPerS: number;
  readonly #defined: {
    readonly vcpusPlugged: number;
    readonly balloonKib: number;
    readonly globalQuota: bigint;
  };

  id = -1;
  state: DomainState = 'shutoff';
  agent: FakeAgent;
  demand: FakeDemandCurve;
  balloonStuckAtKib: number | undefined;
  balloonKib: number;
  balloonTargetKib: number;
  statsPeriodS = 1;
  /** A vCPU was asked back: the next plug crashes an emulated guest. */
  unplugAttempted = false;
  scheduler = {
    cpu_shares: 1024n,
    vcpu_period: BigInt(PERIOD_US),
    vcpu_quota: -1n,
    global_period: BigInt(PERIOD_US),
    global_quota: -1n,
  };
  cpuNs = 0;
  swapInKib = 0;
  swapOutKib = 0;
  majorFaults = 0;
  sinceBootMs = 0;
  #usedKib = 0;
  #lastUpdateMs = 0;
  #atMs = 0;

  constructor(script: FakeGuestScript, nowMs: number) {
    this.name = script.name;
    this.uuid = (script.uuid ?? uuidOf(script.name)).toLowerCase();
    this.type = script.type ?? 'kvm';
    const plugged = script.vcpusPlugged ?? 1;
    this.vcpus = Array.from({ length: Math.max(script.vcpusMax ?? 4, plugged) }, (_, i) => ({
      plugged: i < plugged,
      online: i < plugged,
      onlineAtMs: Number.POSITIVE_INFINITY,
      runNs: 0,
      delayNs: 0,
    }));
    this.bootMemoryKib = script.bootMemoryKib ?? BOOT_MEMORY_KIB;
    this.balloonKib = script.balloonKib ?? this.bootMemoryKib;
    this.balloonTargetKib = this.balloonKib;
    this.virtioMem = (script.virtioMemKib ?? []).map((sizeKib, i) => ({
      alias: `virtiomem${i}`,
      sizeKib,
      requestedKib: 0,
      currentKib: 0,
      busyRequests: script.virtioMemBusyRequests ?? 0,
    }));
    this.disks = (script.disks ?? ['vda']).map((target) => ({
      target,
      readBytes: 0,
      writeBytes: 0,
      tune: {},
    }));
    this.interfaces = (script.interfaces ?? ['network']).map((type, i) => ({
      type,
      mac: macOf(this.uuid, i),
      target: `vnet-${this.name}-${i}`,
      rxBytes: 0,
      txBytes: 0,
      bandwidth: {},
    }));
    this.hasBalloon = script.balloon !== false;
    const speed = script.balloon === false ? {} : (script.balloon ?? {});
    this.#hostShare = script.hostShare ?? 1;
    this.#growKibPerS = speed.growKibPerS ?? GROW_KIB_PER_S;
    this.#shrinkKibPerS = speed.shrinkKibPerS ?? SHRINK_KIB_PER_S;
    this.balloonStuckAtKib = script.balloonStuckAtKib;
    this.agent = script.agent ?? 'answers';
    this.onlineDelayMs = script.onlineDelayMs ?? ONLINE_DELAY_MS;
    this.vcpuUnplugWorks = script.vcpuUnplugWorks ?? false;
    this.ignoresShutdown = script.ignoresShutdown ?? false;
    this.instructionsPerNs = script.instructionsPerNs;
    this.qemuArguments = script.qemuArguments ?? [];
    this.perf = new FakePerf(script.perfPerNs ?? {}, script.perfEvents ?? []);
    this.demand = script.demand ?? NO_DEMAND;
    if (script.globalQuotaUs !== undefined) this.scheduler.global_quota = BigInt(script.globalQuotaUs);
    this.#defined = {
      vcpusPlugged: plugged,
      balloonKib: this.balloonKib,
      globalQuota: this.scheduler.global_quota,
    };
    this.#atMs = nowMs;
    this.#lastUpdateMs = nowMs;
  }

  get ref(): DomainRef {
    return { uuid: this.uuid, name: this.name, id: this.id };
  }

  get isActive(): boolean {
    return this.state === 'running' || this.state === 'paused';
  }

  get pluggedCount(): number {
    return this.vcpus.reduce((sum, vcpu) => sum + (vcpu.plugged ? 1 : 0), 0);
  }

  get onlineCount(): number {
    return this.vcpus.reduce((sum, vcpu) => sum + (vcpu.online ? 1 : 0), 0);
  }

  get virtioMemKib(): number {
    return this.virtioMem.reduce((sum, device) => sum + device.currentKib, 0);
  }

  /** What the guest has of memory now: balloon and virtio-mem. */
  get heldKib(): number {
    return this.balloonKib + this.virtioMemKib;
  }

  get isBalloonMoving(): boolean {
    return this.state === 'running' && this.#reachableKib() !== this.balloonKib;
  }

  /**
   * The guest follows a request for virtio-mem, once: of blocks whose pages are in use half stay plugged, as they do while
   * the balloon takes pages.
   */
  followRequest(device: FakeVirtioMem): void {
    const excessKib = device.currentKib - device.requestedKib;
    let keptKib = 0;
    if (excessKib > 0 && (device.busyRequests > 0 || this.#reachableKib() < this.balloonKib)) {
      keptKib = Math.ceil(excessKib / 2 / BLOCK_KIB) * BLOCK_KIB;
      device.busyRequests = Math.max(0, device.busyRequests - 1);
    }
    device.currentKib = device.requestedKib + keptKib;
  }

  /** Limit of the host on the guest's CPU, its vCPUs included. */
  get cpuLimitMillicores(): number {
    const { global_quota, global_period } = this.scheduler;
    const quota =
      global_quota < 0n ? Number.POSITIVE_INFINITY : (Number(global_quota) / Number(global_period)) * 1000;
    return Math.min(quota, this.onlineCount * 1000);
  }

  /** Bring counters and the balloon to `nowMs` of the monotonic clock. */
  advance(nowMs: number): void {
    const spanMs = nowMs - this.#atMs;
    if (spanMs <= 0) return;
    if (this.state !== 'running') {
      this.#atMs = nowMs;
      return;
    }
    const steps = this.demand === NO_DEMAND ? 1 : Math.min(STEPS_MAX, Math.ceil(spanMs / STEP_MS));
    for (let i = 0; i < steps; i += 1) this.#step(spanMs / steps);
    this.#atMs = nowMs;
    if (this.statsPeriodS > 0) this.#lastUpdateMs = nowMs;
  }

  #step(forMs: number): void {
    this.#atMs += forMs;
    this.sinceBootMs += forMs;
    for (const vcpu of this.vcpus) {
      if (vcpu.onlineAtMs > this.#atMs) continue;
      vcpu.online = vcpu.plugged;
      vcpu.onlineAtMs = Number.POSITIVE_INFINITY;
    }
    this.#moveBalloon(forMs);
    const held: FakeHeld = {
      cpuMillicores: this.cpuLimitMillicores,
      vcpusOnline: this.onlineCount,
      memoryKib: this.heldKib,
    };
    const demand = this.demand(this.sinceBootMs - forMs / 2, held); // at the middle of the step
    this.#compute(demand, held, forMs);
    this.#remember(demand, held, forMs);
    this.#transfer(demand, forMs);
  }

  /** Give the balloon a target; one of infinite speed is there at once. */
  aimBalloon(kib: number): void {
    this.balloonTargetKib = kib;
    const speed = kib > this.balloonKib ? this.#growKibPerS : this.#shrinkKibPerS;
    if (speed === Number.POSITIVE_INFINITY && this.state === 'running')
      this.balloonKib = this.#reachableKib();
  }

  #reachableKib(): number {
    return Math.max(this.balloonTargetKib, Math.min(this.balloonKib, this.balloonStuckAtKib ?? 0));
  }

  #moveBalloon(forMs: number): void {
    const targetKib = this.#reachableKib();
    const growKib = Math.floor((this.#growKibPerS * forMs) / 1000);
    const shrinkKib = Math.floor((this.#shrinkKibPerS * forMs) / 1000);
    this.balloonKib = Math.max(this.balloonKib - shrinkKib, Math.min(this.balloonKib + growKib, targetKib));
  }

  #compute(demand: FakeDemand, held: FakeHeld, forMs: number): void {
    const wanted = Math.min(demand.cpuMillicores ?? 0, held.vcpusOnline * 1000);
    const got = Math.min(wanted, held.cpuMillicores) * this.#hostShare;
    this.cpuNs += (got / 1000) * forMs * NS_PER_MS;
    const share = (forMs * NS_PER_MS) / 1000 / Math.max(1, held.vcpusOnline);
    for (const vcpu of this.vcpus) {
      if (!vcpu.online) continue;
      vcpu.runNs += got * share;
      vcpu.delayNs += (wanted - got) * share;
    }
  }

  #remember(demand: FakeDemand, held: FakeHeld, forMs: number): void {
    const room = Math.max(0, held.memoryKib - KERNEL_KIB);
    this.#usedKib = Math.min(demand.memoryKib ?? 0, room);
    const missingKib = Math.max(0, (demand.memoryKib ?? 0) - room);
    if (missingKib === 0) return;
    const swapKib = (Math.min(missingKib, SWAP_KIB_PER_S_MAX) * forMs) / 1000;
    this.swapOutKib += swapKib;
    this.swapInKib += swapKib;
    this.majorFaults += swapKib / 4;
  }

  #transfer(demand: FakeDemand, forMs: number): void {
    const seconds = forMs / 1000;
    const disk = this.disks[0];
    if (disk !== undefined) {
      const total = disk.tune.total_bytes_sec ?? 0n;
      disk.readBytes += limited(demand.diskReadBytesPerS, disk.tune.read_bytes_sec, total) * seconds;
      disk.writeBytes += limited(demand.diskWriteBytesPerS, disk.tune.write_bytes_sec, total) * seconds;
    }
    const nic = this.interfaces[0];
    if (nic !== undefined) {
      const average = (direction: string) => BigInt(nic.bandwidth[`${direction}.average`] ?? 0) * 1000n;
      nic.rxBytes += limited(demand.netRxBytesPerS, average('inbound'), 0n) * seconds;
      nic.txBytes += limited(demand.netTxBytesPerS, average('outbound'), 0n) * seconds;
    }
  }

  /** Forget what QEMU or the guest counted: a new process, or a restored one. */
  resetHostCounters(): void {
    this.cpuNs = 0;
    this.perf.start();
    for (const vcpu of this.vcpus) {
      vcpu.runNs = 0;
      vcpu.delayNs = 0;
    }
    for (const disk of this.disks) {
      disk.readBytes = 0;
      disk.writeBytes = 0;
    }
    for (const nic of this.interfaces) {
      nic.rxBytes = 0;
      nic.txBytes = 0;
    }
  }

  /** QEMU is gone, and what was set live with it: the next start is by the definition. */
  dropLiveSettings(): void {
    const { vcpusPlugged, balloonKib, globalQuota } = this.#defined;
    for (const [i, vcpu] of this.vcpus.entries()) {
      vcpu.plugged = i < vcpusPlugged;
      vcpu.onlineAtMs = Number.POSITIVE_INFINITY;
    }
    this.scheduler = { ...this.scheduler, cpu_shares: 1024n, vcpu_quota: -1n, global_quota: globalQuota };
    this.balloonTargetKib = balloonKib;
    this.balloonKib = balloonKib;
    this.unplugAttempted = false;
    for (const device of this.virtioMem) Object.assign(device, { requestedKib: 0, currentKib: 0 });
    for (const disk of this.disks) disk.tune = {};
    for (const nic of this.interfaces) nic.bandwidth = {};
  }

  /** The guest starts anew: its own counters are gone and its balloon driver begins from full memory. */
  resetGuest(): void {
    this.sinceBootMs = 0;
    this.swapInKib = 0;
    this.swapOutKib = 0;
    this.majorFaults = 0;
    this.balloonKib = this.bootMemoryKib;
    for (const vcpu of this.vcpus) vcpu.online = vcpu.plugged;
  }

  memoryStats(wallMs: number, nowMs: number): MemoryStats {
    const host = { actualBalloonKib: this.balloonKib, rssKib: QEMU_RSS_KIB + this.#usedKib };
    if (!this.hasBalloon) return { rssKib: host.rssKib };
    const availableKib = Math.max(0, this.heldKib - KERNEL_KIB);
    const usableKib = Math.max(0, availableKib - this.#usedKib);
    return {
      ...host,
      availableKib,
      usableKib,
      unusedKib: Math.floor(usableKib / 2),
      swapInKib: Math.floor(this.swapInKib),
      swapOutKib: Math.floor(this.swapOutKib),
      majorFaults: BigInt(Math.floor(this.majorFaults)),
      minorFaults: 0n,
      lastUpdateS: Math.floor((wallMs - (nowMs - this.#lastUpdateMs)) / 1000),
    };
  }

  /** The domain's XML as libvirt would write it now. */
  xml(): string {
    const text = escapeXml;
    const { cpu_shares, global_quota, global_period, vcpu_quota, vcpu_period } = this.scheduler;
    const memoryKib = this.bootMemoryKib + this.virtioMem.reduce((sum, device) => sum + device.sizeKib, 0);
    const id = this.id < 0 ? '' : ` id='${this.id}'`;
    return `<domain type='${this.type}'${id} xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>${text(this.name)}</name><uuid>${this.uuid}</uuid>
<memory unit='KiB'>${memoryKib}</memory><currentMemory unit='KiB'>${this.heldKib}</currentMemory>
<vcpu placement='static' current='${this.pluggedCount}'>${this.vcpus.length}</vcpu>
<cputune><shares>${cpu_shares}</shares><period>${vcpu_period}</period><quota>${vcpu_quota}</quota><global_period>${global_period}</global_period><global_quota>${global_quota}</global_quota></cputune>
<devices>
${this.disks.map(diskXml).join('\n')}
${this.interfaces.map((nic) => interfaceXml(nic, this.isActive)).join('\n')}
${this.agent === 'absent' ? '' : `<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='${this.agent === 'disconnected' || !this.isActive ? 'disconnected' : 'connected'}'/></channel>`}
<memballoon model='${this.hasBalloon ? 'virtio' : 'none'}'/>
${this.virtioMem.map(virtioMemDeviceXml).join('\n')}
</devices>
<qemu:commandline>${this.qemuArguments.map((a) => `<qemu:arg value='${text(a)}'/>`).join('')}</qemu:commandline>
</domain>`;
  }
}

function diskXml(disk: FakeDisk): string {
  const tune = Object.entries(disk.tune)
    .filter(([, value]) => value > 0n)
    .map(([name, value]) => `<${name}>${value}</${name}>`)
    .join('');
  return `<disk type='file' device='disk'><target dev='${escapeXml(disk.target)}' bus='virtio'/>${tune === '' ? '' : `<iotune>${tune}</iotune>`}</disk>`;
}

function interfaceXml(nic: FakeInterface, isActive: boolean): string {
  const directions = ['inbound', 'outbound']
    .filter((direction) => (nic.bandwidth[`${direction}.average`] ?? 0) > 0)
    .map((direction) => `<${direction} average='${nic.bandwidth[`${direction}.average`]}'/>`)
    .join('');
  const target = isActive && nic.type !== 'user' ? `<target dev='${escapeXml(nic.target)}'/>` : '';
  return `<interface type='${escapeXml(nic.type)}'><mac address='${nic.mac}'/>${target}${directions === '' ? '' : `<bandwidth>${directions}</bandwidth>`}</interface>`;
}

function virtioMemDeviceXml(device: FakeVirtioMem): string {
  return `<memory model='virtio-mem'><target><size unit='KiB'>${device.sizeKib}</size><node>0</node><block unit='KiB'>${BLOCK_KIB}</block><requested unit='KiB'>${device.requestedKib}</requested><current unit='KiB'>${device.currentKib}</current></target><alias name='${device.alias}'/></memory>`;
}

function limited(wanted: number | undefined, limit: bigint | undefined, total: bigint): number {
  const bounds = [limit ?? 0n, total].filter((bound) => bound > 0n).map(Number);
  return Math.min(wanted ?? 0, ...bounds);
}

function uuidOf(name: string): string {
  const hex = createHash('sha256').update(name).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

function macOf(uuid: string, index: number): string {
  const hex = uuid.replaceAll('-', '');
  return `52:54:00:${hex.slice(0, 2)}:${hex.slice(2, 4)}:${((Number.parseInt(hex.slice(4, 6), 16) + index) % 256).toString(16).padStart(2, '0')}`;
}

/** Typed parameters of a disk's limits as libvirt answers them: every name, 0 where there is none. */
export function blockIoTuneOf(disk: FakeDisk): TypedParameters {
  return { ...Object.fromEntries(IO_TUNE_NAMES.map((name) => [name, 0n])), ...disk.tune };
}
