import type { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import type { Random } from './random.ts';

/**
 * What the experts are worth before anything is learned, by the steps to the target, in the order of
 * assembly/series/experts.ts: last value, half an hour, three hours, day, month, analog, its change, seasonal, linear.
 */
const WORTH: readonly { readonly step: number; readonly experts: readonly number[] }[] = [
  { step: 1, experts: [0.11, 0.14, 0.08, 0.06, 0.03, 0.27, 0.2, 0.05, 0.06] },
  { step: 4, experts: [0.08, 0.13, 0.08, 0.06, 0.04, 0.33, 0.18, 0.05, 0.05] },
  { step: 12, experts: [0.06, 0.15, 0.1, 0.08, 0.04, 0.32, 0.13, 0.07, 0.05] },
  { step: 24, experts: [0.06, 0.13, 0.09, 0.13, 0.04, 0.29, 0.1, 0.11, 0.05] },
  { step: 48, experts: [0.06, 0.09, 0.08, 0.15, 0.04, 0.23, 0.1, 0.19, 0.06] },
  { step: 96, experts: [0.05, 0.07, 0.06, 0.14, 0.04, 0.21, 0.11, 0.26, 0.06] },
  { step: 250, experts: [0.04, 0.06, 0.06, 0.14, 0.04, 0.18, 0.09, 0.33, 0.06] },
  { step: 560, experts: [0.04, 0.04, 0.05, 0.17, 0.04, 0.13, 0.08, 0.4, 0.05] },
];
/** How much of what a series' own outcomes teach moves an expert's logit. */
const TRUST = 1;
/** Weights of the cell begin evenly in plus and minus this. */
const CELL_RANGE = 0.25;
/** Bias of the forget gate: remember first. */
const FORGET_BIAS = 1;

/** Where the parts of a model lie among its numbers. */
export interface ModelShape {
  readonly cellSize: number;
  readonly headSize: number;
}

/** Weights before training: a pool with fixed weights, whose recurrent part has no say yet. */
export function startingModel(kernels: SeriesKernels, shape: ModelShape, random: Random): Float32Array {
  const { hidden, inputs, groups, groupRow, knotSteps, model } = kernels;
  const weights = new Float32Array(model.length);
  const gates = 4 * hidden;
  const bias = (inputs + hidden) * gates;
  for (let i = 0; i < bias; i += 1) weights[i] = (2 * random.next() - 1) * CELL_RANGE;
  weights.fill(FORGET_BIAS, bias + hidden, bias + 2 * hidden);
  const trust = shape.cellSize + shape.headSize;
  const logits = trust - knotSteps.length * groupRow;
  for (const [knot, step] of knotSteps.entries()) {
    const worth = worthAt(step);
    for (let g = 0; g < groups; g += 1) {
      weights[logits + knot * groupRow + g] = Math.log(worth[g] as number);
      weights[trust + knot * groupRow + g] = TRUST;
    }
  }
  return weights;
}

/** Worth of the experts at a step, read between the steps of WORTH in its logarithm. */
function worthAt(step: number): readonly number[] {
  const above = WORTH.findIndex((anchor) => anchor.step > step);
  if (above <= 0) return (WORTH.at(above) as (typeof WORTH)[number]).experts;
  const low = WORTH[above - 1] as (typeof WORTH)[number];
  const high = WORTH[above] as (typeof WORTH)[number];
  const share = Math.log(step / low.step) / Math.log(high.step / low.step);
  return low.experts.map((worth, g) => worth + ((high.experts[g] as number) - worth) * share);
}
