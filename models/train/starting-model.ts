import type { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import type { Random } from './random.ts';

// What the experts are worth before anything is learned, in the order of assembly/series/experts.ts: last value, half an
// hour, three hours, day, month, analog, its change, seasonal, linear.
const NEAR = [0.12, 0.1, 0.12, 0.03, 0.01, 0.38, 0.15, 0.05, 0.05];
const FAR = [0.08, 0.06, 0.3, 0.12, 0.06, 0.12, 0.06, 0.18, 0.03];
/** Up to the first step the experts are worth what NEAR says, from the second on what FAR says. */
const NEAR_STEP = 36;
const FAR_STEP = 288;
/** How far an expert's own record moves its logit. */
const TRUST = 0.5;
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
    const far = Math.min(Math.max(Math.log(step / NEAR_STEP) / Math.log(FAR_STEP / NEAR_STEP), 0), 1);
    for (let g = 0; g < groups; g += 1) {
      const worth = (NEAR[g] as number) * (1 - far) + (FAR[g] as number) * far;
      weights[logits + knot * groupRow + g] = Math.log(worth);
      weights[trust + knot * groupRow + g] = TRUST;
    }
  }
  return weights;
}
