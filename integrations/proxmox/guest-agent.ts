import type { GuestId } from '../../orchestrator/core/guest.ts';
import type { TimerClock } from '../../orchestrator/core/timer-clock.ts';
import { isFields } from './answers.ts';
import type { ProxmoxApi } from './api.ts';
import type { GuestCatalog } from './catalog.ts';
import { ProxmoxError } from './errors.ts';

const VCPUS_CALL = '/nodes/{node}/qemu/{vmid}/agent/get-vcpus';
/** Silences in a row after which an agent counts as hung: one alone is a slow guest. */
const SILENCES_MAX = 2;
/** How long a hung agent, or one we may not ask, is left alone. */
const QUARANTINE_MS = 5_000;

/**
 * The one question that is asked of a guest's agent. What it says is the guest's claim. A guest whose agent was silent
 * twice is not asked again for 5 s.
 */
export class GuestAgent {
  readonly #api: ProxmoxApi;
  readonly #catalog: GuestCatalog;
  readonly #clock: TimerClock;
  readonly #silence = new Map<GuestId, { readonly count: number; readonly untilMs: number }>();

  constructor(api: ProxmoxApi, catalog: GuestCatalog, clock: TimerClock) {
    this.#api = api;
    this.#catalog = catalog;
    this.#clock = clock;
  }

  /**
   * vCPUs online in the guest; undefined when no agent answers, or ours is not the privilege to ask.
   * @throws {AllocatorError} GUEST_NOT_FOUND
   */
  async onlineVcpus(guest: GuestId, signal?: AbortSignal): Promise<number | undefined> {
    const vmid = await this.#catalog.vmid(guest);
    if (signal?.aborted || (this.#silence.get(guest)?.untilMs ?? 0) > this.#clock.monotonicMs())
      return undefined;
    try {
      const answer = await this.#api.get(VCPUS_CALL, { node: this.#catalog.node, vmid }, signal);
      this.#silence.delete(guest);
      return onlineIn(answer);
    } catch (cause) {
      if (!(cause instanceof ProxmoxError)) throw cause;
      if (!signal?.aborted) this.#noteSilence(guest);
      return undefined;
    }
  }

  #noteSilence(guest: GuestId): void {
    const count = (this.#silence.get(guest)?.count ?? 0) + 1;
    const untilMs = count < SILENCES_MAX ? 0 : this.#clock.monotonicMs() + QUARANTINE_MS;
    this.#silence.set(guest, { count, untilMs });
  }
}

function onlineIn(answer: unknown): number | undefined {
  const result = isFields(answer) ? answer.result : undefined;
  if (!Array.isArray(result)) return undefined;
  const online = result.filter(
    (vcpu) => isFields(vcpu) && (vcpu.online === true || vcpu.online === 1),
  ).length;
  return online > 0 ? online : undefined;
}
