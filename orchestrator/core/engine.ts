import type { Anomaly, AnomalyKind } from './anomaly.ts';
import type { Forecast, ForecastScale, Track } from './forecast.ts';
import type { AdoptedGuest, GuestFacts, HostFacts, Mode } from './guest.ts';
import type { LeadTimes } from './lead-time.ts';
import type { Lease, LeaseState } from './lease.ts';
import type { Need } from './needs.ts';
import type { Entitlement } from './profile.ts';
import type { GuestDemand, Newcomer } from './rank-hosts.ts';
import type { AllocationRequest } from './request.ts';
import type { Room } from './room.ts';
import type { GuestSample, Sampling } from './sample.ts';
import type { ScaleStatus } from './scale.ts';

/** How long a caller waits and how it gives up. */
export interface CallContext {
  /** Aborted when the caller is gone or its deadline has passed. */
  readonly signal: AbortSignal;
}

/** What the client knows of the work when it gives a lease back. */
export interface WorkReport {
  /** ms since epoch; absent: when the lease was in place. */
  readonly startedAtMs?: number;
  /** ms since epoch; absent: now. */
  readonly finishedAtMs?: number;
  /** False when the work failed: nothing is learned of its length. */
  readonly succeeded: boolean;
}

export interface GuestStatus {
  readonly facts: GuestFacts;
  /** Absent: not managed. */
  readonly adopted?: AdoptedGuest;
  /** How long before a start each resource begins to move. Absent: not managed. */
  readonly leadTimesMs?: LeadTimes;
  readonly lastSample?: GuestSample;
  readonly leases: readonly string[];
}

export interface HostStatus {
  readonly host: HostFacts;
  /** (total - reserved) x overcommit ratio. */
  readonly capacity: { readonly cpuMillicores: number; readonly memoryBytes: number };
  /** Sum of what guests are entitled to. */
  readonly committed: { readonly cpuMillicores: number; readonly memoryBytes: number };
  readonly mode: Mode;
  readonly hypervisorAvailable: boolean;
  readonly draining: boolean;
  readonly guests: number;
  readonly adopted: number;
  readonly leases: Readonly<Partial<Record<LeaseState, number>>>;
  readonly tenants: readonly TenantStatus[];
  /** Anomalies raised since the start. */
  readonly anomaliesRaised: Readonly<Partial<Record<AnomalyKind, number>>>;
  readonly scale: ScaleStatus;
}

/** One tenant's part of the host. Rooms are above guests' baselines. */
export interface TenantStatus {
  readonly name: string;
  /** False: it is not in the configuration and has the default's policy. */
  readonly listed: boolean;
  readonly weight: number;
  /** Nothing is moved for it. */
  readonly shadow: boolean;
  /** Infinite where there is no cap. */
  readonly quota: Room;
  readonly guaranteed: Room;
  readonly held: Room;
  /** Dominant share of the capacity over the weight. */
  readonly share: number;
  /** Open leases that do not wait. */
  readonly leases: number;
  readonly queued: number;
}

/** A sample, and what the guest's own course then foresees. */
export type WatchedSample = GuestSample & { readonly forecast?: Forecast };

/** The allocation engine as the service and the CLI see it. All methods throw AllocatorError. */
export interface AllocationEngine {
  /**
   * Admit, put in place and answer. Resolves when the lease is ACTIVE, DEGRADED, SCHEDULED or QUEUED, or, at the
   * caller's deadline, with the lease as it then stands (it goes on).
   */
  allocate(request: AllocationRequest, context: CallContext): Promise<Lease>;
  renew(leaseId: string, ttlMs: number, need?: Need): Promise<Lease>;
  /** Give a lease back and learn from it. Resolves when the guest is back at what its other leases explain. */
  release(leaseId: string, report: WorkReport, context: CallContext): Promise<Lease>;
  getLease(leaseId: string): Lease;
  /** Newest first. */
  listLeases(filter: {
    readonly guest?: string;
    readonly states?: readonly LeaseState[];
    readonly tenant?: string;
  }): Lease[];
  /** Present state first, then each change until the lease has ended or the signal aborts. */
  watchLease(leaseId: string, context: CallContext): AsyncIterable<Lease>;
  /** What `allocate` would see; changes nothing. */
  forecast(
    request: AllocationRequest,
    scale: ForecastScale,
  ): Promise<{ readonly forecast: Forecast; readonly requested: Entitlement }>;
  explain(leaseId: string): readonly Decision[];
  /** What a guest that is to be placed somewhere would use; changes nothing. */
  foresee(newcomer: Newcomer): GuestDemand;

  status(): Promise<HostStatus>;
  listGuests(): Promise<GuestStatus[]>;
  getGuest(guest: string): Promise<GuestStatus>;
  /** Record the guest's sizes as its baseline and manage it from now on. */
  adopt(guest: string, mode: Mode): Promise<GuestStatus>;
  /** End its leases, put the baseline back and stop managing it. */
  disown(guest: string, context: CallContext): Promise<GuestStatus>;
  /** Put the baseline back; the guest stays adopted. */
  restore(guest: string, context: CallContext): Promise<GuestStatus>;
  setMode(guest: string, mode: Mode): Promise<GuestStatus>;
  /** How finely the guest is sampled from now on, where it differs from the host's granularity. */
  setSampling(guest: string, sampling: Partial<Sampling>): Promise<GuestStatus>;
  /** Samples of one guest as they come, until the signal aborts; at most once a second with what is foreseen from there on. */
  watchGuest(guest: string, track: Track, context: CallContext): AsyncIterable<WatchedSample>;

  /** Newest first. @param guest UUID or name; absent: of all */
  listAnomalies(guest?: string): readonly Anomaly[];

  /** Take no new work and finish what is in flight. Guests keep what they have. */
  drain(): Promise<void>;
}

/** One decision about a lease: what was known, which rule spoke, and what came of it. */
export interface Decision {
  readonly atMs: number;
  readonly leaseId: string;
  readonly guest: string;
  readonly action: 'forecast' | 'admit' | 'scale' | 'actuate' | 'adjust' | 'release' | 'recover';
  readonly rule: string;
  readonly inputs: Readonly<Record<string, string | number>>;
  readonly outcome: string;
}
