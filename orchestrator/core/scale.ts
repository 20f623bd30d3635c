import type { Entitlement } from './profile.ts';
import type { Priority } from './request.ts';

/** Guests that do the same work at the same sizes: a request for the group is served by one of them that has room. */
export interface GuestGroup {
  /** What requests name in a guest's place. */
  readonly name: string;
  /** UUIDs or names, in the order in which they are given work. Only these are ever started, and only once adopted. */
  readonly guests: readonly string[];
  /** Guests kept running beside those at work. */
  readonly spare: number;
  /** Quantile of the foreseen number at work that is kept running, in (0, 1); absent: none is foreseen. */
  readonly level?: number;
  /** Time without a lease after which a guest that was started by us is asked to shut down, ms; absent: never. */
  readonly idleStopMs?: number;
}

/** What may be done for requests that the running guests cannot take. */
export interface ScalePolicy {
  readonly groups: ReadonlyMap<string, GuestGroup>;
  /** Guests that may be on their way up at once. */
  readonly startingMax: number;
  /** From a guest's start until it can work, ms. */
  readonly bootMs: number;
  /** Least time between two starts of a guest, from any change of a group to a stop in it, and between two calls for the same, ms. */
  readonly cooldownMs: number;
}

/** Where a guest of a group stands: it can work, is on its way up, could be started, or is none of these. */
export type MemberState = 'ready' | 'coming' | 'stand-by' | 'away';

/** A guest of a group as one request sees it. */
export interface Member<G> {
  readonly guest: G;
  readonly state: MemberState;
  /** The request and what the guest was given already are within its ceiling together. */
  readonly holds: boolean;
}

/** Who serves a request: a guest at once, one that it waits for, or, all being full, whichever has room first. */
export interface Choice<G> {
  readonly kind: 'serve' | 'await' | 'full';
  readonly guest: G;
}

/**
 * Whom of a group a request goes to: those that work are filled in their order, so that the last ones stay free to be stopped;
 * one that comes up anyway goes before one that is to be started. Pure.
 * @returns undefined when no guest of the group can ever take it as things stand
 */
export function chooseMember<G>(members: readonly Member<G>[]): Choice<G> | undefined {
  const first = (state: MemberState): G | undefined =>
    members.find((member) => member.state === state && member.holds)?.guest;
  const ready = first('ready');
  if (ready !== undefined) return { kind: 'serve', guest: ready };
  const awaited = first('coming') ?? first('stand-by');
  if (awaited !== undefined) return { kind: 'await', guest: awaited };
  const present = members.find(({ state }) => state !== 'away')?.guest;
  return present === undefined ? undefined : { kind: 'full', guest: present };
}

/** What a request is short of: the host's room, its guest's ceiling, or guests of its group. */
export type Shortage = 'host' | 'ceiling' | 'group';

/** What is asked of whoever can make room where we cannot. No parameters of the request: they are its tenant's. */
export interface ScaleRequest {
  /** The same for each attempt at one request. */
  readonly id: string;
  readonly atMs: number;
  readonly host: string;
  readonly short: Shortage;
  readonly tenant: string;
  readonly workload: string;
  readonly priority: Priority;
  /** Name of the guest, or of the group. */
  readonly guest: string;
  /** What the guest would hold with it, its ceiling aside. Absent: the request was refused before that was known. */
  readonly needed?: Pick<Entitlement, 'cpuMillicores' | 'memoryBytes'>;
  /** Absent: it was refused, and waits for nothing. */
  readonly leaseId?: string;
}

/** What came of asking. */
export interface ScaleAnswer {
  readonly accepted: boolean;
  /** For the lease's reason. */
  readonly text: string;
}

/** One group as it stands. */
export interface GroupStatus {
  readonly name: string;
  readonly guests: Readonly<Record<MemberState, number>>;
  /** Guests that are to run now, by who is at work, the spare ones and what is foreseen. */
  readonly wanted: number;
}

/** What was done to make room, since the service started. */
export interface ScaleStatus {
  readonly groups: readonly GroupStatus[];
  readonly started: number;
  readonly startsFailed: number;
  readonly stopped: number;
  readonly asked: number;
  readonly declined: number;
}
