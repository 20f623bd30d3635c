import type { Outcome } from './forecast.ts';
import type { GuestId } from './guest.ts';
import type { Interval, Lease } from './lease.ts';
import type { Entitlement, ProfileField } from './profile.ts';
import type { GuestSample } from './sample.ts';

export const ANOMALY_KINDS = [
  'leak', //           memory keeps growing beyond the forecast of the lease
  'runaway', //        CPU stands at its entitlement, beyond the forecast and beyond the time the work should last
  'stuck', //          work should run, and the guest uses next to nothing
  'miner', //          steady, nearly full CPU with next to no disk and network, unexplained by a lease
  'profile-change', // the same workload with the same parameters keeps missing its forecast
  'drift', //          a workload over all guests and parameters misses its forecast more often than it should
] as const;
export type AnomalyKind = (typeof ANOMALY_KINDS)[number];

/** What is done about a kind. All but the last are recorded and logged. */
export const ANOMALY_ACTIONS = [
  'alert', //      nothing more
  'cap', //        while it lasts the guest is held to what its leases were promised
  'quarantine', // its leases end, its baseline is put back, and it is left in shadow until an operator sets its mode
  'ignore',
] as const;
export type AnomalyAction = (typeof ANOMALY_ACTIONS)[number];

export type Severity = 'info' | 'warning' | 'critical';

/** Figures that led to an anomaly, by name with its unit. */
export type Evidence = Readonly<Record<string, number>>;

/** What a detector found. */
export interface Finding {
  readonly severity: Severity;
  /** What it rests on, in words. */
  readonly reason: string;
  readonly evidence: Evidence;
}

/** One stretch of time in which a guest did what it should not. */
export interface Anomaly extends Finding {
  readonly kind: AnomalyKind;
  readonly guest: GuestId;
  readonly guestName: string;
  /** Absent: it is not about a lease. */
  readonly leaseId?: string;
  /** When its signs began; the evidence is of when it was raised. */
  readonly startMs: number;
  /** Absent: it lasts. */
  readonly clearedAtMs?: number;
}

/** How long its signs must last until a kind is raised, and be absent until it clears. */
interface Rule {
  readonly raiseMs: number;
  readonly clearMs: number;
}

const MINUTE_MS = 60_000;

const RULES: Readonly<Record<SampledKind, Rule>> = {
  leak: { raiseMs: 5 * MINUTE_MS, clearMs: 5 * MINUTE_MS },
  runaway: { raiseMs: 2 * MINUTE_MS, clearMs: MINUTE_MS },
  // A stage that waits for another guest's answer takes less than this.
  stuck: { raiseMs: 3 * MINUTE_MS, clearMs: MINUTE_MS / 2 },
  // Other computations are over by then, or have read and written; proof of work never is.
  miner: { raiseMs: 120 * MINUTE_MS, clearMs: 5 * MINUTE_MS },
};

/** Share of the time in which the signs must be there, until a kind is raised. */
const SIGNS_SHARE_MIN = 0.9;

/** Memory grows while it sets a new record, larger by this fraction, so often: a plateau or a saw-tooth sets none. */
const RECORD_FRACTION = 0.001;
const RECORD_AGE_MS_MAX = MINUTE_MS;
/** A leak this near to what the guest can have at most is about to end in its being out of memory. */
const NEAR_CEILING_FRACTION = 0.9;
/** Live adjustment keeps a tenth above demand, and moves for no less than a twentieth: who stands at it uses this at least. */
const STANDS_FRACTION = 0.85;
/** Of the least the forecast foresees. */
const NEXT_TO_NOTHING_FRACTION = 0.1;
/** Work that is foreseen to use less CPU than this cannot be told from a guest that idles. */
const WORK_MILLICORES_MIN = 100;
const FULL_FRACTION = 0.9;
/** Pools are asked for work and told of it in less than this, disk and network each. */
const NEXT_TO_NO_IO_BYTES_PER_S = 65_536;
/** Share of crypto and vector instructions from which a full CPU is a miner's: proof-of-work kernels are little else. */
const MINER_CLASSES_SHARE_MIN = 0.2;

/** What is known of a guest when it is judged. */
export interface Seen {
  readonly sample: GuestSample;
  readonly held: Entitlement;
  readonly ceiling: Entitlement;
  /** Of the leases in place the newest: its forecast counts those before it. */
  readonly lease: Lease | undefined;
}

/** Kinds that are told from samples. */
export type SampledKind = Exclude<AnomalyKind, 'profile-change' | 'drift'>;
const SAMPLED_KINDS = ['leak', 'runaway', 'stuck', 'miner'] as const satisfies readonly SampledKind[];

/** What the signs of one sample say: a finding, `false` for none, undefined when it cannot be told. */
type Signs = Finding | false | undefined;

/** How long the signs of one kind have been there, and since when they are not. */
interface Course {
  signsMs: number;
  absentMs: number;
  startMs: number;
  raised: boolean;
}

/** An anomaly that begins, or one that is over. */
export interface Turn {
  readonly kind: SampledKind;
  readonly startMs: number;
  /** Absent: it is over. */
  readonly finding?: Finding;
}

/** Judges the samples of one guest, in order. Bounded: it keeps no samples. */
export class GuestWatch {
  readonly #courses = new Map<SampledKind, Course>();
  #leaseId: string | undefined;
  #atMs: number | undefined;
  #record: { readonly bytes: number; readonly atMs: number } | undefined;

  /** Take up an anomaly that lasts from before. @param leaseId of the newest lease in place */
  resume(kind: SampledKind, startMs: number, leaseId: string | undefined): void {
    this.#leaseId = leaseId;
    this.#courses.set(kind, { signsMs: 0, absentMs: 0, startMs, raised: true });
  }

  /** What a complete sample begins or ends; others tell too little. One of a stretch in which the guest was paused or reset says nothing. */
  note(seen: Seen): Turn[] {
    const { sample, lease } = seen;
    if (lease?.id !== this.#leaseId) this.#begin(lease);
    if (sample.cadence !== 'full') return [];
    if (sample.flags.includes('paused') || sample.flags.includes('counter-reset')) return [];
    this.#noteMemory(seen);
    // What lies between two periods was not seen, and a clock that was set back adds none.
    const elapsedMs = Math.min(sample.periodMs, Math.max(0, sample.atMs - (this.#atMs ?? 0)));
    this.#atMs = sample.atMs;
    return SAMPLED_KINDS.flatMap((kind) => this.#turn(kind, this.#signs(kind, seen), sample.atMs, elapsedMs));
  }

  /** What was seen under another lease says nothing of this one. */
  #begin(lease: Lease | undefined): void {
    this.#leaseId = lease?.id;
    this.#record = undefined;
    for (const kind of ['leak', 'runaway', 'stuck'] as const) this.#courses.delete(kind);
  }

  #noteMemory({ sample: { usage, atMs } }: Seen): void {
    const { memoryBytes: bytes } = usage;
    if (bytes === undefined) return;
    if (this.#record === undefined) this.#record = { bytes, atMs: Number.NEGATIVE_INFINITY };
    else if (bytes > this.#record.bytes * (1 + RECORD_FRACTION)) this.#record = { bytes, atMs };
  }

  #signs(kind: SampledKind, seen: Seen): Signs {
    if (kind === 'leak') return leaking(seen, this.#record?.atMs ?? Number.NEGATIVE_INFINITY);
    return { runaway: runningAway, stuck: standingStill, miner: mining }[kind](seen);
  }

  #turn(kind: SampledKind, signs: Signs, atMs: number, elapsedMs: number): Turn[] {
    if (signs === undefined) return [];
    const { raiseMs, clearMs } = RULES[kind];
    const course = this.#courses.get(kind) ?? { signsMs: 0, absentMs: 0, startMs: atMs, raised: false };
    this.#courses.set(kind, course);
    if (signs === false) {
      course.absentMs += elapsedMs;
      course.signsMs -= (elapsedMs * SIGNS_SHARE_MIN) / (1 - SIGNS_SHARE_MIN);
      const isOver = course.raised ? course.absentMs >= clearMs : course.signsMs <= 0;
      if (!isOver) return [];
      this.#courses.delete(kind);
      return course.raised ? [{ kind, startMs: course.startMs }] : [];
    }
    course.absentMs = 0;
    course.signsMs += elapsedMs;
    if (course.raised || course.signsMs < raiseMs) return [];
    course.raised = true;
    return [{ kind, startMs: course.startMs, finding: signs }];
  }
}

/** @param recordAtMs when the guest's memory last was larger than ever under this lease */
function leaking({ sample, ceiling, lease }: Seen, recordAtMs: number): Signs {
  const { memoryBytes } = sample.usage;
  const foreseen = lease?.predicted.fields.memoryBytes;
  if (foreseen === undefined) return false;
  if (memoryBytes === undefined) return undefined;
  if (memoryBytes <= foreseen.q95 || sample.atMs - recordAtMs > RECORD_AGE_MS_MAX) return false;
  const isNearCeiling = memoryBytes >= ceiling.memoryBytes * NEAR_CEILING_FRACTION;
  return {
    severity: isNearCeiling ? 'critical' : 'warning',
    reason: 'memory keeps growing beyond the forecast of the lease',
    evidence: { memoryBytes, forecastQ95Bytes: foreseen.q95, ceilingBytes: ceiling.memoryBytes },
  };
}

function runningAway({ sample, held, lease }: Seen): Signs {
  const { cpuMillicores } = sample.usage;
  const foreseen = lease?.predicted.fields.cpuMillicores;
  const durationS = lease?.predicted.durationS;
  if (lease === undefined || foreseen === undefined || durationS === undefined) return false;
  if (cpuMillicores === undefined) return undefined;
  const runsForS = (sample.atMs - beganAtMs(lease)) / 1000;
  if (runsForS <= durationS.q95 || cpuMillicores <= foreseen.q95) return false;
  if (cpuMillicores < held.cpuMillicores * STANDS_FRACTION) return false;
  return {
    severity: 'warning',
    reason: 'CPU stands at its entitlement, beyond the forecast and beyond the time the work should last',
    evidence: {
      cpuMillicores,
      entitledMillicores: held.cpuMillicores,
      forecastQ95Millicores: foreseen.q95,
      runsForS,
      forecastQ95S: durationS.q95,
    },
  };
}

const IO_FIELDS = [
  'diskReadBytesPerS',
  'diskWriteBytesPerS',
  'netRxBytesPerS',
  'netTxBytesPerS',
] as const satisfies readonly ProfileField[];

function standingStill({ sample, lease }: Seen): Signs {
  const { usage } = sample;
  const foreseen = lease?.predicted.fields.cpuMillicores;
  if (lease === undefined || foreseen === undefined || foreseen.q05 < WORK_MILLICORES_MIN) return false;
  if (usage.cpuMillicores === undefined) return undefined;
  if (sample.atMs < beganAtMs(lease)) return false;
  const isStill = (field: ProfileField): boolean => {
    const { q05 = 0 } = lease.predicted.fields[field] ?? {};
    // Where nothing is foreseen, traffic is a sign of life only when there is some.
    return (usage[field] ?? 0) <= Math.max(q05 * NEXT_TO_NOTHING_FRACTION, NEXT_TO_NO_IO_BYTES_PER_S);
  };
  if (usage.cpuMillicores > foreseen.q05 * NEXT_TO_NOTHING_FRACTION || !IO_FIELDS.every(isStill))
    return false;
  return {
    severity: 'warning',
    reason: 'work should run, and the guest uses next to nothing',
    evidence: { cpuMillicores: usage.cpuMillicores, forecastQ05Millicores: foreseen.q05 },
  };
}

function mining({ sample, held, lease }: Seen): Signs {
  const { cpuMillicores, ...usage } = sample.usage;
  if (cpuMillicores === undefined) return undefined;
  const foreseen = lease?.predicted.fields.cpuMillicores;
  if (cpuMillicores < held.cpuMillicores * FULL_FRACTION) return false;
  if (foreseen !== undefined && cpuMillicores <= foreseen.q95) return false;
  // A guest without a device has no reading of it.
  const diskBytesPerS = (usage.diskReadBytesPerS ?? 0) + (usage.diskWriteBytesPerS ?? 0);
  const netBytesPerS = (usage.netRxBytesPerS ?? 0) + (usage.netTxBytesPerS ?? 0);
  if (Math.max(diskBytesPerS, netBytesPerS) > NEXT_TO_NO_IO_BYTES_PER_S) return false;
  const classesShare = cryptoAndVectorShare(sample);
  if (classesShare !== undefined && classesShare < MINER_CLASSES_SHARE_MIN) return false;
  return {
    severity: classesShare === undefined ? 'warning' : 'critical',
    reason: `steady, nearly full CPU with next to no disk and network, ${
      classesShare === undefined
        ? 'instruction classes not counted'
        : 'with the instructions of proof of work'
    }`,
    evidence: {
      cpuMillicores,
      entitledMillicores: held.cpuMillicores,
      diskBytesPerS,
      netBytesPerS,
      ...(classesShare === undefined ? {} : { cryptoAndVectorFraction: classesShare }),
    },
  };
}

/** In [0, 1]; undefined when instructions are not told apart, or none ran. */
function cryptoAndVectorShare({ classes }: GuestSample): number | undefined {
  if (classes === undefined) return undefined;
  const total = Object.values(classes).reduce((all, count) => all + count, 0);
  return total > 0 ? ((classes.crypto ?? 0) + (classes.vector ?? 0)) / total : undefined;
}

/** When the work of a lease in place should have begun. */
function beganAtMs({ startMs, inPlaceAtMs }: Lease): number {
  return Math.max(startMs, inPlaceAtMs ?? startMs);
}

/** Runs in a row, missed alike, that make a change of profile: chance alone, at one in twenty a run, is one in 8,000. */
export const MISSES_MAX = 3;
/** Runs a forecast must rest on before a miss says more of the work than of the forecast. */
const PROFILE_RUNS_MIN = 5;
/** What counts as outside goes beyond the interval by this fraction of its bound: an exact forecast has no width. */
const OUTSIDE_FRACTION = 0.1;

/** How the latest runs of one workload missed alike. */
export interface Misses {
  /** Field or `durationS`, and the side. */
  readonly of: string;
  readonly count: number;
  readonly finding: Finding;
}

/**
 * Whether a finished run lies outside its forecast's 90 % interval, as those before it did.
 * @param before of the runs before; undefined: the last one was as foreseen
 * @returns undefined when it was as foreseen; `before` when it cannot be told
 */
export function missesAfter(before: Misses | undefined, lease: Lease, outcome: Outcome): Misses | undefined {
  if (!isJudged(lease, outcome)) return before;
  const outside = outsideOf(lease, outcome);
  const same = outside.find(({ of }) => of === before?.of) ?? outside[0];
  if (same === undefined) return undefined;
  const { of, evidence } = same;
  const count = of === before?.of ? before.count + 1 : 1;
  const reason = `${count} runs in a row with the same parameters had ${of} the forecast's interval`;
  return { of, count, finding: { severity: 'info', reason, evidence: { ...evidence, runs: count } } };
}

/** Whether a run says something of its forecast: it ran to its end, and the forecast rests on enough runs. */
export function isJudged({ predicted }: Lease, { completed }: Outcome): boolean {
  return completed && predicted.runs >= PROFILE_RUNS_MIN;
}

/** Where a finished run lies outside its forecast's 90 % interval, and by which side. */
export function outsideOf(
  { predicted }: Lease,
  outcome: Outcome,
): Pick<Misses & Finding, 'of' | 'evidence'>[] {
  const durationS = (outcome.finishedAtMs - outcome.startedAtMs) / 1000;
  const fields = ['cpuMillicores', 'memoryBytes'] as const;
  return [
    ...fields.map((field) => sideOf(field, outcome.peak[field], predicted.fields[field], outcome)),
    sideOf('durationS', durationS, predicted.durationS, outcome),
  ].filter((side) => side !== undefined);
}

function sideOf(
  name: string,
  actual: number | undefined,
  foreseen: Interval | undefined,
  { censored }: Outcome,
): Pick<Misses & Finding, 'of' | 'evidence'> | undefined {
  if (actual === undefined || foreseen === undefined) return undefined;
  const { q05, q95 } = foreseen;
  const evidence = { [name]: actual, forecastQ05: q05, forecastQ95: q95 };
  if (actual > q95 * (1 + OUTSIDE_FRACTION)) return { of: `${name} above`, evidence };
  // What was cut off says "at least".
  const isCensored = (censored as readonly string[]).includes(name);
  if (actual < q05 * (1 - OUTSIDE_FRACTION) && !isCensored) return { of: `${name} below`, evidence };
  return undefined;
}
