import type { SetGuestSamplingRequest } from '../../proto/gen/foreshade/v1/admin.ts';
import type {
  AllocateRequest,
  ForecastRequest,
  ListLeasesRequest,
  ReleaseLeaseRequest,
  RenewLeaseRequest,
} from '../../proto/gen/foreshade/v1/allocation.ts';
import type {
  ParamValue as WireParam,
  ResourceProfile as WireProfile,
} from '../../proto/gen/foreshade/v1/resources.ts';
import type { WatchGuestRequest } from '../../proto/gen/foreshade/v1/shadow.ts';
import type { WorkReport } from '../core/engine.ts';
import type { ForecastScale, Track } from '../core/forecast.ts';
import type { Mode } from '../core/guest.ts';
import type { LeaseState } from '../core/lease.ts';
import type { Need } from '../core/needs.ts';
import {
  type AllocationRequest,
  NAME_CHARS_MAX,
  PARAMS_MAX,
  type Params,
  type ParamValue,
  type Priority,
  START_AHEAD_MS_MAX,
  TEXT_CHARS_MAX,
  TTL_MS_MAX,
  TTL_MS_MIN,
} from '../core/request.ts';
import { SAMPLING_BOUNDS, type Sampling } from '../core/sample.ts';
import { snakeCase } from '../core/shadow.ts';
import { AXIS_OF, LEASE_STATE_OF, MODE_OF, PRIORITY_OF, TRACK_OF } from './enums.ts';
import { quoted, Violations } from './validation.ts';

/** How far back a start may lie: a client's clock and its queueing, not a request for yesterday. */
export const START_BEHIND_MS_MAX = 60_000;
/** Longest estimate of a run: the longest lease, which a client renews while its work goes on, times a month. */
export const DURATION_MS_MAX = 31 * 86_400_000;
/** Leases in one page, unless the client says otherwise, and at most. */
export const PAGE_SIZE_DEFAULT = 100;
export const PAGE_SIZE_MAX = 1000;
/** Longest page token; ours are far shorter. */
const PAGE_TOKEN_CHARS_MAX = 512;

/** A number in a rule. */
export const count = (value: number): string => value.toLocaleString('en-US');
const NAME_RULE = `must have 1 to ${NAME_CHARS_MAX} characters`;
const OPTIONAL_NAME_RULE = `must have at most ${NAME_CHARS_MAX} characters`;
const TTL_RULE = `must be ${count(TTL_MS_MIN)} to ${count(TTL_MS_MAX)} ms`;
const START_RULE = `must lie at most ${count(START_BEHIND_MS_MAX)} ms behind and 7 days ahead of the host's clock`;
const LATEST_START_RULE =
  "must lie neither before start_ms nor before the host's clock, and at most 7 days ahead of it";
const DURATION_RULE = `must be 1 to ${count(DURATION_MS_MAX)} ms`;
export const TIME_RULE = 'must be milliseconds since the Unix epoch, 0 or more';

/** What the door adds to a request that leaves it open. */
export interface RequestDefaults {
  /** Host's wall clock. */
  readonly nowMs: number;
  readonly ttlMs: number;
  readonly newRequestId: () => string;
}

/** @throws {ValidationError} with every broken rule */
export function allocationRequest(wire: AllocateRequest, defaults: RequestDefaults): AllocationRequest {
  const violations = Violations.ofMessage();
  const requestId = optionalName(wire.requestId, 'request_id', violations);
  const { startMs, latestStartMs, durationMs } = wire;
  if (startMs !== undefined) checkStart(startMs, defaults.nowMs, violations);
  if (latestStartMs !== undefined) checkLatestStart(latestStartMs, startMs, defaults.nowMs, violations);
  if (durationMs !== undefined) checkDuration(durationMs, violations);
  const request: AllocationRequest = {
    requestId: requestId === '' ? defaults.newRequestId() : requestId,
    tenant: optionalName(wire.tenant, 'tenant', violations),
    workload: requiredName(wire.workload, 'workload', violations),
    guest: requiredName(wire.guest, 'guest', violations),
    params: paramsOf(wire.params, violations),
    priority: priorityOf(wire.priority, violations),
    ...(startMs === undefined ? undefined : { startMs }),
    ...(latestStartMs === undefined ? undefined : { latestStartMs }),
    ...(durationMs === undefined ? undefined : { durationMs }),
    ttlMs: ttlOf(wire.ttlMs, violations) ?? defaults.ttlMs,
    noQueue: wire.noQueue ?? false,
    validateOnly: wire.validateOnly ?? false,
  };
  violations.settle();
  return request;
}

/** A forecast's query as the request it stands for; an empty workload asks for the guest's own course. */
export function forecastRequest(wire: ForecastRequest, defaults: RequestDefaults): AllocationRequest {
  const violations = Violations.ofMessage();
  const { durationMs } = wire;
  if (durationMs !== undefined) checkDuration(durationMs, violations);
  const request: AllocationRequest = {
    requestId: '',
    tenant: optionalName(wire.tenant, 'tenant', violations),
    workload: optionalName(wire.workload, 'workload', violations),
    guest: requiredName(wire.guest, 'guest', violations),
    params: paramsOf(wire.params, violations),
    priority: priorityOf(wire.priority, violations),
    ...(durationMs === undefined ? undefined : { durationMs }),
    ttlMs: defaults.ttlMs,
    noQueue: false,
    validateOnly: true,
  };
  violations.settle();
  return request;
}

/** On which axis and track to forecast, and how far; 0: as far as the track goes. */
export function forecastReach({
  axis: number = 0,
  horizon = 0,
  track,
}: ForecastRequest): ForecastScale & { readonly horizon: number } {
  const violations = Violations.ofMessage();
  const axis = number === 0 ? 'seconds' : AXIS_OF.get(number);
  if (axis === undefined) violations.add('axis', `must be AXIS_SECONDS or AXIS_INSTRUCTIONS; got ${number}`);
  if (!(horizon >= 0 && horizon < Number.POSITIVE_INFINITY))
    violations.add('horizon', `must be a finite number, 0 or more; got ${horizon}`);
  const scale = { axis: axis ?? 'seconds', track: trackOf(track, violations) };
  violations.settle();
  return { ...scale, horizon };
}

/** Whom to watch, and on which track to foresee. */
export function watching({ guest, track }: WatchGuestRequest): {
  readonly guest: string;
  readonly track: Track;
} {
  const violations = Violations.ofMessage();
  const watched = { guest: requiredName(guest, 'guest', violations), track: trackOf(track, violations) };
  violations.settle();
  return watched;
}

/** Unspecified: short. */
function trackOf(number: number | undefined, violations: Violations): Track {
  const track = number ? TRACK_OF.get(number) : 'short';
  if (track === undefined) violations.add('track', `must be TRACK_SHORT or TRACK_LONG; got ${number}`);
  return track ?? 'short';
}

/** @returns the lease's id, its new time to live (absent: keep the lease's own) and what its work needs (absent: as it is) */
export function renewal(wire: RenewLeaseRequest): {
  readonly leaseId: string;
  readonly ttlMs: number | undefined;
  readonly need: Need | undefined;
} {
  const violations = Violations.ofMessage();
  const leaseId = requiredName(wire.leaseId, 'lease_id', violations);
  const ttlMs = ttlOf(wire.ttlMs, violations);
  const need = wire.need && needOf(wire.need, violations);
  violations.settle();
  return { leaseId, ttlMs, need };
}

/** CPU and memory above 0, and nothing else. */
function needOf({ cpuMillicores, memoryBytes, ...others }: WireProfile, violations: Violations): Need {
  for (const [field, value] of Object.entries(others))
    if (value !== undefined) violations.add(`need.${snakeCase(field)}`, 'cannot be asked for');
  const asked = Object.entries({ cpuMillicores, memoryBytes }).filter(([, value]) => value !== undefined);
  if (asked.length === 0) violations.add('need', 'must name cpu_millicores or memory_bytes');
  for (const [field, value] of asked)
    if (!(Number.isFinite(value) && Number(value) > 0))
      violations.add(`need.${snakeCase(field)}`, `must be a finite number above 0; got ${value}`);
  return Object.fromEntries(asked);
}

export function workReport(wire: ReleaseLeaseRequest): {
  readonly leaseId: string;
  readonly report: WorkReport;
} {
  const violations = Violations.ofMessage();
  const leaseId = requiredName(wire.leaseId, 'lease_id', violations);
  const { workStartedAtMs: startedAtMs, workFinishedAtMs: finishedAtMs } = wire;
  if (startedAtMs !== undefined && startedAtMs < 0) violations.add('work_started_at_ms', TIME_RULE);
  if (finishedAtMs !== undefined && finishedAtMs < 0) violations.add('work_finished_at_ms', TIME_RULE);
  if (startedAtMs !== undefined && finishedAtMs !== undefined && finishedAtMs < startedAtMs) {
    violations.add('work_finished_at_ms', 'must not lie before work_started_at_ms');
  }
  violations.settle();
  const report: WorkReport = {
    succeeded: !wire.workFailed,
    ...(startedAtMs === undefined ? undefined : { startedAtMs }),
    ...(finishedAtMs === undefined ? undefined : { finishedAtMs }),
  };
  return { leaseId, report };
}

/** A name that must be there, alone in its message. */
export function soleName(value: string | undefined, field: string): string {
  const violations = Violations.ofMessage();
  const name = requiredName(value, field, violations);
  violations.settle();
  return name;
}

/**
 * A guest and the mode it is to have.
 * @param fallback for a request that names no mode; undefined: it must name one
 */
export function guestMode(
  wire: { guest?: string | undefined; mode?: number | undefined },
  fallback: Mode | undefined,
): { readonly guest: string; readonly mode: Mode } {
  const violations = Violations.ofMessage();
  const guest = requiredName(wire.guest, 'guest', violations);
  const number = wire.mode ?? 0;
  const mode = number === 0 ? fallback : MODE_OF.get(number);
  if (!mode) violations.add('mode', `must be MODE_SHADOW, MODE_ADVISE or MODE_ENFORCE; got ${number}`);
  violations.settle();
  return { guest, mode: mode ?? 'shadow' };
}

/** A guest and where the granularity of its samples is to differ from the host's. */
export function guestSampling({ guest: name, sampling }: SetGuestSamplingRequest): {
  readonly guest: string;
  readonly sampling: Partial<Sampling>;
} {
  const violations = Violations.ofMessage();
  const guest = requiredName(name, 'guest', violations);
  if (sampling === undefined) violations.add('sampling', 'must be there');
  const { fullPeriodMs: fullMs, fastPeriodMs: fastMs, instructionStep } = sampling ?? {};
  for (const { field, value, bounds } of [
    { field: 'full_period_ms', value: fullMs, bounds: SAMPLING_BOUNDS.fullMs },
    { field: 'fast_period_ms', value: fastMs, bounds: SAMPLING_BOUNDS.fastMs },
    { field: 'instruction_step', value: instructionStep, bounds: SAMPLING_BOUNDS.instructionStep },
  ]) {
    const { min, max } = bounds;
    if (value !== undefined && !(value >= min && value <= max))
      violations.add(`sampling.${field}`, `must be ${count(min)} to ${count(max)}; got ${value}`);
  }
  violations.settle();
  return {
    guest,
    sampling: {
      ...(fullMs === undefined ? undefined : { fullMs }),
      ...(fastMs === undefined ? undefined : { fastMs }),
      ...(instructionStep === undefined ? undefined : { instructionStep }),
    },
  };
}

/** Place in a list, newest first: the last lease already sent. */
export interface PageCursor {
  readonly requestedAtMs: number;
  readonly leaseId: string;
}

export interface LeaseListing {
  readonly filter: {
    readonly guest?: string;
    readonly tenant?: string;
    readonly states?: readonly LeaseState[];
  };
  readonly pageSize: number;
  readonly after: PageCursor | undefined;
}

export function leaseListing(wire: ListLeasesRequest): LeaseListing {
  const violations = Violations.ofMessage();
  const guest = optionalName(wire.guest, 'guest', violations);
  const tenant = optionalName(wire.tenant, 'tenant', violations);
  const states = new Set<LeaseState>();
  for (const value of wire.states) {
    const state = LEASE_STATE_OF.get(value);
    if (!state) {
      violations.add('states', `must be known lease states; got ${value}`);
      break;
    }
    states.add(state);
  }
  const pageSize = wire.pageSize ?? 0;
  if (pageSize < 0 || pageSize > PAGE_SIZE_MAX) {
    violations.add('page_size', `must be 1 to ${count(PAGE_SIZE_MAX)}, or 0 for ${PAGE_SIZE_DEFAULT}`);
  }
  const after = cursorOf(wire.pageToken ?? '', violations);
  violations.settle();
  return {
    filter: {
      ...(guest === '' ? undefined : { guest }),
      ...(tenant === '' ? undefined : { tenant }),
      ...(states.size === 0 ? undefined : { states: [...states] }),
    },
    pageSize: pageSize === 0 ? PAGE_SIZE_DEFAULT : pageSize,
    after,
  };
}

/** The token of a page that starts after `cursor`. */
export function pageToken(cursor: PageCursor): string {
  return Buffer.from(`${cursor.requestedAtMs}:${cursor.leaseId}`).toString('base64url');
}

function cursorOf(token: string, violations: Violations): PageCursor | undefined {
  if (token === '') return undefined;
  const text = token.length > PAGE_TOKEN_CHARS_MAX ? '' : Buffer.from(token, 'base64url').toString();
  const [, time, leaseId] = /^(\d+):(.+)$/.exec(text) ?? [];
  if (time !== undefined && leaseId !== undefined) return { requestedAtMs: Number(time), leaseId };
  violations.add('page_token', 'must be the next_page_token of an earlier answer');
  return undefined;
}

export function requiredName(value: string | undefined, field: string, violations: Violations): string {
  if (value === undefined || value === '' || value.length > NAME_CHARS_MAX) violations.add(field, NAME_RULE);
  return value ?? '';
}

export function optionalName(value: string | undefined, field: string, violations: Violations): string {
  if (value !== undefined && value.length > NAME_CHARS_MAX) violations.add(field, OPTIONAL_NAME_RULE);
  return value ?? '';
}

/** A start near enough to the host's clock. */
export function checkStart(startMs: number, nowMs: number, violations: Violations): void {
  const aheadMs = startMs - nowMs;
  if (!(aheadMs >= -START_BEHIND_MS_MAX && aheadMs <= START_AHEAD_MS_MAX)) {
    violations.add('start_ms', `${START_RULE}; got ${startMs}`);
  }
}

function checkLatestStart(
  latestStartMs: number,
  startMs: number | undefined,
  nowMs: number,
  violations: Violations,
): void {
  const fromMs = Math.max(startMs ?? nowMs, nowMs);
  if (!(latestStartMs >= fromMs && latestStartMs - nowMs <= START_AHEAD_MS_MAX))
    violations.add('latest_start_ms', `${LATEST_START_RULE}; got ${latestStartMs}`);
}

/** An estimate of a run that some lease could hold. */
export function checkDuration(durationMs: number, violations: Violations): void {
  if (!(durationMs >= 1 && durationMs <= DURATION_MS_MAX)) {
    violations.add('duration_ms', `${DURATION_RULE}; got ${durationMs}`);
  }
}

function ttlOf(ttlMs: number | undefined, violations: Violations): number | undefined {
  if (ttlMs !== undefined && !(ttlMs >= TTL_MS_MIN && ttlMs <= TTL_MS_MAX)) {
    violations.add('ttl_ms', `${TTL_RULE}; got ${ttlMs}`);
  }
  return ttlMs;
}

/** Unspecified: normal. */
export function priorityOf(value: number | undefined, violations: Violations): Priority {
  if (value === undefined || value === 0) return 'normal';
  const priority = PRIORITY_OF.get(value);
  if (priority) return priority;
  violations.add(
    'priority',
    `must be PRIORITY_LOW, PRIORITY_NORMAL, PRIORITY_HIGH or PRIORITY_CRITICAL; got ${value}`,
  );
  return 'normal';
}

export function paramsOf(wire: Readonly<Record<string, WireParam>>, violations: Violations): Params {
  const names = Object.keys(wire);
  if (names.length > PARAMS_MAX) {
    violations.add('params', `must have at most ${PARAMS_MAX} entries; got ${count(names.length)}`);
    return {};
  }
  // A parameter called __proto__ becomes the decoded map's prototype and would vanish without a word.
  if (Object.getPrototypeOf(wire) !== Object.prototype)
    violations.add('params["__proto__"]', 'is a reserved name');
  const params: Record<string, ParamValue> = {};
  for (const name of names) {
    if (name === '' || name.length > NAME_CHARS_MAX) {
      violations.add(`params[${quoted(name)}]`, `must have a name of 1 to ${NAME_CHARS_MAX} characters`);
      continue;
    }
    const value = paramOf(name, wire[name], violations);
    if (value) params[name] = value;
  }
  return params;
}

function paramOf(name: string, wire: WireParam | undefined, violations: Violations): ParamValue | undefined {
  const refuse = (rule: string): undefined => violations.add(`params[${quoted(name)}]`, rule) as undefined;
  const kind = wire?.kind;
  switch (kind?.$case) {
    case 'number':
      if (!Number.isFinite(kind.number)) return refuse(`must be a finite number; got ${kind.number}`);
      return { kind: 'number', value: kind.number };
    case 'category':
      if (kind.category === '' || kind.category.length > NAME_CHARS_MAX) {
        return refuse(`must be a category of 1 to ${NAME_CHARS_MAX} characters`);
      }
      return { kind: 'category', value: kind.category };
    case 'text':
      if (kind.text.length > TEXT_CHARS_MAX) {
        return refuse(
          `must be a text of at most ${count(TEXT_CHARS_MAX)} characters; got ${count(kind.text.length)}`,
        );
      }
      return { kind: 'text', value: kind.text };
    case 'sizeBytes':
      if (kind.sizeBytes < 0) return refuse(`must be a size of 0 bytes or more; got ${kind.sizeBytes}`);
      return { kind: 'size', value: kind.sizeBytes };
    case 'timeMs':
      if (kind.timeMs < 0) return refuse(TIME_RULE);
      return { kind: 'time', value: kind.timeMs };
    case undefined:
      return refuse('must have one of number, category, text, size_bytes, time_ms');
  }
}
