import { cpuSharesOf } from '../../orchestrator/core/cpu-weight.ts';
import type { Baseline, GuestId } from '../../orchestrator/core/guest.ts';
import type { Actuator } from '../../orchestrator/core/ports.ts';
import { type Entitlement, MILLICORES_PER_VCPU } from '../../orchestrator/core/profile.ts';
import { pause, type TimerClock } from '../../orchestrator/core/timer-clock.ts';
import type { GuestCatalog } from './catalog.ts';
import type { ConfigChange, ConfigWriter } from './config-writer.ts';
import { isTaskFailure, translated } from './errors.ts';
import type { GuestAgent } from './guest-agent.ts';
import { CPU_UNITS_DEFAULT, cpuMillicoresOf, type GuestConfig } from './guest-config.ts';

/** Bounds of `cpulimit`, cores. 0 would mean no limit at all. */
const CPU_LIMIT_MIN = 0.01;
const CPU_LIMIT_MAX = 128;
/** Online state is asked this often while vCPUs come up, which takes a guest some tenths of a second. */
const POLL_MS = 200;
/** vCPUs that are not online after this will not be: nobody in the guest switches them on. */
const ONLINE_MS_MAX = 3_000;

/** What a change of CPU is made by. */
interface CpuWish {
  readonly target: Entitlement;
  /** vCPUs may be asked back of this guest now. */
  readonly mayUnplug: boolean;
  readonly isRunning: boolean;
}

/**
 * Moves a guest's CPU: `cpulimit` holds the whole guest on the host, `cpuunits` weighs it, `vcpus` shapes its topology.
 * vCPUs are plugged one after another; where that stops half way, what is there stays and is what is returned.
 */
export class CpuActuator implements Actuator {
  readonly resource = 'cpu';
  readonly #catalog: GuestCatalog;
  readonly #writer: ConfigWriter;
  readonly #agent: GuestAgent;
  readonly #clock: TimerClock;
  readonly #unplugIsSafe: boolean;
  /** Guests that did not give a vCPU back when asked. */
  readonly #refusedUnplug = new Set<GuestId>();

  constructor(
    catalog: GuestCatalog,
    writer: ConfigWriter,
    agent: GuestAgent,
    {
      clock,
      unplugIsSafe,
    }: {
      readonly clock: TimerClock;
      /** The operator's word that the guests here survive a vCPU unplug. */
      readonly unplugIsSafe: boolean;
    },
  ) {
    this.#catalog = catalog;
    this.#writer = writer;
    this.#agent = agent;
    this.#clock = clock;
    this.#unplugIsSafe = unplugIsSafe;
  }

  apply(guest: GuestId, target: Entitlement, signal: AbortSignal): Promise<Partial<Entitlement>> {
    return translated(this.#apply(guest, target, signal, false), { guest, resource: this.resource });
  }

  /**
   * As `apply`; then, where the guest had no limit, ours is taken off, unless it has more vCPUs plugged than before: those
   * must not give more than the baseline.
   */
  restore(guest: GuestId, baseline: Baseline, signal: AbortSignal): Promise<Partial<Entitlement>> {
    return translated(this.#restore(guest, baseline, signal), { guest, resource: this.resource });
  }

  read(guest: GuestId): Promise<Partial<Entitlement>> {
    const work = this.#catalog.config(guest).then((config) => this.#held(guest, config));
    return translated(work, { guest, resource: this.resource });
  }

  async #apply(
    guest: GuestId,
    target: Entitlement,
    signal: AbortSignal,
    isRestore: boolean,
  ): Promise<Partial<Entitlement>> {
    const isRunning = await this.#catalog.isRunning(guest);
    let wantedVcpus = 0;
    let pluggedBefore = 0;
    const change = (): Promise<GuestConfig> =>
      this.#writer.change(
        guest,
        (before) => {
          const mayUnplug = this.#unplugIsSafe && !this.#refusedUnplug.has(guest);
          const wish = { target, mayUnplug, isRunning };
          pluggedBefore = before.vcpus;
          wantedVcpus = vcpusWanted(before, wish);
          return cpuChange(before, wish, isRestore);
        },
        signal,
      );
    const config = await change().catch((cause: unknown) => {
      if (!isTaskFailure(cause) || wantedVcpus >= pluggedBefore) throw cause;
      this.#refusedUnplug.add(guest);
      return change();
    });
    if (config.vcpus > wantedVcpus && wantedVcpus < pluggedBefore && !signal.aborted)
      this.#refusedUnplug.add(guest);
    const grew = isRunning && config.vcpus > pluggedBefore && !signal.aborted;
    return this.#held(guest, config, grew ? await this.#awaitOnline(guest, config.vcpus, signal) : undefined);
  }

  async #restore(guest: GuestId, baseline: Baseline, signal: AbortSignal): Promise<Partial<Entitlement>> {
    const held = await this.#apply(guest, baseline.entitlement, signal, true);
    if (baseline.cpuLimited) return held;
    const config = await this.#writer.change(
      guest,
      ({ cpuLimit, vcpus }) => {
        const isHarmless = vcpus * MILLICORES_PER_VCPU <= baseline.entitlement.cpuMillicores;
        return cpuLimit !== undefined && isHarmless ? { delete: ['cpulimit'] } : undefined;
      },
      signal,
    );
    return { ...held, cpuMillicores: cpuMillicoresOf(config) };
  }

  /** @param online vCPUs online where they were just counted */
  async #held(guest: GuestId, config: GuestConfig, online?: number): Promise<Partial<Entitlement>> {
    const { vcpus, hasAgent, cpuUnits } = config;
    const isAsked = online === undefined && vcpus > 1 && hasAgent;
    const counted = isAsked ? await this.#agent.onlineVcpus(guest) : online;
    return {
      cpuMillicores: cpuMillicoresOf(config),
      vcpuCount: Math.min(counted ?? vcpus, vcpus),
      cpuWeight: cpuUnits / CPU_UNITS_DEFAULT,
    };
  }

  /** How many are online once `wanted` are, or once they will not be; undefined when nobody can tell. */
  async #awaitOnline(guest: GuestId, wanted: number, signal: AbortSignal): Promise<number | undefined> {
    const startMs = this.#clock.monotonicMs();
    for (;;) {
      const online = await this.#agent.onlineVcpus(guest, signal);
      if (online === undefined || online >= wanted) return online;
      if (this.#clock.monotonicMs() - startMs >= ONLINE_MS_MAX) return online;
      if (!(await pause(this.#clock, POLL_MS, signal))) return online;
    }
  }
}

/** vCPUs to have plugged: what cannot be plugged or taken back is left as it is. */
function vcpusWanted(config: GuestConfig, { target, mayUnplug, isRunning }: CpuWish): number {
  const wanted = Math.min(target.vcpuCount, config.vcpusMax);
  const isFree = !isRunning || (config.canPlugVcpus && (wanted > config.vcpus || mayUnplug));
  return isFree ? wanted : config.vcpus;
}

/** @param isRestore a key that says what its absence says too is taken out */
function cpuChange(config: GuestConfig, wish: CpuWish, isRestore: boolean): ConfigChange | undefined {
  const { target } = wish;
  // Up, so that no guest gets less than decided.
  const limit = Math.min(
    CPU_LIMIT_MAX,
    Math.max(CPU_LIMIT_MIN, Math.ceil(target.cpuMillicores) / MILLICORES_PER_VCPU),
  );
  const units =
    target.cpuWeight === undefined ? config.cpuUnits : cpuSharesOf(target.cpuWeight, CPU_UNITS_DEFAULT);
  const vcpus = vcpusWanted(config, wish);
  const set: Record<string, number> = {};
  const taken: string[] = [];
  // Whole vCPUs without a limit need none, but those that are asked back may not come.
  const isBound = config.cpuLimit !== undefined || limit !== vcpus || vcpus < config.vcpus;
  if (isBound && limit !== config.cpuLimit) set.cpulimit = limit;
  if (units !== config.cpuUnits) {
    if (units === CPU_UNITS_DEFAULT) taken.push('cpuunits');
    else set.cpuunits = units;
  }
  if (vcpus !== config.vcpus) {
    if (isRestore && vcpus === config.vcpusMax) taken.push('vcpus');
    else set.vcpus = vcpus;
  }
  return Object.keys(set).length + taken.length === 0 ? undefined : { set, delete: taken };
}
