import {
  type DuckDBDataChunk,
  type DuckDBResult,
  type DuckDBType,
  DuckDBTypeId,
  JsonDuckDBValueConverter,
} from '@duckdb/node-api';
import {
  Bool,
  type Data,
  type DataType,
  DateDay,
  Field,
  Float32,
  Float64,
  Int8,
  Int16,
  Int32,
  Int64,
  makeData,
  RecordBatch,
  RecordBatchStreamWriter,
  Schema,
  Struct,
  TimestampMicrosecond,
  Uint8,
  Uint16,
  Uint32,
  Uint64,
  Utf8,
  vectorFromArray,
} from 'apache-arrow';

/** Types whose values lie in DuckDB's vectors as Arrow has them. */
const PLAIN: Readonly<Partial<Record<DuckDBTypeId, DataType>>> = {
  [DuckDBTypeId.TINYINT]: new Int8(),
  [DuckDBTypeId.SMALLINT]: new Int16(),
  [DuckDBTypeId.INTEGER]: new Int32(),
  [DuckDBTypeId.BIGINT]: new Int64(),
  [DuckDBTypeId.UTINYINT]: new Uint8(),
  [DuckDBTypeId.USMALLINT]: new Uint16(),
  [DuckDBTypeId.UINTEGER]: new Uint32(),
  [DuckDBTypeId.UBIGINT]: new Uint64(),
  [DuckDBTypeId.FLOAT]: new Float32(),
  [DuckDBTypeId.DOUBLE]: new Float64(),
  [DuckDBTypeId.DATE]: new DateDay(),
  [DuckDBTypeId.TIMESTAMP]: new TimestampMicrosecond(),
  [DuckDBTypeId.TIMESTAMP_TZ]: new TimestampMicrosecond('UTC'),
};
/** Types that become doubles: sums of integers are HUGEINT, of decimals DECIMAL. */
const WIDE: ReadonlySet<DuckDBTypeId> = new Set([
  DuckDBTypeId.HUGEINT,
  DuckDBTypeId.UHUGEINT,
  DuckDBTypeId.DECIMAL,
]);

/** End of an Arrow IPC stream: a continuation mark and no length. */
const END = Uint8Array.of(255, 255, 255, 255, 0, 0, 0, 0);

/** A vector's memory, which its class keeps to itself. */
interface PlainVector {
  readonly items: ArrayBufferView;
  /** A bit a row, set where there is a value; null: everywhere. */
  readonly validity: { readonly data: BigUint64Array | null };
}

/** A result as an Arrow IPC stream in pieces. Lists, structures and what else Arrow has no plain column for become JSON text. */
export class ArrowStream {
  readonly #types: readonly DuckDBType[];
  readonly #schema: Schema;
  /** Bytes of the schema's message, with which a stream begins; undefined until it has begun. */
  #headBytes: number | undefined;

  constructor(result: DuckDBResult) {
    this.#types = result.columnTypes();
    const names = result.columnNames();
    this.#schema = new Schema(this.#types.map((type, i) => new Field(names[i] ?? '', arrowType(type), true)));
  }

  /** The next piece of the stream; the first begins it. */
  piece(chunk: DuckDBDataChunk): Uint8Array {
    const batch = this.#batch(chunk.rowCount, (type, i) =>
      columnData(chunk, i, type, this.#types[i]?.typeId),
    );
    const stream = RecordBatchStreamWriter.writeAll([batch]).toUint8Array(true);
    const from = this.#headBytes ?? 0;
    this.#headBytes ??= headBytesOf(stream);
    return stream.subarray(from, stream.byteLength - END.byteLength);
  }

  /** What ends the stream; all of it when there was no piece. */
  end(): Uint8Array {
    if (this.#headBytes !== undefined) return END;
    const empty = RecordBatchStreamWriter.writeAll([this.#batch(0, (type) => texts([], type))]);
    const stream = empty.toUint8Array(true);
    return Buffer.concat([stream.subarray(0, headBytesOf(stream)), END]);
  }

  #batch(length: number, column: (type: DataType, index: number) => Data): RecordBatch {
    const children = this.#schema.fields.map(({ type }, i) => column(type, i));
    return new RecordBatch(
      this.#schema,
      makeData({ type: new Struct(this.#schema.fields), length, nullCount: 0, children }),
    );
  }
}

/** A message is a mark, its length, and as many bytes. */
function headBytesOf(stream: Uint8Array): number {
  return 8 + new DataView(stream.buffer, stream.byteOffset).getInt32(4, true);
}

function arrowType({ typeId }: DuckDBType): DataType {
  if (typeId === DuckDBTypeId.BOOLEAN) return new Bool();
  return PLAIN[typeId] ?? (WIDE.has(typeId) ? new Float64() : new Utf8());
}

function columnData(
  chunk: DuckDBDataChunk,
  index: number,
  type: DataType,
  typeId: DuckDBTypeId | undefined,
): Data {
  if (typeId !== undefined && PLAIN[typeId] !== undefined) {
    const { items, validity } = chunk.getColumnVector(index) as unknown as PlainVector;
    return plain(type, items, validity, chunk.rowCount);
  }
  if (typeId === DuckDBTypeId.BOOLEAN || typeId === DuckDBTypeId.VARCHAR)
    return texts(chunk.getColumnValues(index), type);
  const values = chunk.convertColumnValues(index, JsonDuckDBValueConverter);
  if (typeId !== undefined && WIDE.has(typeId)) {
    return texts(
      values.map((value) => (value === null ? null : Number(value))),
      type,
    );
  }
  return texts(
    values.map((value) => (typeof value === 'string' || value === null ? value : JSON.stringify(value))),
    type,
  );
}

/** A column in DuckDB's own memory, copied: the chunk goes when the next one comes. */
function plain(
  type: DataType,
  items: ArrayBufferView,
  validity: PlainVector['validity'],
  length: number,
): Data {
  const bytes = new Uint8Array(items.byteLength);
  bytes.set(new Uint8Array(items.buffer, items.byteOffset, items.byteLength));
  const Values = items.constructor as new (buffer: ArrayBuffer) => never;
  const { data: valid } = validity;
  const nullBitmap = valid === null ? null : new Uint8Array(valid.slice().buffer);
  return makeData({ type: type as Float64, length, data: new Values(bytes.buffer), nullBitmap });
}

function texts(values: readonly unknown[], type: DataType): Data {
  const [data] = vectorFromArray(values, type).data;
  return data ?? makeData({ type: type as Utf8, length: 0, nullCount: 0 });
}
