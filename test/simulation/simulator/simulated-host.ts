import { AllocatorError } from '../../../orchestrator/core/errors.ts';
import type { Baseline, GuestFacts, GuestId, HostFacts } from '../../../orchestrator/core/guest.ts';
import type { Actuated, Clock, GuestEvent } from '../../../orchestrator/core/ports.ts';
import { type Entitlement, MIB, MILLICORES_PER_VCPU } from '../../../orchestrator/core/profile.ts';
import type { Cadence, GuestSample } from '../../../orchestrator/core/sample.ts';
import { course } from './case.ts';

/** A balloon that has not arrived after this is reported where it is. */
const BALLOON_MS_MAX = 10_000;
const BALLOON_BYTES_PER_MS = MIB;
const DEMAND_LASTS_TICKS = 50;

/** Time that the simulation moves. */
export interface SimulatedTime extends Clock {
  after(delayMs: number, callback: () => void): () => void;
}

/** One write to a guest, as it takes effect. */
export interface HostWrite {
  readonly guest: SimulatedGuest;
  readonly resource: Actuated;
  readonly target: Partial<Entitlement>;
}

/** A guest as the hypervisor knows it, and how it misbehaves. */
export class SimulatedGuest {
  readonly index: number;
  readonly id: GuestId;
  readonly name: string;
  readonly vcpusMax: number;
  readonly memoryMaxBytes: number;
  readonly unplugs: boolean;
  /** What it has after each start: its definition. */
  boot: { readonly vcpuCount: number; readonly memoryBytes: number; readonly quotaMillicores?: number };
  state: 'running' | 'shut-off' = 'running';
  vcpuCount: number;
  quotaMillicores: number | undefined;
  cadence: Cadence = 'none';
  /** Until when, in ms of the monotonic clock, it behaves so. */
  silentUntilMs = 0;
  refusesUntilMs = 0;
  lagsUntilMs = 0;
  /** Share of its usual speed that a lagging balloon has; 0: it stands still. */
  lag = 0;
  #from: number;
  #target: number;
  #leftAtMs = 0;
  #bytesPerMs = BALLOON_BYTES_PER_MS;
  readonly #random: () => number;
  #wantsMillicores = 0;
  #wantsBytes = 0;

  constructor(seed: number, index: number) {
    const random = course(seed, `guest ${index}`);
    const hex = index.toString(16).padStart(12, '0');
    this.#random = random;
    this.index = index;
    this.id = `00000000-0000-4000-8000-${hex}`;
    this.name = `guest-${index}`;
    this.vcpusMax = 1 + Math.floor(random() * 8);
    this.memoryMaxBytes = 256 * MIB * (1 + Math.floor(random() * 8));
    this.unplugs = random() < 0.5;
    this.boot = {
      vcpuCount: 1 + Math.floor(random() * Math.min(2, this.vcpusMax)),
      memoryBytes: Math.min(this.memoryMaxBytes, 128 * MIB * (1 + Math.floor(random() * 4))),
    };
    this.vcpuCount = this.boot.vcpuCount;
    this.#from = this.boot.memoryBytes;
    this.#target = this.boot.memoryBytes;
    this.want();
  }

  /** Draw what it wants of CPU and memory from now on. */
  want(): void {
    this.#wantsMillicores = Math.round(
      this.#random() * 1.2 * this.vcpusMax * MILLICORES_PER_VCPU * this.#random(),
    );
    this.#wantsBytes = Math.round(this.#random() * this.memoryMaxBytes);
  }

  get cpuMillicores(): number {
    return this.quotaMillicores ?? this.vcpuCount * MILLICORES_PER_VCPU;
  }

  memoryBytes(atMs: number): number {
    const gone = (atMs - this.#leftAtMs) * this.#bytesPerMs;
    const way = this.#target - this.#from;
    return Math.abs(way) <= gone ? this.#target : Math.round(this.#from + Math.sign(way) * gone);
  }

  entitlement(atMs: number): Entitlement {
    const { cpuMillicores, vcpuCount } = this;
    return { cpuMillicores, vcpuCount, memoryBytes: this.memoryBytes(atMs) };
  }

  /** Send the balloon off. @returns ms until it arrives, from `atMs` on; Infinity when it stands still */
  sendBalloon(target: number, atMs: number): number {
    this.#from = this.memoryBytes(atMs);
    this.#target = Math.min(target, this.memoryMaxBytes);
    this.#leftAtMs = atMs;
    this.#bytesPerMs = BALLOON_BYTES_PER_MS * (atMs < this.lagsUntilMs ? this.lag : 1);
    const way = Math.abs(this.#target - this.#from);
    return way === 0 ? 0 : way / this.#bytesPerMs;
  }

  /** Write its present sizes into its definition. */
  define(atMs: number): void {
    const { vcpuCount, quotaMillicores } = this;
    const memoryBytes = this.memoryBytes(atMs);
    this.boot = { vcpuCount, memoryBytes, ...(quotaMillicores !== undefined && { quotaMillicores }) };
  }

  /** Set the memory at once, as a start does. */
  putMemory(bytes: number, atMs: number): void {
    this.#from = bytes;
    this.#target = bytes;
    this.#leftAtMs = atMs;
  }

  sample(tick: number, atMs: number, monotonicMs: number): GuestSample {
    if ((tick + this.index) % DEMAND_LASTS_TICKS === 0) this.want();
    const memory = this.memoryBytes(monotonicMs);
    return {
      guest: this.id,
      atMs,
      periodMs: 1000,
      cadence: 'full',
      usage: {
        cpuMillicores: Math.min(this.#wantsMillicores, this.cpuMillicores),
        memoryBytes: Math.min(this.#wantsBytes, memory),
      },
      flags: [],
    };
  }
}

/** A host of guests behind the core's ports, with its faults. */
export class SimulatedHost {
  readonly guests: readonly SimulatedGuest[];
  readonly facts: HostFacts;
  available = true;
  onWrite: (write: HostWrite) => void = () => {};
  readonly availabilityListeners = new Set<(available: boolean) => void>();
  readonly eventListeners = new Set<(event: GuestEvent) => void>();
  readonly #time: SimulatedTime;
  readonly #byId: ReadonlyMap<GuestId, SimulatedGuest>;

  /** @param roomRatio the host's size, by what its guests have at boot */
  constructor(seed: number, guests: number, time: SimulatedTime, roomRatio: number) {
    this.#time = time;
    this.guests = Array.from({ length: guests }, (_, index) => new SimulatedGuest(seed, index));
    this.#byId = new Map(this.guests.map((guest) => [guest.id, guest]));
    const boots = this.guests.map(({ boot }) => boot);
    const vcpus = boots.reduce((sum, { vcpuCount }) => sum + vcpuCount, 0);
    const bytes = boots.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
    this.facts = {
      name: 'host',
      cpuMillicores: Math.ceil(vcpus * roomRatio) * MILLICORES_PER_VCPU,
      memoryBytes: Math.ceil((bytes * roomRatio) / MIB) * MIB,
    };
  }

  find(id: GuestId): SimulatedGuest {
    const guest = this.#byId.get(id);
    if (guest === undefined) throw new AllocatorError('GUEST_NOT_FOUND', `no guest ${id}`, { guest: id });
    return guest;
  }

  entitlement(guest: SimulatedGuest): Entitlement {
    return guest.entitlement(this.#time.monotonicMs());
  }

  factsOf(guest: SimulatedGuest): GuestFacts {
    const entitlement = this.entitlement(guest);
    return {
      id: guest.id,
      name: guest.name,
      state: guest.state,
      entitlement,
      ceiling: {
        cpuMillicores: guest.vcpusMax * MILLICORES_PER_VCPU,
        vcpuCount: guest.vcpusMax,
        memoryBytes: guest.memoryMaxBytes,
      },
      vcpusPlugged: guest.vcpuCount,
      cpuLimited: guest.quotaMillicores !== undefined,
      capabilities: {
        cpuQuota: true,
        vcpuPlug: true,
        vcpuUnplug: guest.unplugs,
        agent: true,
        balloon: true,
        virtioMem: false,
        diskLimits: false,
        netLimits: false,
      },
    };
  }

  assertAvailable(): void {
    if (!this.available) throw new AllocatorError('HYPERVISOR_UNAVAILABLE', 'the daemon is gone');
  }

  read(resource: Actuated, id: GuestId): Partial<Entitlement> {
    this.assertAvailable();
    const guest = this.find(id);
    assertRuns(guest);
    const { cpuMillicores, vcpuCount, memoryBytes } = this.entitlement(guest);
    if (resource === 'cpu') return { cpuMillicores, vcpuCount };
    return resource === 'memory' ? { memoryBytes } : {};
  }

  /** Bring one resource to `target`. Resolves with what was read back: when a balloon has arrived, or did not in time. */
  async write(
    resource: Actuated,
    id: GuestId,
    target: Entitlement,
    baseline?: Baseline,
  ): Promise<Partial<Entitlement>> {
    this.assertAvailable();
    const guest = this.find(id);
    this.#assertObeys(guest, resource);
    const nowMs = this.#time.monotonicMs();
    this.onWrite({ guest, resource, target });
    if (resource === 'cpu') this.#setCpu(guest, target, baseline);
    if (resource === 'memory') await this.#arrival(guest.sendBalloon(target.memoryBytes, nowMs));
    this.tell({ kind: 'tuned', guest: id, resource });
    return this.read(resource, id);
  }

  /** Somebody else's change. */
  tune(guest: SimulatedGuest, resource: 'cpu' | 'memory', value: number): void {
    if (resource === 'cpu') guest.quotaMillicores = value;
    else guest.putMemory(value, this.#time.monotonicMs());
    this.tell({ kind: 'tuned', guest: guest.id, resource });
  }

  /** Ours: no guest of this host is a stand-by. */
  power(id: GuestId, what: 'start' | 'stop'): never {
    throw new Error(`${what} of ${this.find(id).name}, which is no stand-by`);
  }

  stop(guest: SimulatedGuest): void {
    guest.state = 'shut-off';
    this.tell({ kind: 'stopped', guest: guest.id, name: guest.name });
  }

  start(guest: SimulatedGuest): void {
    guest.state = 'running';
    guest.vcpuCount = guest.boot.vcpuCount;
    guest.quotaMillicores = guest.boot.quotaMillicores;
    guest.putMemory(guest.boot.memoryBytes, this.#time.monotonicMs());
    this.tell({ kind: 'started', guest: guest.id, name: guest.name });
  }

  die(): void {
    this.available = false;
    for (const listener of [...this.availabilityListeners]) listener(false);
  }

  comeBack(): void {
    this.available = true;
    for (const listener of [...this.availabilityListeners]) listener(true);
  }

  /** What happens while the daemon is gone is not told. */
  tell(event: GuestEvent): void {
    if (!this.available) return;
    for (const listener of [...this.eventListeners]) listener(event);
  }

  #setCpu(
    guest: SimulatedGuest,
    { vcpuCount, cpuMillicores }: Entitlement,
    baseline: Baseline | undefined,
  ): void {
    const isShrink = vcpuCount < guest.vcpuCount;
    if (!isShrink || guest.unplugs) guest.vcpuCount = Math.min(vcpuCount, guest.vcpusMax);
    // A quota of ours is taken off where the vCPUs alone hold the baseline.
    const isBare = baseline?.cpuLimited === false && guest.vcpuCount * MILLICORES_PER_VCPU === cpuMillicores;
    guest.quotaMillicores = isBare ? undefined : cpuMillicores;
  }

  #assertObeys(guest: SimulatedGuest, resource: Actuated): void {
    assertRuns(guest);
    if (this.#time.monotonicMs() < guest.refusesUntilMs)
      throw new AllocatorError('ACTUATION_REFUSED', `${resource} is refused`, { guest: guest.name });
  }

  #arrival(takesMs: number): Promise<void> {
    if (takesMs === 0) return Promise.resolve();
    return new Promise((resolve) => this.#time.after(Math.min(takesMs, BALLOON_MS_MAX), resolve));
  }
}

function assertRuns({ name, state }: SimulatedGuest): void {
  if (state !== 'running')
    throw new AllocatorError('GUEST_NOT_RUNNING', `${name} does not run`, { guest: name });
}
