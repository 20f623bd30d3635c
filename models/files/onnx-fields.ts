// Field numbers and values of ONNX's protobuf messages, as far as an LSTM with linear heads needs them.
// Source: onnx/onnx.proto, ONNX 1.10 (IR version 8).

export const MODEL = { irVersion: 1, producerName: 2, docString: 6, graph: 7, opsetImport: 8 } as const;
export const OPSET = { domain: 1, version: 2 } as const;
export const GRAPH = { node: 1, name: 2, initializer: 5, input: 11, output: 12 } as const;
export const NODE = { input: 1, output: 2, name: 3, opType: 4, attribute: 5, domain: 7 } as const;
export const ATTRIBUTE = { name: 1, f: 2, i: 3, s: 4, ints: 8, strings: 9, type: 20 } as const;
export const TENSOR = { dims: 1, dataType: 2, floatData: 4, name: 8, rawData: 9, dataLocation: 14 } as const;
export const VALUE_INFO = { name: 1, type: 2 } as const;
export const TYPE = { tensorType: 1 } as const;
export const TENSOR_TYPE = { elemType: 1, shape: 2 } as const;
export const SHAPE = { dim: 1 } as const;
export const DIM = { value: 1, param: 2 } as const;

export const ATTRIBUTE_INT = 2;
export const DATA_FLOAT = 1;
export const DATA_INT64 = 7;

/** Place in ONNX's order of gates (i, o, f, c) of each of ours (i, f, g, o). */
export const GATE_PLACES = [0, 2, 3, 1] as const;
