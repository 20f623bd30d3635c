import assert from 'node:assert';
import type { Decision } from '../core/engine.ts';
import { AllocatorError } from '../core/errors.ts';
import type { GuestId } from '../core/guest.ts';
import { hasEnded, holdsRoom, LEASE_TRANSITIONS, type Lease, type LeaseState } from '../core/lease.ts';
import type { LedgerEntry, LedgerWrite } from '../core/ports.ts';
import type { Entitlement, ProfileField } from '../core/profile.ts';
import type { InstructionReading } from '../core/sample.ts';

/** A lease with what the engine keeps beside it; this is what the ledger stores. */
export interface LeaseRecord {
  readonly lease: Lease;
  /** What admission let it have; less than requested when the host was short. */
  readonly admitted: Entitlement;
  /** With less than this it would rather wait. */
  readonly least: Entitlement;
  /** Tells a repeat of the same request from another request under its id. */
  readonly bodyHash: string;
  /** Fields whose largest usage stood at the entitlement. */
  readonly censored: readonly ProfileField[];
  readonly decisions: readonly Decision[];
  /** The group that was asked for; until it begins, the lease may go to another guest of it. Absent: its guest was asked for. */
  readonly group?: string;
  /** As what it will end, while RELEASING: an ending may outlive the process. Absent: RELEASED. */
  readonly ending?: 'RELEASED' | 'EXPIRED';
  /** What the guest had executed when the lease was in place. */
  readonly executedFrom?: InstructionReading;
  /** Set when its guest's definition asked for it, at a start of the guest. */
  readonly start?: StartTie;
}

/** How a lease hangs on a start of its guest. */
export interface StartTie {
  /** The guest does not run yet: the lease begins when it does. */
  readonly isAwaited: boolean;
  /** It is renewed while the guest runs, and its work is the run. */
  readonly lastsAsRun: boolean;
}

const PREFIX = 'lease/';

/** Ended leases kept for questions and retries; at ten a second, a quarter of an hour of history at least. */
export const ENDED_LEASES_MAX = 10_000;
/** Decisions kept per lease: its first ones explain the grant, its last ones the end. */
export const DECISIONS_MAX = 64;

/** All leases of this host, by id, by request and by guest, with their watchers. Knows the ledger's form, never writes. */
export class LeaseBook {
  readonly #records = new Map<string, LeaseRecord>();
  readonly #byRequest = new Map<string, string>();
  readonly #byGuest = new Map<GuestId, Set<string>>();
  readonly #open = new Set<string>();
  readonly #queued = new Set<string>();
  /** Oldest first: a Set keeps the order of insertion. */
  readonly #ended = new Set<string>();
  readonly #counts = new Map<LeaseState, number>();
  readonly #watchers = new Map<string, Set<() => void>>();

  static readonly prefix = PREFIX;

  /** Take up the leases the ledger knows. */
  load(entries: readonly LedgerEntry[]): void {
    for (const { value } of entries) this.put(value as LeaseRecord);
  }

  get(id: string): LeaseRecord {
    const record = this.#records.get(id);
    if (record === undefined)
      throw new AllocatorError('LEASE_NOT_FOUND', `No lease has the id ${id}`, { leaseId: id });
    return record;
  }

  has(id: string): boolean {
    return this.#records.has(id);
  }

  byRequest(tenant: string, requestId: string): LeaseRecord | undefined {
    const id = this.#byRequest.get(requestKey(tenant, requestId));
    return id === undefined ? undefined : this.#records.get(id);
  }

  /** Newest first: ids grow with time. */
  all(): LeaseRecord[] {
    return [...this.#records.values()].sort((a, b) => (a.lease.id < b.lease.id ? 1 : -1));
  }

  /** Leases that have not ended, oldest first. */
  open(): LeaseRecord[] {
    return [...this.#open].map((id) => this.get(id)).sort((a, b) => (a.lease.id < b.lease.id ? -1 : 1));
  }

  /** Leases that wait for room, as they came. */
  queued(): LeaseRecord[] {
    return [...this.#queued].map((id) => this.get(id));
  }

  /** Guests with leases that have not ended. */
  guests(): Iterable<GuestId> {
    return this.#byGuest.keys();
  }

  ofGuest(guest: GuestId): LeaseRecord[] {
    const ids = this.#byGuest.get(guest);
    return ids === undefined ? [] : Array.from(ids, (id) => this.get(id));
  }

  /** Leases of a guest that hold room on the host and whose time has come. */
  inForce(guest: GuestId): LeaseRecord[] {
    return this.ofGuest(guest).filter(
      ({ lease }) => holdsRoom(lease.state) && lease.state !== 'SCHEDULED' && lease.state !== 'RELEASING',
    );
  }

  /** Those in force that are in place, oldest there first. */
  inPlace(guest: GuestId): LeaseRecord[] {
    return this.inForce(guest)
      .filter(({ lease }) => lease.inPlaceAtMs !== undefined)
      .sort((a, b) => (a.lease.inPlaceAtMs ?? 0) - (b.lease.inPlaceAtMs ?? 0));
  }

  /** The lease last put in place of those in force. */
  newestInPlace(guest: GuestId): Lease | undefined {
    return this.inPlace(guest).at(-1)?.lease;
  }

  /** What admission let the leases in force have. */
  admitted(guest: GuestId): Entitlement[] {
    return this.inForce(guest).map(({ admitted }) => admitted);
  }

  /** What the leases in force asked for. */
  asked(guest: GuestId): Entitlement[] {
    return this.inForce(guest).map(({ lease }) => lease.requested);
  }

  /** What a guest's leases were promised, at present and ahead: what admission must count. */
  promised(guest: GuestId): Entitlement[] {
    return this.holding(guest).map(({ admitted }) => admitted);
  }

  /** The median needs of the same leases. */
  promisedLeast(guest: GuestId): Entitlement[] {
    return this.holding(guest).map(({ least }) => least);
  }

  /** A guest's leases that were promised room, at present and ahead, and do not give it back yet. */
  holding(guest: GuestId): LeaseRecord[] {
    return this.ofGuest(guest).filter(({ lease }) => lease.state !== 'QUEUED' && lease.state !== 'RELEASING');
  }

  /** Add a lease or replace it. A change of state outside the table is a programming error. */
  put(record: LeaseRecord): void {
    const { lease } = record;
    const known = this.#records.get(lease.id)?.lease;
    const before = known?.state;
    assert(
      before === undefined || before === lease.state || LEASE_TRANSITIONS[before].includes(lease.state),
      `lease ${lease.id} cannot go from ${before} to ${lease.state}`,
    );
    if (known !== undefined && known.guest !== lease.guest) this.#leave(known);
    this.#records.set(lease.id, record);
    if (before !== undefined) this.#count(before, -1);
    this.#count(lease.state, 1);
    this.#byRequest.set(requestKey(lease.tenant, lease.requestId), lease.id);
    if (hasEnded(lease.state)) this.#close(lease);
    else {
      this.#open.add(lease.id);
      const ofGuest = this.#byGuest.get(lease.guest);
      if (ofGuest === undefined) this.#byGuest.set(lease.guest, new Set([lease.id]));
      else ofGuest.add(lease.id);
    }
    if (lease.state === 'QUEUED') this.#queued.add(lease.id);
    else this.#queued.delete(lease.id);
    for (const wake of this.#watchers.get(lease.id) ?? []) wake();
  }

  /** Forget a lease that was never acknowledged. */
  remove(id: string): void {
    const { lease } = this.get(id);
    this.#close(lease);
    this.#forget(lease);
  }

  /** Oldest ended leases beyond the bound, now forgotten. */
  prune(): LedgerWrite[] {
    const writes: LedgerWrite[] = [];
    for (const id of this.#ended) {
      if (this.#ended.size <= ENDED_LEASES_MAX) break;
      this.#forget(this.get(id).lease);
      writes.push({ key: PREFIX + id, value: undefined });
    }
    return writes;
  }

  counts(): Partial<Record<LeaseState, number>> {
    return Object.fromEntries(this.#counts);
  }

  /** Call `wake` after each change of a lease. Returns the unsubscribe function. */
  watch(id: string, wake: () => void): () => void {
    const watchers = this.#watchers.get(id) ?? new Set();
    this.#watchers.set(id, watchers.add(wake));
    return () => {
      watchers.delete(wake);
      if (watchers.size === 0) this.#watchers.delete(id);
    };
  }

  #count(state: LeaseState, change: 1 | -1): void {
    this.#counts.set(state, (this.#counts.get(state) ?? 0) + change);
  }

  #forget({ id, tenant, requestId, state }: Lease): void {
    this.#ended.delete(id);
    this.#records.delete(id);
    this.#byRequest.delete(requestKey(tenant, requestId));
    this.#count(state, -1);
  }

  #close(lease: Lease): void {
    this.#open.delete(lease.id);
    this.#queued.delete(lease.id);
    this.#ended.add(lease.id);
    this.#leave(lease);
  }

  #leave({ id, guest }: Lease): void {
    const ofGuest = this.#byGuest.get(guest);
    ofGuest?.delete(id);
    if (ofGuest?.size === 0) this.#byGuest.delete(guest);
  }
}

/** The write that makes a record durable. */
export function leaseWrite(record: LeaseRecord): LedgerWrite {
  return { key: PREFIX + record.lease.id, value: record };
}

/** A decision about a lease, to be kept with it. */
export function decisionOf(lease: Lease, decision: Omit<Decision, 'leaseId' | 'guest'>): Decision {
  return { leaseId: lease.id, guest: lease.guestName, ...decision };
}

/** `record` with a decision added, bounded. */
export function decided(record: LeaseRecord, decision: Decision): LeaseRecord {
  const { decisions } = record;
  if (decisions.length < DECISIONS_MAX) return { ...record, decisions: [...decisions, decision] };
  const half = DECISIONS_MAX / 2;
  return { ...record, decisions: [...decisions.slice(0, half), ...decisions.slice(half + 1), decision] };
}

/** A tenant's ids are its own: two tenants may use the same. Length first, so that no pair reads like another. */
function requestKey(tenant: string, requestId: string): string {
  return `${tenant.length}:${tenant}:${requestId}`;
}
