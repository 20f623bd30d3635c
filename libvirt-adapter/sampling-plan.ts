import type { GuestId } from '../orchestrator/core/guest.ts';
import type { Cadence, GuestSample, Sampling } from '../orchestrator/core/sample.ts';

/** What a plan is made of. Times are of the monotonic clock, ms. */
export interface SamplingPolicy {
  /** For guests that have no periods of their own. */
  readonly sampling: Sampling;
  /** Between complete samples of a guest without a lease that has done nothing for a while. */
  readonly idleMs: number;
  /** Share of one core that sampling may take, its listeners included. */
  readonly cpuBudgetFraction: number;
}

/** A guest that uses less than a twentieth of a core for a minute is idle. */
const IDLE_MILLICORES_MAX = 50;
const IDLE_AFTER_MS = 60_000;
/** Block statistics of guests without a lease come at this period at most: a monitor query each, the dearest of all groups. */
const BLOCK_MS_MIN = 10_000;
const BLOCK_MS_MAX = 300_000;
/** Share of the statistics lane's time that block statistics of guests without a lease may take. */
const BLOCK_LANE_FRACTION = 0.1;
/** How fast the measured cost of a guest's block statistics follows: a tenth of each new one. */
const COST_RATE = 0.1;
/** The sampler's own time is weighed over this long. */
const BUDGET_WINDOW_MS = 10_000;
/** Periods are stretched by doubling, so that guests stay in step: to this for guests without a lease, then for all. */
const STRETCH_PLAIN_MAX = 64;
const STRETCH_FAST_MAX = 8;

interface Planned {
  cadence: Exclude<Cadence, 'none'>;
  sampling: Sampling;
  fullDueMs: number;
  fastDueMs: number;
  blockDueMs: number;
  quietSinceMs: number;
}

/**
 * Says which guests are to be read when: by their periods, finer while a lease is in force, coarser while nothing happens,
 * and within a budget. Guests of one period fall due together, so that one call reads them all. Pure: time is an argument.
 */
export class SamplingPlan {
  readonly #policy: SamplingPolicy;
  readonly #guests = new Map<GuestId, Planned>();
  /** Dues are whole periods after it. */
  #originMs = 0;
  #spentMs = 0;
  #windowMs: number | undefined;
  #stretch = 1;
  #plainCallMs = 0;
  #blockCostMs = 0;

  constructor(policy: SamplingPolicy) {
    this.#policy = policy;
  }

  /** How much coarser than asked guests without a lease are sampled, for the budget's sake; 1 when they are not. */
  get stretch(): number {
    return this.#stretch;
  }

  get isEmpty(): boolean {
    return this.#guests.size === 0;
  }

  watch(guest: GuestId, cadence: Exclude<Cadence, 'none'>, own: Partial<Sampling>, nowMs: number): void {
    if (this.isEmpty) this.#originMs = nowMs;
    const sampling = { ...this.#policy.sampling, ...own };
    const known = this.#guests.get(guest);
    const planned = known ?? {
      cadence,
      sampling,
      fullDueMs: 0,
      fastDueMs: 0,
      blockDueMs: Number.NEGATIVE_INFINITY,
      quietSinceMs: nowMs,
    };
    const wasFast = known?.cadence === 'fast';
    planned.cadence = cadence;
    planned.sampling = sampling;
    planned.quietSinceMs = nowMs;
    planned.fullDueMs = this.#next(nowMs, this.#fullMs(planned, nowMs), true);
    if (!wasFast) planned.fastDueMs = this.#next(nowMs, this.#fastMs(planned), true);
    this.#guests.set(guest, planned);
  }

  forget(guest: GuestId): void {
    this.#guests.delete(guest);
  }

  /** When something is due next; Infinity: nothing is watched. */
  nextMs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { cadence, fullDueMs, fastDueMs } of this.#guests.values()) {
      next = Math.min(next, fullDueMs, cadence === 'fast' ? fastDueMs : Number.POSITIVE_INFINITY);
    }
    return next;
  }

  /** Guests of which a complete sample is due, with or without block statistics; each is due again a period later. */
  takeFull(nowMs: number): { readonly rich: GuestId[]; readonly plain: GuestId[] } {
    const rich: GuestId[] = [];
    const plain: GuestId[] = [];
    const blockMs = this.#blockMs();
    for (const [guest, planned] of this.#guests) {
      if (planned.fullDueMs > nowMs) continue;
      planned.fullDueMs = this.#next(nowMs, this.#fullMs(planned, nowMs), false);
      const isRich = planned.cadence === 'fast' || planned.blockDueMs <= nowMs;
      if (isRich) planned.blockDueMs = this.#next(nowMs, blockMs, false);
      (isRich ? rich : plain).push(guest);
    }
    return { rich, plain };
  }

  /** What is due cannot be read now: it is due again with the next of the host's period, and so are block statistics. */
  postponeFull(nowMs: number): void {
    for (const planned of this.#guests.values()) {
      if (planned.fullDueMs > nowMs) continue;
      const periodMs = Math.min(this.#policy.sampling.fullMs, this.#fullMs(planned, nowMs));
      planned.fullDueMs = this.#next(nowMs, periodMs, false);
    }
  }

  /** Guests of which the host's own readings are due. */
  takeFast(nowMs: number): GuestId[] {
    const due: GuestId[] = [];
    for (const [guest, planned] of this.#guests) {
      if (planned.cadence !== 'fast' || planned.fastDueMs > nowMs) continue;
      planned.fastDueMs = this.#next(nowMs, this.#fastMs(planned), false);
      due.push(guest);
    }
    return due;
  }

  samplingOf(guest: GuestId): Sampling | undefined {
    return this.#guests.get(guest)?.sampling;
  }

  /** The time a guest's samples are apart now: what its gaps are told by. */
  fullPeriodOf(guest: GuestId, nowMs: number): number {
    const planned = this.#guests.get(guest);
    return planned === undefined ? this.#policy.sampling.fullMs : this.#fullMs(planned, nowMs);
  }

  /** A complete sample came: whether the guest does anything. */
  saw({ guest, usage }: GuestSample, nowMs: number): void {
    const planned = this.#guests.get(guest);
    const isQuiet = usage.cpuMillicores !== undefined && usage.cpuMillicores < IDLE_MILLICORES_MAX;
    if (planned !== undefined && !isQuiet) planned.quietSinceMs = nowMs;
  }

  /** A call read so many guests in `waitMs`: what block statistics cost is the difference they make. */
  asked(guests: number, withBlock: boolean, waitMs: number): void {
    const each = waitMs / guests;
    if (!withBlock) this.#plainCallMs += COST_RATE * (each - this.#plainCallMs);
    else this.#blockCostMs += COST_RATE * (Math.max(0, each - this.#plainCallMs) - this.#blockCostMs);
  }

  /** The sampler took `ms` of the thread's time. */
  spent(ms: number, nowMs: number): void {
    this.#windowMs ??= nowMs;
    this.#spentMs += ms;
    const tookMs = nowMs - this.#windowMs;
    if (tookMs < BUDGET_WINDOW_MS) return;
    const fraction = this.#spentMs / tookMs;
    const { cpuBudgetFraction: budget } = this.#policy;
    if (fraction > budget) this.#stretch = Math.min(this.#stretch * 2, STRETCH_PLAIN_MAX * STRETCH_FAST_MAX);
    // What half the stretch would cost must fit too, or the two would alternate.
    else if (this.#stretch > 1 && 2 * fraction < budget) this.#stretch /= 2;
    this.#spentMs = 0;
    this.#windowMs = nowMs;
  }

  #fullMs({ cadence, sampling, quietSinceMs }: Planned, nowMs: number): number {
    if (cadence === 'fast') return sampling.fullMs;
    const isIdle = nowMs - quietSinceMs >= IDLE_AFTER_MS;
    const periodMs = isIdle ? Math.max(sampling.fullMs, this.#policy.idleMs) : sampling.fullMs;
    return periodMs * Math.min(this.#stretch, STRETCH_PLAIN_MAX);
  }

  #fastMs({ sampling }: Planned): number {
    return sampling.fastMs * Math.max(1, this.#stretch / STRETCH_PLAIN_MAX);
  }

  #blockMs(): number {
    const laneMs = (this.#guests.size * this.#blockCostMs) / BLOCK_LANE_FRACTION;
    return Math.min(BLOCK_MS_MAX, Math.max(BLOCK_MS_MIN, laneMs));
  }

  /** The first whole period since the origin after `nowMs`, or at it. */
  #next(nowMs: number, periodMs: number, isAtOnce: boolean): number {
    const periods = (nowMs - this.#originMs) / periodMs;
    const whole = isAtOnce ? Math.ceil(periods) : Math.floor(periods) + 1;
    return this.#originMs + whole * periodMs;
  }
}
