const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** The same window and head in plain TypeScript, as one would write it: f32 storage, loops over rows of weights. */
export class PlainLstm {
  readonly #inputs: number;
  readonly #hidden: number;
  readonly #cell: Float32Array;
  readonly #head: Float32Array;
  readonly #h: Float32Array;
  readonly #c: Float32Array;
  readonly #gates: Float32Array;
  readonly y: Float32Array;

  constructor(inputs: number, hidden: number, cell: Float32Array, head: Float32Array) {
    this.#inputs = inputs;
    this.#hidden = hidden;
    this.#cell = cell;
    this.#head = head;
    this.#h = new Float32Array(hidden);
    this.#c = new Float32Array(hidden);
    this.#gates = new Float32Array(4 * hidden);
    this.y = new Float32Array(head.length / (hidden + 1));
  }

  /** sums += v, times the rows of `weights` from `row` on. */
  #accumulate(
    v: Float32Array,
    from: number,
    size: number,
    weights: Float32Array,
    row: number,
    sums: Float32Array,
  ) {
    const columns = sums.length;
    for (let k = 0; k < size; k += 1) {
      const factor = v[from + k] as number;
      const line = (row + k) * columns;
      for (let j = 0; j < columns; j += 1)
        sums[j] = (sums[j] as number) + factor * (weights[line + j] as number);
    }
  }

  #step(xs: Float32Array, from: number): void {
    const [inputs, hidden] = [this.#inputs, this.#hidden];
    const gates = this.#gates;
    gates.set(this.#cell.subarray((inputs + hidden) * 4 * hidden));
    this.#accumulate(xs, from, inputs, this.#cell, 0, gates);
    this.#accumulate(this.#h, 0, hidden, this.#cell, inputs, gates);
    for (let u = 0; u < hidden; u += 1) {
      const kept = sigmoid(gates[hidden + u] as number) * (this.#c[u] as number);
      const cell = kept + sigmoid(gates[u] as number) * Math.tanh(gates[2 * hidden + u] as number);
      this.#c[u] = cell;
      this.#h[u] = sigmoid(gates[3 * hidden + u] as number) * Math.tanh(cell);
    }
  }

  /** All steps from an empty state, then the head; the answer is in `y`. */
  window(xs: Float32Array): void {
    this.#h.fill(0);
    this.#c.fill(0);
    for (let from = 0; from < xs.length; from += this.#inputs) this.#step(xs, from);
    this.y.set(this.#head.subarray(this.#hidden * this.y.length));
    this.#accumulate(this.#h, 0, this.#hidden, this.#head, 0, this.y);
  }
}
