/** Bins of a feature: few enough that a tree looks at them all. */
export const FEATURE_BINS = 32;
const SAMPLE_ROWS = 20_000;

/** Features in bins of about as many rows each. */
export class FeatureBins {
  /** f32[FEATURE_BINS - 1] a feature: the values that bins end with. */
  readonly #cuts: readonly Float32Array[];

  /** @param values f32[rows, features] to lay the bins by */
  constructor(values: Float32Array, features: number) {
    const rows = values.length / features;
    const sample = new Float32Array(Math.min(rows, SAMPLE_ROWS));
    this.#cuts = Array.from({ length: features }, (_, f) => {
      for (let i = 0; i < sample.length; i += 1)
        sample[i] = values[Math.floor((i * rows) / sample.length) * features + f] as number;
      sample.sort();
      return Float32Array.from(
        { length: FEATURE_BINS - 1 },
        (_, c) => sample[Math.floor(((c + 1) * (sample.length - 1)) / FEATURE_BINS)] as number,
      );
    });
  }

  /** @param values f32[rows, features] @returns u8[rows] a feature: how many cuts the value exceeds */
  place(values: Float32Array): Uint8Array[] {
    const features = this.#cuts.length;
    return this.#cuts.map((cuts, f) => {
      const bins = new Uint8Array(values.length / features);
      for (let row = 0; row < bins.length; row += 1) {
        const value = values[row * features + f] as number;
        let low = 0;
        let high = cuts.length;
        while (low < high) {
          const middle = (low + high) >> 1;
          if (value > (cuts[middle] as number)) low = middle + 1;
          else high = middle;
        }
        bins[row] = low;
      }
      return bins;
    });
  }
}
