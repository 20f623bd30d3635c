import { createHash } from 'node:crypto';
import { pause, type TimerClock } from '../../../orchestrator/core/timer-clock.ts';

const MIB = 1024 * 1024;
/** How fast a balloon travels. */
const BALLOON_BYTES_PER_MS = 0.5 * MIB;
/** A guest's kernel keeps so much to itself. */
const UNSEEN_BYTES = 60 * MIB;
const USED_BYTES = 40 * MIB;
/** Longest wait for the lock of a configuration. */
const LOCK_WAIT_MS = 10_000;
const VCPU_STEP_MS = 100;
const VCPU_GIVES_UP_MS = 5_000;
const DIMM_STEP_MS = 300;
const BOOT_MS = 500;
const IDLE_MILLICORES = 20;

/** Faults of one guest. */
export interface GuestFaults {
  /** No vCPU beyond this many can be plugged. */
  vcpusAtMost?: number;
  /** vCPUs and DIMMs do not come back. */
  keepsWhatItHas?: boolean;
  /** The balloon stops at this size. */
  balloonStuckBytes?: number;
  /** The agent is there and says nothing. */
  agentIsSilent?: boolean;
}

/** Keys that are simply written into the configuration of a running guest. */
const FAST: ReadonlySet<string> = new Set(['shares', 'onboot', 'description', 'tags']);
const THROTTLES = /^(?:mbps|iops|bps)/;

/**
 * One guest as qemu-server keeps it: a configuration, changes that wait for a reboot, a lock, and what QEMU runs with, which
 * is not the configuration. Its rules are those of PVE::QemuServer (vm_start, vmconfig_hotplug_pending).
 */
export class MockGuest {
  readonly vmid: number;
  readonly config: Map<string, string>;
  readonly pending = new Map<string, string>();
  readonly pendingDeletes = new Set<string>();
  readonly faults: GuestFaults = {};
  readonly #clock: TimerClock;
  qmpStatus: 'running' | 'paused' | 'stopped' = 'stopped';
  pid = 0;
  busyMillicores = IDLE_MILLICORES;
  startedAtMs = 0;
  /** What QEMU has, whatever the configuration says. */
  running = { vcpus: 0, memoryMib: 0, cpuLimit: 0 };
  #balloon = { fromBytes: 0, targetBytes: 0, sinceMs: 0 };
  #isLocked = false;

  constructor(vmid: number, config: Readonly<Record<string, string | number>>, clock: TimerClock) {
    this.vmid = vmid;
    this.config = new Map(Object.entries(config).map(([key, value]) => [key, String(value)]));
    this.#clock = clock;
  }

  get isRunning(): boolean {
    return this.qmpStatus !== 'stopped';
  }

  get digest(): string {
    const lines = [...this.config].sort().map(([key, value]) => `${key}: ${value}`);
    const waiting = [...this.pending, ...[...this.pendingDeletes].map((key) => [key, 'delete'])].sort();
    return createHash('sha1')
      .update(JSON.stringify([lines, waiting]))
      .digest('hex');
  }

  get vcpusMax(): number {
    return Number(this.config.get('cores') ?? 1) * Number(this.config.get('sockets') ?? 1);
  }

  number(key: string, fallback: number): number {
    return Number(this.config.get(key) ?? fallback);
  }

  /** @returns the release, or undefined when the lock was not to be had */
  async lock(waitMs = LOCK_WAIT_MS): Promise<(() => void) | undefined> {
    const startMs = this.#clock.monotonicMs();
    while (this.#isLocked) {
      if (this.#clock.monotonicMs() - startMs >= waitMs) return undefined;
      await pause(this.#clock, 50);
    }
    this.#isLocked = true;
    return () => {
      this.#isLocked = false;
    };
  }

  /** Take a change up as waiting. Call with the lock. */
  stage(
    changes: Readonly<Record<string, string>>,
    deletes: readonly string[],
    reverts: readonly string[],
  ): void {
    for (const key of reverts) {
      this.pending.delete(key);
      this.pendingDeletes.delete(key);
    }
    for (const key of deletes) {
      this.pending.delete(key);
      if (this.config.has(key)) this.pendingDeletes.add(key);
    }
    for (const [key, value] of Object.entries(changes)) {
      this.pendingDeletes.delete(key);
      if (this.config.get(key) === value) this.pending.delete(key);
      else this.pending.set(key, value);
    }
  }

  /** Bring what waits into force as far as it goes. @returns complaints by key */
  async bringIntoForce(): Promise<Record<string, string>> {
    if (!this.isRunning) {
      this.#commitAll();
      return {};
    }
    const complaints: Record<string, string> = {};
    for (const key of [...this.pendingDeletes].sort()) {
      const problem = await this.#unset(key);
      if (problem === undefined) {
        this.config.delete(key);
        this.pendingDeletes.delete(key);
      } else if (problem !== '') complaints[key] = `hotplug problem - ${problem}`;
    }
    for (const key of [...this.pending.keys()].filter((one) => FAST.has(one))) this.#commit(key);
    for (const key of [...this.pending.keys()].sort()) {
      const problem = await this.#set(key, this.pending.get(key) ?? '');
      if (problem === undefined) this.#commit(key);
      else if (problem !== '') complaints[key] = `hotplug problem - ${problem}`;
    }
    return complaints;
  }

  /** Start with what the configuration is now; `hook` is run as Proxmox VE runs it, inside the lock. */
  async start(hook: (phase: string) => Promise<number>): Promise<string> {
    const unlock = await this.lock();
    if (unlock === undefined)
      return `can't lock file '/var/lock/qemu-server/lock-${this.vmid}.conf' - got timeout`;
    try {
      if (this.isRunning) return `VM ${this.vmid} already running`;
      this.#commitAll();
      const loaded = new Map(this.config);
      const status = await hook('pre-start');
      if (status !== 0) return `hookscript error for ${this.vmid} on pre-start: ${status}`;
      await pause(this.#clock, BOOT_MS);
      this.boot(loaded);
      await hook('post-start');
      return 'OK';
    } finally {
      unlock();
    }
  }

  boot(loaded: ReadonlyMap<string, string> = this.config): void {
    const max = Number(loaded.get('cores') ?? 1) * Number(loaded.get('sockets') ?? 1);
    const memoryMib = Number(loaded.get('memory') ?? 512);
    this.running = {
      vcpus: Number(loaded.get('vcpus') ?? max),
      memoryMib,
      cpuLimit: Number(loaded.get('cpulimit') ?? 0),
    };
    this.qmpStatus = 'running';
    this.pid += 4_000;
    this.startedAtMs = this.#clock.monotonicMs();
    const target = (Number(loaded.get('balloon') ?? memoryMib) || memoryMib) * MIB;
    this.#balloon = { fromBytes: target, targetBytes: target, sinceMs: this.startedAtMs };
  }

  stop(): void {
    this.qmpStatus = 'stopped';
  }

  /** What QEMU's monitor sets. */
  setBalloon(bytes: number): void {
    const targetBytes = Math.min(bytes, this.running.memoryMib * MIB);
    this.#balloon = { fromBytes: this.balloonBytes, targetBytes, sinceMs: this.#clock.monotonicMs() };
  }

  get balloonBytes(): number {
    const { fromBytes, targetBytes, sinceMs } = this.#balloon;
    const wayBytes = (this.#clock.monotonicMs() - sinceMs) * BALLOON_BYTES_PER_MS;
    const way = targetBytes - fromBytes;
    const reached =
      Math.abs(way) <= wayBytes ? targetBytes : fromBytes + Math.sign(way) * Math.floor(wayBytes);
    return Math.max(reached, this.faults.balloonStuckBytes ?? 0);
  }

  get usageMillicores(): number {
    const { vcpus, cpuLimit } = this.running;
    const limit = cpuLimit > 0 ? cpuLimit * 1000 : Number.POSITIVE_INFINITY;
    return this.qmpStatus === 'running' ? Math.min(this.busyMillicores, limit, vcpus * 1000) : 0;
  }

  /** A counter that grows with the time the guest is up. */
  counted(perS: number): number {
    return Math.floor(((this.#clock.monotonicMs() - this.startedAtMs) / 1000) * perS);
  }

  get uptimeS(): number {
    return this.isRunning ? Math.floor((this.#clock.monotonicMs() - this.startedAtMs) / 1000) + 1 : 0;
  }

  get memory() {
    const totalBytes = this.balloonBytes - UNSEEN_BYTES;
    return { totalBytes, freeBytes: totalBytes - USED_BYTES, usedBytes: USED_BYTES };
  }

  #commit(key: string): void {
    this.config.set(key, this.pending.get(key) ?? '');
    this.pending.delete(key);
  }

  #commitAll(): void {
    for (const key of [...this.pending.keys()]) this.#commit(key);
    for (const key of this.pendingDeletes) this.config.delete(key);
    this.pendingDeletes.clear();
  }

  #can(feature: string): boolean {
    return (this.config.get('hotplug') ?? 'network,disk,usb').split(',').includes(feature);
  }

  /** undefined: in force; '': waits for a reboot; else what went wrong. */
  async #unset(key: string): Promise<string | undefined> {
    if (key === 'cpulimit') this.running.cpuLimit = 0;
    else if (key === 'balloon') this.setBalloon(this.number('memory', 512) * MIB);
    else if (key === 'vcpus') return this.#setVcpus(this.vcpusMax);
    else if (key !== 'cpuunits' && !FAST.has(key)) return '';
    return undefined;
  }

  async #set(key: string, value: string): Promise<string | undefined> {
    switch (key.replace(/\d+$/, '')) {
      case 'cpulimit':
        this.running.cpuLimit = Number(value);
        return undefined;
      case 'cpuunits':
        return undefined;
      case 'vcpus':
        return this.#setVcpus(Number(value));
      case 'memory':
        return this.#setMemory(Number(value));
      case 'balloon':
        if ((this.config.get('balloon') === '0') !== (value === '0')) return '';
        // The trap: with shares only the configuration changes.
        if (this.config.get('shares') === '0') this.setBalloon(Number(value) * MIB);
        return undefined;
      case 'net':
        return this.#differsIn(key, value, /^rate$/)
          ? 'the interface would have to be plugged anew'
          : undefined;
      case 'scsi':
      case 'virtio':
        return this.#differsIn(key, value, THROTTLES) ? 'the disk would have to be plugged anew' : undefined;
      default:
        return '';
    }
  }

  /** Whether a value differs from the one in force in more than the parts named. */
  #differsIn(key: string, value: string, parts: RegExp): boolean {
    const rest = (text: string) =>
      text
        .split(',')
        .filter((part) => !parts.test(part.split('=')[0] ?? ''))
        .sort()
        .join(',');
    return rest(value) !== rest(this.config.get(key) ?? '');
  }

  /** One after another; each that came is written into the configuration. */
  async #setVcpus(wanted: number): Promise<string | undefined> {
    if (!this.#can('cpu')) return '';
    if (wanted > this.vcpusMax) return `${wanted} is more than the maximum of ${this.vcpusMax}`;
    while (this.running.vcpus !== wanted) {
      const grows = wanted > this.running.vcpus;
      const isStuck = grows
        ? this.running.vcpus >= (this.faults.vcpusAtMost ?? this.vcpusMax)
        : this.faults.keepsWhatItHas;
      if (isStuck) {
        await pause(this.#clock, VCPU_GIVES_UP_MS);
        return grows ? 'error plugging cpu' : 'vcpus: error unplugging cpu';
      }
      await pause(this.#clock, VCPU_STEP_MS);
      this.running.vcpus += grows ? 1 : -1;
      this.config.set('vcpus', String(this.running.vcpus));
    }
    return undefined;
  }

  async #setMemory(wantedMib: number): Promise<string | undefined> {
    if (!this.#can('memory') || this.config.get('numa') !== '1') return '';
    if ((wantedMib - 1024) % 512 !== 0) return 'memory size is not made of whole DIMMs';
    while (this.running.memoryMib !== wantedMib) {
      const grows = wantedMib > this.running.memoryMib;
      if (!grows && this.faults.keepsWhatItHas) {
        await pause(this.#clock, 20_000);
        return 'error unplug memory module';
      }
      await pause(this.#clock, DIMM_STEP_MS);
      const stepMib = grows ? 512 : -512;
      this.running.memoryMib += stepMib;
      this.config.set('memory', String(this.running.memoryMib));
      const { targetBytes } = this.#balloon;
      // QEMU keeps what the balloon has taken, not what is left: a DIMM adds to it.
      const moved = Math.max(0, this.balloonBytes + stepMib * MIB);
      this.#balloon = {
        fromBytes: moved,
        targetBytes: Math.max(0, targetBytes + stepMib * MIB),
        sinceMs: this.#clock.monotonicMs(),
      };
    }
    return undefined;
  }
}
