import { capacityOf, type Room } from '../core/admit.ts';
import { AllocatorError } from '../core/errors.ts';
import type { GuestId, HostFacts } from '../core/guest.ts';
import type { Hypervisor } from '../core/ports.ts';
import { Commitments } from './commitments.ts';
import type { GuestBook } from './guest-book.ts';
import type { LeaseBook } from './lease-book.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';

/** What the host may promise, what it has promised, and what is left. */
export class HostRoom {
  readonly #guests: GuestBook;
  readonly #leases: LeaseBook;
  readonly #policy: Pick<EnginePolicy, 'capacity'>;
  readonly #commitments = new Commitments((id) => this.#promiseOf(id));
  #host: HostFacts | undefined;

  constructor(guests: GuestBook, leases: LeaseBook, policy: Pick<EnginePolicy, 'capacity'>) {
    this.#guests = guests;
    this.#leases = leases;
    this.#policy = policy;
  }

  /** The host's facts; undefined until `read` has succeeded. */
  get host(): HostFacts | undefined {
    return this.#host;
  }

  /** @throws {AllocatorError} HYPERVISOR_UNAVAILABLE */
  async read(hypervisor: Hypervisor): Promise<void> {
    this.#host = await hypervisor.host();
  }

  /** The guest's leases, sizes, state or mode may have changed. */
  touch(guest: GuestId): void {
    this.#commitments.touch(guest);
  }

  /** @throws {AllocatorError} HYPERVISOR_UNAVAILABLE when the host was never read */
  capacity(): Room {
    if (this.#host === undefined)
      throw new AllocatorError('HYPERVISOR_UNAVAILABLE', 'The hypervisor has not been reached yet');
    return capacityOf(this.#host, this.#policy.capacity);
  }

  /** Sum of what guests may use now or were promised: ours by their leases, the others by their settings. */
  committed(): Room {
    const ours = this.#commitments.total();
    const theirs = this.#guests.unmanagedCommitted();
    return {
      cpuMillicores: ours.cpuMillicores + theirs.cpuMillicores,
      memoryBytes: ours.memoryBytes + theirs.memoryBytes,
    };
  }

  /** How far one guest may grow at once, given everybody's promises: what it holds beyond its own is not its to keep. */
  roomFor(guest: ManagedGuest): Room {
    const capacity = this.capacity();
    const committed = this.committed();
    const own = guest.target(this.#leases.admitted(guest.record.id));
    return {
      cpuMillicores: own.cpuMillicores + Math.max(0, capacity.cpuMillicores - committed.cpuMillicores),
      memoryBytes: own.memoryBytes + Math.max(0, capacity.memoryBytes - committed.memoryBytes),
    };
  }

  #promiseOf(id: GuestId): Room {
    const guest = this.#guests.find(id);
    if (guest === undefined || guest.facts.state !== 'running') return { cpuMillicores: 0, memoryBytes: 0 };
    return guest.record.mode === 'enforce' ? guest.target(this.#leases.promised(id)) : guest.held;
  }
}
