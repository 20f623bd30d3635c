import assert from 'node:assert';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import {
  ATTRIBUTE,
  ATTRIBUTE_INT,
  DATA_FLOAT,
  DATA_INT64,
  DIM,
  GATE_PLACES,
  GRAPH,
  MODEL,
  NODE,
  OPSET,
  SHAPE,
  TENSOR,
  TENSOR_TYPE,
  TYPE,
  VALUE_INFO,
} from './onnx-fields.ts';
import type { RecurrentModel } from './recurrent-model.ts';

const IR_VERSION = 8;
/** Operators as of ONNX 1.9: what Squeeze takes its axes as input from, and every runtime of today knows. */
const OPSET_VERSION = 14;

type Write = (writer: BinaryWriter) => unknown;

function message(writer: BinaryWriter, field: number, write: Write): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write(writer);
  writer.join();
}
function text(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, WireType.LengthDelimited).string(value);
}
function integer(writer: BinaryWriter, field: number, value: number): void {
  writer.tag(field, WireType.Varint).int64(value);
}

function writeTensor(
  writer: BinaryWriter,
  name: string,
  dims: readonly number[],
  values: Float32Array | BigInt64Array,
): void {
  message(writer, GRAPH.initializer, (tensor) => {
    for (const dim of dims) integer(tensor, TENSOR.dims, dim);
    integer(tensor, TENSOR.dataType, values instanceof Float32Array ? DATA_FLOAT : DATA_INT64);
    text(tensor, TENSOR.name, name);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    tensor.tag(TENSOR.rawData, WireType.LengthDelimited).bytes(bytes);
  });
}

/** @param dims sizes; a text names one that is open */
function writeValueInfo(
  writer: BinaryWriter,
  field: number,
  name: string,
  dims: readonly (number | string)[],
): void {
  message(writer, field, (info) => {
    text(info, VALUE_INFO.name, name);
    message(info, VALUE_INFO.type, (type) =>
      message(type, TYPE.tensorType, (tensor) => {
        integer(tensor, TENSOR_TYPE.elemType, DATA_FLOAT);
        message(tensor, TENSOR_TYPE.shape, (shape) => {
          for (const dim of dims) {
            message(shape, SHAPE.dim, (one) =>
              typeof dim === 'number' ? integer(one, DIM.value, dim) : text(one, DIM.param, dim),
            );
          }
        });
      }),
    );
  });
}

function writeNode(
  writer: BinaryWriter,
  opType: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Readonly<Record<string, number>> = {},
): void {
  message(writer, GRAPH.node, (node) => {
    for (const name of inputs) text(node, NODE.input, name);
    for (const name of outputs) text(node, NODE.output, name);
    text(node, NODE.opType, opType);
    for (const [name, value] of Object.entries(attributes)) {
      message(node, NODE.attribute, (attribute) => {
        text(attribute, ATTRIBUTE.name, name);
        integer(attribute, ATTRIBUTE.i, value);
        integer(attribute, ATTRIBUTE.type, ATTRIBUTE_INT);
      });
    }
  });
}

/** ONNX's W[1, 4 hidden, columns] of `rows` rows of the cell from `from` on: transposed, gates moved. */
function gateRows(model: RecurrentModel, from: number, rows: number): Float32Array {
  const { hidden, cell } = model;
  const result = new Float32Array(4 * hidden * rows);
  GATE_PLACES.forEach((place, gate) => {
    for (let unit = 0; unit < hidden; unit += 1)
      for (let row = 0; row < rows; row += 1)
        result[(place * hidden + unit) * rows + row] = cell[
          (from + row) * 4 * hidden + gate * hidden + unit
        ] as number;
  });
  return result;
}

/**
 * The model as an ONNX file (opset 14). Inputs: `x` f32[steps, rows, inputs], `h` and `c` f32[1, rows, hidden]; outputs:
 * `h_out` and `c_out`, and one f32[rows, outputs] a head under its name.
 */
export function writeOnnx(model: RecurrentModel): Uint8Array {
  const { inputs, hidden, cell, heads, remark } = model;
  assert(cell.length === (inputs + hidden + 1) * 4 * hidden && heads.length > 0);
  const writer = new BinaryWriter();
  integer(writer, MODEL.irVersion, IR_VERSION);
  text(writer, MODEL.producerName, 'foreshade');
  if (remark !== undefined) text(writer, MODEL.docString, remark);
  message(writer, MODEL.opsetImport, (opset) => {
    text(opset, OPSET.domain, '');
    integer(opset, OPSET.version, OPSET_VERSION);
  });
  message(writer, MODEL.graph, (graph) => {
    text(graph, GRAPH.name, 'lstm');
    writeNode(graph, 'LSTM', ['x', 'W', 'R', 'B', '', 'h', 'c'], ['', 'h_out', 'c_out'], {
      hidden_size: hidden,
    });
    writeNode(graph, 'Squeeze', ['h_out', 'axis'], ['last']);
    const bias = new Float32Array(8 * hidden).fill(-0); // the half that is added: minus zero changes no bit
    bias.set(gateRows(model, inputs + hidden, 1));
    writeTensor(graph, 'W', [1, 4 * hidden, inputs], gateRows(model, 0, inputs));
    writeTensor(graph, 'R', [1, 4 * hidden, hidden], gateRows(model, inputs, hidden));
    writeTensor(graph, 'B', [1, 8 * hidden], bias);
    writeTensor(graph, 'axis', [1], BigInt64Array.of(0n));
    for (const { name, outputs, weights } of heads) {
      assert(weights.length === (hidden + 1) * outputs);
      writeNode(graph, 'Gemm', ['last', `${name}.weight`, `${name}.bias`], [name]);
      writeTensor(graph, `${name}.weight`, [hidden, outputs], weights.subarray(0, hidden * outputs));
      writeTensor(graph, `${name}.bias`, [outputs], weights.subarray(hidden * outputs));
    }
    writeValueInfo(graph, GRAPH.input, 'x', ['steps', 'rows', inputs]);
    for (const name of ['h', 'c']) writeValueInfo(graph, GRAPH.input, name, [1, 'rows', hidden]);
    for (const { name, outputs } of heads) writeValueInfo(graph, GRAPH.output, name, ['rows', outputs]);
    for (const name of ['h_out', 'c_out']) writeValueInfo(graph, GRAPH.output, name, [1, 'rows', hidden]);
  });
  return writer.finish();
}
