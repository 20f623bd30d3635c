import type { Test } from 'tap';
import { hasEnded, type Lease } from '../../orchestrator/core/lease.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import type { AllocationRequest } from '../../orchestrator/core/request.ts';
import { LeaseBook, type LeaseRecord } from '../../orchestrator/engine/lease-book.ts';
import { pick } from './generator.ts';
import { requestOf, type World } from './world.ts';

/** Guests of `guest()`: what they are adopted with, and the most they can be given. */
export const BASELINE = { cpuMillicores: 1000, memoryMib: 256 };
const CEILING = { cpuMillicores: 4000, memoryMib: 2048 };
/** Balloon and quota come this near. */
const NEAR = { cpuMillicores: 1, memoryMib: 2 };

interface Asked {
  readonly request: AllocationRequest;
  /** What the client was told, once it was. */
  answer?: Lease;
  released?: boolean;
}

/** Clients that ask and give back at random, remember what they were told, and can judge whether it was kept. */
export class Clients {
  readonly #world: World;
  readonly #guests: readonly string[];
  readonly #random: () => number;
  readonly #asked: Asked[] = [];

  constructor(world: World, guests: readonly string[], random: () => number) {
    this.#world = world;
    this.#guests = guests;
    this.#random = random;
  }

  /** One call, not awaited: a release of what was granted, or a request. */
  call(): void {
    const open = this.#asked.filter(({ answer, released }) => answer !== undefined && !released);
    if (open.length > 0 && this.#random() < 0.35) {
      const one = pick(this.#random, open);
      one.released = true;
      this.#world.release(one.answer?.id ?? '').catch(() => {});
      return;
    }
    const one: Asked = { request: this.#request() };
    this.#asked.push(one);
    this.#allocate(one).then(
      (lease) => {
        one.answer = lease;
      },
      () => {},
    );
  }

  /** Whoever was not answered asks again, as clients do. */
  async retry(): Promise<void> {
    for (const one of this.#asked.filter(({ answer }) => answer === undefined)) {
      await this.#world.during(this.#allocate(one)).catch(() => {});
    }
  }

  async releaseAll(): Promise<void> {
    for (const { id, state } of this.#world.engine.listLeases({}))
      if (!hasEnded(state)) await this.#world.during(this.#world.release(id));
  }

  /** Ids of the leases that somebody was told of and did not give back: to be taken down before a restart. */
  acknowledged(): string[] {
    return this.#asked.flatMap(({ answer, released }) =>
      answer === undefined || released ? [] : [answer.id],
    );
  }

  /** Every lease named is there and has not ended, and no request has two. */
  assertKept(t: Test, acknowledged: readonly string[]): void {
    const { engine } = this.#world;
    const leases = engine.listLeases({});
    for (const id of acknowledged) {
      const state = leases.find((lease) => lease.id === id)?.state;
      t.ok(state !== undefined && !hasEnded(state), `acknowledged ${id} lives on: ${state}`);
    }
    const requests = leases.map(({ requestId }) => requestId);
    t.equal(new Set(requests).size, requests.length, 'one lease per request');
  }

  /** What guests hold and their leases, as the ledger has them, do not explain: a sentence each. */
  async unexplained(): Promise<string[]> {
    const { engine } = this.#world;
    const admitted = this.#world.ledger
      .range(LeaseBook.prefix)
      .map(({ value }) => value as LeaseRecord)
      .filter(({ lease }) => lease.state === 'ACTIVE' || lease.state === 'DEGRADED');
    const wrong: string[] = [];
    for (const name of this.#guests) {
      const { facts } = await this.#world.during(engine.getGuest(name));
      const leases = admitted.filter(({ lease }) => lease.guestName === name);
      const { cpuMillicores, memoryBytes } = facts.entitlement;
      const held = { cpuMillicores, memoryMib: memoryBytes / MIB };
      const shares = leases.map(({ admitted: share }) => ({
        cpuMillicores: share.cpuMillicores,
        memoryMib: share.memoryBytes / MIB,
      }));
      for (const field of ['cpuMillicores', 'memoryMib'] as const) {
        const above = shares.reduce((sum, one) => sum + Math.max(0, one[field] - BASELINE[field]), 0);
        const explained = Math.min(CEILING[field], BASELINE[field] + above);
        if (Math.abs(held[field] - explained) > NEAR[field])
          wrong.push(`${name} holds ${held[field]} ${field}, ${leases.length} leases explain ${explained}`);
      }
    }
    return wrong;
  }

  #allocate({ request }: Asked): Promise<Lease> {
    return this.#world.engine.allocate(request, { signal: new AbortController().signal });
  }

  #request(): AllocationRequest {
    return requestOf({
      requestId: `asked-${this.#asked.length}`,
      guest: pick(this.#random, this.#guests),
      cpu: 1000 + 500 * Math.floor(this.#random() * 5),
      mem: BASELINE.memoryMib + 64 * Math.floor(this.#random() * 10),
      // Longer than any test: shrinking what outlived its forecast is another test's subject.
      s: 86_400,
      ttlMs: 600_000,
    });
  }
}

/** The host's promises fit it. */
export async function assertWithinCapacity(t: Test, world: World, when: string): Promise<void> {
  const { committed, capacity } = await world.engine.status();
  const fits =
    committed.cpuMillicores <= capacity.cpuMillicores && committed.memoryBytes <= capacity.memoryBytes;
  if (!fits) t.match(committed, capacity, `promises are within the capacity ${when}`);
}
