import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type AllocateRequest,
  type Lease,
  LeaseState,
  type ReleaseLeaseRequest,
} from '../../proto/gen/foreshade/v1/allocation.ts';
import type { ResourceProfile } from '../../proto/gen/foreshade/v1/resources.ts';
import type { CallOptions, ForeshadeClient } from './client.ts';
import { ClientError } from './client-error.ts';

/** Renewals in one time to live: two may fail before the lease is at risk. */
const RENEWALS_PER_TTL = 3;
/** Longest pause after a renewal that failed, and its share of a short time to live. */
const RETRY_MS_MAX = 1000;
const RETRY_TTL_FRACTION = 0.1;

/** Nothing of these is in place yet. */
const WAITING: ReadonlySet<LeaseState | undefined> = new Set([
  LeaseState.LEASE_STATE_QUEUED,
  LeaseState.LEASE_STATE_SCHEDULED,
  LeaseState.LEASE_STATE_PREPARING,
]);
const IN_PLACE: ReadonlySet<LeaseState | undefined> = new Set([
  LeaseState.LEASE_STATE_ACTIVE,
  LeaseState.LEASE_STATE_DEGRADED,
]);

/** kept: renewed in time. at-risk: the last renewal failed and is repeated. lost: the lease has ended without us. */
export type Keeping = 'kept' | 'at-risk' | 'lost';

/** How a lease is held. */
export interface HoldOptions extends CallOptions {
  /** Called when the keeping changes; `cause` says why it is not kept. */
  readonly onKeeping?: (keeping: Keeping, cause?: Error) => void;
}

/** How the work of a lease went. */
export type WorkReport = Omit<Partial<ReleaseLeaseRequest>, 'leaseId'>;

/** A lease that has ended before it was released. */
export class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

/** A lease that is renewed until it is released, through restarts of the service as long as its time to live reaches. */
export class HeldLease implements AsyncDisposable {
  readonly #client: ForeshadeClient;
  readonly #options: HoldOptions;
  readonly #ending = new AbortController();
  readonly #lost = new AbortController();
  #lease: Lease;
  #keeping: Keeping = 'kept';
  /** On the monotonic clock, ms. */
  #expiresAtMs: number;
  #released: Promise<Lease> | undefined;

  private constructor(client: ForeshadeClient, lease: Lease, options: HoldOptions) {
    this.#client = client;
    this.#options = options;
    this.#lease = lease;
    this.#expiresAtMs = performance.now() + ttlMs(lease);
    void this.#keep();
  }

  /** @throws {ClientError} */
  static async take(
    client: ForeshadeClient,
    request: Partial<AllocateRequest>,
    options: HoldOptions = {},
  ): Promise<HeldLease> {
    // With an id of its own a request may be repeated: it gives the same lease.
    const whole: AllocateRequest = { params: {}, ...request, requestId: request.requestId || randomUUID() };
    const lease = await client.ask(client.allocation, client.allocation.allocate, whole, options);
    return new HeldLease(client, lease, options);
  }

  /** As the service last told it. */
  get lease(): Lease {
    return this.#lease;
  }

  /** Aborted when the lease is lost. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /**
   * Wait until the lease is in force, in whole or in part.
   * @throws {LeaseLost} when it ended first
   * @throws the signal's reason when it is aborted
   */
  async inPlace(signal: AbortSignal = new AbortController().signal): Promise<Lease> {
    const { allocation } = this.#client;
    const either = AbortSignal.any([signal, this.lost]);
    while (WAITING.has(this.#lease.state)) {
      try {
        const changes = this.#client.follow(allocation, allocation.watchLease, { leaseId: this.#id }, either);
        for await (const lease of changes) {
          this.#lease = lease;
          if (!WAITING.has(lease.state)) break;
        }
      } catch (error) {
        if (!isPassing(error)) throw error;
      }
      either.throwIfAborted();
      if (WAITING.has(this.#lease.state)) await sleep(this.#retryMs, undefined, { signal: either });
    }
    if (IN_PLACE.has(this.#lease.state)) return this.#lease;
    throw new LeaseLost(`Lease ${this.#id} has ended: ${this.#lease.reason}.`);
  }

  /**
   * Move the expiry now, and enlarge the lease where its work turned out to need more.
   * @param need CPU and memory in all
   * @throws {ClientError}
   */
  async renew(need?: ResourceProfile, options: CallOptions = {}): Promise<Lease> {
    const { allocation } = this.#client;
    const begunAtMs = performance.now();
    const request = { leaseId: this.#id, ttlMs: undefined, need };
    this.#lease = await this.#client.ask(allocation, allocation.renewLease, request, options);
    this.#expiresAtMs = begunAtMs + ttlMs(this.#lease);
    return this.#lease;
  }

  /** Give the lease back; at a second call, the first one's answer. @throws {ClientError} */
  release(report: WorkReport = {}, options: CallOptions = {}): Promise<Lease> {
    this.#ending.abort();
    const { allocation } = this.#client;
    const request = { ...report, leaseId: this.#id };
    this.#released ??= this.#client.ask(allocation, allocation.releaseLease, request, options);
    return this.#released;
  }

  /** Release it, unless it has been or is lost. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.lost.aborted) await this.release();
  }

  get #id(): string {
    return this.#lease.id ?? '';
  }

  get #retryMs(): number {
    return Math.min(RETRY_MS_MAX, ttlMs(this.#lease) * RETRY_TTL_FRACTION);
  }

  async #keep(): Promise<void> {
    const { signal } = this.#ending;
    const pause = (ms: number) => sleep(ms, undefined, { signal, ref: false }).catch(() => {});
    while (!signal.aborted) {
      await pause(this.#keeping === 'kept' ? ttlMs(this.#lease) / RENEWALS_PER_TTL : this.#retryMs);
      if (signal.aborted) return;
      const leftMs = this.#expiresAtMs - performance.now();
      try {
        await this.renew(undefined, {
          timeoutMs: Math.max(leftMs, this.#retryMs),
          waitForReady: true,
          signal,
        });
        this.#tell('kept');
      } catch (error) {
        if (signal.aborted) return;
        const isOver = performance.now() > this.#expiresAtMs;
        if (isPassing(error) && !isOver) this.#tell('at-risk', error as Error);
        else return this.#lose(error as Error);
      }
    }
  }

  #lose(cause: Error): void {
    this.#ending.abort();
    const why = isPassing(cause) ? 'no renewal was answered within its time to live' : cause.message;
    const lost = new LeaseLost(`Lease ${this.#id} is lost: ${why}`, { cause });
    this.#tell('lost', lost);
    this.#lost.abort(lost);
  }

  #tell(keeping: Keeping, cause?: Error): void {
    if (keeping === this.#keeping) return;
    this.#keeping = keeping;
    this.#options.onKeeping?.(keeping, cause);
  }
}

/** False when the service knows that the lease is no more. */
function isPassing(error: unknown): boolean {
  return !(error instanceof ClientError && /^LEASE_(NOT_FOUND|ENDED)$/.test(error.reason));
}

function ttlMs(lease: Lease): number {
  return lease.ttlMs ?? 0;
}
