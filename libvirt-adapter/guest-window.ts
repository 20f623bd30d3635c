import type { GuestId } from '../orchestrator/core/guest.ts';
import type { GuestSeen } from '../orchestrator/core/lease.ts';
import type { GuestWindow } from '../orchestrator/core/ports.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import { translated } from './errors.ts';
import type { GuestAgent } from './guest-agent.ts';

const MEM_TOTAL = /^MemTotal:\s*(\d{1,15}) kB$/m;

/**
 * Looks into a guest through its agent: guest-get-vcpus, and /proc/meminfo by the file commands, which start no
 * process in the guest as guest-exec would.
 */
export class AgentWindow implements GuestWindow {
  readonly #catalog: DomainCatalog;
  readonly #agent: GuestAgent;

  constructor(catalog: DomainCatalog, agent: GuestAgent) {
    this.#catalog = catalog;
    this.#agent = agent;
  }

  see(guest: GuestId, signal: AbortSignal): Promise<GuestSeen | undefined> {
    return translated(this.#see(guest, signal), { guest });
  }

  async #see(guest: GuestId, signal: AbortSignal): Promise<GuestSeen | undefined> {
    const domain = this.#catalog.ref(guest);
    const vcpusOnline = await this.#agent.onlineVcpus(domain, signal);
    if (vcpusOnline === undefined) return undefined;
    const meminfo = await this.#agent.readFile(domain, '/proc/meminfo', signal);
    const memTotalKib = MEM_TOTAL.exec(meminfo?.text ?? '')?.[1];
    return memTotalKib === undefined ? undefined : { vcpusOnline, memTotalBytes: Number(memTotalKib) * 1024 };
  }
}
