import { differing, satisfies, withResource } from '../core/entitlement.ts';
import { AllocatorError } from '../core/errors.ts';
import type { GuestCapabilities } from '../core/guest.ts';
import type { ACTUATED, Actuated, Actuator, Clock, LedgerWrite } from '../core/ports.ts';
import type { Entitlement } from '../core/profile.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';
import { within } from './within.ts';

export type Actuators = Readonly<Record<Actuated, Actuator>>;

/** What came of a move. */
export interface MoveResult {
  /** True when the guest holds all of the target, and no more but vCPUs: those need not come back. */
  readonly reached: boolean;
  /** One sentence per resource that fell short; empty when none did. */
  readonly shortfalls: readonly string[];
}

/** What came of one resource's part of a move. */
interface Outcome {
  readonly resource: Actuated;
  readonly read?: Partial<Entitlement>;
  readonly failure?: string;
  readonly endedAtMonotonicMs: number;
}

/** A guest that has just come up is told where to go and left to boot: one look at what came of it, and the next try has the rest. */
const FRESH_WAIT_MS = 100;

const NOTHING_TO_DO: MoveResult = { reached: true, shortfalls: [] };

/** Brings guests to a target: journal first, then all actuators at once, then read back. One move per guest at a time. */
export class Mover {
  readonly #actuators: Actuators;
  readonly #journal: LeaseJournal;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #policy: Pick<EnginePolicy, 'actuationTimeoutMs'>;

  constructor(parts: {
    actuators: Actuators;
    journal: LeaseJournal;
    clock: Clock;
    log: Log;
    policy: Pick<EnginePolicy, 'actuationTimeoutMs'>;
  }) {
    this.#actuators = parts.actuators;
    this.#journal = parts.journal;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#policy = parts.policy;
  }

  /**
   * Move a guest; call inside `guest.serialize`. Actuator failures are part of the result.
   * @param writes what must be durable, with all that is owed, before anything is touched
   * @throws {AllocatorError} LEDGER_UNAVAILABLE: nothing was touched
   */
  async move(
    guest: ManagedGuest,
    target: Entitlement,
    writes: readonly LedgerWrite[] = [],
  ): Promise<MoveResult> {
    const resources = guest.resourcesTo(target);
    const restoring = differing(target, guest.record.baseline.entitlement).length === 0;
    if (resources.length === 0) {
      if (guest.record.moving) guest.arriveAt(target);
      // Without a move its adjustments may have changed all the same, with the leases that they are over.
      await this.#journal.commit(guest.isAdjustedAnew ? [...writes, guest.write()] : writes);
      return NOTHING_TO_DO;
    }
    await this.#announce(guest, target, writes);
    const growing = resources.filter((resource) => lacks(guest.held, target, resource));
    const beganAtMonotonicMs = this.#clock.monotonicMs();
    const waitMs = guest.isFresh ? FRESH_WAIT_MS : this.#policy.actuationTimeoutMs;
    guest.isFresh = false;
    for (const resource of resources) guest.underWay.add(resource);
    const outcomes = await within(waitMs, (signal) =>
      Promise.all(resources.map((resource) => this.#apply(guest, resource, target, restoring, signal))),
    );
    guest.underWay.clear();
    for (const { resource, read, failure, endedAtMonotonicMs } of outcomes) {
      if (read !== undefined) guest.held = withResource(guest.held, resource, read);
      guest.changedAtMonotonicMs.set(resource, this.#clock.monotonicMs());
      if (failure === undefined && growing.includes(resource))
        guest.noteGrowth(resource, endedAtMonotonicMs - beganAtMonotonicMs);
      if (failure !== undefined || differing(guest.held, target).includes(resource))
        guest.astray.add(resource);
      else guest.astray.delete(resource);
    }
    guest.arriveAt(target);
    return this.#judge(
      guest,
      target,
      outcomes.map(({ failure }) => failure).filter((failure) => failure !== undefined),
    );
  }

  /** Where the guest is going must be durable before it goes. */
  async #announce(guest: ManagedGuest, target: Entitlement, writes: readonly LedgerWrite[]): Promise<void> {
    const { record } = guest;
    guest.leaveFor(target);
    try {
      await this.#journal.commit([...writes, guest.write()]);
    } catch (cause) {
      guest.record = record;
      throw cause;
    }
  }

  #judge(guest: ManagedGuest, target: Entitlement, failures: readonly string[]): MoveResult {
    const short = differing(guest.held, target).filter((resource) => lacks(guest.held, target, resource));
    const shortfalls = short.map((resource) => describe(guest.held, target, resource));
    const excess = differing({ ...guest.held, vcpuCount: target.vcpuCount }, target);
    return {
      reached: satisfies(guest.held, target) && excess.length === 0 && failures.length === 0,
      shortfalls: [...shortfalls, ...failures],
    };
  }

  async #apply(
    guest: ManagedGuest,
    resource: Actuated,
    target: Entitlement,
    restoring: boolean,
    signal: AbortSignal,
  ): Promise<Outcome> {
    if (!canMove(guest.facts.capabilities, resource)) {
      return {
        resource,
        failure: `${resource} cannot be moved on this guest`,
        endedAtMonotonicMs: this.#clock.monotonicMs(),
      };
    }
    const actuator = this.#actuators[resource];
    const { id } = guest.record;
    try {
      const read = restoring
        ? await actuator.restore(id, guest.record.baseline, signal)
        : await actuator.apply(id, target, signal);
      return { resource, read, endedAtMonotonicMs: this.#clock.monotonicMs() };
    } catch (cause) {
      if (!(cause instanceof AllocatorError)) throw cause;
      this.#log.warn(
        { guest: guest.record.name, resource, code: cause.code, detail: cause.detail, err: cause },
        'actuator failed',
      );
      return {
        resource,
        endedAtMonotonicMs: this.#clock.monotonicMs(),
        failure: `${resource}: ${cause.message}`,
        ...(await this.#readAfterFailure(id, resource)),
      };
    }
  }

  /** A failed call may have changed something all the same. */
  async #readAfterFailure(id: string, resource: Actuated): Promise<{ read?: Partial<Entitlement> }> {
    try {
      return { read: await this.#actuators[resource].read(id) };
    } catch (cause) {
      if (!(cause instanceof AllocatorError)) throw cause;
      return {};
    }
  }
}

function canMove(capabilities: GuestCapabilities, resource: Actuated): boolean {
  const able: Record<(typeof ACTUATED)[number], boolean> = {
    cpu: capabilities.cpuQuota || capabilities.vcpuPlug,
    memory: capabilities.balloon || capabilities.virtioMem,
    disk: capabilities.diskLimits,
    net: capabilities.netLimits,
  };
  return able[resource];
}

function lacks(held: Entitlement, target: Entitlement, resource: Actuated): boolean {
  return !satisfies(withResource(target, resource, held), target);
}

function describe(held: Entitlement, target: Entitlement, resource: Actuated): string {
  switch (resource) {
    case 'cpu':
      return `cpu: ${held.cpuMillicores} of ${target.cpuMillicores} millicores on ${held.vcpuCount} of ${target.vcpuCount} vCPUs`;
    case 'memory':
      return `memory: ${held.memoryBytes} of ${target.memoryBytes} bytes`;
    default:
      return `${resource}: the limits in force are not those asked for`;
  }
}
