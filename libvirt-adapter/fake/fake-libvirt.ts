import type { TimerClock } from '../../orchestrator/core/timer-clock.ts';
import { systemClock } from '../clock.ts';
import { readDomainXml } from '../domain-xml.ts';
import {
  type Affect,
  type CallOptions,
  type ConnectionState,
  type DomainRef,
  type DomainState,
  type DomainStats,
  LIBVIRT_ERROR,
  type Libvirt,
  LibvirtError,
  type LibvirtEvent,
  type LibvirtEventKind,
  type LifecycleEvent,
  type MemoryStats,
  type NodeInfo,
  type StatsGroup,
  type TypedParameters,
  type VcpusFlags,
} from '../libvirt.ts';
import { parseXml } from '../xml.ts';
import { FakeAgentCommands } from './agent-commands.ts';
import { blockIoTuneOf, type FakeDisk, FakeDomain, type FakeInterface } from './fake-domain.ts';
import type { FakeAgent, FakeDemandCurve, FakeGuestScript } from './guest-script.ts';
import { StatsPacker } from './pack-stats.ts';

/** Methods that can be made to fail or hang, by their names in `Libvirt`. */
export type FakeCall = Exclude<keyof Libvirt, 'connection' | 'on' | 'onConnection' | 'close'>;

/** One change that some caller made: what a dry run must leave empty. */
export interface FakeChange {
  readonly call: FakeCall;
  readonly guest: string;
  readonly argument: unknown;
}

export interface FakeHost {
  readonly cpus: number;
  readonly memoryKib: number;
  /** Hardware events that its PMU counts; absent: it has none. */
  readonly perfEvents?: readonly string[];
}

/** How often a moving balloon is followed, so that events come as it moves. */
const BALLOON_EVENT_MS = 100;
/** Time the guest takes to plug or unplug requested virtio-mem. */
const VIRTIO_MEM_MS = 300;
/** Time a guest takes to power off when it is asked to. */
const SHUTDOWN_MS = 500;
/** libvirt's wait for the guest to give a vCPU back. */
const UNPLUG_TIMEOUT_MS = 5_000;
/** Changes remembered; a test that makes more reads them as it goes. */
const CHANGES_MAX = 10_000;
const HOST: FakeHost = { cpus: 16, memoryKib: 64 * 1024 * 1024 };
const STOPPED_SHUTDOWN = 0;
const STOPPED_MIGRATED = 3;
const STOPPED_SAVED = 4;
const STOPPED_CRASHED = 2;
const STARTED_RESTORED = 2;

/**
 * A libvirt in memory: scripted guests that follow a clock, and faults injected by plain methods. Someone else changing
 * a guest is a call of the same methods past the code under test: libvirt does not tell callers apart either.
 */
export class FakeLibvirt implements Libvirt {
  readonly clock: TimerClock;
  readonly changes: FakeChange[] = [];
  readonly calls = new Map<FakeCall, number>();
  readonly #host: FakeHost;
  readonly #domains = new Map<string, FakeDomain>();
  readonly #uuidByName = new Map<string, string>();
  readonly #listeners = new Map<LibvirtEventKind, Set<(event: never) => void>>();
  readonly #connectionListeners = new Set<(state: ConnectionState) => void>();
  readonly #failures = new Map<FakeCall, LibvirtError[]>();
  readonly #hanging = new Set<(error: LibvirtError) => void>();
  readonly #resuming = new Set<() => void>();
  readonly #latencyMs = new Map<FakeCall, number>();
  readonly #movingBalloons = new Set<string>();
  readonly #packer = new StatsPacker();
  readonly #agent: FakeAgentCommands;
  #connection: ConnectionState = { state: 'connected' };
  #isAnswering = true;
  #nextId = 1;

  constructor(options: { readonly clock?: TimerClock; readonly host?: FakeHost } = {}) {
    this.clock = options.clock ?? systemClock;
    this.#host = options.host ?? HOST;
    this.#agent = new FakeAgentCommands(this.clock);
  }

  // ---- scripting -------------------------------------------------------------------------------------------------

  /** Add a guest; it runs at once unless its script says otherwise. */
  addGuest(script: FakeGuestScript): DomainRef {
    const domain = new FakeDomain(script, this.clock.monotonicMs());
    this.#domains.set(domain.uuid, domain);
    this.#uuidByName.set(domain.name, domain.uuid);
    const state = script.state ?? 'running';
    if (state !== 'shutoff') {
      domain.id = this.#nextId++;
      domain.state = state;
    }
    return domain.ref;
  }

  /** The guest as it is now, by UUID or name; undefined when there is none. */
  find(guest: string): FakeDomain | undefined {
    const domain = this.#domains.get(guest) ?? this.#domains.get(this.#uuidByName.get(guest) ?? '');
    domain?.advance(this.clock.monotonicMs());
    return domain;
  }

  setDemand(guest: string, demand: FakeDemandCurve): void {
    this.#existing(guest).demand = demand;
  }

  /** @param kib the balloon shrinks the guest no further; undefined: it moves freely again */
  stickBalloon(guest: string, kib: number | undefined): void {
    const domain = this.#existing(guest);
    domain.balloonStuckAtKib = kib;
    this.#followBalloon(domain);
  }

  setAgent(guest: string, agent: FakeAgent): void {
    const domain = this.#existing(guest);
    const was = domain.agent === 'answers' || domain.agent === 'hangs';
    domain.agent = agent;
    const connected = agent === 'answers' || agent === 'hangs';
    if (was === connected) return;
    this.#emit({ kind: 'agent-lifecycle', domain: domain.ref, connected, reason: 2 });
  }

  /** The next `times` calls of `call` fail with libvirt's `code`. */
  failNext(call: FakeCall, code: number, message: string, times = 1): void {
    const queue = this.#failures.get(call) ?? [];
    for (let i = 0; i < times; i += 1) queue.push(failure(call, code, message));
    this.#failures.set(call, queue);
  }

  /** Take back the failures that are still to come. */
  failNoMore(): void {
    this.#failures.clear();
  }

  /** Time that a call takes; 0 by default. */
  setLatency(call: FakeCall, ms: number): void {
    this.#latencyMs.set(call, ms);
  }

  /** The daemon stops answering, as under SIGSTOP: calls wait for `answerAgain`, their time-out or `die`. */
  stopAnswering(): void {
    this.#isAnswering = false;
  }

  answerAgain(): void {
    this.#isAnswering = true;
    for (const resume of [...this.#resuming]) resume();
  }

  /** The daemon dies: calls in flight and later ones are rejected. Guests live on. */
  die(reason = 'end of file while reading data'): void {
    if (this.#connection.state === 'disconnected') return;
    this.#connection = { state: 'disconnected', reason };
    for (const reject of [...this.#hanging]) {
      reject(failure('nodeInfo', LIBVIRT_ERROR.rpc, `client socket is closed: ${reason}`));
    }
    this.#tellConnection();
  }

  /** The daemon is back. What happened meanwhile raised no event. */
  comeBack(): void {
    if (this.#connection.state === 'connected') return;
    this.#connection = { state: 'connected' };
    this.#isAnswering = true;
    for (const domain of this.#domains.values()) domain.perf.reopen(domain.vcpus);
    this.#tellConnection();
  }

  /** The guest stops by itself, as after `poweroff` inside it. */
  stop(guest: string): void {
    this.#end(this.#existing(guest), 'shutoff', 0);
  }

  crash(guest: string): void {
    this.#end(this.#existing(guest), 'crashed', STOPPED_CRASHED);
  }

  /** Save to a file and restore from it: a new process whose counters start at 0. */
  saveAndRestore(guest: string): void {
    const domain = this.#existing(guest);
    this.#end(domain, 'shutoff', STOPPED_SAVED);
    domain.resetHostCounters();
    domain.id = this.#nextId++;
    domain.state = 'running';
    this.#lifecycle(domain, 'started', STARTED_RESTORED);
  }

  /** The guest leaves for another host; here it is gone. */
  migrateAway(guest: string): void {
    const domain = this.#existing(guest);
    this.#end(domain, 'shutoff', STOPPED_MIGRATED);
    this.#forget(domain);
    this.#lifecycle(domain, 'undefined', 0);
  }

  // ---- Libvirt: connection and events ----------------------------------------------------------------------------

  get connection(): ConnectionState {
    return this.#connection;
  }

  on<K extends LibvirtEventKind>(
    kind: K,
    listener: (event: Extract<LibvirtEvent, { kind: K }>) => void,
  ): () => void {
    const listeners = this.#listeners.get(kind) ?? new Set();
    this.#listeners.set(kind, listeners);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
    };
  }

  onConnection(listener: (state: ConnectionState) => void): () => void {
    this.#connectionListeners.add(listener);
    listener(this.#connection);
    return () => {
      this.#connectionListeners.delete(listener);
    };
  }

  async close(): Promise<void> {
    this.die('closed');
    this.#connectionListeners.clear();
    this.#listeners.clear();
  }

  // ---- Libvirt: looking ------------------------------------------------------------------------------------------

  listDomains(
    filter: { active?: boolean; inactive?: boolean } = {},
    options?: CallOptions,
  ): Promise<DomainRef[]> {
    const both = !filter.active && !filter.inactive;
    return this.#answer('listDomains', options, () =>
      [...this.#domains.values()]
        .filter((domain) => both || (domain.isActive ? filter.active : filter.inactive))
        .map((domain) => domain.ref),
    );
  }

  lookupByName(name: string, options?: CallOptions): Promise<DomainRef> {
    return this.#answer('lookupByName', options, () => this.#known('lookupByName', name).ref);
  }

  domainState(domain: DomainRef, options?: CallOptions): Promise<{ state: DomainState; reason: number }> {
    return this.#answer('domainState', options, () => ({
      state: this.#known('domainState', domain.uuid).state,
      reason: 1,
    }));
  }

  allDomainStats(
    groups: readonly StatsGroup[],
    options: CallOptions & { domains?: readonly DomainRef[] } = {},
  ): Promise<DomainStats> {
    return this.#answer('allDomainStats', options, () => {
      const domains = options.domains
        ? options.domains.flatMap((ref) => this.find(ref.uuid) ?? [])
        : [...this.#domains.keys()].flatMap((uuid) => this.find(uuid) ?? []);
      return this.#packer.pack(domains, groups, this.clock.nowMs(), this.clock.monotonicMs());
    });
  }

  memoryStats(domain: DomainRef, options?: CallOptions): Promise<MemoryStats> {
    return this.#answer('memoryStats', options, () =>
      this.#active('memoryStats', domain).memoryStats(this.clock.nowMs(), this.clock.monotonicMs()),
    );
  }

  setMemoryStatsPeriod(
    domain: DomainRef,
    periodS: number,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    return this.#change('setMemoryStatsPeriod', domain, periodS, options, (found) => {
      if (!found.hasBalloon) throw unsupported('setMemoryStatsPeriod', 'No memory balloon device configured');
      found.statsPeriodS = periodS;
    });
  }

  domainXml(domain: DomainRef, options?: CallOptions & { inactive?: boolean }): Promise<string> {
    return this.#answer('domainXml', options, () => this.#known('domainXml', domain.uuid).xml());
  }

  // ---- Libvirt: vCPUs --------------------------------------------------------------------------------------------

  setVcpus(domain: DomainRef, count: number, flags: VcpusFlags, options?: CallOptions): Promise<void> {
    const argument = { count, ...flags };
    if (flags.guest) return this.#setGuestVcpus(domain, count, argument, options);
    return this.#change('setVcpus', domain, argument, options, (found) => {
      if (count < 1 || count > found.vcpus.length) {
        throw failure(
          'setVcpus',
          LIBVIRT_ERROR.invalidArg,
          `requested vcpus is greater than max allowable vcpus for the live domain: ${count} > ${found.vcpus.length}`,
        );
      }
      return count < found.pluggedCount ? this.#unplug(found, count) : this.#plug(found, count);
    });
  }

  #plug(domain: FakeDomain, count: number): void {
    if (count > domain.pluggedCount && domain.unplugAttempted && domain.type === 'qemu') {
      this.#end(domain, 'crashed', STOPPED_CRASHED);
      throw failure(
        'setVcpus',
        LIBVIRT_ERROR.operationFailed,
        'Unable to read from monitor: Connection reset by peer',
      );
    }
    for (const vcpu of domain.vcpus.slice(0, count)) {
      if (vcpu.plugged) continue;
      vcpu.plugged = true;
      if (domain.onlineDelayMs === 0) vcpu.online = true;
      else vcpu.onlineAtMs = this.clock.monotonicMs() + domain.onlineDelayMs;
    }
  }

  #unplug(domain: FakeDomain, count: number): void | Promise<void> {
    domain.unplugAttempted = true;
    if (!domain.vcpuUnplugWorks) {
      return this.#after(UNPLUG_TIMEOUT_MS, () => {
        throw failure(
          'setVcpus',
          LIBVIRT_ERROR.operationTimeout,
          'vcpu unplug request timed out. Unplug result must be manually inspected in the domain',
        );
      });
    }
    for (const vcpu of domain.vcpus.slice(count)) {
      vcpu.plugged = false;
      vcpu.online = false;
    }
  }

  #setGuestVcpus(
    domain: DomainRef,
    count: number,
    argument: unknown,
    options: CallOptions | undefined,
  ): Promise<void> {
    return this.#change('setVcpus', domain, argument, options, (found) =>
      this.#agent.run('setVcpus', found, () => {
        if (count < 1 || count > found.pluggedCount) {
          throw failure('setVcpus', LIBVIRT_ERROR.invalidArg, 'requested vcpu count is out of range');
        }
        this.#agent.setOnline(found, count);
      }),
    );
  }

  getVcpus(domain: DomainRef, flags: VcpusFlags, options?: CallOptions): Promise<number> {
    return this.#answer('getVcpus', options, () => {
      const found =
        flags.live || flags.guest ? this.#active('getVcpus', domain) : this.#known('getVcpus', domain.uuid);
      if (flags.guest) return this.#agent.run('getVcpus', found, () => found.onlineCount);
      return flags.maximum ? found.vcpus.length : found.pluggedCount;
    });
  }

  getMaxVcpus(domain: DomainRef, options?: CallOptions): Promise<number> {
    return this.#answer('getMaxVcpus', options, () => this.#active('getMaxVcpus', domain).vcpus.length);
  }

  setVcpu(
    domain: DomainRef,
    map: string,
    online: boolean,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    return this.#change('setVcpu', domain, { map, online }, options, (found) => {
      for (const index of indicesOf(map)) {
        const vcpu = found.vcpus[index];
        if (vcpu === undefined)
          throw failure('setVcpu', LIBVIRT_ERROR.invalidArg, `vcpu '${index}' is not present`);
        vcpu.plugged = online;
        if (online) vcpu.onlineAtMs = this.clock.monotonicMs() + found.onlineDelayMs;
        else vcpu.online = false;
      }
    });
  }

  // ---- Libvirt: memory and devices -------------------------------------------------------------------------------

  setMemory(
    domain: DomainRef,
    kib: bigint,
    _affect: Affect & { maximum?: boolean },
    options?: CallOptions,
  ): Promise<void> {
    return this.#change('setMemory', domain, kib, options, (found) => {
      if (!found.hasBalloon) {
        throw failure(
          'setMemory',
          LIBVIRT_ERROR.operationInvalid,
          'Unable to change memory of active domain without the balloon device and guest OS balloon driver',
        );
      }
      const sizesKib = found.virtioMem.reduce((sum, device) => sum + device.sizeKib, 0);
      if (Number(kib) > found.bootMemoryKib + sizesKib) {
        throw failure('setMemory', LIBVIRT_ERROR.invalidArg, 'cannot set memory higher than max memory');
      }
      const beforeKib = found.balloonKib;
      found.aimBalloon(Math.min(Number(kib), found.bootMemoryKib));
      if (found.balloonKib !== beforeKib) this.#tellBalloon(found);
      this.#followBalloon(found);
    });
  }

  /** Raise balloon-change as the balloon moves, as QEMU does. */
  #followBalloon(domain: FakeDomain): void {
    if (this.#movingBalloons.has(domain.uuid) || !domain.isBalloonMoving) return;
    this.#movingBalloons.add(domain.uuid);
    let lastKib = domain.balloonKib;
    const follow = () => {
      domain.advance(this.clock.monotonicMs());
      if (domain.balloonKib !== lastKib) {
        lastKib = domain.balloonKib;
        this.#tellBalloon(domain);
      }
      if (domain.isBalloonMoving) this.clock.after(BALLOON_EVENT_MS, follow);
      else this.#movingBalloons.delete(domain.uuid);
    };
    this.clock.after(BALLOON_EVENT_MS, follow);
  }

  #tellBalloon(domain: FakeDomain): void {
    this.#emit({ kind: 'balloon-change', domain: domain.ref, actualKib: BigInt(domain.heldKib) });
  }

  attachDevice(domain: DomainRef, xml: string, _affect: Affect, options?: CallOptions): Promise<void> {
    return this.#change('attachDevice', domain, xml, options, () => {
      throw unsupported('attachDevice', `the fake hypervisor does not attach <${parseXml(xml).name}>`);
    });
  }

  detachDevice(domain: DomainRef, xml: string, _affect: Affect, options?: CallOptions): Promise<void> {
    return this.#change('detachDevice', domain, xml, options, () => {
      throw unsupported('detachDevice', `the fake hypervisor does not detach <${parseXml(xml).name}>`);
    });
  }

  /** Changes the requested size of virtio-mem, which is what Foreshade updates. */
  updateDevice(domain: DomainRef, xml: string, _affect: Affect, options?: CallOptions): Promise<void> {
    return this.#change('updateDevice', domain, xml, options, (found) => {
      const wrapped = `<domain><name>x</name><uuid>x</uuid><memory>0</memory><devices>${xml}</devices></domain>`;
      const asked = readDomainXml(wrapped).virtioMem[0];
      const device = found.virtioMem.find((candidate) => candidate.alias === asked?.alias);
      if (asked === undefined || device === undefined) {
        throw failure('updateDevice', LIBVIRT_ERROR.deviceMissing, 'memory device not present in the domain');
      }
      if (asked.requestedKib > device.sizeKib || asked.requestedKib % asked.blockKib !== 0) {
        throw failure(
          'updateDevice',
          LIBVIRT_ERROR.invalidArg,
          'requested size must be a multiple of the block size, up to the size',
        );
      }
      if (device.requestedKib === asked.requestedKib) return; // QEMU tells the guest of changes only
      device.requestedKib = asked.requestedKib;
      this.clock.after(VIRTIO_MEM_MS, () => {
        if (found.state !== 'running' || device.requestedKib !== asked.requestedKib) return;
        if (device.currentKib === device.requestedKib) return;
        found.advance(this.clock.monotonicMs());
        found.followRequest(device);
        this.#emit({
          kind: 'memory-device-size-change',
          domain: found.ref,
          alias: device.alias,
          sizeKib: BigInt(device.currentKib),
        });
      });
    });
  }

  // ---- Libvirt: limits -------------------------------------------------------------------------------------------

  setBlockIoTune(
    domain: DomainRef,
    disk: string,
    parameters: TypedParameters,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    return this.#change('setBlockIoTune', domain, { disk, ...parameters }, options, (found) => {
      const device = this.#disk('setBlockIoTune', found, disk);
      const asked = Object.fromEntries(
        Object.entries(parameters).map(([name, value]) => [name, BigInt(value)]),
      );
      for (const unit of ['bytes_sec', 'iops_sec']) {
        if (!Object.keys(asked).some((name) => name.endsWith(unit))) continue; // libvirt keeps what is not named
        if (asked[`total_${unit}`] && (asked[`read_${unit}`] || asked[`write_${unit}`])) {
          throw failure(
            'setBlockIoTune',
            LIBVIRT_ERROR.invalidArg,
            `total and read/write of ${unit} cannot be set at the same time`,
          );
        }
        for (const kind of ['total', 'read', 'write']) device.tune[`${kind}_${unit}`] = 0n;
      }
      Object.assign(device.tune, asked);
      const named = Object.entries(parameters).map(([name, value]) => [`blkdeviotune.${name}`, value]);
      this.#emit({
        kind: 'tunable',
        domain: found.ref,
        parameters: { 'blkdeviotune.disk': disk, ...Object.fromEntries(named) },
      });
    });
  }

  getBlockIoTune(
    domain: DomainRef,
    disk: string,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<TypedParameters> {
    return this.#answer('getBlockIoTune', options, () =>
      blockIoTuneOf(this.#disk('getBlockIoTune', this.#active('getBlockIoTune', domain), disk)),
    );
  }

  setInterfaceParameters(
    domain: DomainRef,
    device: string,
    parameters: TypedParameters,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    return this.#change('setInterfaceParameters', domain, { device, ...parameters }, options, (found) => {
      const nic = this.#interface('setInterfaceParameters', found, device);
      if (nic.type === 'user') {
        throw failure(
          'setInterfaceParameters',
          LIBVIRT_ERROR.configUnsupported,
          "unsupported configuration: interfaces of type 'user' take no bandwidth",
        );
      }
      for (const [name, value] of Object.entries(parameters)) nic.bandwidth[name] = Number(value);
    });
  }

  getInterfaceParameters(
    domain: DomainRef,
    device: string,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<TypedParameters> {
    return this.#answer('getInterfaceParameters', options, () => {
      const found = this.#active('getInterfaceParameters', domain);
      const nic = this.#interface('getInterfaceParameters', found, device);
      return { 'inbound.average': 0, 'outbound.average': 0, ...nic.bandwidth };
    });
  }

  setSchedulerParameters(
    domain: DomainRef,
    parameters: TypedParameters,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    return this.#change('setSchedulerParameters', domain, parameters, options, (found) => {
      const next = { ...found.scheduler };
      for (const [name, value] of Object.entries(parameters)) {
        if (!(name in next)) {
          throw failure(
            'setSchedulerParameters',
            LIBVIRT_ERROR.invalidArg,
            `parameter '${name}' not supported`,
          );
        }
        const number = BigInt(value);
        if (name.endsWith('quota') && number >= 0n && number < 1000n) {
          throw failure(
            'setSchedulerParameters',
            LIBVIRT_ERROR.invalidArg,
            `value of '${name}' is out of range [1000, 17592186044415]`,
          );
        }
        next[name as keyof typeof next] = number;
      }
      found.scheduler = next;
      const named = Object.entries(parameters).map(([name, value]) => [`cputune.${name}`, value]);
      this.#emit({ kind: 'tunable', domain: found.ref, parameters: Object.fromEntries(named) });
    });
  }

  getSchedulerParameters(
    domain: DomainRef,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<TypedParameters> {
    return this.#answer('getSchedulerParameters', options, () => ({
      ...this.#active('getSchedulerParameters', domain).scheduler,
    }));
  }

  setPerfEvents(
    domain: DomainRef,
    events: Readonly<Record<string, boolean>>,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    return this.#change('setPerfEvents', domain, events, options, (found) => {
      const counted = this.#host.perfEvents ?? [];
      for (const [event, isOn] of Object.entries(events)) {
        const outcome = found.perf.switch(event, isOn, counted, found.vcpus);
        if (outcome === 'unknown') {
          throw failure('setPerfEvents', LIBVIRT_ERROR.invalidArg, `parameter '${event}' not supported`);
        }
        if (outcome === 'absent') {
          const message = `unable to open host cpu perf event for ${event}: No such file or directory`;
          throw failure('setPerfEvents', VIR_ERR_SYSTEM_ERROR, message);
        }
      }
    });
  }

  getPerfEvents(
    domain: DomainRef,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<Readonly<Record<string, boolean>>> {
    return this.#answer('getPerfEvents', options, () => this.#active('getPerfEvents', domain).perf.state());
  }

  pinVcpu(
    domain: DomainRef,
    vcpu: number,
    cpus: Uint8Array,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    return this.#change('pinVcpu', domain, { vcpu, cpus }, options, () => {});
  }

  pinEmulator(domain: DomainRef, cpus: Uint8Array, _affect: Affect, options?: CallOptions): Promise<void> {
    return this.#change('pinEmulator', domain, { cpus }, options, () => {});
  }

  // ---- Libvirt: monitor, agent, life -----------------------------------------------------------------------------

  qemuMonitorCommand(
    domain: DomainRef,
    command: string,
    options?: CallOptions & { hmp?: boolean },
  ): Promise<string> {
    return this.#answer('qemuMonitorCommand', options, () => {
      this.#active('qemuMonitorCommand', domain);
      throw unsupported('qemuMonitorCommand', `the fake hypervisor does not know ${command.slice(0, 80)}`);
    });
  }

  qemuAgentCommand(
    domain: DomainRef,
    command: string,
    agentTimeoutS: number,
    options?: CallOptions,
  ): Promise<string> {
    return this.#answer('qemuAgentCommand', options, () => {
      const found = this.#active('qemuAgentCommand', domain);
      return this.#agent.run(
        'qemuAgentCommand',
        found,
        () => this.#agent.command(found, command),
        agentTimeoutS,
      );
    });
  }

  defineDomain(xml: string, options?: CallOptions): Promise<DomainRef> {
    return this.#answer('defineDomain', options, () => {
      const domain = this.#fromXml(xml);
      this.#lifecycle(domain, 'defined', 0);
      return domain.ref;
    });
  }

  createDomainFromXml(xml: string, options: CallOptions & { paused?: boolean } = {}): Promise<DomainRef> {
    return this.#answer('createDomainFromXml', options, () => {
      const domain = this.#fromXml(xml);
      this.#start(domain, options.paused ?? false);
      return domain.ref;
    });
  }

  createDomain(domain: DomainRef, options: CallOptions & { paused?: boolean } = {}): Promise<void> {
    return this.#answer('createDomain', options, () => {
      const found = this.#known('createDomain', domain.uuid);
      if (found.isActive)
        throw failure('createDomain', LIBVIRT_ERROR.operationInvalid, 'domain is already running');
      this.#start(found, options.paused ?? false);
    });
  }

  shutdownDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#change('shutdownDomain', domain, undefined, options, (found) => {
      if (found.ignoresShutdown) return;
      this.clock.after(SHUTDOWN_MS, () => {
        if (found.isActive) this.#end(found, 'shutoff', STOPPED_SHUTDOWN);
      });
    });
  }

  destroyDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#change('destroyDomain', domain, undefined, options, (found) =>
      this.#end(found, 'shutoff', 1),
    );
  }

  undefineDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#answer('undefineDomain', options, () => {
      const found = this.#known('undefineDomain', domain.uuid);
      this.#forget(found);
      this.#lifecycle(found, 'undefined', 0);
    });
  }

  suspendDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#change('suspendDomain', domain, undefined, options, (found) => {
      found.state = 'paused';
      this.#lifecycle(found, 'suspended', 0);
    });
  }

  resumeDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#change('resumeDomain', domain, undefined, options, (found) => {
      found.state = 'running';
      this.#lifecycle(found, 'resumed', 0);
      this.#followBalloon(found);
    });
  }

  resetDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#change('resetDomain', domain, undefined, options, (found) => {
      found.resetGuest();
      this.#followBalloon(found);
    });
  }

  getMetadata(
    domain: DomainRef,
    namespaceUri: string,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<string | undefined> {
    return this.#answer('getMetadata', options, () =>
      this.#known('getMetadata', domain.uuid).metadata.get(namespaceUri),
    );
  }

  setMetadata(
    domain: DomainRef,
    namespaceUri: string,
    _key: string,
    xml: string | undefined,
    _affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    return this.#answer('setMetadata', options, () => {
      const found = this.#known('setMetadata', domain.uuid);
      if (xml === undefined) found.metadata.delete(namespaceUri);
      else found.metadata.set(namespaceUri, xml);
    });
  }

  migrateToUri3(
    domain: DomainRef,
    destinationUri: string | undefined,
    _parameters: TypedParameters,
    _flags: number,
    options?: CallOptions,
  ): Promise<void> {
    return this.#change('migrateToUri3', domain, destinationUri, options, (found) =>
      this.migrateAway(found.uuid),
    );
  }

  // ---- Libvirt: host ---------------------------------------------------------------------------------------------

  nodeInfo(options?: CallOptions): Promise<NodeInfo> {
    const { cpus, memoryKib } = this.#host;
    return this.#answer('nodeInfo', options, () => ({
      model: 'x86_64',
      memoryKib: BigInt(memoryKib),
      cpus,
      mhz: 3000,
      nodes: 1,
      sockets: 1,
      cores: cpus,
      threads: 1,
    }));
  }

  nodeCpuStats(cpu: number | 'all', options?: CallOptions): Promise<Readonly<Record<string, bigint>>> {
    return this.#answer('nodeCpuStats', options, () => {
      const cpus = cpu === 'all' ? this.#host.cpus : 1;
      const busyNs = [...this.#domains.values()].reduce((sum, domain) => sum + domain.cpuNs, 0);
      const allNs = this.clock.monotonicMs() * 1e6 * cpus;
      const idleNs = Math.max(0, allNs - busyNs);
      return { user: BigInt(Math.floor(busyNs)), kernel: 0n, iowait: 0n, idle: BigInt(Math.floor(idleNs)) };
    });
  }

  nodeMemoryStats(_cell: number | 'all', options?: CallOptions): Promise<Readonly<Record<string, bigint>>> {
    return this.#answer('nodeMemoryStats', options, () => {
      const heldKib = [...this.#domains.values()].reduce(
        (sum, domain) => sum + (domain.isActive ? domain.heldKib : 0),
        0,
      );
      const freeKib = Math.max(0, this.#host.memoryKib - heldKib);
      return { total: BigInt(this.#host.memoryKib), free: BigInt(freeKib), buffers: 0n, cached: 0n };
    });
  }

  capabilities(options?: CallOptions): Promise<string> {
    return this.#answer('capabilities', options, () => '<capabilities><host><cpu/></host></capabilities>');
  }

  versions(options?: CallOptions): Promise<{ libvirt: string; hypervisor: string }> {
    return this.#answer('versions', options, () => ({ libvirt: '9.0.0', hypervisor: '7.2.0' }));
  }

  // ---- how every call goes ---------------------------------------------------------------------------------------

  /** Count the call, apply the faults that are set, then run `work` at once. */
  async #answer<T>(call: FakeCall, options: CallOptions | undefined, work: () => T | Promise<T>): Promise<T> {
    this.calls.set(call, (this.calls.get(call) ?? 0) + 1);
    if (options?.signal?.aborted)
      throw failure(call, LIBVIRT_ERROR.cancelled, 'cancelled before it started', true);
    if (this.#connection.state === 'disconnected') {
      throw failure(call, LIBVIRT_ERROR.disconnected, this.#connection.reason, true);
    }
    if (!this.#isAnswering) await this.#hang(call, options?.timeoutMs);
    const latencyMs = this.#latencyMs.get(call) ?? 0;
    if (latencyMs > 0) await this.#after(latencyMs, () => {});
    const injected = this.#failures.get(call)?.shift();
    if (injected !== undefined) throw injected;
    return work();
  }

  #change(
    call: FakeCall,
    domain: DomainRef,
    argument: unknown,
    options: CallOptions | undefined,
    work: (found: FakeDomain) => void | Promise<void>,
  ): Promise<void> {
    return this.#answer(call, options, () => {
      const found = this.#active(call, domain);
      if (this.changes.length < CHANGES_MAX) this.changes.push({ call, guest: found.uuid, argument });
      return work(found);
    });
  }

  #hang(call: FakeCall, timeoutMs: number | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#hanging.delete(fail);
        this.#resuming.delete(resume);
        cancel?.();
      };
      const fail = (error: LibvirtError) => {
        done();
        reject(error);
      };
      const resume = () => {
        done();
        resolve();
      };
      this.#hanging.add(fail);
      this.#resuming.add(resume);
      const cancel =
        timeoutMs === undefined
          ? undefined
          : this.clock.after(timeoutMs, () => fail(failure(call, LIBVIRT_ERROR.timeout, 'timed out')));
    });
  }

  #after<T>(delayMs: number, work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.clock.after(delayMs, () => {
        try {
          resolve(work());
        } catch (cause) {
          reject(cause);
        }
      });
    });
  }

  #existing(guest: string): FakeDomain {
    return this.#known('lookupByName', guest);
  }

  #known(call: FakeCall, guest: string): FakeDomain {
    const domain = this.find(guest);
    if (domain === undefined) {
      throw failure(
        call,
        LIBVIRT_ERROR.noDomain,
        `Domain not found: no domain with matching uuid '${guest}'`,
      );
    }
    return domain;
  }

  #active(call: FakeCall, domain: DomainRef): FakeDomain {
    const found = this.#known(call, domain.uuid);
    if (!found.isActive) {
      throw failure(
        call,
        LIBVIRT_ERROR.operationInvalid,
        'Requested operation is not valid: domain is not running',
      );
    }
    return found;
  }

  #disk(call: FakeCall, domain: FakeDomain, target: string): FakeDisk {
    const disk = domain.disks.find((candidate) => candidate.target === target);
    if (disk === undefined)
      throw failure(call, LIBVIRT_ERROR.invalidArg, `disk '${target}' was not found in the domain config`);
    return disk;
  }

  #interface(call: FakeCall, domain: FakeDomain, device: string): FakeInterface {
    const nic = domain.interfaces.find(
      (candidate) => candidate.target === device || candidate.mac === device,
    );
    if (nic === undefined)
      throw failure(call, LIBVIRT_ERROR.invalidArg, `'${device}' is not a known interface`);
    return nic;
  }

  #fromXml(xml: string): FakeDomain {
    const read = readDomainXml(xml);
    const ref = this.addGuest({
      name: read.name,
      uuid: read.uuid,
      type: read.type === 'qemu' ? 'qemu' : 'kvm',
      state: 'shutoff',
      vcpusMax: read.vcpusMax,
      vcpusPlugged: read.vcpusPlugged,
      bootMemoryKib: read.memoryKib,
      balloonKib: read.currentMemoryKib,
      disks: read.disks.map((disk) => disk.target),
      interfaces: read.interfaces.map((nic) => nic.type),
    });
    return this.#existing(ref.uuid);
  }

  #start(domain: FakeDomain, paused: boolean): void {
    domain.id = this.#nextId++;
    domain.resetHostCounters();
    domain.resetGuest();
    domain.state = paused ? 'paused' : 'running';
    this.#lifecycle(domain, 'started', 0);
    if (paused) this.#lifecycle(domain, 'suspended', 0);
    this.#followBalloon(domain);
  }

  #end(domain: FakeDomain, state: 'shutoff' | 'crashed', detail: number): void {
    domain.state = state;
    const { ref } = domain;
    domain.id = -1;
    if (detail !== STOPPED_SAVED && detail !== STOPPED_MIGRATED) domain.dropLiveSettings();
    this.#emit({ kind: 'lifecycle', domain: ref, event: 'stopped', detail });
  }

  #forget(domain: FakeDomain): void {
    this.#domains.delete(domain.uuid);
    this.#uuidByName.delete(domain.name);
  }

  #lifecycle(domain: FakeDomain, event: LifecycleEvent, detail: number): void {
    this.#emit({ kind: 'lifecycle', domain: domain.ref, event, detail });
  }

  #emit(event: LibvirtEvent): void {
    if (this.#connection.state === 'disconnected') return;
    queueMicrotask(() => {
      for (const listener of [...(this.#listeners.get(event.kind) ?? [])]) listener(event as never);
    });
  }

  #tellConnection(): void {
    for (const listener of [...this.#connectionListeners]) listener(this.#connection);
  }
}

const VIR_ERR_ERROR = 2;
const VIR_ERR_SYSTEM_ERROR = 38;
const VIR_FROM_QEMU = 10;

function failure(call: FakeCall, code: number, message: string, notStarted = false): LibvirtError {
  return new LibvirtError({ code, domain: VIR_FROM_QEMU, level: VIR_ERR_ERROR, message, call, notStarted });
}

function unsupported(call: FakeCall, message: string): LibvirtError {
  return failure(call, LIBVIRT_ERROR.operationUnsupported, message);
}

/** Indices of libvirt's list syntax, as "1,3-4". */
function indicesOf(map: string): number[] {
  return map.split(',').flatMap((part) => {
    const [first = Number.NaN, last = first] = part.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}
