import assert from 'node:assert';
import { refuse } from './refusal.ts';

// The format: the header's length as u64, little-endian; the header, JSON, padded by spaces so that the numbers begin at a
// multiple of 8; the numbers of all tensors without a gap.
// Source: huggingface/safetensors, README, "Format".

/** One tensor, row-major. */
export interface FileTensor {
  /** Whole and not negative; none is a single number. */
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** Tensors by name, in the order of their numbers, and free texts about them. */
export interface TensorFile {
  readonly tensors: ReadonlyMap<string, FileTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

const LENGTH_BYTES = 8;
const ALIGNMENT = 8;
const FLOAT_BYTES = 4;
/** Largest header that is read: ten thousand tensors. */
const HEADER_BYTES_MAX = 1024 * 1024;
/** Most dimensions of a tensor. */
const DIMS_MAX = 8;
const BRACE = 0x7b;
const METADATA = '__metadata__';

const sizeOf = (shape: readonly number[]): number => shape.reduce((size, dim) => size * dim, 1);

/**
 * The tensors as a safetensors file, all f32, in the order given.
 * @param tensors no name is `__metadata__`; shapes hold their numbers
 */
export function writeSafetensors({ tensors, metadata }: TensorFile): Uint8Array {
  const header: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) header.push([METADATA, metadata]);
  let at = 0;
  for (const [name, { shape, values }] of tensors) {
    assert(name !== METADATA && sizeOf(shape) === values.length && shape.length <= DIMS_MAX);
    header.push([name, { dtype: 'F32', shape, data_offsets: [at, at + values.byteLength] }]);
    at += values.byteLength;
  }
  const text = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const length = Math.ceil(text.length / ALIGNMENT) * ALIGNMENT;
  assert(length <= HEADER_BYTES_MAX, 'the header must be readable again');
  const file = new Uint8Array(LENGTH_BYTES + length + at);
  new DataView(file.buffer).setBigUint64(0, BigInt(length), true);
  file.set(text, LENGTH_BYTES);
  file.fill(0x20, LENGTH_BYTES + text.length, LENGTH_BYTES + length);
  let to = LENGTH_BYTES + length;
  for (const { values } of tensors.values()) {
    file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), to);
    to += values.byteLength;
  }
  return file;
}

/**
 * Read a safetensors file of f32 tensors. The tensors are copies.
 * @throws {AllocatorError} INVALID_REQUEST with the rule that is broken
 */
export function readSafetensors(file: Uint8Array): TensorFile {
  const { header, numbers } = split(file);
  const { [METADATA]: texts, ...entries } = header;
  const spans = Object.entries(entries)
    .map(([name, entry]) => spanOf(name, entry, numbers.length))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const { name, begin, end } of spans) {
    if (begin !== at)
      refuse('tensors must follow each other without gap or overlap', { tensor: name, begin });
    at = end;
  }
  if (at !== numbers.length) refuse('the file must end with its last tensor', { bytes: numbers.length - at });
  const tensors = spans.map(({ name, shape, begin, end }) => {
    // A copy, which a Buffer's slice is not.
    const values = new Float32Array(new Uint8Array(numbers.subarray(begin, end)).buffer);
    return [name, { shape, values }] as const;
  });
  return { tensors: new Map(tensors), metadata: metadataOf(texts) };
}

function split(file: Uint8Array): { header: Record<string, unknown>; numbers: Uint8Array } {
  if (file.length < LENGTH_BYTES) refuse('the file is too short for a length', { bytes: file.length });
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const declared = view.getBigUint64(0, true);
  if (declared > BigInt(HEADER_BYTES_MAX))
    refuse('the header must be of 1 MiB at most', { bytes: String(declared) });
  const begin = LENGTH_BYTES + Number(declared);
  if (begin > file.length) refuse('the file is shorter than its header', { bytes: file.length });
  if (begin % ALIGNMENT !== 0) refuse('numbers must begin at a multiple of 8', { begin });
  if (file[LENGTH_BYTES] !== BRACE) refuse('the header must begin with a brace');
  let header: unknown;
  try {
    const bytes = file.subarray(LENGTH_BYTES, begin);
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    refuse('the header must be JSON', {}, cause);
  }
  if (!isRecord(header)) return refuse('the header must be a JSON object');
  return { header, numbers: file.subarray(begin) };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

interface Span {
  readonly name: string;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

function spanOf(tensor: string, entry: unknown, bytes: number): Span {
  if (!isRecord(entry)) return refuse('a tensor must be a JSON object', { tensor });
  const { dtype, shape, data_offsets: offsets, ...others } = entry;
  const [other] = Object.keys(others);
  if (other !== undefined)
    refuse('a tensor has dtype, shape and data_offsets only', { tensor, field: other });
  if (dtype !== 'F32') refuse('a tensor must be of F32', { tensor, dtype: String(dtype) });
  if (!Array.isArray(shape) || shape.length > DIMS_MAX || !shape.every(isCount))
    return refuse('a shape must be at most eight whole numbers', { tensor });
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    return refuse('data_offsets must be two whole numbers', { tensor });
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > bytes) refuse('a tensor must lie within the file', { tensor, begin, end });
  if (sizeOf(shape) * FLOAT_BYTES !== end - begin)
    refuse('a tensor must hold as many numbers as its shape says', { tensor, bytes: end - begin });
  return { name: tensor, shape, begin, end };
}

function metadataOf(texts: unknown = {}): Record<string, string> {
  if (!isRecord(texts)) return refuse('metadata must be a JSON object');
  const texted = Object.entries(texts).map(([key, text]): [string, string] =>
    typeof text === 'string' ? [key, text] : refuse('metadata must be texts', { key }),
  );
  return Object.fromEntries(texted);
}
