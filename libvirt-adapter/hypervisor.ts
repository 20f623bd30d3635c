import { hostname } from 'node:os';
import { type CommonLimits, commonLimits } from '../orchestrator/core/device-limits.ts';
import { AllocatorError } from '../orchestrator/core/errors.ts';
import type {
  GuestCapabilities,
  GuestFacts,
  GuestId,
  GuestState,
  HostFacts,
} from '../orchestrator/core/guest.ts';
import type { GuestEvent, Hypervisor } from '../orchestrator/core/ports.ts';
import { MILLICORES_PER_VCPU } from '../orchestrator/core/profile.ts';
import { describedFacts } from './described-facts.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import { eachDomain } from './domain-stats.ts';
import type { DomainDescription } from './domain-xml.ts';
import { translate, translated } from './errors.ts';
import type { GuestAgent } from './guest-agent.ts';
import { toGuestEvents } from './guest-events.ts';
import { heldMemoryKib } from './held-memory.ts';
import {
  DOMAIN_STATES,
  type DomainRef,
  type DomainState,
  type Libvirt,
  type LibvirtEventKind,
} from './libvirt.ts';
import { CPU_SHARES_DEFAULT, commonDiskLimits, commonNetLimits, hasTap } from './limits.ts';
import type { TapShaper } from './tap-shaper.ts';

/** What only the operator or the host itself can know. */
export interface HypervisorOptions {
  /** KVM guests here survive a vCPU unplug: the operator's word. Emulated guests never do. */
  readonly kvmUnplugIsSafe?: boolean;
  /** The kernel can shape taps as libvirt does it (see canShapeTaps). */
  readonly tapShaping?: boolean;
  /** What limits taps where libvirt does not. */
  readonly tapShaper?: TapShaper;
  /** As the CpuActuator's. */
  readonly sharesDefault?: number;
  /** Told of each guest that `guests` had to leave out, and why. */
  readonly onUnreadable?: (guest: GuestId, cause: unknown) => void;
}

/** Domains described at once: enough to fill a lane, few enough for its queue. */
const DESCRIBE_AT_ONCE = 16;

const EVENT_KINDS = [
  'lifecycle',
  'balloon-change',
  'tunable',
  'device-added',
  'device-removed',
  'memory-device-size-change',
  'agent-lifecycle',
] as const satisfies LibvirtEventKind[];

const STATE_OF: Readonly<Record<DomainState, GuestState>> = {
  nostate: 'paused',
  running: 'running',
  blocked: 'running',
  paused: 'paused',
  shutdown: 'shut-off',
  shutoff: 'shut-off',
  crashed: 'crashed',
  pmsuspended: 'paused',
};

/** Guests and host as libvirt describes them. */
export class LibvirtHypervisor implements Hypervisor {
  readonly #libvirt: Libvirt;
  readonly #catalog: DomainCatalog;
  readonly #agent: GuestAgent;
  readonly #options: HypervisorOptions;
  /** undefined: not yet asked of a running guest. */
  #hasCpuQuota: boolean | undefined;

  constructor(libvirt: Libvirt, catalog: DomainCatalog, agent: GuestAgent, options: HypervisorOptions = {}) {
    this.#libvirt = libvirt;
    this.#catalog = catalog;
    this.#agent = agent;
    this.#options = options;
  }

  get available(): boolean {
    return this.#libvirt.connection.state === 'connected';
  }

  onAvailability(listener: (available: boolean) => void): () => void {
    let last: boolean | undefined;
    return this.#libvirt.onConnection(({ state }) => {
      const available = state === 'connected';
      const isFirst = last === undefined;
      const changed = last !== available;
      last = available;
      if (changed && !isFirst) listener(available);
    });
  }

  onGuestEvent(listener: (event: GuestEvent) => void): () => void {
    const unsubscribe = EVENT_KINDS.map((kind) =>
      this.#libvirt.on(kind, (event) => {
        for (const translatedEvent of toGuestEvents(event)) listener(translatedEvent);
      }),
    );
    return () => {
      for (const stop of unsubscribe) stop();
    };
  }

  async host(): Promise<HostFacts> {
    const node = await translated(this.#libvirt.nodeInfo(), {});
    return {
      name: hostname(),
      cpuMillicores: node.cpus * MILLICORES_PER_VCPU,
      memoryBytes: Number(node.memoryKib) * 1024,
    };
  }

  async guests(): Promise<GuestFacts[]> {
    const stats = await translated(this.#libvirt.allDomainStats(['state']), {});
    const found: { readonly ref: DomainRef; readonly state: DomainState }[] = [];
    eachDomain(stats, (ref, values) => {
      found.push({ ref, state: DOMAIN_STATES[values.number('state.state') ?? 0] ?? 'nostate' });
    });
    const facts: GuestFacts[] = [];
    for (let i = 0; i < found.length; i += DESCRIBE_AT_ONCE) {
      const batch = found.slice(i, i + DESCRIBE_AT_ONCE);
      const described = await Promise.all(
        batch.map(({ ref, state }) => this.#factsOrAbsent(ref.uuid, state)),
      );
      for (const guest of described) if (guest !== undefined) facts.push(guest);
    }
    return facts;
  }

  async inspect(guest: GuestId): Promise<GuestFacts> {
    try {
      const { state } = await this.#libvirt.domainState(this.#catalog.ref(guest));
      return await this.#facts(guest, state);
    } catch (cause) {
      throw translate(cause, { guest });
    }
  }

  start(guest: GuestId): Promise<void> {
    return translated(this.#libvirt.createDomain(this.#catalog.ref(guest)), { guest });
  }

  shutDown(guest: GuestId): Promise<void> {
    return translated(this.#libvirt.shutdownDomain(this.#catalog.ref(guest)), { guest });
  }

  /** A guest that went away or cannot be read leaves the others readable; a lost connection ends the listing. */
  async #factsOrAbsent(guest: GuestId, state: DomainState): Promise<GuestFacts | undefined> {
    try {
      return await this.#facts(guest, state);
    } catch (cause) {
      const error = translate(cause, { guest });
      if (!(error instanceof AllocatorError) || error.code === 'HYPERVISOR_UNAVAILABLE') throw error;
      if (error.code !== 'GUEST_NOT_FOUND') this.#options.onUnreadable?.(guest, error);
      return undefined;
    }
  }

  async #facts(guest: GuestId, domainState: DomainState): Promise<GuestFacts> {
    const domain = await this.#catalog.describe(guest);
    const state = STATE_OF[domainState];
    const isRunning = state === 'running';
    const online = isRunning ? await this.#onlineVcpus(guest, domain) : undefined;
    const memoryKib = isRunning
      ? await heldMemoryKib(this.#libvirt, this.#catalog.ref(guest), domain)
      : domain.currentMemoryKib;
    const net = await this.#netLimits(guest, domain, isRunning);
    const capabilities = await this.#capabilities(guest, domain, isRunning, net.movable);
    const { shares } = domain.cpuTune;
    const sharesDefault = this.#options.sharesDefault ?? CPU_SHARES_DEFAULT.legacy;
    const described = describedFacts(domain, state, capabilities);
    return {
      ...described,
      entitlement: {
        ...described.entitlement,
        ...(online !== undefined && { vcpuCount: online }),
        memoryBytes: memoryKib * 1024,
        ...net.limits,
        ...(capabilities.cpuQuota && { cpuWeight: (shares ?? sharesDefault) / sharesDefault }),
      },
    };
  }

  /** A guest with one vCPU has it online; only others are worth a question to the agent. */
  async #onlineVcpus(guest: GuestId, domain: DomainDescription): Promise<number | undefined> {
    if (domain.agent !== 'connected' || domain.vcpusPlugged === 1) return undefined;
    return this.#agent.onlineVcpus(this.#catalog.ref(guest));
  }

  async #capabilities(
    guest: GuestId,
    domain: DomainDescription,
    isRunning: boolean,
    netLimits: boolean,
  ): Promise<GuestCapabilities> {
    return {
      cpuQuota: isRunning ? await this.#cpuQuota(guest) : (this.#hasCpuQuota ?? false),
      vcpuPlug: domain.vcpusMax > 1,
      vcpuUnplug: domain.type === 'kvm' && (this.#options.kvmUnplugIsSafe ?? false),
      agent: domain.agent === 'connected',
      balloon: domain.hasBalloon,
      virtioMem: domain.virtioMem.length > 0,
      diskLimits: commonDiskLimits(domain).movable,
      netLimits,
    };
  }

  /** What limits the guest's interfaces, libvirt or our own shaper; movable where all of them have a tap. */
  async #netLimits(guest: GuestId, domain: DomainDescription, isRunning: boolean): Promise<CommonLimits> {
    const { tapShaper, tapShaping = false } = this.#options;
    const byLibvirt = commonNetLimits(domain);
    const allHaveTaps = domain.interfaces.every((nic) => hasTap(nic.type));
    if (tapShaper === undefined || !isRunning) {
      return { ...byLibvirt, movable: byLibvirt.movable && tapShaping && allHaveTaps };
    }
    const taps = domain.interfaces.flatMap((nic) => (hasTap(nic.type) ? (nic.target ?? []) : []));
    try {
      const own = commonLimits(await Promise.all(taps.map((tap) => tapShaper.get(guest, tap))));
      // A limit that libvirt set is somebody's own: ours would take its place.
      const isFree = Object.keys(byLibvirt.limits).length === 0 && byLibvirt.movable;
      return {
        limits: { ...byLibvirt.limits, ...own.limits },
        movable: own.movable && allHaveTaps && isFree,
      };
    } catch (cause) {
      if (cause instanceof AllocatorError && cause.code === 'NOT_SUPPORTED')
        return { ...byLibvirt, movable: false };
      throw cause;
    }
  }

  /** Whether this host's cgroups carry a quota on the whole domain; asked once, of the first running guest. */
  async #cpuQuota(guest: GuestId): Promise<boolean> {
    if (this.#hasCpuQuota !== undefined) return this.#hasCpuQuota;
    try {
      const parameters = await this.#libvirt.getSchedulerParameters(this.#catalog.ref(guest), { live: true });
      this.#hasCpuQuota = 'global_quota' in parameters;
      return this.#hasCpuQuota;
    } catch (cause) {
      const error = translate(cause, { guest });
      if (!(error instanceof AllocatorError)) throw error;
      if (error.code === 'HYPERVISOR_UNAVAILABLE' || error.code === 'GUEST_NOT_FOUND') throw error;
      return false;
    }
  }
}
