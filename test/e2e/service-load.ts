import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ForeshadeClient } from '../../integrations/client-node/client.ts';
import { ClientError, UNREACHABLE } from '../../integrations/client-node/client-error.ts';
import { type AllocateRequest, type Lease, LeaseState } from '../../proto/gen/foreshade/v1/allocation.ts';
import { Priority } from '../../proto/gen/foreshade/v1/resources.ts';

/** Longest wait for an answer; a balloon that takes memory back from a loaded guest takes seconds. */
export const CALL_TIMEOUT_MS = 30_000;
/** Leases that one client holds at most before it gives one back. */
const OPEN_MAX = 3;
/** Longest pause of a client between two calls. */
const PAUSE_MS_MAX = 150;
/** Lives longer than the whole test. */
const LONG_TTL_MS = 3_600_000;
/** Ends while the load runs or while the service is down. */
const SHORT_TTL_MS = 4_000;

/** One request of a client, and what the client knows came of it. */
export interface Asked {
  readonly request: AllocateRequest;
  /** The latest answer about its lease. Absent: none arrived. */
  answer?: Lease;
  /** The service refused it, in order. */
  refusal?: ClientError;
  /** A release was sent; whether it was answered is in `releaseAnswered`. */
  releaseSent?: boolean;
  releaseAnswered?: boolean;
}

/** Clients that allocate, renew and release at random, and remember every answer. */
export class Load {
  readonly asked: Asked[] = [];
  readonly #random: () => number;
  readonly #guests: readonly string[];
  #running = false;
  #clients: Promise<void>[] = [];

  /** @param random uniform in [0, 1) */
  constructor(random: () => number, guests: readonly string[]) {
    this.#random = random;
    this.#guests = guests;
  }

  start(client: ForeshadeClient, clients: number): void {
    this.#running = true;
    this.#clients = Array.from({ length: clients }, () => this.#run(client));
  }

  /** Resolves when no call is in flight: end the service first to cut them off. */
  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#clients);
  }

  /** Requests whose outcome their client never heard. */
  get unanswered(): Asked[] {
    return this.asked.filter(({ answer, refusal }) => answer === undefined && refusal === undefined);
  }

  /** Send a request, or send it again. */
  async allocate(client: ForeshadeClient, one: Asked): Promise<void> {
    const { allocation } = client;
    await this.#heard(one, async () => {
      one.answer = await client.ask(allocation, allocation.allocate, one.request, {
        timeoutMs: CALL_TIMEOUT_MS,
      });
    });
  }

  async release(client: ForeshadeClient, one: Asked): Promise<void> {
    const { allocation } = client;
    one.releaseSent = true;
    const leaseId = one.answer?.id ?? '';
    await this.#heard(one, async () => {
      one.answer = await client.ask(
        allocation,
        allocation.releaseLease,
        // With its times, so that the service learns from it and asks for less the next time.
        { leaseId, workStartedAtMs: Date.now() - 1_000, workFinishedAtMs: Date.now(), workFailed: false },
        { timeoutMs: CALL_TIMEOUT_MS },
      );
      one.releaseAnswered = true;
    });
  }

  /** A request like the load's. */
  draw(ttlMs = this.#random() < 0.85 ? LONG_TTL_MS : SHORT_TTL_MS): Asked {
    const one: Asked = {
      request: {
        requestId: randomUUID(),
        tenant: this.#pick(['acme', 'globex']),
        // Half of them are known by now, and small; the others are met for the first time, and get the guest's ceiling.
        workload:
          this.#random() < 0.5
            ? this.#pick(['resize', 'index', 'report'])
            : `novel-${randomUUID().slice(0, 8)}`,
        guest: this.#pick(this.#guests),
        params: { items: { kind: { $case: 'number', number: Math.ceil(this.#random() * 1000) } } },
        priority: this.#pick([Priority.PRIORITY_LOW, Priority.PRIORITY_HIGH, Priority.PRIORITY_CRITICAL]),
        startMs: undefined,
        durationMs: undefined,
        ttlMs,
        noQueue: this.#random() < 0.2,
        validateOnly: false,
      },
    };
    this.asked.push(one);
    return one;
  }

  async #run(client: ForeshadeClient): Promise<void> {
    const mine: Asked[] = [];
    while (this.#running) {
      const open = mine.filter(isOpen);
      const dice = this.#random();
      const chosen = open.length > 0 ? this.#pick(open) : undefined;
      if (chosen !== undefined && (open.length >= OPEN_MAX || dice < 0.4)) await this.release(client, chosen);
      else if (chosen !== undefined && dice < 0.5) await this.#renew(client, chosen);
      else {
        const one = this.draw();
        mine.push(one);
        await this.allocate(client, one);
      }
      await sleep(this.#random() * PAUSE_MS_MAX);
    }
  }

  async #renew(client: ForeshadeClient, one: Asked): Promise<void> {
    const { allocation } = client;
    const renewal = { leaseId: one.answer?.id ?? '', ttlMs: LONG_TTL_MS, need: undefined };
    try {
      one.answer = await client.ask(allocation, allocation.renewLease, renewal, {
        timeoutMs: CALL_TIMEOUT_MS,
      });
    } catch (error) {
      // A lease that expired cannot be renewed, and a service that was killed does not answer: both change nothing.
      if (!(error instanceof ClientError)) throw error;
    }
  }

  /** A call that was cut off stays unanswered; one that was refused is remembered as such. */
  async #heard(one: Asked, call: () => Promise<void>): Promise<void> {
    try {
      await call();
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      if (!isCutOff(error)) one.refusal = error;
    }
  }

  #pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.#random() * items.length)] as T;
  }
}

/** No server spoke: the call may have been carried out or not. */
export function isCutOff({ reason }: ClientError): boolean {
  return reason === UNREACHABLE || reason === 'CANCELLED' || reason === 'DEADLINE_EXCEEDED';
}

function isOpen({ answer, releaseSent }: Asked): boolean {
  return answer !== undefined && releaseSent !== true && Number(answer.expiresAtMs) > Date.now();
}

const ENDED: ReadonlySet<LeaseState> = new Set([
  LeaseState.LEASE_STATE_RELEASED,
  LeaseState.LEASE_STATE_EXPIRED,
  LeaseState.LEASE_STATE_REJECTED,
]);

/** True when a lease holds nothing any more and never will. */
export function hasEnded({ state = LeaseState.LEASE_STATE_UNSPECIFIED }: Lease): boolean {
  return ENDED.has(state);
}
