/** Numbers of an LSTM and its linear head, in the layout of assembly/lstm: see cell.ts and dense.ts there. */
export interface LstmModel {
  readonly inputs: number;
  readonly hidden: number;
  readonly outputs: number;
  /** [inputs + hidden + 1][4 hidden]: weights of x, weights of h, bias; gates i, f, g, o. */
  readonly cell: Float64Array;
  /** [hidden + 1][outputs]: weights, bias. */
  readonly head: Float64Array;
}

export interface LstmState {
  readonly h: Float64Array;
  readonly c: Float64Array;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const at = (values: Float64Array, i: number): number => values[i] as number;

/** One step in f64, number by number as the formulae read. */
export function lstmStep(model: LstmModel, x: ArrayLike<number>, { h, c }: LstmState): LstmState {
  const { inputs, hidden, cell } = model;
  const row = [...Array.from(x), ...h, 1];
  const gate = (index: number, unit: number): number => {
    let sum = 0;
    for (let k = 0; k < inputs + hidden + 1; k += 1)
      sum += (row[k] as number) * at(cell, k * 4 * hidden + index * hidden + unit);
    return sum;
  };
  const next = { h: new Float64Array(hidden), c: new Float64Array(hidden) };
  for (let u = 0; u < hidden; u += 1) {
    const cellState = sigmoid(gate(1, u)) * at(c, u) + sigmoid(gate(0, u)) * Math.tanh(gate(2, u));
    next.c[u] = cellState;
    next.h[u] = sigmoid(gate(3, u)) * Math.tanh(cellState);
  }
  return next;
}

/** The head's outputs for one state, in f64. */
export function headOf({ hidden, outputs, head }: LstmModel, h: Float64Array): Float64Array {
  const y = head.slice(hidden * outputs);
  for (let k = 0; k < hidden; k += 1)
    for (let j = 0; j < outputs; j += 1) y[j] = at(y, j) + at(h, k) * at(head, k * outputs + j);
  return y;
}

/** A model with numbers that f32 holds exactly, uniform with a deviation of `scale` over the square root of the rows. */
export function randomModel(
  inputs: number,
  hidden: number,
  outputs: number,
  random: () => number,
  scale = 1,
): LstmModel {
  const draw = (size: number, rows: number): Float64Array =>
    Float64Array.from({ length: size }, () =>
      Math.fround(((2 * random() - 1) * Math.sqrt(3) * scale) / Math.sqrt(rows)),
    );
  return {
    inputs,
    hidden,
    outputs,
    cell: draw((inputs + hidden + 1) * 4 * hidden, inputs + hidden),
    head: draw((hidden + 1) * outputs, hidden),
  };
}
