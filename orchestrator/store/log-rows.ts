import {
  type Data,
  Field,
  Float64,
  makeData,
  RecordBatch,
  RecordBatchStreamWriter,
  Schema,
  Struct,
  Uint32,
  Utf8,
} from 'apache-arrow';
import {
  GRANTED_COLUMNS,
  GRANTED_FIELDS,
  type PointContext,
  type ShadowContext,
  ShadowError,
  type ShadowLayout,
} from '../core/shadow.ts';
import type { StoredInput } from './input-rules.ts';
import { type FrameKind, SCHEMA_VERSION } from './schema-versions.ts';

/** Columns every row has, before its metrics; f64, NaN: absent. `context` points into a `contexts` frame of its segment. */
export const ROW_COLUMNS = ['at_ms', 'period_ms', 'instructions_at', 'context', 'flags'] as const;
/** Text columns of a `contexts` frame, beside `id` and the granted ones. */
export const CONTEXT_COLUMNS = [
  'guest',
  'host',
  'axis',
  'tenant',
  'request_id',
  'workload',
  'cadence',
] as const;

/** Text columns of an `inputs` frame, between `at_ms` and `number`. */
export const INPUT_COLUMNS = [
  'request_id',
  'guest',
  'host',
  'tenant',
  'workload',
  'name',
  'kind',
  'text',
] as const;

/** Metrics of one layout; twice what libvirt tells of a guest. */
const METRICS_MAX = 256;
const METRIC_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;
/** Columns the views have beside metrics: a metric of such a name would hide one. */
const RESERVED: ReadonlySet<string> = new Set([
  ...ROW_COLUMNS,
  ...CONTEXT_COLUMNS,
  ...GRANTED_COLUMNS,
  'time',
  'day',
  'samples',
  'censored',
]);

/** Rows of a layout's first buffer, and of its largest: 64 Ki rows of a profile are 5 MiB, a tenth of a second at full speed. */
const CHUNK_ROWS_MIN = 1024;
const CHUNK_ROWS_MAX = 65_536;

const f64 = new Float64();
const u32 = new Uint32();
const utf8 = new Utf8();

function schemaOf(kind: FrameKind, fields: readonly Field[]): Schema {
  return new Schema(
    [...fields],
    new Map([
      ['foreshade', kind],
      ['version', String(SCHEMA_VERSION)],
    ]),
  );
}

const CONTEXTS_SCHEMA = schemaOf('contexts', [
  new Field('id', u32),
  ...CONTEXT_COLUMNS.map((name) => new Field(name, utf8, true)),
  ...GRANTED_COLUMNS.map((name) => new Field(name, f64)),
]);

const INPUTS_SCHEMA = schemaOf('inputs', [
  new Field('at_ms', f64),
  ...INPUT_COLUMNS.map((name) => new Field(name, utf8, true)),
  new Field('number', f64),
]);

/** A context as the writer tracks it: which segment defines its id, and in which list of a buffer it was last put. */
export class RowContext implements ShadowContext {
  readonly facts: PointContext;
  readonly id: number;
  segment = -1;
  among: RowContext[] | undefined;

  constructor(facts: PointContext, id: number) {
    this.facts = facts;
    this.id = id;
  }
}

/** A buffer of rows, column by column. */
export class RowChunk {
  readonly layout: RowLayout;
  readonly numbers: readonly Float64Array[];
  readonly contextIds: Uint32Array;
  readonly flags: Uint32Array;
  readonly bytes: number;
  readonly capacity: number;
  /** Contexts of its rows; one that alternates between layouts may stand here more than once. */
  contexts: RowContext[] = [];
  length = 0;

  constructor(layout: RowLayout, capacity: number) {
    this.layout = layout;
    this.capacity = capacity;
    this.numbers = Array.from({ length: 3 + layout.metrics.length }, () => new Float64Array(capacity));
    this.contextIds = new Uint32Array(capacity);
    this.flags = new Uint32Array(capacity);
    this.bytes = capacity * 8 * (this.numbers.length + 1);
  }
}

/** Where full buffers go. */
export interface RowQueue {
  /** True when `bytes` more may wait. */
  hasRoom(bytes: number): boolean;
  push(chunk: RowChunk): void;
  /** A row was taken, or dropped. */
  accepted(): void;
  dropped(): void;
}

export class RowLayout implements ShadowLayout {
  readonly metrics: readonly string[];
  readonly schema: Schema;
  readonly #queue: RowQueue;
  #chunk: RowChunk | undefined;
  #spare: RowChunk | undefined;
  #capacity = CHUNK_ROWS_MIN;

  /** @throws {ShadowError} POINT_REFUSED */
  constructor(metrics: readonly string[], queue: RowQueue) {
    checkMetrics(metrics);
    this.metrics = [...metrics];
    this.#queue = queue;
    this.schema = schemaOf('rows', [
      ...ROW_COLUMNS.map((name) => new Field(name, name === 'context' || name === 'flags' ? u32 : f64)),
      ...metrics.map((name) => new Field(name, f64)),
    ]);
  }

  append(
    context: ShadowContext,
    atMs: number,
    periodMs: number,
    instructionsAt: number,
    flags: number,
    values: ArrayLike<number>,
    offset = 0,
  ): boolean {
    const chunk = this.#chunk ?? this.#begin();
    if (chunk === undefined) {
      this.#queue.dropped();
      return false;
    }
    const known = context as RowContext;
    if (known.among !== chunk.contexts) {
      known.among = chunk.contexts;
      chunk.contexts.push(known);
    }
    const row = chunk.length;
    const { numbers } = chunk;
    (numbers[0] as Float64Array)[row] = atMs;
    (numbers[1] as Float64Array)[row] = periodMs;
    (numbers[2] as Float64Array)[row] = instructionsAt;
    for (let i = 3; i < numbers.length; i += 1) {
      (numbers[i] as Float64Array)[row] = values[offset + i - 3] as number;
    }
    chunk.contextIds[row] = known.id;
    chunk.flags[row] = flags;
    chunk.length = row + 1;
    if (chunk.length === chunk.capacity) {
      this.#capacity = Math.min(CHUNK_ROWS_MAX, this.#capacity * 4);
      this.cut();
    }
    this.#queue.accepted();
    return true;
  }

  #begin(): RowChunk | undefined {
    const spare = this.#spare;
    const bytes = this.#capacity * 8 * (this.metrics.length + 4);
    if (!this.#queue.hasRoom(spare?.bytes ?? bytes)) return undefined;
    this.#spare = undefined;
    this.#chunk = spare ?? new RowChunk(this, this.#capacity);
    return this.#chunk;
  }

  /** Hand the rows so far to the queue. */
  cut(): void {
    if (this.#chunk === undefined || this.#chunk.length === 0) return;
    this.#queue.push(this.#chunk);
    this.#chunk = undefined;
  }

  /** Bytes of the buffer being filled. */
  get openBytes(): number {
    return this.#chunk?.bytes ?? 0;
  }

  /** Take a buffer back whose rows are on disk. */
  reuse(chunk: RowChunk): void {
    if (chunk.capacity < this.#capacity) return;
    chunk.length = 0;
    chunk.contexts = [];
    this.#spare = chunk;
  }
}

function checkMetrics(metrics: readonly string[]): void {
  const refuse = (why: string): never => {
    throw new ShadowError('POINT_REFUSED', why);
  };
  if (metrics.length > METRICS_MAX) refuse(`${metrics.length} metrics in one layout; at most ${METRICS_MAX}`);
  const seen = new Set<string>();
  for (const name of metrics) {
    if (!METRIC_NAME.test(name))
      refuse(`The metric ${JSON.stringify(name)} is not a name of letters, digits and _`);
    // SQL does not tell upper from lower case.
    const folded = name.toLowerCase();
    if (RESERVED.has(folded)) refuse(`The metric ${name} has the name of a column of its own`);
    if (seen.has(folded)) refuse(`The metric ${name} stands twice`);
    seen.add(folded);
  }
}

/** An Arrow IPC stream of one batch: each frame of the log can be read by itself, with any Arrow library. */
function streamOf(schema: Schema, children: Data[], length: number): Uint8Array {
  const data = makeData({ type: new Struct(schema.fields), length, nullCount: 0, children });
  return RecordBatchStreamWriter.writeAll([new RecordBatch(schema, data)]).toUint8Array(true);
}

const numbers = (values: Float64Array) =>
  makeData({ type: f64, data: values, length: values.length, nullCount: 0 });
const integers = (values: Uint32Array) =>
  makeData({ type: u32, data: values, length: values.length, nullCount: 0 });

/** A text column, laid out here: the library's builders take 8 ms for a thousand contexts, and 130 the first time. */
function texts(values: readonly (string | undefined)[]) {
  const valueOffsets = new Int32Array(values.length + 1);
  const nullBitmap = new Uint8Array(Math.ceil(values.length / 8));
  let nullCount = 0;
  let bytes = 0;
  for (const [i, value] of values.entries()) {
    if (value === undefined) nullCount += 1;
    else {
      nullBitmap[i >> 3] = (nullBitmap[i >> 3] ?? 0) | (1 << (i & 7));
      bytes += Buffer.byteLength(value);
    }
    valueOffsets[i + 1] = bytes;
  }
  const data = Buffer.alloc(bytes);
  for (const [i, value] of values.entries()) data.write(value ?? '', valueOffsets[i] ?? 0);
  return makeData({ type: utf8, length: values.length, nullCount, nullBitmap, valueOffsets, data });
}

export function encodeRows(chunk: RowChunk): Uint8Array {
  const n = chunk.length;
  const [at, period, instructions, ...metrics] = chunk.numbers.map((column) =>
    numbers(column.subarray(0, n)),
  );
  const shared = [integers(chunk.contextIds.subarray(0, n)), integers(chunk.flags.subarray(0, n))];
  const children = [at, period, instructions, ...shared, ...metrics].filter((data) => data !== undefined);
  return streamOf(chunk.layout.schema, children, n);
}

export function encodeContexts(contexts: readonly RowContext[]): Uint8Array {
  const text = (of: (facts: PointContext) => string | undefined) =>
    texts(contexts.map(({ facts }) => of(facts)));
  const granted = GRANTED_FIELDS.map((field) =>
    numbers(Float64Array.from(contexts, ({ facts }) => facts.granted?.[field] ?? Number.NaN)),
  );
  const children = [
    integers(Uint32Array.from(contexts, ({ id }) => id)),
    text(({ guest }) => guest),
    text(({ host }) => host),
    text(({ axis }) => axis),
    text(({ tenant }) => tenant),
    text(({ requestId }) => requestId),
    text(({ workload }) => workload),
    text(({ cadence }) => cadence),
    ...granted,
  ];
  return streamOf(CONTEXTS_SCHEMA, children, contexts.length);
}

/** One row a parameter: found again by its name and its number or text. */
export function encodeInputs(inputs: readonly StoredInput[]): Uint8Array {
  const text = (of: (input: StoredInput) => string | undefined) => texts(inputs.map(of));
  const children = [
    numbers(Float64Array.from(inputs, ({ request }) => request.atMs)),
    text(({ request }) => request.requestId),
    text(({ request }) => request.guest),
    text(({ request }) => request.host),
    text(({ request }) => request.tenant),
    text(({ request }) => request.workload),
    text(({ name }) => name),
    text(({ kind }) => kind),
    text(({ text }) => text),
    numbers(Float64Array.from(inputs, ({ number }) => number ?? Number.NaN)),
  ];
  return streamOf(INPUTS_SCHEMA, children, inputs.length);
}
