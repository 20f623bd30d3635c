/** A linear head over the last h: y = h W + b. */
export interface LinearHead {
  readonly name: string;
  readonly outputs: number;
  /** f32[hidden + 1, outputs]: weights, then bias. */
  readonly weights: Float32Array;
}

/** An LSTM layer and its linear heads, as the kernels in assembly/lstm hold them. */
export interface RecurrentModel {
  readonly inputs: number;
  readonly hidden: number;
  /** f32[inputs + hidden + 1, 4 hidden]: weights of x, weights of h, bias; gates in the order i, f, g, o. */
  readonly cell: Float32Array;
  /** At least one; names differ. */
  readonly heads: readonly LinearHead[];
  /** For whoever opens the file. */
  readonly remark?: string;
}
