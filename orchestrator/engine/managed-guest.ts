import { combine, differing, takeResources, UNBOUNDED } from '../core/entitlement.ts';
import type { AdoptedGuest, GuestFacts } from '../core/guest.ts';
import { type GrowthTimes, leadTimes, withGrowth } from '../core/lead-time.ts';
import { ACTUATED, type Actuated, type LedgerWrite } from '../core/ports.ts';
import {
  type Entitlement,
  type EntitlementField,
  PROFILE_FIELDS,
  type ProfileField,
  type ResourceProfile,
  vcpusFor,
} from '../core/profile.ts';
import type { GuestSample } from '../core/sample.ts';
import { shortShareAfter } from '../core/short-share.ts';
import { RecentUsage } from './recent-usage.ts';

/** What the ledger stores of an adopted guest. */
export interface GuestRecord extends AdoptedGuest {
  /** What it held or was asked to hold since it last stood where it was asked: after a crash it may be found at any, and between. */
  readonly known: readonly Entitlement[];
  /** True while actuators, or a balloon they left behind, may be under way. */
  readonly moving: boolean;
  /** Absent: never grown. */
  readonly growthsMs?: GrowthTimes;
  /** We started it, or tried to: it is ours to shut down. Absent: it is not. */
  readonly startedByUs?: boolean;
  /** What live adjustment moved beside what the leases ask together, by field. Absent: nothing. */
  readonly adjusted?: Readonly<Partial<Record<EntitlementField, number>>>;
  /** Its definition asked to be managed: what that says at a start is the baseline of the run. Absent: an operator adopted it. */
  readonly byDefinition?: boolean;
}

/** Entitlements remembered of a guest that never comes to rest: a balloon still travels to one of the last it was sent to. */
const KNOWN_MAX = 16;
/** Samples older than this say nothing about the guest's state before a request. */
const BEFORE_MS = 10_000;
/** A guest's own memory statistics lag by their period: what they say this soon after a lease still speaks of it. */
const AFTERGLOW_MS = 1_500;
/** Fewer quiet readings than these may all be late ones of the work before. */
const QUIET_SAMPLES_MIN = 3;

const NOTHING_USED: ResourceProfile = Object.fromEntries(PROFILE_FIELDS.map((field) => [field, 0]));

const GUEST_PREFIX = 'guest/';

/** One adopted guest: its record, what it holds, its recent samples, and the one queue of changes made to it. */
export class ManagedGuest {
  static readonly prefix = GUEST_PREFIX;

  record: GuestRecord;
  facts: GuestFacts;
  #adjustedWritten: string;
  /** Last read back from the hypervisor. */
  held: Entitlement;
  /** What live adjustment added to what the leases ask together, or took from it. A lease that joins adds its own on top. */
  readonly adjusted: Map<EntitlementField, number>;
  /** When each was last moved; as all waits of a guest, on the clock that is never set back. */
  readonly changedAtMonotonicMs = new Map<Actuated, number>();
  lastSample: GuestSample | undefined;
  /** True when what it holds could not be read after we were away: until it is, nothing is done to it. */
  unread = false;
  /** True while it is being disowned: nobody may ask anything of it. */
  leaving = false;
  /** Set when a move failed or fell short for a reason that may pass; the tick tries again then. */
  retryAtMonotonicMs: number | undefined;
  failures = 0;
  /** Resources whose last move failed or fell short: they may travel on by themselves, to any size asked of them before. */
  readonly astray = new Set<Actuated>();
  /** Resources that a move of ours is changing at this moment. */
  readonly underWay = new Set<Actuated>();
  /** When the guest was seen to start. */
  startedAtMs = Number.NEGATIVE_INFINITY;
  /** Its balloon travels by itself until then, on the clock that is never set back. */
  bootsUntilMonotonicMs = Number.NEGATIVE_INFINITY;
  /** True while we start it, or a hook has said that it is being started. */
  starting = false;
  /** We start it no sooner, ms since epoch. */
  startNotBeforeMs = Number.NEGATIVE_INFINITY;
  /** We asked it to shut down: until then it is taken to be going, ms since epoch. */
  goneUntilMs = Number.NEGATIVE_INFINITY;
  /** It has just come up and nothing was moved yet: its balloon has no driver, so there is nothing to wait for. */
  isFresh = false;
  /** True while others wait for the CPUs it bursts on: it grows no further. */
  heldBack = false;
  /** True while it does what it should not: it grows no further. */
  capped = false;
  /** When the last lease was given back. */
  quietSinceMs = Number.NEGATIVE_INFINITY;
  #before: ResourceProfile = {};
  readonly #recent = new RecentUsage();
  readonly #short = new Map<EntitlementField, { readonly share: number; readonly atMs: number }>();
  #queue: Promise<unknown> = Promise.resolve();
  #queued = 0;

  constructor(record: GuestRecord, facts: GuestFacts) {
    this.record = record;
    this.facts = facts;
    this.held = facts.entitlement;
    this.adjusted = new Map(Object.entries(record.adjusted ?? {}) as [EntitlementField, number][]);
    this.#adjustedWritten = this.#adjustedText();
  }

  /** It runs, or is about to. */
  get usesRoom(): boolean {
    return this.facts.state === 'running' || this.starting;
  }

  /** It came up by its definition, and nothing was moved yet. Its sizes of now are its baseline where the definition says so. */
  takeStart(): void {
    const { byDefinition, baseline } = this.record;
    const { entitlement, cpuLimited, capabilities } = this.facts;
    this.isFresh = true;
    // Its balloon travels to the definition's size by itself once the guest has a driver, from wherever it is read now.
    if (capabilities.balloon) this.astray.add('memory');
    if (byDefinition !== true) return;
    const { memoryBytes } = baseline.entitlement;
    this.record = { ...this.record, baseline: { entitlement: { ...entitlement, memoryBytes }, cpuLimited } };
  }

  /** Run changes of this guest one after another, in the order asked. */
  serialize<T>(change: () => Promise<T>): Promise<T> {
    this.#queued += 1;
    const run = this.#queue.then(change, change).finally(() => {
      this.#queued -= 1;
    });
    this.#queue = run.catch(() => {});
    return run;
  }

  get busy(): boolean {
    return this.#queued > 0;
  }

  /** What the guest should hold with these leases in force: their sum, moved by live adjustment, relinquished resources as they are. */
  target(requests: readonly Entitlement[]): Entitlement {
    const wanted =
      requests.length === 0
        ? this.record.baseline.entitlement
        : this.#adjust(this.combined(requests), requests, this.facts.ceiling);
    return takeResources(wanted, this.held, this.record.relinquished);
  }

  combined(requests: readonly Entitlement[]): Entitlement {
    return combine(this.record.baseline.entitlement, requests, this.facts.ceiling);
  }

  /** As `target`, the guest's own ceiling aside: what it would take for every lease to have what it asked. */
  asked(requests: readonly Entitlement[]): Entitlement {
    return this.#adjust(this.#sum(requests), requests, UNBOUNDED);
  }

  /** Have these leases' guest at `level` of a field, until the next adjustment or the end of one of them. */
  adjust(field: EntitlementField, level: number, requests: readonly Entitlement[]): void {
    this.adjusted.set(field, level - (this.#sum(requests)[field] ?? level));
  }

  #sum(requests: readonly Entitlement[]): Entitlement {
    return combine(this.record.baseline.entitlement, requests, UNBOUNDED);
  }

  #adjust(combined: Entitlement, requests: readonly Entitlement[], ceiling: Entitlement): Entitlement {
    if (this.adjusted.size === 0) return combined;
    const { entitlement: baseline } = this.record.baseline;
    const sum = this.#sum(requests);
    const next: { -readonly [F in keyof Entitlement]: Entitlement[F] } = { ...combined };
    for (const [field, offset] of this.adjusted) {
      const asked = sum[field];
      if (asked === undefined) continue;
      const floor = baseline[field] ?? 0;
      next[field] = Math.max(floor, Math.min(asked + offset, ceiling[field] ?? Number.MAX_SAFE_INTEGER));
    }
    const vcpusMost = Math.max(ceiling.vcpuCount, combined.vcpuCount);
    next.vcpuCount = Math.min(Math.max(vcpusFor(next.cpuMillicores), baseline.vcpuCount), vcpusMost);
    return next;
  }

  /** Resources to be moved for the guest to hold `target`. */
  resourcesTo(target: Entitlement): Actuated[] {
    const different = differing(this.held, target);
    return ACTUATED.filter((resource) => different.includes(resource) || this.astray.has(resource));
  }

  /** It is about to be sent to `target`. */
  leaveFor(target: Entitlement): void {
    this.record = {
      ...this.record,
      intended: target,
      known: remembered([...this.record.known, this.held, target]),
      moving: true,
    };
  }

  /** It was sent to `target`; what it holds was read back, where it could be. */
  arriveAt(target: Entitlement): void {
    const { intended: _, ...record } = this.record;
    const restored = differing(target, record.baseline.entitlement).length === 0;
    const moving = this.astray.size > 0;
    this.record = {
      ...(restored ? record : this.record),
      known: moving ? remembered([...record.known, this.held]) : [this.held, target],
      moving,
    };
  }

  /** It was given more of a resource, and held it after so long. */
  noteGrowth(resource: Actuated, tookMs: number): void {
    this.record = { ...this.record, growthsMs: withGrowth(this.record.growthsMs ?? {}, resource, tookMs) };
  }

  /** How long before a start its resources must begin to move, ms: they move at once, so as long as the slowest. */
  get leadMs(): number {
    return Math.max(0, ...Object.values(leadTimes(this.record.growthsMs ?? {})));
  }

  note(sample: GuestSample): void {
    this.lastSample = sample.cadence === 'full' || this.lastSample === undefined ? sample : this.lastSample;
    this.#recent.note(sample);
  }

  /**
   * Median usage of each field over the last seconds: the guest's own share, before a request adds to it. Right after
   * another lease there is no quiet stretch to measure, and what was measured before that lease is given again. A guest that
   * does not run uses nothing.
   */
  usageBefore(nowMs: number): ResourceProfile {
    if (this.facts.state === 'shut-off') return NOTHING_USED;
    const sinceMs = Math.max(nowMs - BEFORE_MS, this.quietSinceMs + AFTERGLOW_MS);
    const profile: { -readonly [F in ProfileField]?: number } = { ...this.#before };
    for (const field of PROFILE_FIELDS) {
      const values = this.#recent.of(field, sinceMs).sort((a, b) => a - b);
      const median = values[Math.floor((values.length - 1) / 2)];
      const isQuiet = values.length >= QUIET_SAMPLES_MIN || profile[field] === undefined;
      if (median !== undefined && isQuiet) profile[field] = median;
    }
    this.#before = profile;
    return profile;
  }

  usageMax(field: ProfileField, sinceMs: number): number | undefined {
    const values = this.#recent.of(field, sinceMs);
    return values.length === 0 ? undefined : Math.max(...values);
  }

  /** Take in whether a sample fell short. @param target share of the time that is allowed, in (0, 1) */
  noteShort(
    field: EntitlementField,
    isShort: boolean,
    { atMs, periodMs }: GuestSample,
    target: number,
  ): void {
    const before = this.#short.get(field);
    // Periods of samples at several cadences overlap.
    const elapsedMs = Math.min(periodMs, Math.max(0, atMs - (before?.atMs ?? 0)));
    this.#short.set(field, { share: shortShareAfter(before?.share ?? 0, isShort, elapsedMs, target), atMs });
  }

  /** Share of the time of late in which a field fell short, in [0, 1]. */
  shortShare(field: EntitlementField): number {
    return this.#short.get(field)?.share ?? 0;
  }

  /** True when its adjustments are not those that were last written. */
  get isAdjustedAnew(): boolean {
    return this.#adjustedText() !== this.#adjustedWritten;
  }

  #adjustedText(): string {
    return [...this.adjusted].join();
  }

  write(): LedgerWrite {
    const { adjusted: _, ...record } = this.record;
    const adjusted = this.adjusted.size === 0 ? {} : { adjusted: Object.fromEntries(this.adjusted) };
    this.#adjustedWritten = this.#adjustedText();
    return { key: GUEST_PREFIX + this.record.id, value: { ...record, ...adjusted } };
  }
}

/** The last so many that differ, in their order. */
export function remembered(known: readonly Entitlement[]): Entitlement[] {
  const isLast = (one: Entitlement, i: number): boolean =>
    known.slice(i + 1).every((later) => differing(one, later).length > 0);
  return known.filter(isLast).slice(-KNOWN_MAX);
}
