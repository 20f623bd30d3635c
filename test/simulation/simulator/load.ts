import { setMaxListeners } from 'node:events';
import { AllocatorError } from '../../../orchestrator/core/errors.ts';
import { hasEnded, type Lease } from '../../../orchestrator/core/lease.ts';
import { type AllocationRequest, PRIORITIES } from '../../../orchestrator/core/request.ts';
import type { Engine } from '../../../orchestrator/engine/engine.ts';
import { pick } from '../generator.ts';
import { requestOf } from '../world.ts';
import { course } from './case.ts';
import type { SimulatedGuest } from './simulated-host.ts';

/** What a client knows of one request. */
export interface Asked {
  readonly request: AllocationRequest;
  readonly guest: SimulatedGuest;
  /** The lease it was told of first. */
  leaseId?: string;
  /** Until when its client may count on the lease, wall clock: what it was told, or what it asked for since. */
  toldExpiresAtMs: number;
  /** It asked for the end: the lease may end at any time from then on. */
  isGivenBack: boolean;
  /** It was told of the end. */
  isToldEnded: boolean;
}

export interface Answer {
  readonly asked: Asked;
  readonly lease: Lease;
}

const CONTEXT = { signal: new AbortController().signal };
// Every call in flight listens on it.
setMaxListeners(0, CONTEXT.signal);
/** Requests a client remembers: older ones are over. */
const REMEMBERED_MAX = 8;

/** The clients of all guests: they ask, ask again, renew and give back at random, and remember what they were told. */
export class Load {
  /** Requests whose leases are known and not known to have ended, by lease. */
  readonly alive = new Map<string, Asked>();
  readonly #ofGuest = new Map<SimulatedGuest, Asked[]>();
  readonly #courses = new Map<SimulatedGuest, () => number>();
  readonly #seed: number;
  readonly #onAnswer: (answer: Answer) => void;
  readonly #onFailure: (cause: unknown) => void;
  #count = 0;

  constructor(seed: number, onAnswer: (answer: Answer) => void, onFailure: (cause: unknown) => void) {
    this.#seed = seed;
    this.#onAnswer = onAnswer;
    this.#onFailure = onFailure;
  }

  /** One client's move on a guest, not awaited. */
  act(engine: Engine, guest: SimulatedGuest, nowMs: number): void {
    const random = this.#courseOf(guest);
    const asked = this.#ofGuest.get(guest) ?? [];
    const move = random();
    const one = asked.length === 0 ? undefined : pick(random, asked);
    const open = one?.leaseId === undefined || one.isGivenBack ? undefined : one;
    if (open !== undefined && move < 0.35) this.giveBack(engine, open);
    else if (open !== undefined && move < 0.5) this.#renew(engine, open, random, nowMs);
    else if (one !== undefined && move < 0.6) this.#allocate(engine, one);
    else this.#ask(engine, guest, random, nowMs);
  }

  giveBack(engine: Engine, asked: Asked): void {
    asked.isGivenBack = true;
    this.#track(engine.release(asked.leaseId ?? '', { succeeded: true }, CONTEXT), asked);
  }

  /** A guest stopped, was restored or disowned: its leases end. */
  excuse(guest: SimulatedGuest): void {
    for (const asked of this.#ofGuest.get(guest) ?? []) asked.isGivenBack = true;
    for (const asked of this.alive.values()) if (asked.guest === guest) asked.isGivenBack = true;
  }

  #ask(engine: Engine, guest: SimulatedGuest, random: () => number, nowMs: number): void {
    this.#count += 1;
    const startsLater = random() < 0.2;
    const request = requestOf({
      requestId: `asked-${this.#count}`,
      tenant: `tenant-${Math.floor(random() * 3)}`,
      guest: guest.name,
      cpu: Math.round(random() * guest.vcpusMax * 1000),
      mem: Math.round((random() * guest.memoryMaxBytes) / 2 ** 20),
      s: random() < 0.5 ? 5 + Math.round(random() * 60) : 86_400,
      priority: pick(random, PRIORITIES),
      ttlMs: 2_000 + Math.round(random() ** 2 * 300_000),
      noQueue: random() < 0.2,
      validateOnly: random() < 0.05,
      ...(startsLater && { startMs: nowMs + Math.round(random() * 30_000) }),
    });
    const asked: Asked = { request, guest, toldExpiresAtMs: 0, isGivenBack: false, isToldEnded: false };
    if (!request.validateOnly) {
      const ofGuest = this.#ofGuest.get(guest) ?? [];
      ofGuest.push(asked);
      this.#ofGuest.set(guest, ofGuest.slice(-REMEMBERED_MAX));
    }
    this.#allocate(engine, asked);
  }

  #allocate(engine: Engine, asked: Asked): void {
    const answer = engine.allocate(asked.request, CONTEXT);
    if (asked.request.validateOnly) answer.catch((cause) => this.#fail(cause));
    else this.#track(answer, asked);
  }

  #renew(engine: Engine, asked: Asked, random: () => number, nowMs: number): void {
    const ttlMs = 2_000 + Math.round(random() * 120_000);
    // A renewal may shorten a lease, also when its answer is lost.
    asked.toldExpiresAtMs = Math.min(asked.toldExpiresAtMs, nowMs + ttlMs);
    this.#track(engine.renew(asked.leaseId ?? '', ttlMs), asked);
  }

  #track(answer: Promise<Lease>, asked: Asked): void {
    answer.then(
      (lease) => {
        this.#onAnswer({ asked, lease });
        asked.leaseId ??= lease.id;
        asked.toldExpiresAtMs = lease.expiresAtMs;
        if (hasEnded(lease.state)) {
          asked.isToldEnded = true;
          this.alive.delete(lease.id);
        } else this.alive.set(lease.id, asked);
      },
      (cause) => this.#fail(cause),
    );
  }

  #fail(cause: unknown): void {
    if (!(cause instanceof AllocatorError)) this.#onFailure(cause);
  }

  #courseOf(guest: SimulatedGuest): () => number {
    const known = this.#courses.get(guest);
    if (known !== undefined) return known;
    const random = course(this.#seed, `client ${guest.index}`);
    this.#courses.set(guest, random);
    return random;
  }
}
