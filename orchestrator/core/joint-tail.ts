import assert from 'node:assert';

/** One guest's demand of one resource, in any unit that all guests share. */
export interface DemandProfile {
  readonly mean: number;
  /** What it seldom passes: the 99th percentile of its past, or a request's upper quantile. At least `mean`. */
  readonly peak: number;
  /** What it may use at most. At least `peak`. */
  readonly size: number;
}

/**
 * Share of every guest's rise over its mean that comes to all at once: guests of one owner work on the same jobs. Fitted with
 * the next two to `foreshade backtest packing` on two months of 100 recorded guests.
 */
const COMMON_SHARE = 0.5;
/** How often the root of the sum of squared rises is kept for what comes to each guest by itself. */
const OWN_RISES = 1.15;
/** The same while one guest uses all it has. */
const OWN_RISES_BESIDE = 0.5;

/** All that the tail rests on, summed over guests in one unit. With r = peak - mean of each. */
export interface DemandSums {
  readonly mean: number;
  /** Sum of r. */
  readonly rise: number;
  /** Sum of r^2. */
  readonly riseSquares: number;
  readonly size: number;
  /** max(size - mean): the most that one guest may use beyond its mean. */
  readonly widest: number;
}

/**
 * Upper tail of the sum of many guests' demand: the larger of
 *
 *   sum(mean) + COMMON_SHARE x sum(r) + OWN_RISES x sqrt(sum(r^2))
 *   sum(mean) + max(size - mean) + OWN_RISES_BESIDE x sqrt(sum(r^2))    one guest does what it never did before
 *
 * and never more than sum(size). The first lies between the sum of the peaks and that of independent guests.
 */
export function tailOf({ mean, rise, riseSquares, size, widest }: DemandSums): number {
  const own = Math.sqrt(Math.max(0, riseSquares));
  return Math.min(
    mean + Math.max(COMMON_SHARE * rise + OWN_RISES * own, widest + OWN_RISES_BESIDE * own),
    size,
  );
}

/** The sums with so many guests more of one profile, at least one. */
export function sumsWith(sums: DemandSums, profile: DemandProfile, guests = 1): DemandSums {
  const rise = riseOf(profile);
  return {
    mean: sums.mean + guests * profile.mean,
    rise: sums.rise + guests * rise,
    riseSquares: sums.riseSquares + guests * rise ** 2,
    size: sums.size + guests * profile.size,
    widest: Math.max(sums.widest, unusedOf(profile)),
  };
}

/** The tail of many guests, kept up to date guest by guest: a question costs the same beside ten guests and beside a thousand. */
export class JointTail {
  readonly #members = new Map<string, DemandProfile>();
  #mean = 0;
  #rise = 0;
  #riseSquares = 0;
  #size = 0;
  /** The members with the most and the second most beyond their means; undefined when it is to be found anew. */
  #widest: readonly DemandProfile[] | undefined = [];

  /** Take a guest in, or anew. */
  put(guest: string, profile: DemandProfile): void {
    assert(0 <= profile.mean && profile.mean <= profile.peak && profile.peak <= profile.size);
    assert(Number.isFinite(profile.size), 'the size of a guest must be finite');
    this.drop(guest);
    this.#members.set(guest, profile);
    this.#count(profile, 1);
    if (this.#widest !== undefined) this.#widest = widest([...this.#widest, profile]);
  }

  drop(guest: string): void {
    const profile = this.#members.get(guest);
    if (profile === undefined) return;
    this.#members.delete(guest);
    this.#count(profile, -1);
    if (this.#widest?.includes(profile)) this.#widest = undefined;
  }

  /** The tail as it is; with a guest, as it would be with that one as `profile`, in place of what it is now. */
  levelWith(guest?: string, profile?: DemandProfile): number {
    const others = this.#sums(guest === undefined ? undefined : this.#members.get(guest));
    return tailOf(profile === undefined ? others : sumsWith(others, profile));
  }

  /** What the tail rests on now. */
  sums(): DemandSums {
    return this.#sums(undefined);
  }

  /** Of all but one; what differences leave below zero is a rounding error. */
  #sums(without: DemandProfile | undefined): DemandSums {
    const rise = riseOf(without);
    this.#widest ??= widest(this.#members.values());
    return {
      mean: Math.max(0, this.#mean - (without?.mean ?? 0)),
      rise: Math.max(0, this.#rise - rise),
      riseSquares: Math.max(0, this.#riseSquares - rise ** 2),
      size: Math.max(0, this.#size - (without?.size ?? 0)),
      widest: unusedOf(this.#widest.find((member) => member !== without)),
    };
  }

  #count(profile: DemandProfile, sign: 1 | -1): void {
    const rise = riseOf(profile);
    this.#mean += sign * profile.mean;
    this.#size += sign * profile.size;
    this.#rise += sign * rise;
    this.#riseSquares += sign * rise * rise;
  }
}

function riseOf(profile: DemandProfile | undefined): number {
  return profile === undefined ? 0 : profile.peak - profile.mean;
}

function unusedOf(profile: DemandProfile | undefined): number {
  return profile === undefined ? 0 : profile.size - profile.mean;
}

/** The two that have most beyond their means. */
function widest(profiles: Iterable<DemandProfile>): readonly DemandProfile[] {
  let first: DemandProfile | undefined;
  let second: DemandProfile | undefined;
  for (const profile of profiles) {
    if (first === undefined || unusedOf(profile) > unusedOf(first)) [first, second] = [profile, first];
    else if (second === undefined || unusedOf(profile) > unusedOf(second)) second = profile;
  }
  return [first, second].filter((profile) => profile !== undefined);
}
