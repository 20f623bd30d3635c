import type { GuestId } from '../../orchestrator/core/guest.ts';
import type { GuestSeen } from '../../orchestrator/core/lease.ts';
import type { GuestWindow } from '../../orchestrator/core/ports.ts';
import type { GuestCatalog } from './catalog.ts';
import { translated } from './errors.ts';
import type { GuestAgent } from './guest-agent.ts';
import { balloonOf } from './guest-status.ts';

/**
 * Looks into a guest: its vCPUs by the agent, its memory by what its balloon driver tells, so that no privilege to read
 * files in it is needed.
 */
export class StatusWindow implements GuestWindow {
  readonly #catalog: GuestCatalog;
  readonly #agent: GuestAgent;

  constructor(catalog: GuestCatalog, agent: GuestAgent) {
    this.#catalog = catalog;
    this.#agent = agent;
  }

  see(guest: GuestId, signal: AbortSignal): Promise<GuestSeen | undefined> {
    return translated(this.#see(guest, signal), { guest });
  }

  async #see(guest: GuestId, signal: AbortSignal): Promise<GuestSeen | undefined> {
    const vcpusOnline = await this.#agent.onlineVcpus(guest, signal);
    if (vcpusOnline === undefined) return undefined;
    const balloon = balloonOf(await this.#catalog.status(await this.#catalog.vmid(guest)));
    const memTotalBytes = balloon?.totalBytes;
    return memTotalBytes === undefined ? undefined : { vcpusOnline, memTotalBytes };
  }
}
