import { DAY_BINS } from './guest-series.ts';

/** Growth of a bucket over the one before. */
const GROWTH = 1.05;
/** Bins in which a sample loses half its weight: 24 h. */
const HALF_LIFE_BINS = DAY_BINS;
const BUCKETS_MAX = 400;

/**
 * A histogram of growing buckets whose samples lose half their weight in a day.
 * Source: kubernetes/autoscaler, vertical-pod-autoscaler/docs/flags.md (half-life 24 h, buckets growing by 5 %).
 */
export class DecayingHistogram {
  readonly #first: number;
  readonly #weights = new Float64Array(BUCKETS_MAX);
  #top = 0;
  #total = 0;

  /** @param first width of the first bucket, in the samples' unit */
  constructor(first: number) {
    this.#first = first;
  }

  add(value: number, bin: number): void {
    const place = Math.log1p((Math.max(value, 0) * (GROWTH - 1)) / this.#first) / Math.log(GROWTH);
    const bucket = Math.min(Math.floor(place), BUCKETS_MAX - 1);
    const weight = 2 ** (bin / HALF_LIFE_BINS);
    this.#weights[bucket] = (this.#weights[bucket] as number) + weight;
    this.#total += weight;
    this.#top = Math.max(this.#top, bucket);
  }

  /** End of the bucket that holds the quantile. */
  quantile(level: number): number {
    const wanted = level * this.#total;
    let sum = 0;
    let bucket = 0;
    for (; bucket < this.#top; bucket += 1) {
      sum += this.#weights[bucket] as number;
      if (sum >= wanted) break;
    }
    return (this.#first * (GROWTH ** (bucket + 1) - 1)) / (GROWTH - 1);
  }
}
