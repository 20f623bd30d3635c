import {
  type Affect,
  type CallOptions,
  type ConnectionState,
  DOMAIN_STATES,
  type DomainRef,
  type DomainState,
  type DomainStats,
  type Libvirt,
  LibvirtError,
  type LibvirtEvent,
  type LibvirtEventKind,
  type MemoryStats,
  type NodeInfo,
  STATS_GROUPS,
  type StatsGroup,
  type TypedParameters,
  type VcpusFlags,
} from '../libvirt.ts';
import { decodeEvent, EventListeners, tellSafely } from './events.ts';
import { Lane, type LaneOptions, TIMEOUT_MS_MAX } from './lane.ts';
import { type LibraryPaths, ownError, type RawDomains, type RawStats } from './native.ts';
import {
  BLOCK_IO_TUNE_PARAMETERS,
  encodeParameters,
  INTERFACE_PARAMETERS,
  MIGRATE_PARAMETERS,
  type ParameterTable,
  PERF_EVENTS,
  SCHEDULER_PARAMETERS,
} from './parameters.ts';
import { decodeDomains, StatsDecoder } from './stats.ts';

/** How to connect; everything has a default. */
export interface NativeLibvirtOptions {
  /** Seconds between keepalive probes, and how many may stay unanswered. Interval 0 sends none. */
  readonly keepalive?: { readonly intervalS: number; readonly count: number };
  /** Time-out of a call that names none, by lane, ms; the time in the queue counts. */
  readonly timeoutsMs?: { readonly stats?: number; readonly control?: number; readonly slow?: number };
  /** How long the first connection may take, ms. */
  readonly openTimeoutMs?: number;
  readonly library?: LibraryPaths;
}

/** A dead daemon is noticed after about (count + 1) intervals: 8 s. A busy one is given that long. */
const KEEPALIVE_DEFAULT = { intervalS: 2, count: 3 } as const;

/** Largest keepalive interval, s, and count: a daemon dead for longer than their product is no keepalive's business. */
const KEEPALIVE_INTERVAL_S_MAX = 3_600;
const KEEPALIVE_COUNT_MAX = 1_000;

/** Ten missed samples, a slow attach, and an agent that is given its own time-out first. */
const TIMEOUTS_MS_DEFAULT = { stats: 10_000, control: 15_000, slow: 60_000 } as const;
const OPEN_TIMEOUT_MS_DEFAULT = 10_000;

/** A migration takes as long as the guest's memory takes to copy, ms: no limit of ours unless asked. */
const MIGRATE_TIMEOUT_MS = TIMEOUT_MS_MAX;

/**
 * Lanes of each kind. A guest's calls always take the same one, in order; a guest whose monitor or agent hangs
 * holds up only those that share its lane.
 */
const CONTROL_LANES = 2;
const SLOW_LANES = 4;

/** Flags of libvirt's headers. */
const AFFECT = { live: 1, config: 2 } as const;
const VCPU = { maximum: 4, guest: 8, hotpluggable: 16 } as const;
const MEMORY_MAXIMUM = 4;
const LIST = { active: 1, inactive: 2 } as const;
const XML_INACTIVE = 2;
const START_PAUSED = 1;
const MONITOR_HMP = 1;

/** VIR_ERR_NO_DOMAIN_METADATA */
const NO_METADATA = 80;

/** Room for scheduler parameters; the wire protocol's own bound. QEMU has 9. */
const SCHEDULER_PARAMETERS_MAX = 16;

/** virNodeGetCPUStats and virNodeGetMemoryStats take -1 for all. */
const ALL = -1;

/** Fields of MemoryStats by virDomainMemoryStatTags; faults are counters, the rest fits a number. */
const MEMORY_STATS = [
  'swapInKib',
  'swapOutKib',
  'majorFaults',
  'minorFaults',
  'unusedKib',
  'availableKib',
  'actualBalloonKib',
  'rssKib',
  'usableKib',
  'lastUpdateS',
  'diskCachesKib',
] as const satisfies readonly (keyof MemoryStats)[];

/**
 * libvirt through our own addon. Each lane is a native thread with a connection of its own, and one more connection
 * delivers events; nothing runs on libuv's pool. An open connection keeps the process alive until `close`.
 */
export class NativeLibvirt implements Libvirt {
  readonly #stats: Lane;
  readonly #control: readonly Lane[];
  readonly #slow: readonly Lane[];
  readonly #events: Lane;
  readonly #statsDecoder = new StatsDecoder();
  readonly #listeners = new EventListeners();
  readonly #connectionListeners = new Set<(state: ConnectionState) => void>();
  #connection: ConnectionState = { state: 'disconnected', reason: 'the connection is not open yet' };
  #closed = false;

  private constructor(uri: string, options: NativeLibvirtOptions) {
    const { library = {}, timeoutsMs = {}, keepalive = KEEPALIVE_DEFAULT } = options;
    const lane = (name: string, timeoutMs: number, more: Pick<LaneOptions, 'onEvent'> = {}): Lane =>
      new Lane({
        name,
        uri,
        library,
        keepaliveIntervalS: keepalive.intervalS,
        keepaliveCount: keepalive.count,
        timeoutMs,
        onState: (reason) => this.#updateConnection(reason),
        ...more,
      });
    const timeouts = { ...TIMEOUTS_MS_DEFAULT, ...timeoutsMs };
    this.#stats = lane('stats', timeouts.stats);
    this.#control = Array.from({ length: CONTROL_LANES }, () => lane('control', timeouts.control));
    this.#slow = Array.from({ length: SLOW_LANES }, () => lane('slow', timeouts.slow));
    this.#events = lane('events', timeouts.control, {
      onEvent: (kind, domain, fields) => {
        const event = decodeEvent(kind, domain, fields);
        if (event !== undefined) this.#listeners.tell(event);
      },
    });
  }

  /**
   * Connect, for example to `qemu:///system` or `test:///default`. From then on a lost connection is opened again by
   * itself; a first one that fails is not.
   *
   * @throws {LibvirtError} LIBVIRT_ERROR.library, invalidArg, timeout, or libvirt's own
   */
  static async open(uri: string, options: NativeLibvirtOptions = {}): Promise<NativeLibvirt> {
    checkOptions(uri, options);
    const libvirt = new NativeLibvirt(uri, options);
    const { openTimeoutMs = OPEN_TIMEOUT_MS_DEFAULT } = options;
    try {
      await withinTime(Promise.all(libvirt.#lanes().map((lane) => lane.open())), openTimeoutMs);
    } catch (error) {
      void libvirt.close();
      throw error;
    }
    libvirt.#updateConnection(undefined);
    return libvirt;
  }

  get connection(): ConnectionState {
    return this.#connection;
  }

  on<K extends LibvirtEventKind>(
    kind: K,
    listener: (event: Extract<LibvirtEvent, { kind: K }>) => void,
  ): () => void {
    return this.#listeners.add(kind, listener);
  }

  onConnection(listener: (state: ConnectionState) => void): () => void {
    const own = (state: ConnectionState): void => listener(state);
    this.#connectionListeners.add(own);
    listener(this.#connection);
    return () => void this.#connectionListeners.delete(own);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all(this.#lanes().map((lane) => lane.close()));
    this.#setConnection({ state: 'disconnected', reason: 'the connection was closed' });
  }

  // --- domains ---------------------------------------------------------------------------------------------

  async listDomains(
    filter: { active?: boolean; inactive?: boolean } = {},
    options?: CallOptions,
  ): Promise<DomainRef[]> {
    const active = filter.active ?? filter.inactive !== true;
    const inactive = filter.inactive ?? filter.active !== true;
    if (!active && !inactive) return [];
    const flags = (active ? LIST.active : 0) | (inactive ? LIST.inactive : 0);
    return this.#host('virConnectListAllDomains', [flags], decodeDomains, options);
  }

  lookupByName(name: string, options?: CallOptions): Promise<DomainRef> {
    return this.#host('virDomainLookupByName', [name], decodeDomain, options);
  }

  domainState(domain: DomainRef, options?: CallOptions): Promise<{ state: DomainState; reason: number }> {
    const decode = ([state, reason]: [number, number]): { state: DomainState; reason: number } => ({
      state: DOMAIN_STATES[state] ?? 'nostate',
      reason,
    });
    return this.#guest(domain, 'virDomainGetState', [], decode, options);
  }

  domainXml(domain: DomainRef, options: CallOptions & { inactive?: boolean } = {}): Promise<string> {
    const flags = options.inactive ? XML_INACTIVE : 0;
    return this.#guest(domain, 'virDomainGetXMLDesc', [flags], asText, options);
  }

  defineDomain(xml: string, options?: CallOptions): Promise<DomainRef> {
    return this.#host('virDomainDefineXMLFlags', [xml, 0], decodeDomain, options);
  }

  createDomainFromXml(xml: string, options: CallOptions & { paused?: boolean } = {}): Promise<DomainRef> {
    const flags = options.paused ? START_PAUSED : 0;
    return laneOf(this.#slow, xml).run('virDomainCreateXML', [xml, flags], decodeDomain, options);
  }

  createDomain(domain: DomainRef, options: CallOptions & { paused?: boolean } = {}): Promise<void> {
    const flags = options.paused ? START_PAUSED : 0;
    return this.#guestSlow(domain, 'virDomainCreateWithFlags', [flags], asNothing, options);
  }

  /** An agent that hangs holds it up. */
  shutdownDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#guestSlow(domain, 'virDomainShutdownFlags', [0], asNothing, options);
  }

  destroyDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#guestSlow(domain, 'virDomainDestroyFlags', [0], asNothing, options);
  }

  undefineDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#guest(domain, 'virDomainUndefineFlags', [0], asNothing, options);
  }

  suspendDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#guest(domain, 'virDomainSuspend', [], asNothing, options);
  }

  resumeDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#guest(domain, 'virDomainResume', [], asNothing, options);
  }

  resetDomain(domain: DomainRef, options?: CallOptions): Promise<void> {
    return this.#guest(domain, 'virDomainReset', [0], asNothing, options);
  }

  async getMetadata(
    domain: DomainRef,
    namespaceUri: string,
    affect: Affect,
    options?: CallOptions,
  ): Promise<string | undefined> {
    const parameters = [namespaceUri, affectFlags(affect)];
    try {
      return await this.#guest(domain, 'virDomainGetMetadata', parameters, asText, options);
    } catch (error) {
      if (error instanceof LibvirtError && error.code === NO_METADATA) return undefined;
      throw error;
    }
  }

  setMetadata(
    domain: DomainRef,
    namespaceUri: string,
    key: string,
    xml: string | undefined,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    const parameters = [namespaceUri, key, xml, affectFlags(affect)];
    return this.#guest(domain, 'virDomainSetMetadata', parameters, asNothing, options);
  }

  async migrateToUri3(
    domain: DomainRef,
    destinationUri: string | undefined,
    parameters: TypedParameters,
    flags: number,
    options?: CallOptions,
  ): Promise<void> {
    const call = 'virDomainMigrateToURI3';
    const raw = [destinationUri, encodeParameters(call, MIGRATE_PARAMETERS, parameters), flags];
    await this.#guestSlow(domain, call, raw, asNothing, { timeoutMs: MIGRATE_TIMEOUT_MS, ...options });
  }

  // --- statistics ------------------------------------------------------------------------------------------

  /** A domain of `options.domains` that is gone is absent from the answer. */
  async allDomainStats(
    groups: readonly StatsGroup[],
    options: CallOptions & { domains?: readonly DomainRef[] } = {},
  ): Promise<DomainStats> {
    const { domains } = options;
    const call = domains === undefined ? 'virConnectGetAllDomainStats' : 'virDomainListGetStats';
    const mask = groups.reduce((bits, group) => bits | STATS_GROUPS[group], 0);
    // libvirt takes an empty mask for "everything", the most expensive answer of all.
    if (mask === 0) throw ownError('invalidArg', call, 'groups must name at least one of STATS_GROUPS');
    const parameters = domains === undefined ? [mask, 0] : [domains.map(({ uuid }) => uuid), mask, 0];
    return this.#stats.run(call, parameters, (raw: RawStats) => this.#statsDecoder.decode(raw), options);
  }

  memoryStats(domain: DomainRef, options?: CallOptions): Promise<MemoryStats> {
    return this.#stats.run('virDomainMemoryStats', [domain.uuid], decodeMemoryStats, options);
  }

  setMemoryStatsPeriod(
    domain: DomainRef,
    periodS: number,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    const parameters = [periodS, affectFlags(affect)];
    return this.#guest(domain, 'virDomainSetMemoryStatsPeriod', parameters, asNothing, options);
  }

  // --- vCPUs and memory ------------------------------------------------------------------------------------

  /** A plug takes milliseconds; with `guest` the agent is asked, which may hang. */
  setVcpus(domain: DomainRef, count: number, flags: VcpusFlags, options?: CallOptions): Promise<void> {
    const parameters = [count, vcpusFlags(flags)];
    const lane = laneOf(flags.guest ? this.#slow : this.#control, domain.uuid);
    return lane.run('virDomainSetVcpusFlags', [domain.uuid, ...parameters], asNothing, options);
  }

  getVcpus(domain: DomainRef, flags: VcpusFlags, options?: CallOptions): Promise<number> {
    const lane = laneOf(flags.guest ? this.#slow : this.#control, domain.uuid);
    return lane.run('virDomainGetVcpusFlags', [domain.uuid, vcpusFlags(flags)], asNumber, options);
  }

  getMaxVcpus(domain: DomainRef, options?: CallOptions): Promise<number> {
    return this.#guest(domain, 'virDomainGetMaxVcpus', [], asNumber, options);
  }

  /** An unplug waits for the guest: libvirt gives up after 5 s. */
  setVcpu(
    domain: DomainRef,
    map: string,
    online: boolean,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    const parameters = [domain.uuid, map, online, affectFlags(affect)];
    const lane = laneOf(online ? this.#control : this.#slow, domain.uuid);
    return lane.run('virDomainSetVcpu', parameters, asNothing, options);
  }

  setMemory(
    domain: DomainRef,
    kib: bigint,
    affect: Affect & { maximum?: boolean },
    options?: CallOptions,
  ): Promise<void> {
    const flags = affectFlags(affect) | (affect.maximum ? MEMORY_MAXIMUM : 0);
    return this.#guest(domain, 'virDomainSetMemoryFlags', [kib, flags], asNothing, options);
  }

  pinVcpu(
    domain: DomainRef,
    vcpu: number,
    cpus: Uint8Array,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    const parameters = [vcpu, cpus, affectFlags(affect)];
    return this.#guest(domain, 'virDomainPinVcpuFlags', parameters, asNothing, options);
  }

  pinEmulator(domain: DomainRef, cpus: Uint8Array, affect: Affect, options?: CallOptions): Promise<void> {
    return this.#guest(domain, 'virDomainPinEmulator', [cpus, affectFlags(affect)], asNothing, options);
  }

  // --- devices ---------------------------------------------------------------------------------------------

  attachDevice(domain: DomainRef, xml: string, affect: Affect, options?: CallOptions): Promise<void> {
    const parameters = [xml, affectFlags(affect)];
    return this.#guest(domain, 'virDomainAttachDeviceFlags', parameters, asNothing, options);
  }

  /** Waits for the guest to let the device go. */
  detachDevice(domain: DomainRef, xml: string, affect: Affect, options?: CallOptions): Promise<void> {
    const parameters = [xml, affectFlags(affect)];
    return this.#guestSlow(domain, 'virDomainDetachDeviceFlags', parameters, asNothing, options);
  }

  updateDevice(domain: DomainRef, xml: string, affect: Affect, options?: CallOptions): Promise<void> {
    const parameters = [xml, affectFlags(affect)];
    return this.#guest(domain, 'virDomainUpdateDeviceFlags', parameters, asNothing, options);
  }

  // --- tuning ----------------------------------------------------------------------------------------------

  setBlockIoTune(
    domain: DomainRef,
    disk: string,
    parameters: TypedParameters,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    const device = [disk];
    return this.#tune(
      domain,
      'virDomainSetBlockIoTune',
      BLOCK_IO_TUNE_PARAMETERS,
      device,
      parameters,
      affect,
      options,
    );
  }

  getBlockIoTune(
    domain: DomainRef,
    disk: string,
    affect: Affect,
    options?: CallOptions,
  ): Promise<TypedParameters> {
    return this.#guest(domain, 'virDomainGetBlockIoTune', [disk, affectFlags(affect)], asParameters, options);
  }

  setInterfaceParameters(
    domain: DomainRef,
    device: string,
    parameters: TypedParameters,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    const call = 'virDomainSetInterfaceParameters';
    return this.#tune(domain, call, INTERFACE_PARAMETERS, [device], parameters, affect, options);
  }

  getInterfaceParameters(
    domain: DomainRef,
    device: string,
    affect: Affect,
    options?: CallOptions,
  ): Promise<TypedParameters> {
    const parameters = [device, affectFlags(affect)];
    return this.#guest(domain, 'virDomainGetInterfaceParameters', parameters, asParameters, options);
  }

  setSchedulerParameters(
    domain: DomainRef,
    parameters: TypedParameters,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    const call = 'virDomainSetSchedulerParametersFlags';
    return this.#tune(domain, call, SCHEDULER_PARAMETERS, [], parameters, affect, options);
  }

  getSchedulerParameters(domain: DomainRef, affect: Affect, options?: CallOptions): Promise<TypedParameters> {
    const parameters = [SCHEDULER_PARAMETERS_MAX, affectFlags(affect)];
    return this.#guest(domain, 'virDomainGetSchedulerParametersFlags', parameters, asParameters, options);
  }

  setPerfEvents(
    domain: DomainRef,
    events: Readonly<Record<string, boolean>>,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void> {
    return this.#tune(domain, 'virDomainSetPerfEvents', PERF_EVENTS, [], events, affect, options);
  }

  getPerfEvents(
    domain: DomainRef,
    affect: Affect,
    options?: CallOptions,
  ): Promise<Readonly<Record<string, boolean>>> {
    const decode = (raw: Readonly<Record<string, boolean>>): Readonly<Record<string, boolean>> => raw;
    return this.#guest(domain, 'virDomainGetPerfEvents', [affectFlags(affect)], decode, options);
  }

  // --- passthrough -----------------------------------------------------------------------------------------

  qemuMonitorCommand(
    domain: DomainRef,
    command: string,
    options: CallOptions & { hmp?: boolean } = {},
  ): Promise<string> {
    const flags = options.hmp ? MONITOR_HMP : 0;
    return this.#guestSlow(domain, 'virDomainQemuMonitorCommand', [command, flags], asText, options);
  }

  qemuAgentCommand(
    domain: DomainRef,
    command: string,
    agentTimeoutS: number,
    options?: CallOptions,
  ): Promise<string> {
    return this.#guestSlow(domain, 'virDomainQemuAgentCommand', [command, agentTimeoutS], asText, options);
  }

  // --- the host --------------------------------------------------------------------------------------------

  nodeInfo(options?: CallOptions): Promise<NodeInfo> {
    return this.#host('virNodeGetInfo', [], (raw: NodeInfo) => raw, options);
  }

  nodeCpuStats(cpu: number | 'all', options?: CallOptions): Promise<Readonly<Record<string, bigint>>> {
    const parameters = [cpu === 'all' ? ALL : cpu];
    return this.#stats.run('virNodeGetCPUStats', parameters, asCounters, options);
  }

  nodeMemoryStats(cell: number | 'all', options?: CallOptions): Promise<Readonly<Record<string, bigint>>> {
    const parameters = [cell === 'all' ? ALL : cell];
    return this.#stats.run('virNodeGetMemoryStats', parameters, asCounters, options);
  }

  capabilities(options?: CallOptions): Promise<string> {
    return this.#host('virConnectGetCapabilities', [], asText, options);
  }

  versions(options?: CallOptions): Promise<{ libvirt: string; hypervisor: string }> {
    const decode = ([libvirt, hypervisor]: [number, number]): { libvirt: string; hypervisor: string } => ({
      libvirt: versionText(libvirt),
      hypervisor: versionText(hypervisor),
    });
    return this.#host('virConnectGetVersion', [], decode, options);
  }

  // --- lanes -----------------------------------------------------------------------------------------------

  #lanes(): Lane[] {
    return [this.#stats, ...this.#control, ...this.#slow, this.#events];
  }

  /** A call about no guest: on the control lane with the least to do. */
  #host<T>(
    call: string,
    parameters: unknown[],
    decode: (raw: never) => T,
    options?: CallOptions,
  ): Promise<T> {
    const [first, ...others] = this.#control as readonly [Lane, ...Lane[]];
    const lane = others.reduce((least, other) => (other.load < least.load ? other : least), first);
    return lane.run(call, parameters, decode, options);
  }

  #guest<T>(
    domain: DomainRef,
    call: string,
    parameters: unknown[],
    decode: (raw: never) => T,
    options?: CallOptions,
  ): Promise<T> {
    return laneOf(this.#control, domain.uuid).run(call, [domain.uuid, ...parameters], decode, options);
  }

  #guestSlow<T>(
    domain: DomainRef,
    call: string,
    parameters: unknown[],
    decode: (raw: never) => T,
    options?: CallOptions,
  ): Promise<T> {
    return laneOf(this.#slow, domain.uuid).run(call, [domain.uuid, ...parameters], decode, options);
  }

  async #tune(
    domain: DomainRef,
    call: string,
    table: ParameterTable,
    device: readonly string[],
    parameters: TypedParameters,
    affect: Affect,
    options: CallOptions | undefined,
  ): Promise<void> {
    const raw = [...device, encodeParameters(call, table, parameters), affectFlags(affect)];
    await this.#guest(domain, call, raw, asNothing, options);
  }

  /** Connected is when every lane is: a half-open connection cannot keep its promises. */
  #updateConnection(reason: string | undefined): void {
    if (this.#closed) return;
    const lost = reason ?? this.#lanes().find((lane) => lane.lostReason !== undefined)?.lostReason;
    this.#setConnection(
      lost === undefined ? { state: 'connected' } : { state: 'disconnected', reason: lost },
    );
  }

  #setConnection(state: ConnectionState): void {
    const changed = state.state !== this.#connection.state;
    if (!changed) return;
    this.#connection = state;
    for (const listener of this.#connectionListeners) tellSafely(listener, state);
  }
}

const asNothing = (): void => {};
const asText = (raw: string): string => raw;
const asNumber = (raw: number): number => raw;
const asParameters = (raw: TypedParameters): TypedParameters => raw;
const asCounters = (raw: Readonly<Record<string, bigint>>): Readonly<Record<string, bigint>> => raw;

function decodeDomain(raw: RawDomains): DomainRef {
  const [domain] = decodeDomains(raw);
  if (domain === undefined)
    throw ownError('internal', 'virDomainGetUUIDString', 'an answer without a domain', false);
  return domain;
}

function decodeMemoryStats(rows: readonly (readonly [number, bigint])[]): MemoryStats {
  const stats: Record<string, number | bigint> = {};
  for (const [tag, value] of rows) {
    const name = MEMORY_STATS[tag];
    if (name === undefined) continue;
    stats[name] = name === 'majorFaults' || name === 'minorFaults' ? value : Number(value);
  }
  return stats;
}

function versionText(version: number): string {
  return [Math.floor(version / 1_000_000), Math.floor(version / 1_000) % 1_000, version % 1_000].join('.');
}

function affectFlags(affect: Affect): number {
  return (affect.live ? AFFECT.live : 0) | (affect.config ? AFFECT.config : 0);
}

function vcpusFlags(flags: VcpusFlags): number {
  return (
    affectFlags(flags) |
    (flags.maximum ? VCPU.maximum : 0) |
    (flags.guest ? VCPU.guest : 0) |
    (flags.hotpluggable ? VCPU.hotpluggable : 0)
  );
}

/** The lane of a guest, by its UUID's letters: the same one for all its calls. */
function laneOf(lanes: readonly Lane[], uuid: string): Lane {
  let sum = 0;
  for (let i = 0; i < uuid.length; ++i) sum = (sum * 31 + uuid.charCodeAt(i)) >>> 0;
  const lane = lanes[sum % lanes.length];
  if (lane === undefined) throw new RangeError('there are no lanes');
  return lane;
}

function checkOptions(uri: string, options: NativeLibvirtOptions): void {
  const { keepalive = KEEPALIVE_DEFAULT, timeoutsMs = {}, openTimeoutMs = OPEN_TIMEOUT_MS_DEFAULT } = options;
  const problems: string[] = [];
  if (uri === '') problems.push('uri must not be empty');
  const isCount = (value: number, most: number): boolean =>
    Number.isInteger(value) && value >= 0 && value <= most;
  if (!isCount(keepalive.intervalS, KEEPALIVE_INTERVAL_S_MAX)) {
    problems.push(`keepalive.intervalS must be an integer from 0 to ${KEEPALIVE_INTERVAL_S_MAX}`);
  }
  if (!isCount(keepalive.count, KEEPALIVE_COUNT_MAX)) {
    problems.push(`keepalive.count must be an integer from 0 to ${KEEPALIVE_COUNT_MAX}`);
  }
  for (const [name, value] of Object.entries({ ...timeoutsMs, open: openTimeoutMs })) {
    if (!(value > 0 && value <= TIMEOUT_MS_MAX)) {
      problems.push(`the ${name} time-out must be above 0 and at most ${TIMEOUT_MS_MAX} ms`);
    }
  }
  if (problems.length > 0) throw ownError('invalidArg', 'virConnectOpen', problems.join('; '));
}

async function withinTime(opening: Promise<unknown>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const message = `no connection within ${timeoutMs} ms`;
    timer = setTimeout(() => reject(ownError('timeout', 'virConnectOpen', message, false)), timeoutMs);
  });
  try {
    await Promise.race([opening, late]);
  } finally {
    clearTimeout(timer);
  }
}
