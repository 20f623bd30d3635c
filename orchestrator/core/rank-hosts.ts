import { amount } from './admit.ts';
import { complementOf } from './day-profile.ts';
import type { KnownHost } from './host-report.ts';
import { sumsWith, tailOf } from './joint-tail.ts';
import { RESOURCE_OF } from './profile.ts';
import type { Params, Priority } from './request.ts';
import { ROOM_FIELDS, type Room, type RoomField, roomOf } from './room.ts';

/** `spread` prefers the host with the most left, `pack` the fullest that still holds the guest. */
export const PLACEMENT_GOALS = ['spread', 'pack'] as const;
export type PlacementGoal = (typeof PLACEMENT_GOALS)[number];

/** Candidates of one call: more than any scheduler weighs at once. */
export const CANDIDATES_MAX = 1_000;

/** A guest that is to be placed. */
export interface Newcomer {
  readonly tenant: string;
  /** Empty: not known. */
  readonly workload: string;
  readonly params: Params;
  readonly priority: Priority;
  /** The most it may use. */
  readonly ceiling: Room;
  /** When its work starts, ms since epoch; absent: now. */
  readonly startMs?: number;
  readonly durationMs?: number;
}

/** What it is expected to use. mean <= peak <= ceiling, resource by resource. */
export interface GuestDemand {
  /** Its median need. */
  readonly mean: Room;
  /** What it is promised: its need at the priority's level, with headroom. */
  readonly peak: Room;
  readonly ceiling: Room;
  /** Millicores by hour of the UTC day: f64[24]. Absent: its hours are not known. */
  readonly cpuByHour?: readonly number[];
  readonly reason: string;
  readonly runs: number;
}

/** One host to judge. */
export interface Candidate {
  readonly host: string;
  /** Absent: no agent reports it. */
  readonly known?: KnownHost;
  /** Guests of the newcomer's tenant on it. */
  readonly tenantGuests: number;
  /** Guests placed on it that its report does not show yet; each is taken to be like the newcomer. Absent: none. */
  readonly placedSince?: number;
}

/** A host as it would be with the guest on it. */
export interface PlacementOutlook {
  /** Upper tail of what all guests use together. */
  readonly tail: Room;
  readonly physical: Room;
  /** Share left of the scarcer resource, by the narrower of two bounds: of the physical by the tail, of the capacity by promises. In [-1, 1]. */
  readonly slack: number;
  /** How much more of one resource is left than of the other, in [0, 1]. */
  readonly stranding: number;
  /** As of `complementOf`; absent: the hours of one of them are not known. */
  readonly complement?: number;
  /** 1 / (1 + guests of the tenant there), in (0, 1]. */
  readonly tenantSpread: number;
  readonly reportedAtMs: number;
  /** As of the candidate. */
  readonly placedSince: number;
}

export interface RankedHost {
  readonly host: string;
  readonly verdict: 'pass' | 'veto';
  /** In [0, 1]; 0 for a vetoed host. */
  readonly score: number;
  /** In words; the first says most. */
  readonly reasons: readonly string[];
  /** Absent: no agent reports the host. */
  readonly outlook?: PlacementOutlook;
}

/**
 * What each part says in a score; they add up to 1. An overload hurts whoever is on the host, so the room that is left says as
 * much as all others together; room that only one resource has left is lost for good; hours and tenants tell equals apart.
 */
const WEIGHTS = { room: 0.5, balance: 0.2, complement: 0.15, tenantSpread: 0.15 } as const;
/** Score of hosts of which nothing is known, where nothing is known of any. */
const NEUTRAL = 0.5;
/** Stranding from here on is worth a word: a third of a resource that nobody could use. */
const STRANDED_WORTH_A_WORD = 0.3;

/** A known host's outlook, and which rules it breaks. */
interface Judged {
  readonly outlook: PlacementOutlook;
  readonly vetoes: readonly string[];
}

/**
 * Hosts for one new guest: those that pass before those that are vetoed, by score; equals as they came. A host that nobody
 * reports passes in the middle: neither preferred nor avoided. Pure.
 */
export function rankHosts(
  demand: GuestDemand,
  candidates: readonly Candidate[],
  goal: PlacementGoal,
): RankedHost[] {
  const known: RankedHost[] = [];
  const unknown: Candidate[] = [];
  for (const candidate of candidates) {
    if (candidate.known === undefined || candidate.known.silent) unknown.push(candidate);
    else
      known.push(
        ranked(
          candidate.host,
          judge(demand, candidate.known, candidate),
          demand,
          goal,
          candidate.tenantGuests,
        ),
      );
  }
  const scores = known.filter(({ verdict }) => verdict === 'pass').map(({ score }) => score);
  const neutral = medianOf(scores) ?? NEUTRAL;
  const unjudged = unknown.map((candidate) => unreported(candidate, neutral));
  const order = new Map(candidates.map(({ host }, index) => [host, index]));
  const place = ({ host }: RankedHost): number => order.get(host) ?? 0;
  const rank = ({ verdict, score }: RankedHost): number => (verdict === 'pass' ? 1 + score : 0);
  return [...known, ...unjudged].sort((a, b) => rank(b) - rank(a) || place(a) - place(b));
}

function judge(
  demand: GuestDemand,
  { report, reportedAtMs }: KnownHost,
  { tenantGuests, placedSince = 0 }: Candidate,
): Judged {
  const { physical, capacity, committed, cpuByHour } = report;
  const tail = roomOf((field) =>
    tailOf(
      sumsWith(
        report.demand[field],
        { mean: demand.mean[field], peak: demand.peak[field], size: demand.ceiling[field] },
        placedSince + 1,
      ),
    ),
  );
  const promised = roomOf((field) => committed[field] + (placedSince + 1) * demand.peak[field]);
  const left = roomOf((field) =>
    Math.min(leftOf(tail[field], physical[field]), leftOf(promised[field], capacity[field])),
  );
  const shares = ROOM_FIELDS.map((field) => Math.max(0, left[field]));
  const complement =
    demand.cpuByHour !== undefined && cpuByHour !== undefined
      ? complementOf(demand.cpuByHour, cpuByHour)
      : undefined;
  const outlook: PlacementOutlook = {
    tail,
    physical,
    slack: Math.min(...ROOM_FIELDS.map((field) => left[field])),
    stranding: Math.max(...shares) - Math.min(...shares),
    ...(complement === undefined ? {} : { complement }),
    tenantSpread: 1 / (1 + tenantGuests),
    reportedAtMs,
    placedSince,
  };
  const vetoes = ROOM_FIELDS.flatMap((field) => vetoesOf(field, outlook, promised[field], capacity[field]));
  return { outlook, vetoes: report.draining ? ['it drains and takes no new guests', ...vetoes] : vetoes };
}

function vetoesOf(
  field: RoomField,
  { tail, physical }: PlacementOutlook,
  promised: number,
  capacity: number,
) {
  const short = `short of ${RESOURCE_OF[field]}`;
  if (tail[field] > physical[field])
    return [
      `${short}: with it the guests may come to use ${amount(field, tail[field])} together, and there are ${amount(field, physical[field])}`,
    ];
  if (promised > capacity)
    return [`${short}: with it ${amount(field, promised)} of ${amount(field, capacity)} would be promised`];
  return [];
}

function ranked(
  host: string,
  { outlook, vetoes }: Judged,
  demand: GuestDemand,
  goal: PlacementGoal,
  tenantGuests: number,
): RankedHost {
  if (vetoes.length > 0) return { host, verdict: 'veto', score: 0, reasons: vetoes, outlook };
  const { slack, stranding, complement = 0, tenantSpread } = outlook;
  const score =
    WEIGHTS.room * (goal === 'spread' ? slack : 1 - slack) +
    WEIGHTS.balance * (1 - stranding) +
    WEIGHTS.complement * complement +
    WEIGHTS.tenantSpread * tenantSpread;
  return { host, verdict: 'pass', score, reasons: reasonsOf(outlook, demand, tenantGuests), outlook };
}

function reasonsOf(outlook: PlacementOutlook, demand: GuestDemand, tenantGuests: number): string[] {
  const { tail, physical, slack, stranding, complement, placedSince } = outlook;
  const use = ROOM_FIELDS.map(
    (field) => `${amount(field, tail[field])} of ${amount(field, physical[field])}`,
  );
  const reasons = [
    `${percent(slack)} left of the scarcer resource: with it the guests may come to use ${use.join(' and ')} together`,
  ];
  if (placedSince > 0) reasons.push(`${placedSince} more placed since its report, taken to be like this one`);
  if (stranding >= STRANDED_WORTH_A_WORD)
    reasons.push(`would leave ${percent(stranding)} more of one resource than of the other`);
  if (complement !== undefined)
    reasons.push(
      `${percent(complement)} of its CPU peak falls into hours in which the host has that much to spare`,
    );
  else if (demand.cpuByHour !== undefined) reasons.push("the host's hours are not known");
  if (tenantGuests > 0)
    reasons.push(`${tenantGuests} guest${tenantGuests === 1 ? '' : 's'} of the tenant there already`);
  return reasons;
}

function unreported({ host, known }: Candidate, neutral: number): RankedHost {
  const why = known === undefined ? 'no agent reports it' : 'its agent is silent';
  return {
    host,
    verdict: 'pass',
    score: neutral,
    reasons: [`unknown: ${why}, so it is neither preferred nor avoided`],
  };
}

/** Share of a bound that is left, in [-1, 1]; nothing is left of nothing. */
function leftOf(used: number, bound: number): number {
  if (bound > 0) return Math.max(-1, 1 - used / bound);
  return used > 0 ? -1 : 0;
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

function medianOf(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)];
}
