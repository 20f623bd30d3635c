/**
 * The adapter's own boundary: libvirt's calls, typed, in libvirt's words and units (KiB, cumulative nanoseconds,
 * typed parameters). `native/` implements it over libvirt.so, `fake/` in memory; telemetry and actuators
 * are written against it and know neither.
 */

/** A libvirt typed parameter's value. 64-bit integers are bigint, so that no counter loses a unit above 2^53. */
export type TypedValue = number | bigint | boolean | string;
export type TypedParameters = Readonly<Record<string, TypedValue>>;

/** Groups of virConnectGetAllDomainStats; the bit of each is libvirt's VIR_DOMAIN_STATS_*. */
export const STATS_GROUPS = {
  state: 1 << 0,
  cpuTotal: 1 << 1,
  balloon: 1 << 2,
  vcpu: 1 << 3,
  interface: 1 << 4,
  block: 1 << 5,
  perf: 1 << 6,
  iothread: 1 << 7,
  memory: 1 << 8,
  dirtyRate: 1 << 9,
} as const;
export type StatsGroup = keyof typeof STATS_GROUPS;

/** Types of a packed statistic, as in virTypedParameterType. */
export const STATS_TYPE = { int: 1, uint: 2, llong: 3, ullong: 4, double: 5, boolean: 6, string: 7 } as const;

/**
 * One answer of GetAllDomainStats, packed off the JavaScript thread: record i of domain d lies at
 * `offsets[d] <= i < offsets[d + 1]`, its key is `keys[keyIds[i]]`.
 *
 * - `values`: BigInt64Array[records]. Integers and booleans as they are (ullong by two's complement), doubles
 *   as their IEEE bits, strings as an index into `strings`.
 * - `types`: Uint8Array[records], one of STATS_TYPE.
 * - `keys` is shared by all answers of one connection and only ever grows.
 */
export interface DomainStats {
  readonly domains: readonly DomainRef[];
  readonly offsets: Uint32Array;
  readonly keyIds: Uint32Array;
  readonly types: Uint8Array;
  readonly values: BigInt64Array;
  readonly keys: readonly string[];
  readonly strings: readonly string[];
}

/** Names a domain in every call. libvirt looks it up by UUID, which survives a rename. */
export interface DomainRef {
  readonly uuid: string;
  readonly name: string;
  /** Hypervisor's id while running, -1 when shut off. */
  readonly id: number;
}

/** What a change affects: the running guest, its stored definition, or both. */
export interface Affect {
  readonly live?: boolean;
  readonly config?: boolean;
}

/** `guest: true` asks the guest agent to switch vCPUs on or off instead of plugging them. */
export interface VcpusFlags extends Affect {
  readonly maximum?: boolean;
  readonly guest?: boolean;
  readonly hotpluggable?: boolean;
}

/** virDomainMemoryStats, KiB except the counters; only what the driver reported is present. */
export interface MemoryStats {
  readonly swapInKib?: number;
  readonly swapOutKib?: number;
  readonly majorFaults?: bigint;
  readonly minorFaults?: bigint;
  readonly unusedKib?: number;
  readonly availableKib?: number;
  readonly usableKib?: number;
  readonly actualBalloonKib?: number;
  readonly rssKib?: number;
  readonly diskCachesKib?: number;
  readonly lastUpdateS?: number;
}

export interface NodeInfo {
  readonly model: string;
  readonly memoryKib: bigint;
  readonly cpus: number;
  readonly mhz: number;
  readonly nodes: number;
  readonly sockets: number;
  readonly cores: number;
  readonly threads: number;
}

/** Domain states of virDomainState, by number. */
export const DOMAIN_STATES = [
  'nostate',
  'running',
  'blocked',
  'paused',
  'shutdown',
  'shutoff',
  'crashed',
  'pmsuspended',
] as const;
export type DomainState = (typeof DOMAIN_STATES)[number];

/** A libvirt event, as its callback delivered it. `event` and `detail` numbers are libvirt's enums. */
export type LibvirtEvent =
  | {
      readonly kind: 'lifecycle';
      readonly domain: DomainRef;
      readonly event: LifecycleEvent;
      readonly detail: number;
    }
  | { readonly kind: 'balloon-change'; readonly domain: DomainRef; readonly actualKib: bigint }
  | { readonly kind: 'device-added'; readonly domain: DomainRef; readonly device: string }
  | { readonly kind: 'device-removed'; readonly domain: DomainRef; readonly device: string }
  | { readonly kind: 'tunable'; readonly domain: DomainRef; readonly parameters: TypedParameters }
  | {
      readonly kind: 'agent-lifecycle';
      readonly domain: DomainRef;
      readonly connected: boolean;
      readonly reason: number;
    }
  | {
      readonly kind: 'memory-device-size-change';
      readonly domain: DomainRef;
      readonly alias: string;
      readonly sizeKib: bigint;
    }
  | { readonly kind: 'job-completed'; readonly domain: DomainRef; readonly parameters: TypedParameters };
export type LibvirtEventKind = LibvirtEvent['kind'];

export const LIFECYCLE_EVENTS = [
  'defined',
  'undefined',
  'started',
  'suspended',
  'resumed',
  'stopped',
  'shutdown',
  'pmsuspended',
  'crashed',
] as const;
export type LifecycleEvent = (typeof LIFECYCLE_EVENTS)[number];

/** Whether the hypervisor can be reached. `connected` fires again after each reconnect, events re-registered. */
export type ConnectionState =
  | { readonly state: 'connected' }
  | { readonly state: 'disconnected'; readonly reason: string };

/** Options of every call. `timeoutMs` overrides the lane's; an aborted call that has not started never starts. */
export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

/**
 * A failed libvirt call: libvirt's own code, domain and level, and which call it was. Codes of ours are below 0.
 * `notStarted` is true when the call never reached libvirt (lane closed, cancelled, or timed out in the queue), so a
 * repeat is safe.
 */
export class LibvirtError extends Error {
  override readonly name = 'LibvirtError';
  readonly code: number;
  readonly domain: number;
  readonly level: number;
  readonly call: string;
  readonly notStarted: boolean;

  constructor(fields: {
    code: number;
    domain: number;
    level: number;
    message: string;
    call: string;
    notStarted?: boolean;
  }) {
    super(`${fields.call}: ${fields.message}`);
    this.code = fields.code;
    this.domain = fields.domain;
    this.level = fields.level;
    this.call = fields.call;
    this.notStarted = fields.notStarted ?? false;
  }
}

/** libvirt's error codes that we tell apart (virErrorNumber), and our own below 0. */
export const LIBVIRT_ERROR = {
  library: -1, //        libvirt.so is absent or lacks the call
  timeout: -2, //        no answer within the call's time-out; it may still take effect
  cancelled: -3, //      aborted before it started
  disconnected: -4, //   no connection at the moment
  laneFull: -5, //       the lane's queue is at its bound
  internal: 1,
  noSupport: 3,
  noConnect: 5,
  invalidArg: 8,
  operationFailed: 9,
  rpc: 39,
  noDomain: 42,
  operationInvalid: 55,
  operationTimeout: 68,
  configUnsupported: 67,
  argumentUnsupported: 74,
  operationUnsupported: 84,
  agentUnresponsive: 86,
  deviceMissing: 99,
} as const;

/** libvirt's calls that Foreshade uses. Every method rejects with LibvirtError. */
export interface Libvirt {
  readonly connection: ConnectionState;

  /** Subscribe to an event kind of all domains; survives reconnects. Returns the unsubscribe function. */
  on<K extends LibvirtEventKind>(
    kind: K,
    listener: (event: Extract<LibvirtEvent, { kind: K }>) => void,
  ): () => void;
  /** Connection changes. Called at once with the present state. Returns the unsubscribe function. */
  onConnection(listener: (state: ConnectionState) => void): () => void;
  close(): Promise<void>;

  listDomains(filter?: { active?: boolean; inactive?: boolean }, options?: CallOptions): Promise<DomainRef[]>;
  lookupByName(name: string, options?: CallOptions): Promise<DomainRef>;
  domainState(domain: DomainRef, options?: CallOptions): Promise<{ state: DomainState; reason: number }>;
  allDomainStats(
    groups: readonly StatsGroup[],
    options?: CallOptions & { domains?: readonly DomainRef[] },
  ): Promise<DomainStats>;
  memoryStats(domain: DomainRef, options?: CallOptions): Promise<MemoryStats>;
  setMemoryStatsPeriod(
    domain: DomainRef,
    periodS: number,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void>;

  setVcpus(domain: DomainRef, count: number, flags: VcpusFlags, options?: CallOptions): Promise<void>;
  getVcpus(domain: DomainRef, flags: VcpusFlags, options?: CallOptions): Promise<number>;
  getMaxVcpus(domain: DomainRef, options?: CallOptions): Promise<number>;
  /** virDomainSetVcpu: plug or unplug the vCPUs named by `map` ("1,3-4"). */
  setVcpu(
    domain: DomainRef,
    map: string,
    online: boolean,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void>;
  setMemory(
    domain: DomainRef,
    kib: bigint,
    affect: Affect & { maximum?: boolean },
    options?: CallOptions,
  ): Promise<void>;

  attachDevice(domain: DomainRef, xml: string, affect: Affect, options?: CallOptions): Promise<void>;
  detachDevice(domain: DomainRef, xml: string, affect: Affect, options?: CallOptions): Promise<void>;
  updateDevice(domain: DomainRef, xml: string, affect: Affect, options?: CallOptions): Promise<void>;

  setBlockIoTune(
    domain: DomainRef,
    disk: string,
    parameters: TypedParameters,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void>;
  getBlockIoTune(
    domain: DomainRef,
    disk: string,
    affect: Affect,
    options?: CallOptions,
  ): Promise<TypedParameters>;
  setInterfaceParameters(
    domain: DomainRef,
    device: string,
    parameters: TypedParameters,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void>;
  getInterfaceParameters(
    domain: DomainRef,
    device: string,
    affect: Affect,
    options?: CallOptions,
  ): Promise<TypedParameters>;
  setSchedulerParameters(
    domain: DomainRef,
    parameters: TypedParameters,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void>;
  getSchedulerParameters(domain: DomainRef, affect: Affect, options?: CallOptions): Promise<TypedParameters>;
  setPerfEvents(
    domain: DomainRef,
    events: Readonly<Record<string, boolean>>,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void>;
  getPerfEvents(
    domain: DomainRef,
    affect: Affect,
    options?: CallOptions,
  ): Promise<Readonly<Record<string, boolean>>>;
  /** `cpus` is libvirt's map syntax without holes: bit i of byte i / 8 is host CPU i. */
  pinVcpu(
    domain: DomainRef,
    vcpu: number,
    cpus: Uint8Array,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void>;
  pinEmulator(domain: DomainRef, cpus: Uint8Array, affect: Affect, options?: CallOptions): Promise<void>;

  domainXml(domain: DomainRef, options?: CallOptions & { inactive?: boolean }): Promise<string>;
  qemuMonitorCommand(
    domain: DomainRef,
    command: string,
    options?: CallOptions & { hmp?: boolean },
  ): Promise<string>;
  /** `agentTimeoutS` is libvirt's own: seconds to wait for the guest agent. */
  qemuAgentCommand(
    domain: DomainRef,
    command: string,
    agentTimeoutS: number,
    options?: CallOptions,
  ): Promise<string>;

  defineDomain(xml: string, options?: CallOptions): Promise<DomainRef>;
  /** Start a transient domain from XML. */
  createDomainFromXml(xml: string, options?: CallOptions & { paused?: boolean }): Promise<DomainRef>;
  createDomain(domain: DomainRef, options?: CallOptions & { paused?: boolean }): Promise<void>;
  /** Ask the guest to power off, by its agent or by ACPI as libvirt chooses; returns before it does. */
  shutdownDomain(domain: DomainRef, options?: CallOptions): Promise<void>;
  destroyDomain(domain: DomainRef, options?: CallOptions): Promise<void>;
  undefineDomain(domain: DomainRef, options?: CallOptions): Promise<void>;
  suspendDomain(domain: DomainRef, options?: CallOptions): Promise<void>;
  resumeDomain(domain: DomainRef, options?: CallOptions): Promise<void>;
  resetDomain(domain: DomainRef, options?: CallOptions): Promise<void>;
  /** The metadata element of our namespace, or undefined when there is none. */
  getMetadata(
    domain: DomainRef,
    namespaceUri: string,
    affect: Affect,
    options?: CallOptions,
  ): Promise<string | undefined>;
  /** Set or (with `xml` undefined) remove the metadata element of a namespace. `key` is its prefix. */
  setMetadata(
    domain: DomainRef,
    namespaceUri: string,
    key: string,
    xml: string | undefined,
    affect: Affect,
    options?: CallOptions,
  ): Promise<void>;
  /** @param flags virDomainMigrateFlags */
  migrateToUri3(
    domain: DomainRef,
    destinationUri: string | undefined,
    parameters: TypedParameters,
    flags: number,
    options?: CallOptions,
  ): Promise<void>;

  nodeInfo(options?: CallOptions): Promise<NodeInfo>;
  /** Cumulative nanoseconds by kind (`user`, `kernel`, `idle`, `iowait`), of one host CPU or of all. */
  nodeCpuStats(cpu: number | 'all', options?: CallOptions): Promise<Readonly<Record<string, bigint>>>;
  /** KiB by kind (`total`, `free`, `buffers`, `cached`), of one NUMA cell or of all. */
  nodeMemoryStats(cell: number | 'all', options?: CallOptions): Promise<Readonly<Record<string, bigint>>>;
  capabilities(options?: CallOptions): Promise<string>;
  /** libvirt's and the hypervisor's versions, as major.minor.release. */
  versions(options?: CallOptions): Promise<{ libvirt: string; hypervisor: string }>;
}
