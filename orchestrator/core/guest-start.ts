import type { CallContext } from './engine.ts';
import type { GuestFacts, GuestId, Mode } from './guest.ts';
import type { Lease } from './lease.ts';
import type { AllocationRequest, Params, Priority } from './request.ts';

/** What becomes of a start that gets no room: `prefer` goes on without, `require` is vetoed. */
export const START_POLICIES = ['prefer', 'require'] as const;
export type StartPolicy = (typeof START_POLICIES)[number];

/** What a guest's definition asks for at each start, as far as it could be read. Not validated. */
export interface StartRequest {
  readonly policy: StartPolicy;
  readonly tenant: string;
  readonly workload: string;
  readonly params: Params;
  readonly priority: Priority;
  readonly durationMs?: number;
  /** Absent: the lease lasts as long as the guest runs. */
  readonly ttlMs?: number;
  /** What could not be read, one sentence each; with any, the rest is no request. */
  readonly problems: readonly string[];
}

/** A guest as its definition has it. */
export interface GuestDefinition {
  /** As it will be when it has started, its state aside: that is shut-off. */
  readonly facts: GuestFacts;
  /** Absent: it asks for nothing. */
  readonly request?: StartRequest;
}

/**
 * Reads a guest's definition, in the hypervisor's own form. Asks the hypervisor nothing.
 * @throws {AllocatorError} INVALID_REQUEST
 */
export type ReadDefinition = (text: string) => GuestDefinition;

/** A start about to happen. */
export interface ExpectedStart {
  readonly facts: GuestFacts;
  readonly request: AllocationRequest;
  /** It runs already. Otherwise what an earlier run of the guest had ends with it. */
  readonly hasStarted: boolean;
  /** The lease is renewed while the guest runs, and ends with its run. */
  readonly lastsAsRun: boolean;
  /** A guest that is not managed yet is adopted: what its definition says is its baseline. */
  readonly adopt: boolean;
}

/**
 * Guests' starts as a hook tells them. The hypervisor waits for the hook, and so for these: nothing here awaits it.
 * All methods throw AllocatorError.
 */
export interface GuestStarts {
  /**
   * Reserve room for a guest that is about to start, or has just started. Resolves when the lease is durable, SCHEDULED or
   * QUEUED; what others are to give up for it moves afterwards. A start that is expected already has the same lease.
   */
  reserve(start: ExpectedStart, context: CallContext): Promise<Lease>;
  /** How much may be done about the guest, managed or not yet. */
  modeOf(guest: GuestId): Mode;
  /** The guest runs: its lease begins once the hypervisor is free. */
  started(guest: GuestId): void;
  /** The guest stopped, or did not come up: its leases end, and what its run used is learned. */
  ended(guest: GuestId): void;
}
