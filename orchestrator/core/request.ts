/**
 * One production input of a request. `category` is one of few values, `text` free words, `size` bytes, `time` a moment
 * in ms since epoch; the kind decides which features the forecaster makes of it.
 */
export type ParamValue =
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'category'; readonly value: string }
  | { readonly kind: 'text'; readonly value: string }
  | { readonly kind: 'size'; readonly value: number }
  | { readonly kind: 'time'; readonly value: number };
export type Params = Readonly<Record<string, ParamValue>>;

export const PRIORITIES = ['low', 'normal', 'high', 'critical'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** A validated request for room on one guest. */
export interface AllocationRequest {
  /** The client's key for safe retry: same id, same answer. */
  readonly requestId: string;
  readonly tenant: string;
  readonly workload: string;
  /** UUID or name, as the client gave it. */
  readonly guest: string;
  readonly params: Params;
  readonly priority: Priority;
  /** When the work starts, ms since epoch; absent: as soon as its resources are in place. */
  readonly startMs?: number;
  /** When the work must have started, ms since epoch, or need not at all; absent: it waits for as long as its lease lives. */
  readonly latestStartMs?: number;
  /** Client's own estimate; absent: the forecast's. */
  readonly durationMs?: number;
  /** Time to live of the lease after its start; renewed by the client. */
  readonly ttlMs: number;
  readonly noQueue: boolean;
  readonly validateOnly: boolean;
}

/** Longest id, tenant, workload, guest or parameter name. A UUID or a host name fits several times. */
export const NAME_CHARS_MAX = 256;
/** Longest text parameter. Longer texts are documents, not parameters. */
export const TEXT_CHARS_MAX = 4096;
/** Parameters of one request. More than any known request schema, and a bound on feature hashing. */
export const PARAMS_MAX = 64;
/** Shortest lease: two ticks of the engine. */
export const TTL_MS_MIN = 2_000;
/** Longest lease without a renewal: a day; a client that is gone must not hold a host for longer. */
export const TTL_MS_MAX = 86_400_000;
export const TTL_MS_DEFAULT = 60_000;
/** Furthest start ahead: a week, the long track's horizon. */
export const START_AHEAD_MS_MAX = 7 * 86_400_000;
