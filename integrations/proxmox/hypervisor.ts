import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { GuestFacts, GuestId, HostFacts } from '../../orchestrator/core/guest.ts';
import type { GuestEvent, Hypervisor } from '../../orchestrator/core/ports.ts';
import { MILLICORES_PER_VCPU } from '../../orchestrator/core/profile.ts';
import type { TimerClock } from '../../orchestrator/core/timer-clock.ts';
import { fieldsOf, isFields, numberIn } from './answers.ts';
import type { ProxmoxApi } from './api.ts';
import { type GuestCatalog, READ_AT_ONCE } from './catalog.ts';
import { describedFacts, type OperatorsWord } from './described-facts.ts';
import { ProxmoxError, translate, translated } from './errors.ts';
import type { GuestAgent } from './guest-agent.ts';
import type { GuestConfig } from './guest-config.ts';
import type { GuestPoll } from './guest-poll.ts';
import { balloonOf, stateOf } from './guest-status.ts';
import { finished } from './tasks.ts';

const NODE_CALL = '/nodes/{node}/status';
const START_CALL = '/nodes/{node}/qemu/{vmid}/status/start';
const SHUTDOWN_CALL = '/nodes/{node}/qemu/{vmid}/status/shutdown';

/** What the hypervisor is made with, beside its parts. */
export interface HypervisorOptions extends OperatorsWord {
  readonly clock: TimerClock;
  /** Told of each guest that `guests` had to leave out, and why. */
  readonly onFailure: (cause: unknown) => void;
}

/** Guests of one node of Proxmox VE, and the node. What is set on a guest stays in its configuration. */
export class ProxmoxHypervisor implements Hypervisor {
  readonly settingsPersist = true;
  readonly #api: ProxmoxApi;
  readonly #catalog: GuestCatalog;
  readonly #agent: GuestAgent;
  readonly #poll: GuestPoll;
  readonly #options: HypervisorOptions;

  constructor(
    api: ProxmoxApi,
    parts: { readonly catalog: GuestCatalog; readonly agent: GuestAgent; readonly poll: GuestPoll },
    options: HypervisorOptions,
  ) {
    this.#api = api;
    this.#catalog = parts.catalog;
    this.#agent = parts.agent;
    this.#poll = parts.poll;
    this.#options = options;
  }

  get available(): boolean {
    return this.#poll.available;
  }

  onAvailability(listener: (available: boolean) => void): () => void {
    return this.#poll.onAvailability(listener);
  }

  onGuestEvent(listener: (event: GuestEvent) => void): () => void {
    return this.#poll.onEvent(listener);
  }

  async host(): Promise<HostFacts> {
    const { node } = this.#catalog;
    const answer = await translated(this.#api.get(NODE_CALL, { node }), { node });
    const status = await translated(
      Promise.resolve().then(() => fieldsOf(answer, NODE_CALL)),
      { node },
    );
    const cpus = isFields(status.cpuinfo) ? numberIn(status.cpuinfo, 'cpus') : undefined;
    const memoryBytes = isFields(status.memory) ? numberIn(status.memory, 'total') : undefined;
    if (cpus === undefined || memoryBytes === undefined) {
      const message = 'the node does not say how many CPUs and how much memory it has';
      throw new AllocatorError('HYPERVISOR_UNAVAILABLE', message, { node });
    }
    return { name: node, cpuMillicores: cpus * MILLICORES_PER_VCPU, memoryBytes };
  }

  guests(): Promise<GuestFacts[]> {
    return translated(this.#guests(), { node: this.#catalog.node });
  }

  inspect(guest: GuestId): Promise<GuestFacts> {
    return translated(this.#inspect(guest), { guest });
  }

  start(guest: GuestId): Promise<void> {
    return translated(this.#start(guest), { guest });
  }

  shutDown(guest: GuestId): Promise<void> {
    return translated(this.#shutDown(guest), { guest });
  }

  async #guests(): Promise<GuestFacts[]> {
    const listed = await this.#catalog.list();
    const facts: GuestFacts[] = [];
    for (let i = 0; i < listed.length; i += READ_AT_ONCE) {
      const batch = listed.slice(i, i + READ_AT_ONCE);
      const described = await Promise.all(batch.map(({ vmid }) => this.#factsOrAbsent(vmid)));
      for (const guest of described) if (guest !== undefined) facts.push(guest);
    }
    await this.#poll.startFrom(listed);
    return facts;
  }

  /** A guest that went away or cannot be read leaves the others readable; a node that does not answer ends the listing. */
  async #factsOrAbsent(vmid: number): Promise<GuestFacts | undefined> {
    try {
      const config = await this.#catalog.configOf(vmid);
      if (this.#catalog.note(vmid, config)) return await this.#facts(vmid, config);
      throw new ProxmoxError('', 'answered', 0, 'another guest of the node has the same UUID in its smbios1');
    } catch (cause) {
      const error = translate(cause, { vmid });
      if (!(error instanceof AllocatorError) || error.code === 'HYPERVISOR_UNAVAILABLE') throw error;
      if (error.code !== 'GUEST_NOT_FOUND') this.#options.onFailure(error);
      return undefined;
    }
  }

  async #inspect(guest: GuestId): Promise<GuestFacts> {
    const config = await this.#catalog.config(guest);
    this.#poll.follow(guest);
    return this.#facts(await this.#catalog.vmid(guest), config);
  }

  async #start(guest: GuestId): Promise<void> {
    const { node } = this.#catalog;
    const vmid = await this.#catalog.vmid(guest);
    if (await this.#catalog.isRunning(guest))
      throw new AllocatorError('ACTUATION_REFUSED', 'the guest is running already', { guest });
    const answer = await this.#api.post(START_CALL, { node, vmid });
    await finished(this.#api, this.#options.clock, { node, call: `POST ${START_CALL}`, answer });
  }

  /** The task of a shutdown ends when the guest is off, or gives up: nobody waits for it. */
  async #shutDown(guest: GuestId): Promise<void> {
    const { node } = this.#catalog;
    const vmid = await this.#catalog.vmid(guest);
    if (!(await this.#catalog.isRunning(guest)))
      throw new AllocatorError('GUEST_NOT_RUNNING', 'the guest is not running', { guest });
    await this.#api.post(SHUTDOWN_CALL, { node, vmid });
  }

  async #facts(vmid: number, config: GuestConfig): Promise<GuestFacts> {
    const id = this.#catalog.guestOf(vmid) ?? '';
    const status = await this.#catalog.status(vmid);
    const state = stateOf(status);
    const isRunning = state === 'running';
    const online =
      isRunning && config.hasAgent && config.vcpus > 1 ? await this.#agent.onlineVcpus(id) : undefined;
    const balloonBytes = balloonOf(status)?.actualBytes;
    const presence = {
      id,
      vmid,
      state,
      ...(online !== undefined && { online }),
      ...(balloonBytes !== undefined && { balloonBytes }),
    };
    return describedFacts(config, presence, this.#options);
  }
}
