import { cpuSharesOf } from '../orchestrator/core/cpu-weight.ts';
import type { Baseline, GuestId } from '../orchestrator/core/guest.ts';
import type { Actuator } from '../orchestrator/core/ports.ts';
import { type Entitlement, MILLICORES_PER_VCPU } from '../orchestrator/core/profile.ts';
import { pause, type TimerClock } from '../orchestrator/core/timer-clock.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import { type CpuTune, PERIOD_US_DEFAULT } from './domain-xml.ts';
import { translated } from './errors.ts';
import type { GuestAgent } from './guest-agent.ts';
import {
  type DomainRef,
  LIBVIRT_ERROR,
  type Libvirt,
  LibvirtError,
  type TypedParameters,
} from './libvirt.ts';
import { CPU_SHARES_DEFAULT, quotaMillicores } from './limits.ts';

/** Smallest quota the kernel and libvirt take, us: 10 millicores at the default period. */
const QUOTA_US_MIN = 1_000;
const QUOTA_NONE = -1n;
/** Online state is asked this often while vCPUs come up, which takes 150 to 300 ms. */
const POLL_MS = 50;
/** A plugged vCPU that is not online by itself after this is switched on through the agent. */
const SELF_ONLINE_MS = 600;
/** vCPUs that are not online after this will not be: ten times the usual. */
const ONLINE_MS_MAX = 3_000;

const LIVE = { live: true } as const;

/** What only the operator can know. */
export interface CpuActuatorOptions {
  /** Guests of type kvm give vCPUs back safely. Emulated ones crash at the next plug, so they are never asked. */
  readonly kvmUnplugIsSafe?: boolean;
  /** Shares of a domain that nobody gave any: a weight of 1. Absent: the older cgroup hierarchy's. */
  readonly sharesDefault?: number;
}

/**
 * Moves a guest's CPU. The entitlement is a quota on the whole domain, emulator included, which a guest cannot undo;
 * plugging vCPUs and switching them off and on through the agent only shapes topology. libvirt's `global_quota` bounds
 * the domain's own cgroup, and `cpu_shares` weighs it against its neighbours there. A quota per vCPU that somebody else set stays, and counts in what is read back.
 */
export class CpuActuator implements Actuator {
  readonly resource = 'cpu';
  readonly #libvirt: Libvirt;
  readonly #catalog: DomainCatalog;
  readonly #agent: GuestAgent;
  readonly #clock: TimerClock;
  readonly #kvmUnplugIsSafe: boolean;
  readonly #sharesDefault: number;
  /** Guests that did not give a vCPU back when asked. */
  readonly #refusedUnplug = new Set<GuestId>();

  constructor(
    libvirt: Libvirt,
    catalog: DomainCatalog,
    agent: GuestAgent,
    clock: TimerClock,
    options: CpuActuatorOptions = {},
  ) {
    this.#libvirt = libvirt;
    this.#catalog = catalog;
    this.#agent = agent;
    this.#clock = clock;
    this.#kvmUnplugIsSafe = options.kvmUnplugIsSafe ?? false;
    this.#sharesDefault = options.sharesDefault ?? CPU_SHARES_DEFAULT.legacy;
  }

  apply(guest: GuestId, target: Entitlement, signal: AbortSignal): Promise<Partial<Entitlement>> {
    return translated(this.#apply(guest, target, signal), { guest, resource: this.resource });
  }

  /**
   * As `apply`; then, where the guest had no quota, ours is taken off, unless it has more vCPUs plugged than before:
   * those cannot be taken back and must not give more than the baseline.
   */
  restore(guest: GuestId, baseline: Baseline, signal: AbortSignal): Promise<Partial<Entitlement>> {
    return translated(this.#restore(guest, baseline, signal), { guest, resource: this.resource });
  }

  read(guest: GuestId): Promise<Partial<Entitlement>> {
    return translated(this.#read(this.#catalog.ref(guest)), { guest, resource: this.resource });
  }

  async #apply(guest: GuestId, target: Entitlement, signal: AbortSignal): Promise<Partial<Entitlement>> {
    const ref = this.#catalog.ref(guest);
    const plugged = await this.#libvirt.getVcpus(ref, LIVE);
    const quota = this.#setHostLimits(ref, target);
    const grows = target.vcpuCount > plugged;
    if (!grows) await quota; // lowering: the host's limit holds before the guest is asked for anything
    const [vcpuCount] = await Promise.all([this.#shape(ref, plugged, target.vcpuCount, signal), quota]);
    return this.#read(ref, vcpuCount);
  }

  async #restore(guest: GuestId, baseline: Baseline, signal: AbortSignal): Promise<Partial<Entitlement>> {
    const { cpuMillicores } = baseline.entitlement;
    const held = await this.#apply(guest, baseline.entitlement, signal);
    const ref = this.#catalog.ref(guest);
    const plugged = await this.#libvirt.getVcpus(ref, LIVE);
    const tune = cpuTuneOf(await this.#libvirt.getSchedulerParameters(ref, LIVE));
    const without = quotaMillicores({ ...tune, globalQuotaUs: -1 }, plugged) ?? plugged * MILLICORES_PER_VCPU;
    // Nothing is lost without our quota: vCPUs, or a quota per vCPU that was there before us, hold the baseline.
    const isOurs = !baseline.cpuLimited || tune.vcpuQuotaUs >= 0;
    if (!isOurs || without > cpuMillicores) return held;
    await this.#libvirt.setSchedulerParameters(ref, { global_quota: QUOTA_NONE }, LIVE);
    return this.#read(ref, held.vcpuCount);
  }

  /** @param vcpuCount online vCPUs where they were just counted */
  async #read(ref: DomainRef, vcpuCount?: number): Promise<Partial<Entitlement>> {
    const plugged = await this.#libvirt.getVcpus(ref, LIVE);
    const tune = cpuTuneOf(await this.#libvirt.getSchedulerParameters(ref, LIVE));
    const cpuMillicores = quotaMillicores(tune, plugged) ?? plugged * MILLICORES_PER_VCPU;
    const online = vcpuCount ?? (await this.#online(ref, plugged));
    return {
      cpuMillicores,
      ...(online !== undefined && { vcpuCount: online }),
      ...(tune.shares !== undefined && { cpuWeight: tune.shares / this.#sharesDefault }),
    };
  }

  /** A lone vCPU is online; the count of more is the agent's to tell. */
  async #online(ref: DomainRef, plugged: number, signal?: AbortSignal): Promise<number | undefined> {
    return plugged === 1 ? 1 : this.#agent.onlineVcpus(ref, signal);
  }

  async #setHostLimits(ref: DomainRef, { cpuMillicores, cpuWeight }: Entitlement): Promise<void> {
    const tune = cpuTuneOf(await this.#libvirt.getSchedulerParameters(ref, LIVE));
    const quotaUs = Math.max(
      QUOTA_US_MIN,
      Math.ceil((cpuMillicores * tune.globalPeriodUs) / MILLICORES_PER_VCPU),
    );
    const shares = cpuWeight === undefined ? undefined : cpuSharesOf(cpuWeight, this.#sharesDefault);
    const changes = {
      ...(quotaUs !== tune.globalQuotaUs && { global_quota: BigInt(quotaUs) }),
      ...(shares !== undefined && shares !== tune.shares && { cpu_shares: BigInt(shares) }),
    };
    if (Object.keys(changes).length > 0) await this.#libvirt.setSchedulerParameters(ref, changes, LIVE);
  }

  /** Bring `target` vCPUs online. Resolves to how many are, undefined when nobody can tell. */
  async #shape(
    ref: DomainRef,
    plugged: number,
    target: number,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const wanted = Math.min(target, await this.#vcpusMax(ref));
    if (wanted > plugged) {
      await this.#libvirt.setVcpus(ref, wanted, LIVE);
      return this.#awaitOnline(ref, wanted, signal);
    }
    if (wanted < plugged && (await this.#unplug(ref, wanted))) return wanted;
    const online = await this.#online(ref, plugged, signal);
    if (online === undefined || online === wanted) return online;
    await this.#agent.setOnlineVcpus(ref, wanted);
    return this.#online(ref, plugged);
  }

  async #vcpusMax(ref: DomainRef): Promise<number> {
    return (await this.#catalog.devices(ref.uuid)).vcpusMax;
  }

  async #awaitOnline(ref: DomainRef, wanted: number, signal: AbortSignal): Promise<number | undefined> {
    const startMs = this.#clock.monotonicMs();
    let isHelped = false;
    for (;;) {
      const online = await this.#agent.onlineVcpus(ref, signal);
      const waitedMs = this.#clock.monotonicMs() - startMs;
      if ((online ?? 0) >= wanted || waitedMs >= ONLINE_MS_MAX) return online;
      // A connected agent that is silent may be slow; a missing one never answers.
      if (online === undefined && !(await this.#hasAgent(ref))) return undefined;
      if (!isHelped && waitedMs >= SELF_ONLINE_MS) {
        isHelped = true;
        await this.#agent.setOnlineVcpus(ref, wanted);
        continue;
      }
      if (!(await pause(this.#clock, POLL_MS, signal))) return online;
    }
  }

  async #hasAgent(ref: DomainRef): Promise<boolean> {
    return (await this.#catalog.devices(ref.uuid)).agent === 'connected';
  }

  /** True when the guest gave its surplus vCPUs back. Only asked where that is known to be safe. */
  async #unplug(ref: DomainRef, wanted: number): Promise<boolean> {
    if (!this.#kvmUnplugIsSafe || this.#refusedUnplug.has(ref.uuid)) return false;
    if ((await this.#catalog.devices(ref.uuid)).type !== 'kvm') return false;
    try {
      await this.#libvirt.setVcpus(ref, wanted, LIVE);
      return true;
    } catch (cause) {
      if (!(cause instanceof LibvirtError) || !UNPLUG_REFUSALS.has(cause.code)) throw cause;
      this.#refusedUnplug.add(ref.uuid);
      return false;
    }
  }
}

const UNPLUG_REFUSALS: ReadonlySet<number> = new Set([
  LIBVIRT_ERROR.operationTimeout,
  LIBVIRT_ERROR.operationFailed,
  LIBVIRT_ERROR.operationInvalid,
  LIBVIRT_ERROR.configUnsupported,
  LIBVIRT_ERROR.operationUnsupported,
]);

function cpuTuneOf(parameters: TypedParameters): CpuTune {
  return {
    ...(parameters.cpu_shares !== undefined && { shares: Number(parameters.cpu_shares) }),
    globalQuotaUs: Number(parameters.global_quota ?? -1),
    globalPeriodUs: Number(parameters.global_period ?? PERIOD_US_DEFAULT),
    vcpuQuotaUs: Number(parameters.vcpu_quota ?? -1),
    vcpuPeriodUs: Number(parameters.vcpu_period ?? PERIOD_US_DEFAULT),
  };
}
