import { capacityOf, type DemandBound, physicalOf } from '../core/admit.ts';
import { AllocatorError } from '../core/errors.ts';
import type { GuestId, HostFacts } from '../core/guest.ts';
import { type DemandSums, sumsWith } from '../core/joint-tail.ts';
import type { Hypervisor } from '../core/ports.ts';
import { beyond, lesser, NO_ROOM, plus, type Room, type RoomField } from '../core/room.ts';
import type { GuestSample } from '../core/sample.ts';
import { Commitments } from './commitments.ts';
import { DemandBook, type Expected } from './demand-book.ts';
import type { GuestBook } from './guest-book.ts';
import { Holdings } from './holdings.ts';
import type { LeaseBook } from './lease-book.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { EnginePolicy } from './policy.ts';

/** What the host may promise, what it has promised, and what is left. */
export class HostRoom {
  readonly #guests: GuestBook;
  readonly #leases: LeaseBook;
  readonly #policy: Pick<EnginePolicy, 'capacity'>;
  readonly #commitments = new Commitments((id) => this.#promiseOf(id));
  readonly #demand = new DemandBook((id) => this.#expectedOf(id));
  readonly #holdings = new Holdings((id) => this.#holdingsOf(id));
  readonly #onTouch: ((guest: GuestId) => void)[] = [];
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
    for (const callBack of this.#onTouch) callBack(guest);
    this.#commitments.touch(guest);
    this.#holdings.touch(guest);
    this.#demand.touch(guest);
  }

  /** Call back whenever a guest may have changed. */
  onTouch(callBack: (guest: GuestId) => void): void {
    this.#onTouch.push(callBack);
  }

  /** Take a managed guest's sample into its history. */
  note(sample: GuestSample): void {
    this.#demand.note(sample);
  }

  /** @throws {AllocatorError} HYPERVISOR_UNAVAILABLE when the host was never read */
  capacity(): Room {
    return capacityOf(this.#known(), this.#policy.capacity);
  }

  /**
   * The second bound: what all guests may come to use, with this one's leases needing `median`; undefined where only promises
   * bind. Guests that are not managed are not seen, and count as the operator's ratio expects of them.
   * @throws {AllocatorError} HYPERVISOR_UNAVAILABLE when the host was never read
   */
  demandBound(guest: GuestId, median: Room): DemandBound | undefined {
    const { capacity } = this.#policy;
    const physical = physicalOf(this.#known(), capacity);
    if (capacity.admitBy === 'promises') return undefined;
    const theirs = this.#unmanagedExpected();
    return {
      physical,
      tailWith: (given) =>
        plus(this.#demand.tailWith(guest, lesser(given, physical), lesser(median, physical)), theirs),
    };
  }

  /** Total - reserved. @throws {AllocatorError} HYPERVISOR_UNAVAILABLE when the host was never read */
  physical(): Room {
    return physicalOf(this.#known(), this.#policy.capacity);
  }

  /** What the tail of all guests' demand rests on. Those that are not managed use what the operator's ratio expects, always. */
  demandSums(): Readonly<Record<RoomField, DemandSums>> {
    const managed = this.#demand.sums();
    const theirs = this.#unmanagedExpected();
    const both = (field: RoomField): DemandSums =>
      sumsWith(managed[field], { mean: theirs[field], peak: theirs[field], size: theirs[field] });
    return { cpuMillicores: both('cpuMillicores'), memoryBytes: both('memoryBytes') };
  }

  /** Mean CPU of managed guests by hour of the UTC day, millicores: f64[24]. */
  cpuByHour(): Float64Array {
    return this.#demand.cpuByHour();
  }

  /** Sum of what guests may use now or were promised: ours by their leases, the others by their settings. */
  committed(): Room {
    return plus(this.#commitments.total(), this.#guests.unmanagedCommitted());
  }

  /** What the leases of each tenant that has some hold above their guests' baselines. */
  holdings(): ReadonlyMap<string, Room> {
    return this.#holdings.all();
  }

  heldBy(tenant: string): Room {
    return this.#holdings.of(tenant);
  }

  /** How far one guest may grow at once, given everybody's promises and what is kept for others: what it holds beyond its own is not its to keep. */
  roomFor(guest: ManagedGuest, kept: Room = NO_ROOM): Room {
    const own = guest.target(this.#leases.admitted(guest.record.id));
    const free = beyond(this.capacity(), plus(this.committed(), kept));
    return {
      cpuMillicores: own.cpuMillicores + (guest.heldBack || guest.capped ? 0 : free.cpuMillicores),
      memoryBytes: own.memoryBytes + (guest.capped ? 0 : free.memoryBytes),
    };
  }

  #unmanagedExpected(): Room {
    const { overcommit } = this.#policy.capacity;
    const unmanaged = this.#guests.unmanagedCommitted();
    return {
      cpuMillicores: unmanaged.cpuMillicores / overcommit.cpu,
      memoryBytes: unmanaged.memoryBytes / overcommit.memory,
    };
  }

  #known(): HostFacts {
    if (this.#host === undefined)
      throw new AllocatorError('HYPERVISOR_UNAVAILABLE', 'The hypervisor has not been reached yet');
    return this.#host;
  }

  #expectedOf(id: GuestId): Expected | undefined {
    const guest = this.#guests.find(id);
    if (guest === undefined) return undefined;
    const size = this.#promiseOf(id);
    const medians = this.#leases.promisedLeast(id);
    if (this.#host === undefined) return { size };
    // However much a guest was promised, it uses no more than there is.
    const physical = physicalOf(this.#host, this.#policy.capacity);
    return {
      size: lesser(size, physical),
      ...(medians.length > 0 && { median: lesser(guest.target(medians), physical) }),
    };
  }

  #holdingsOf(id: GuestId): ReadonlyMap<string, Room> {
    const held = new Map<string, Room>();
    const guest = this.#guests.find(id);
    if (guest?.record.mode !== 'enforce') return held;
    const { entitlement: baseline } = guest.record.baseline;
    for (const { lease, admitted } of this.#leases.holding(id))
      held.set(lease.tenant, plus(held.get(lease.tenant) ?? NO_ROOM, beyond(admitted, baseline)));
    return held;
  }

  #promiseOf(id: GuestId): Room {
    const guest = this.#guests.find(id);
    if (guest === undefined || !guest.usesRoom) return { cpuMillicores: 0, memoryBytes: 0 };
    return guest.record.mode === 'enforce' ? guest.target(this.#leases.promised(id)) : guest.held;
  }
}
