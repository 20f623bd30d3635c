import type { Forecast, ForecastQuery, Outcome } from './forecast.ts';
import type { Baseline, GuestFacts, GuestId, HostFacts } from './guest.ts';
import type { HostReport, KnownHost } from './host-report.ts';
import type { GuestSeen } from './lease.ts';
import type { Entitlement } from './profile.ts';
import type { Cadence, GuestSample, InstructionReading, Sampling } from './sample.ts';
import type { ScaleAnswer, ScaleRequest } from './scale.ts';

/** Time as an argument. `nowMs` is the wall clock and may step; `monotonicMs` never goes back. */
export interface Clock {
  nowMs(): number;
  monotonicMs(): number;
}

/**
 * Forecasts in fixed time. Implemented by orchestrator/forecast over the WASM kernels.
 * `forecast` and `observe` are on the request path: no I/O, no allocation that grows with history.
 */
export interface Forecaster {
  /** Take a guest's new sample into its recent state. */
  observe(sample: GuestSample): void;
  /** Quantiles for a request or a guest. Always answers; what it rests on is in `reason`. Changes nothing. */
  forecast(query: ForecastQuery): Forecast;
  /** Learn from a finished request. Outcomes are replayed in order after a restart, and give the same model. */
  learn(outcome: Outcome): void;
  /** Drop a guest's recent state. */
  forget(guest: GuestId): void;
}

/** One stored value. `version` counts its changes from 1. */
export interface LedgerEntry {
  readonly key: string;
  readonly value: unknown;
  readonly version: number;
}

/** One write of a commit: `value` undefined removes the key. */
export interface LedgerWrite {
  readonly key: string;
  readonly value: unknown;
  /** The version the key must have: 0 that it must not exist; absent: whatever it has. */
  readonly ifVersion?: number;
}

/**
 * Durable key-value store with compare-and-swap. LMDB on one host; the contract is also that of etcd.
 * Values are JSON documents.
 */
export interface LeaseLedger {
  get(key: string): LedgerEntry | undefined;
  /** Entries whose key starts with `prefix`, in key order. */
  range(prefix: string): LedgerEntry[];
  /**
   * All writes or none. Resolves when they would survive a power loss. One made while another is under way fails with it:
   * it may rest on it.
   * @throws {AllocatorError} STATE_CONFLICT, LEDGER_UNAVAILABLE
   */
  commit(writes: readonly LedgerWrite[]): Promise<void>;
  close(): Promise<void>;
}

/** What somebody or something did to a guest. */
export type GuestEvent =
  | {
      /** `answers`: its agent is there from now on, and can do what was refused before. */
      readonly kind: 'started' | 'stopped' | 'paused' | 'resumed' | 'removed' | 'answers';
      readonly guest: GuestId;
      readonly name: string;
    }
  /** A setting changed, by us or by another; the engine reads back to tell which. */
  | { readonly kind: 'tuned'; readonly guest: GuestId; readonly resource: 'cpu' | 'memory' | 'disk' | 'net' };

/** The hypervisor in the core's words. Implemented by libvirt-adapter/. */
export interface Hypervisor {
  readonly available: boolean;
  /** What is set on a guest outlives its run, so that one that stopped has its baseline put back. Absent: it ends with it. */
  readonly settingsPersist?: boolean;
  /** `available` changed: after a return, every guest is to be read anew. Returns the unsubscribe function. */
  onAvailability(listener: (available: boolean) => void): () => void;
  onGuestEvent(listener: (event: GuestEvent) => void): () => void;
  host(): Promise<HostFacts>;
  /** @throws {AllocatorError} HYPERVISOR_UNAVAILABLE */
  guests(): Promise<GuestFacts[]>;
  /** @throws {AllocatorError} GUEST_NOT_FOUND, HYPERVISOR_UNAVAILABLE */
  inspect(guest: GuestId): Promise<GuestFacts>;
  /**
   * Start a guest that is shut off, by its own definition. Resolves when the hypervisor runs it; what is in it boots from then on.
   * @throws {AllocatorError} GUEST_NOT_FOUND, ACTUATION_REFUSED, NOT_SUPPORTED, HYPERVISOR_UNAVAILABLE
   */
  start(guest: GuestId): Promise<void>;
  /**
   * Ask what is in a guest to shut down. Resolves when it was asked: it goes in its own time, or never; an event tells.
   * @throws {AllocatorError} GUEST_NOT_FOUND, GUEST_NOT_RUNNING, ACTUATION_REFUSED, NOT_SUPPORTED, HYPERVISOR_UNAVAILABLE
   */
  shutDown(guest: GuestId): Promise<void>;
}

/** Takes what an agent reports of its host: the directory of this service, or another service that ranks hosts. */
export interface HostReporter {
  /**
   * Take a host in, or its next report. It stands for `REPORT_LIFE_MS`. Whoever is not reached fails in its own words.
   * @throws {AllocatorError} DIRECTORY_FULL
   */
  report(report: HostReport): Promise<void>;
}

/**
 * The hosts whose agents report. One process keeps it in memory; over a shared store it is that store's mirror, so that
 * reading waits for nobody.
 */
export interface HostDirectory extends HostReporter {
  /** undefined for a host that has not reported of late. */
  find(host: string): KnownHost | undefined;
  /** By name. */
  list(): KnownHost[];
}

/** Makes room where this host cannot: whoever runs hosts and definitions. Implemented by orchestrator/scale/. */
export interface ScaleOut {
  /** Ask once, with as many attempts as it takes until `signal` aborts. A refusal is a result: nothing is thrown. */
  ask(request: ScaleRequest, signal: AbortSignal): Promise<ScaleAnswer>;
}

/** Resources that have an actuator. */
export const ACTUATED = ['cpu', 'memory', 'disk', 'net'] as const;
export type Actuated = (typeof ACTUATED)[number];

/**
 * Moves one resource of a guest; live settings only. One per resource, all alike.
 * Whatever it returns was read back after the change: what the guest holds, not what was asked.
 */
export interface Actuator {
  readonly resource: Actuated;
  /**
   * Bring the guest's share of `target` into force and wait until it holds it, stops moving or `signal` aborts.
   * Partial success is a result, not an error: compare what is returned with the target.
   * @throws {AllocatorError} GUEST_NOT_FOUND, GUEST_NOT_RUNNING, ACTUATION_REFUSED, NOT_SUPPORTED, HYPERVISOR_UNAVAILABLE
   */
  apply(guest: GuestId, target: Entitlement, signal: AbortSignal): Promise<Partial<Entitlement>>;
  /** Put the baseline back, taking our limits off where there were none. Same promises as `apply`. */
  restore(guest: GuestId, baseline: Baseline, signal: AbortSignal): Promise<Partial<Entitlement>>;
  /** What the guest holds now. */
  read(guest: GuestId): Promise<Partial<Entitlement>>;
}

/** Looks inside a guest through its agent. */
export interface GuestWindow {
  /** undefined when no agent answers within `signal`. A claim of the guest, not a fact. */
  see(guest: GuestId, signal: AbortSignal): Promise<GuestSeen | undefined>;
}

/** Source of samples. */
export interface Telemetry {
  onSample(listener: (sample: GuestSample) => void): () => void;
  /**
   * How one guest is sampled from now on, until told otherwise: `full` samples only, `fast` ones of the host's own
   * readings beside them, or none, which is where every guest starts.
   * @param own where the guest's granularity differs from the host's
   */
  watch(guest: GuestId, cadence: Cadence, own?: Partial<Sampling>): void;
  /** Instructions a watched guest has executed until now; undefined without a counter. */
  instructions(guest: GuestId): InstructionReading | undefined;
  close(): Promise<void>;
}

/** All that the engine asks of what runs the guests. Implemented by libvirt-adapter/ and integrations/proxmox/. */
export interface HypervisorPorts {
  readonly hypervisor: Hypervisor;
  readonly actuators: Readonly<Record<Actuated, Actuator>>;
  readonly window: GuestWindow;
  readonly telemetry: Telemetry;
  /** Stop sampling and let go of what was opened. */
  close(): Promise<void>;
}
