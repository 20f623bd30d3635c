import type { ModelParts } from './model-file.ts';
import type { LinearHead, RecurrentModel } from './recurrent-model.ts';
import { refuse } from './refusal.ts';

/** Name of the head: a logit of every expert at every knot. */
const LOGITS = 'logits';

/** What an exported model does not hold; a runtime of ONNX computes the logits of the recurrent part only. */
export const NOT_EXPORTED = [
  "the experts, whose distributions the softmax of a knot's logits weighs",
  'the trust, by which the record of an expert on a series moves its logit',
  'the features, which the inputs are made of, and the calibration of levels',
] as const;

/** A model's numbers, in the order in which they are held: cell, head, trust. */
function sizesOf({ inputs, hidden, groupRow, knots }: ModelParts) {
  const columns = knots.length * groupRow;
  return { cell: (inputs + hidden + 1) * 4 * hidden, head: (hidden + 1) * columns, columns };
}

/**
 * The recurrent part of a series model: the LSTM, and one head of knots x groups logits, knot by knot. Columns that only pad
 * a row of experts are left out.
 */
export function recurrentPart(weights: Float32Array, parts: ModelParts): RecurrentModel {
  const { inputs, hidden, groups, groupRow, knots } = parts;
  const { cell, head, columns } = sizesOf(parts);
  const outputs = knots.length * groups;
  const values = new Float32Array((hidden + 1) * outputs);
  for (let row = 0; row <= hidden; row += 1)
    for (let knot = 0; knot < knots.length; knot += 1) {
      const from = cell + row * columns + knot * groupRow;
      values.set(weights.subarray(from, from + groups), row * outputs + knot * groups);
    }
  return {
    inputs,
    hidden,
    cell: weights.slice(0, cell),
    heads: [{ name: LOGITS, outputs, weights: values }],
    remark: remarkOf(parts, weights.length - cell - head),
  };
}

function remarkOf({ inputs, knots, groups }: ModelParts, trust: number): string {
  return [
    `The recurrent part of a Foreshade series model: x of ${inputs} features a step, ${LOGITS} of ${knots.length} knots x ${groups} experts.`,
    `Knots, in steps ahead: ${knots.join(', ')}.`,
    `Not in this file: ${NOT_EXPORTED.join('; ')} (${trust} numbers of trust).`,
  ].join('\n');
}

/**
 * A series model with this recurrent part; all else is as it was in `starting`. The head is the only one, or the one that is
 * called `logits`.
 * @param starting f32 weights of the shape of `parts`; read
 * @throws {AllocatorError} INVALID_REQUEST with the shape that does not fit
 */
export function withRecurrentPart(
  model: RecurrentModel,
  parts: ModelParts,
  starting: Float32Array,
): Float32Array {
  const { groups, groupRow, knots, hidden } = parts;
  for (const key of ['inputs', 'hidden'] as const) {
    if (model[key] !== parts[key])
      refuse(`the LSTM has ${model[key]} ${key}; this version of the program serves ${parts[key]}`);
  }
  const head = headOf(model.heads);
  const outputs = knots.length * groups;
  if (head.outputs !== outputs)
    refuse(
      `the head ${head.name} has ${head.outputs} outputs; it must have ${outputs}: ${knots.length} knots x ${groups} experts`,
    );
  const { cell, columns } = sizesOf(parts);
  const weights = starting.slice();
  weights.set(model.cell);
  for (let row = 0; row <= hidden; row += 1)
    for (let knot = 0; knot < knots.length; knot += 1) {
      const from = row * outputs + knot * groups;
      weights.set(head.weights.subarray(from, from + groups), cell + row * columns + knot * groupRow);
    }
  return weights;
}

function headOf(heads: readonly LinearHead[]): LinearHead {
  const [only, ...others] = heads;
  const head = others.length === 0 ? only : heads.find(({ name }) => name === LOGITS);
  return (
    head ??
    refuse(`of several heads one must be called ${LOGITS}`, {
      heads: heads.map(({ name }) => name).join(', '),
    })
  );
}
