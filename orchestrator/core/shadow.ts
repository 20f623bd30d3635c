import type { Axis } from './forecast.ts';
import type { GuestId } from './guest.ts';
import { ENTITLEMENT_FIELDS, type Entitlement, PROFILE_FIELDS, type ResourceProfile } from './profile.ts';
import type { Params } from './request.ts';
import { INSTRUCTION_CLASSES, type InstructionClass, SAMPLE_FLAGS } from './sample.ts';

/** Why a point must not be read as ordinary demand. Their order is that of the bits in the log: append only. */
export const SHADOW_FLAGS = [
  ...SAMPLE_FLAGS,
  'censored', // usage at the limit: demand was at least this
  'reported', // a client's claim, not our reading
  'imported', // from a recorded set
] as const;
export type ShadowFlag = (typeof SHADOW_FLAGS)[number];

/** What stays the same from one point to the next while one request runs on one guest. */
export interface PointContext {
  readonly guest: GuestId;
  readonly host: string;
  /** What the series is cut by; part of its key. */
  readonly axis: Axis;
  readonly tenant?: string;
  readonly requestId?: string;
  readonly workload?: string;
  /** What kind of sample it is: all readings, the host's quick ones, or cut after so many instructions. */
  readonly cadence?: 'full' | 'fast' | 'cut';
  /** What the guest was allowed at the time: demand beyond it cannot be seen. */
  readonly granted?: Partial<Entitlement>;
}

/** A sample with its request. Absent fields were not read: never zero. */
export interface ShadowPoint extends PointContext {
  /** End of the step, ms since epoch, to the microsecond. */
  readonly atMs: number;
  /** Wall-clock length of the step. */
  readonly periodMs?: number;
  /** Instructions the guest had executed at the end of the step; where the point stands on that axis. */
  readonly instructionsAt?: number;
  /** Production input of the request; kept once a request. */
  readonly inputs?: Params;
  readonly profile: ResourceProfile;
  /** Instructions executed in the step, by class. */
  readonly classes?: Readonly<Partial<Record<InstructionClass, number>>>;
  readonly flags: readonly ShadowFlag[];
}

/** The production input of one request, typed. */
export interface RequestInputs {
  readonly atMs: number;
  readonly requestId: string;
  readonly guest: GuestId;
  readonly host: string;
  readonly tenant?: string;
  readonly workload?: string;
  readonly params: Params;
}

/** A name of the core as columns and documents have it. */
export const snakeCase = (name: string): string =>
  name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replaceAll('-', '_');

/** Column of each field of a profile, in the order of `PROFILE_FIELDS`. */
export const PROFILE_COLUMNS: readonly string[] = PROFILE_FIELDS.map(snakeCase);
/** Column of each class: instructions executed in the step. */
export const CLASS_COLUMNS: readonly string[] = INSTRUCTION_CLASSES.map(
  (name) => `instructions_${snakeCase(name)}`,
);
/** Fields of an entitlement that are kept with a point, and their columns. */
export const GRANTED_FIELDS = [...ENTITLEMENT_FIELDS, 'vcpuCount'] as const;
export const GRANTED_COLUMNS: readonly string[] = GRANTED_FIELDS.map((name) => `granted_${snakeCase(name)}`);

/** The bits of flags as the log has them. */
export function flagBits(flags: readonly ShadowFlag[]): number {
  let bits = 0;
  for (const flag of flags) bits |= 1 << SHADOW_FLAGS.indexOf(flag);
  return bits;
}

/** Every expected way the store can fail. */
export const SHADOW_ERROR_CODES = [
  'STORE_UNAVAILABLE', // it cannot be opened, read or written
  'STORE_IN_USE', //      another live process writes it
  'STORE_TOO_NEW', //     a later version of the product wrote it
  'POINT_REFUSED', //     a point, a name or an input breaks a stated rule
  'QUERY_REFUSED', //     the database does not take the query; the message is its own
  'QUERY_TOO_LARGE', //   the query needs more memory or disk than it may have
  'QUERY_LOST', //        the process that ran it ended
  'SET_REFUSED', //       a set to import breaks its format
] as const;
export type ShadowErrorCode = (typeof SHADOW_ERROR_CODES)[number];

/** An expected failure of the store. */
export class ShadowError extends Error {
  override readonly name = 'ShadowError';
  readonly code: ShadowErrorCode;

  constructor(code: ShadowErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  /** True when the same call may succeed later with no change by the caller. */
  get retryable(): boolean {
    return this.code === 'STORE_UNAVAILABLE' || this.code === 'QUERY_LOST';
  }
}

/** A context the store knows; kept by the caller and handed to `append`. It costs nothing once it is dropped. */
export interface ShadowContext {
  readonly facts: PointContext;
}

/** Rows of one set of metrics. One per kind of sampler: each has buffers of its own. */
export interface ShadowLayout {
  readonly metrics: readonly string[];
  /**
   * Take one row. No I/O; no allocation but when a buffer grows.
   * @param atMs           ms since epoch, end of the step
   * @param periodMs       length of the step; NaN: not known
   * @param instructionsAt instructions executed at its end; NaN: not known
   * @param flags          bits of `flagBits`
   * @param values         f64[metrics] from `offset`, in the order of `metrics`; NaN: not read
   * @returns false when the queue is full: the row was dropped, and counted
   */
  append(
    context: ShadowContext,
    atMs: number,
    periodMs: number,
    instructionsAt: number,
    flags: number,
    values: ArrayLike<number>,
    offset?: number,
  ): boolean;
}

/** How writing goes. `stalled`: the disk takes nothing (full, read-only, failing), and rows wait in memory. */
export type WritingState = 'writing' | 'slow' | 'stalled' | 'closed';

export interface WritingStatus {
  readonly state: WritingState;
  /** Why, in the system's words; absent while writing. */
  readonly reason?: string;
  /** Rows taken, rows on disk, rows dropped because the queue was full. */
  readonly accepted: number;
  readonly acknowledged: number;
  readonly dropped: number;
  readonly queuedBytes: number;
}

/** Bytes that could not be read in a log. */
export interface LogDamage {
  readonly segment: string;
  readonly offset: number;
  readonly bytes: number;
  /** `torn`: an unfinished last write, never acknowledged; `bad`: whole blocks follow it, so it was once whole. */
  readonly kind: 'torn' | 'bad';
}

export interface RetentionPolicy {
  /** Ages in ms per tier; absent: kept for ever. */
  readonly rawMs?: number;
  readonly minuteMs?: number;
  readonly hourMs?: number;
  /** Sealed bytes in total; the oldest of the finest tier go first. Absent: no bound. */
  readonly bytesMax?: number;
}

export interface TierStats {
  readonly tier: string;
  readonly files: number;
  readonly rows: number;
  readonly bytes: number;
  readonly fromMs?: number;
  readonly toMs?: number;
}

export interface StoreStats {
  readonly schema: number;
  readonly tiers: readonly TierStats[];
  readonly log: { readonly segments: number; readonly bytes: number; readonly rows: number };
  readonly damage: readonly LogDamage[];
  /** Rows of unknown guests: a bad block took what said whose they are. */
  readonly lostRows: number;
  readonly imports: readonly string[];
}

/**
 * The record of what guests used, under which request. Implemented by orchestrator/store: an Arrow log in front of
 * Parquet partitions. One process writes; any number read.
 */
export interface ShadowStore {
  /** Where it is kept. */
  readonly directory: string;
  readonly status: WritingStatus;
  context(facts: PointContext): ShadowContext;
  /** @throws {ShadowError} POINT_REFUSED */
  layout(metrics: readonly string[]): ShadowLayout;
  /** One point with its input; for callers whose points are few. @throws {ShadowError} POINT_REFUSED */
  record(point: ShadowPoint): boolean;
  /**
   * Keep the production input of a request, redacted by the store's rules. One that is known already is not kept again;
   * after a restart it may be.
   * @throws {ShadowError} POINT_REFUSED
   */
  recordInputs(inputs: RequestInputs): boolean;
  /**
   * Resolves when all rows taken before would survive a power loss; waits while the disk takes nothing.
   * @throws {ShadowError} STORE_UNAVAILABLE when the store was closed without having written them
   */
  flush(): Promise<void>;
  /**
   * Rows of one SELECT over the views `shadow`, `shadow_minute`, `shadow_hour` and `inputs`, as an Arrow IPC stream in
   * pieces. Runs in a process of its own; never blocks a writer.
   * @throws {ShadowError} QUERY_REFUSED, QUERY_TOO_LARGE, QUERY_LOST, STORE_UNAVAILABLE
   */
  query(sql: string, signal?: AbortSignal): AsyncIterable<Uint8Array>;
  stats(): Promise<StoreStats>;
  /** Move what the log holds into Parquet, merge small files, roll finished days up, drop what is too old. */
  maintain(): Promise<void>;
  /** Remove everything of one tenant, from every tier and the log; resolves when no file holds it. */
  erase(tenant: string): Promise<void>;
  /** A copy of all that was acknowledged before the call, in a new folder; writing goes on. */
  backup(directory: string): Promise<void>;
  close(): Promise<void>;
}
