import { ATTRIBUTE, DATA_FLOAT, GATE_PLACES, GRAPH, MODEL, NODE, OPSET, TENSOR } from './onnx-fields.ts';
import { ProtobufMessage } from './protobuf-message.ts';
import type { LinearHead, RecurrentModel } from './recurrent-model.ts';
import { refuse } from './refusal.ts';

/** Largest file that is read: a layer of 1,024 units and its heads take 20 MiB. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;
/** LSTM has had its present inputs since 7; what 22 added is refused by its attributes. */
const OPSET_OLDEST = 7;
const OPSET_NEWEST = 22;
/** Largest size of a layer that is read. */
const UNITS_MAX = 4096;
/** Operators that only change the shape of the last h. */
const SHAPE_OPERATORS: ReadonlySet<string> = new Set(['Squeeze', 'Reshape', 'Identity']);
/** Attributes of an LSTM that may stand there, if they say what is so without them. */
const LSTM_DEFAULTS: Readonly<Record<string, number | string>> = {
  direction: 'forward',
  input_forget: 0,
  layout: 0,
};

interface Node {
  readonly opType: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, ProtobufMessage>;
}

interface Tensor {
  readonly dims: readonly number[];
  readonly values: Float32Array;
}

/** What a graph is made of, by name. */
interface Graph {
  readonly nodes: readonly Node[];
  readonly initializers: ReadonlyMap<string, ProtobufMessage>;
  readonly outputs: ReadonlySet<string>;
}

/**
 * Read an ONNX file of one family: one forward LSTM layer with the default activations, and linear heads (Gemm, or MatMul
 * and Add) on its last h, Y_h, each a named output of the graph. All weights stand in the file, in f32 and finite.
 * @throws {AllocatorError} INVALID_REQUEST with the rule that is broken, for any other and for damaged files
 */
export function readOnnx(file: Uint8Array): RecurrentModel {
  if (file.length > FILE_BYTES_MAX) refuse('an ONNX file must be of 64 MiB at most', { bytes: file.length });
  const model = ProtobufMessage.read(file);
  const graphMessage = model.message(MODEL.graph) ?? refuse('the file is no ONNX model: it has no graph');
  checkOpset(model);
  const graph = graphOf(graphMessage);
  const [lstm, ...others] = graph.nodes.filter(({ opType }) => opType === 'LSTM');
  if (lstm === undefined || others.length > 0)
    return refuse('the graph must have exactly one LSTM layer', { layers: others.length + (lstm ? 1 : 0) });
  const { inputs, hidden, cell } = cellOf(lstm, graph);
  return { inputs, hidden, cell, heads: headsOf(lstm, graph, hidden) };
}

function checkOpset(model: ProtobufMessage): void {
  const opset = model
    .messages(MODEL.opsetImport)
    .find((one) => ['', 'ai.onnx'].includes(one.text(OPSET.domain)));
  const version = opset?.integer(OPSET.version) ?? 0;
  if (version < OPSET_OLDEST || version > OPSET_NEWEST)
    refuse(`the opset must be of ${OPSET_OLDEST} to ${OPSET_NEWEST}`, { version });
}

function graphOf(message: ProtobufMessage): Graph {
  const nodes = message.messages(GRAPH.node).map((node) => {
    const domain = node.text(NODE.domain);
    if (domain !== '' && domain !== 'ai.onnx') refuse('operators must be those of ONNX itself', { domain });
    const attributes = node.messages(NODE.attribute).map((one) => [one.text(ATTRIBUTE.name), one] as const);
    return {
      opType: node.text(NODE.opType),
      inputs: node.texts(NODE.input),
      outputs: node.texts(NODE.output),
      attributes: new Map(attributes),
    };
  });
  const tensors = message.messages(GRAPH.initializer).map((one) => [one.text(TENSOR.name), one] as const);
  const outputs = message.messages(GRAPH.output).map((one) => one.text(1));
  return { nodes, initializers: new Map(tensors), outputs: new Set(outputs) };
}

/** A tensor that stands in the file. */
function tensorOf(graph: Graph, name: string, role: string): Tensor {
  const message = graph.initializers.get(name) ?? refuse(`${role} must stand in the file`, { tensor: name });
  if (message.integer(TENSOR.dataType) !== DATA_FLOAT) refuse(`${role} must be f32`, { tensor: name });
  if (message.integer(TENSOR.dataLocation) !== 0)
    refuse(`${role} must stand in the file, not beside it`, { tensor: name });
  const dims = message.integers(TENSOR.dims);
  const size = dims.reduce((product, dim) => (dim > 0 ? product * dim : Number.NaN), 1);
  const bytes = message.bytes(TENSOR.rawData) ?? message.bytes(TENSOR.floatData) ?? new Uint8Array();
  if (bytes.length !== size * 4)
    refuse(`${role} must hold as many numbers as its shape says`, { tensor: name });
  const values = new Float32Array(new Uint8Array(bytes).buffer); // a copy, which a Buffer's slice is not
  if (!values.every(Number.isFinite)) refuse(`${role} must be finite`, { tensor: name });
  return { dims, values };
}

function expectDims({ dims }: Tensor, expected: readonly number[], role: string): void {
  if (dims.length !== expected.length || dims.some((dim, i) => dim !== expected[i]))
    refuse(`${role} must be of shape ${expected.join(' x ')}`, { shape: dims.join(' x ') });
}

function checkAttributes(lstm: Node, hidden: number): void {
  for (const [name, attribute] of lstm.attributes) {
    const ordinary = LSTM_DEFAULTS[name];
    const value = typeof ordinary === 'string' ? attribute.text(ATTRIBUTE.s) : attribute.integer(ATTRIBUTE.i);
    if (name === 'activations') {
      const given = attribute.texts(ATTRIBUTE.strings).join(' ').toLowerCase();
      if (given !== 'sigmoid tanh tanh') refuse('the LSTM must have the default activations', { given });
    } else if (name === 'hidden_size') {
      if (attribute.integer(ATTRIBUTE.i) !== hidden) refuse('hidden_size must be that of the weights');
    } else if (ordinary === undefined || value !== ordinary) {
      refuse('the LSTM must be a plain forward one', { attribute: name });
    }
  }
}

function cellOf(lstm: Node, graph: Graph): Pick<RecurrentModel, 'inputs' | 'hidden' | 'cell'> {
  const [, nameW = '', nameR = '', nameB = '', lengths = '', , , peepholes = ''] = lstm.inputs;
  if (lengths !== '') refuse('the LSTM must not have sequence lengths');
  if (peepholes !== '') refuse('the LSTM must not have peepholes');
  const w = tensorOf(graph, nameW, 'the weights of x');
  const r = tensorOf(graph, nameR, 'the weights of h');
  const inputs = w.dims[2] ?? 0;
  const hidden = r.dims[2] ?? 0;
  if (inputs > UNITS_MAX || hidden > UNITS_MAX)
    refuse(`sizes must be of ${UNITS_MAX} at most`, { inputs, hidden });
  expectDims(w, [1, 4 * hidden, inputs], 'the weights of x');
  expectDims(r, [1, 4 * hidden, hidden], 'the weights of h');
  checkAttributes(lstm, hidden);
  const cell = new Float32Array((inputs + hidden + 1) * 4 * hidden);
  placeGates(cell, w.values, 0, inputs, hidden);
  placeGates(cell, r.values, inputs, hidden, hidden);
  if (nameB !== '') {
    const b = tensorOf(graph, nameB, 'the bias');
    expectDims(b, [1, 8 * hidden], 'the bias');
    const sum = b.values.slice(0, 4 * hidden).map((value, i) => value + (b.values[4 * hidden + i] as number));
    placeGates(cell, sum, inputs + hidden, 1, hidden);
  }
  return { inputs, hidden, cell };
}

/** ONNX's [4 hidden, rows] into rows of the cell from `from` on: transposed, gates moved. */
function placeGates(
  cell: Float32Array,
  values: Float32Array,
  from: number,
  rows: number,
  hidden: number,
): void {
  GATE_PLACES.forEach((place, gate) => {
    for (let unit = 0; unit < hidden; unit += 1)
      for (let row = 0; row < rows; row += 1)
        cell[(from + row) * 4 * hidden + gate * hidden + unit] = values[
          (place * hidden + unit) * rows + row
        ] as number;
  });
}

function headsOf(lstm: Node, graph: Graph, hidden: number): LinearHead[] {
  const [sequence = '', last = ''] = lstm.outputs;
  const states = new Set(last === '' ? [] : [last]); // names under which the last h is known
  const products = new Map<string, Tensor>(); //        outputs of MatMul that wait for their Add
  const heads: LinearHead[] = [];
  for (const node of graph.nodes) {
    const { opType, inputs } = node;
    const [first = '', second = '', third = ''] = inputs;
    const [name = ''] = node.outputs;
    if (opType === 'LSTM' || opType === 'Constant') continue;
    if (inputs.includes(sequence) && sequence !== '')
      refuse('heads must read the last h, Y_h', { head: name });
    if (SHAPE_OPERATORS.has(opType) && states.has(first)) states.add(name);
    else if (opType === 'Gemm' && states.has(first))
      heads.push(headOf(name, gemmWeights(node, graph, second), third, graph, hidden));
    else if (opType === 'MatMul' && states.has(first))
      products.set(name, tensorOf(graph, second, 'the weights of a head'));
    else if (opType === 'Add' && (products.has(first) || products.has(second))) {
      const [product, bias] = products.has(first) ? [first, second] : [second, first];
      heads.push(headOf(name, products.get(product) as Tensor, bias, graph, hidden));
      products.delete(product);
    } else refuse('beside its LSTM the graph must have linear heads on Y_h only', { operator: opType });
  }
  if (heads.length === 0) refuse('the graph must have a linear head');
  if (products.size > 0) refuse('every MatMul must have its Add');
  for (const { name } of heads) {
    if (!graph.outputs.has(name)) refuse('a head must be an output of the graph', { head: name });
  }
  if (new Set(heads.map(({ name }) => name)).size < heads.length)
    refuse('heads must have names of their own');
  return heads;
}

/** Weights of a Gemm as [hidden, outputs]. */
function gemmWeights({ attributes }: Node, graph: Graph, name: string): Tensor {
  for (const factor of ['alpha', 'beta']) {
    const value = attributes.get(factor)?.float(ATTRIBUTE.f) ?? 1;
    if (value !== 1) refuse(`a head's ${factor} must be 1`, { [factor]: value });
  }
  if ((attributes.get('transA')?.integer(ATTRIBUTE.i) ?? 0) !== 0) refuse('a head must not turn its input');
  const tensor = tensorOf(graph, name, 'the weights of a head');
  if ((attributes.get('transB')?.integer(ATTRIBUTE.i) ?? 0) === 0) return tensor;
  const [rows = 0, columns = 0] = tensor.dims;
  const values = new Float32Array(tensor.values.length);
  for (let row = 0; row < rows; row += 1)
    for (let column = 0; column < columns; column += 1)
      values[column * rows + row] = tensor.values[row * columns + column] as number;
  return { dims: [columns, rows, ...tensor.dims.slice(2)], values };
}

function headOf(name: string, weights: Tensor, biasName: string, graph: Graph, hidden: number): LinearHead {
  const outputs = weights.dims[1] ?? 0;
  expectDims(weights, [hidden, outputs], 'the weights of a head');
  const values = new Float32Array((hidden + 1) * outputs);
  values.set(weights.values);
  if (biasName !== '') {
    const bias = tensorOf(graph, biasName, 'the bias of a head');
    expectDims(bias, [outputs], 'the bias of a head');
    values.set(bias.values, hidden * outputs);
  }
  return { name, outputs, weights: values };
}
