import assert from 'node:assert';
import type { DemandProfile } from './joint-tail.ts';

/** Growth of a bucket over the one before; the first ends at `GROWTH - 1`. */
const GROWTH = 1.1;
/** They reach 90 million: in millicores 90,000 cores, in MiB 85 TiB. */
const BUCKETS = 192;
/** A history has buckets as high as its demand went, so many more at a time. */
const BUCKETS_STEP = 16;
/** What is this old counts half: work that comes once a fortnight is still seen the next time. */
const HALF_LIFE_DAYS = 14;
const PEAK_LEVEL = 0.99;
/** A history this long leaves half of what a guest may do unseen: most peaks come each day, the others each week. */
const GUARD_HALF_DAYS = 2;
const DAY_MS = 86_400_000;

/** What one guest's past demand of one resource looked like, in 1.5 KiB at most. */
export class DemandHistory {
  #weights = new Float64Array(0);
  #sum = 0;
  #total = 0;
  #day = Number.NEGATIVE_INFINITY;
  #seenMs = 0;

  /**
   * Take in the mean demand of a stretch.
   * @param atMs its time, ms since epoch @param lastedMs its length @param demand in a unit that tells sizes from 1 apart, >= 0
   */
  add(atMs: number, lastedMs: number, demand: number): void {
    assert(Number.isFinite(atMs) && lastedMs > 0 && Number.isFinite(demand) && demand >= 0);
    this.#age(Math.floor(atMs / DAY_MS));
    const bucket = Math.min(Math.floor(Math.log1p(demand) / Math.log(GROWTH)), BUCKETS - 1);
    if (bucket >= this.#weights.length) this.#grow(bucket);
    this.#weights[bucket] = (this.#weights[bucket] as number) + lastedMs;
    this.#sum += demand * lastedMs;
    this.#total += lastedMs;
    this.#seenMs += lastedMs;
  }

  /**
   * @param size what the guest may use at most, >= 0: demand beyond it is cut. The less was seen of a guest, the nearer its
   * peak is taken to be to its size; without any history its mean is too.
   */
  profile(size: number): DemandProfile {
    if (this.#total === 0) return { mean: size, peak: size, size };
    const mean = Math.min(size, this.#sum / this.#total);
    const seen = Math.min(size, Math.max(mean, this.#quantile(PEAK_LEVEL)));
    const unseenShare = 2 ** (-this.#seenMs / (GUARD_HALF_DAYS * DAY_MS));
    return { mean, peak: Math.min(size, seen + (size - seen) * unseenShare), size };
  }

  /** Days that pass take weight from all that came before. */
  #age(day: number): void {
    if (day <= this.#day) return;
    const kept = Number.isFinite(this.#day) ? 2 ** ((this.#day - day) / HALF_LIFE_DAYS) : 1;
    this.#day = day;
    this.#sum *= kept;
    this.#total *= kept;
    for (let bucket = 0; bucket < this.#weights.length; bucket += 1)
      this.#weights[bucket] = (this.#weights[bucket] as number) * kept;
  }

  #grow(bucket: number): void {
    const weights = new Float64Array(Math.ceil((bucket + 1) / BUCKETS_STEP) * BUCKETS_STEP);
    weights.set(this.#weights);
    this.#weights = weights;
  }

  /** Read linearly within its bucket. */
  #quantile(level: number): number {
    let wanted = level * this.#total;
    for (let bucket = 0; bucket < this.#weights.length; bucket += 1) {
      const weight = this.#weights[bucket] as number;
      if (weight > 0 && weight >= wanted) {
        const low = GROWTH ** bucket - 1;
        return low + (GROWTH ** (bucket + 1) - 1 - low) * (wanted / weight);
      }
      wanted -= weight;
    }
    return GROWTH ** BUCKETS - 1;
  }
}
