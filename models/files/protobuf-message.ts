import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { refuse } from './refusal.ts';

type Value = bigint | number | Uint8Array;

/** A protobuf message by field numbers, without a schema. Parts are read when they are asked for. */
export class ProtobufMessage {
  readonly #fields: ReadonlyMap<number, readonly Value[]>;

  private constructor(fields: ReadonlyMap<number, readonly Value[]>) {
    this.#fields = fields;
  }

  /** @throws {AllocatorError} INVALID_REQUEST */
  static read(bytes: Uint8Array): ProtobufMessage {
    const fields = new Map<number, Value[]>();
    try {
      const reader = new BinaryReader(bytes);
      while (reader.pos < reader.len) {
        const [number, wireType] = reader.tag();
        const values = fields.get(number) ?? [];
        fields.set(number, values);
        values.push(readValue(reader, wireType));
      }
    } catch (cause) {
      refuse('the file is damaged: it is no protobuf message', {}, cause);
    }
    return new ProtobufMessage(fields);
  }

  /** Values of a field that are of a kind; another kind is damage. */
  #all<Kind extends Value>(field: number, is: (value: Value) => value is Kind): readonly Kind[] {
    const values = this.#fields.get(field) ?? [];
    if (!values.every(is)) refuse('the file is damaged: a field is not of its type', { field });
    return values as readonly Kind[];
  }

  /** The last value of bytes, text or a message; undefined without one. */
  bytes(field: number): Uint8Array | undefined {
    return this.#all(field, isBytes).at(-1);
  }

  /** Empty without one, as protobuf has it. */
  text(field: number): string {
    return textOf(this.bytes(field) ?? new Uint8Array());
  }

  texts(field: number): string[] {
    return this.#all(field, isBytes).map(textOf);
  }

  message(field: number): ProtobufMessage | undefined {
    const bytes = this.bytes(field);
    return bytes && ProtobufMessage.read(bytes);
  }

  messages(field: number): ProtobufMessage[] {
    return this.#all(field, isBytes).map((bytes) => ProtobufMessage.read(bytes));
  }

  /** 0 without one. */
  integer(field: number): number {
    return Number(this.#all(field, isInteger).at(-1) ?? 0n);
  }

  /** Integers, one by one or packed. */
  integers(field: number): number[] {
    return (this.#fields.get(field) ?? []).flatMap((value) => {
      if (typeof value === 'bigint') return [Number(value)];
      if (typeof value === 'number')
        return refuse('the file is damaged: a field is not of its type', { field });
      return packedIntegers(value);
    });
  }

  /** A float of four bytes; undefined without one. */
  float(field: number): number | undefined {
    const value = this.#all(field, isNumber).at(-1);
    return value === undefined ? undefined : floatsOf(Uint32Array.of(value))[0];
  }
}

function readValue(reader: BinaryReader, wireType: WireType): Value {
  switch (wireType) {
    case WireType.Varint:
      return BigInt(reader.int64());
    case WireType.LengthDelimited:
      return reader.bytes();
    case WireType.Bit32:
      return reader.fixed32();
    case WireType.Bit64:
      return BigInt(reader.sfixed64());
    default:
      throw new RangeError('groups are not used');
  }
}

const isBytes = (value: Value): value is Uint8Array => value instanceof Uint8Array;
const isInteger = (value: Value): value is bigint => typeof value === 'bigint';
const isNumber = (value: Value): value is number => typeof value === 'number';

function textOf(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    return refuse('the file is damaged: a name is not UTF-8', {}, cause);
  }
}

function packedIntegers(bytes: Uint8Array): number[] {
  const numbers: number[] = [];
  try {
    const reader = new BinaryReader(bytes);
    while (reader.pos < reader.len) numbers.push(Number(reader.int64()));
  } catch (cause) {
    refuse('the file is damaged: packed numbers do not end where they should', {}, cause);
  }
  return numbers;
}

function floatsOf(bits: Uint32Array): Float32Array {
  return new Float32Array(bits.buffer, bits.byteOffset, bits.length);
}
