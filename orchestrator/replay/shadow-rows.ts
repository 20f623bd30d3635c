import { type RecordBatch, RecordBatchReader } from 'apache-arrow';
import type { Entitlement } from '../core/profile.ts';
import { PROFILE_FIELDS, type ProfileField, type ResourceProfile } from '../core/profile.ts';
import type { Params, ParamValue } from '../core/request.ts';
import {
  type ClassCounts,
  type GuestSample,
  INSTRUCTION_CLASSES,
  type InstructionClass,
  SAMPLE_FLAGS,
  type SampleFlag,
} from '../core/sample.ts';
import { CLASS_COLUMNS, GRANTED_COLUMNS, GRANTED_FIELDS, type ShadowStore } from '../core/shadow.ts';
import {
  DELAY_COLUMN,
  eventsSql,
  SAMPLE_ROW,
  type Stretch,
  type StretchChoice,
  type SurveyedGuest,
  surveySql,
  usageOf,
} from './stretch.ts';

/** Where a stretch is read from. */
export type Recorded = Pick<ShadowStore, 'query'>;

/** A request as the shadow has it. */
export interface RecordedRequest {
  readonly guest: string;
  readonly requestId: string;
  readonly tenant: string;
  readonly workload: string;
  readonly params: Params;
  /** Its last sample; absent: none bears it. */
  readonly endMs?: number;
}

/** What happened at one moment. */
export type RecordedEvent =
  | {
      readonly kind: 'sample';
      readonly atMs: number;
      readonly sample: GuestSample;
      readonly guestNumber: number;
    }
  | { readonly kind: 'request'; readonly atMs: number; readonly request: RecordedRequest };

/** Rows that the database sorts at once: some hundreds of MiB, which it may lay aside on disk. */
const SLICE_ROWS_MAX = 1_000_000;
/** A stretch ends with a sample; what begins with it must still be played. Times are kept to the microsecond. */
const LAST_MS = 0.001;

/** Look a choice up. @throws {Error} when there is nothing to play, or of more than one host */
export async function surveyStretch(
  shadow: Recorded,
  choice: StretchChoice,
  signal?: AbortSignal,
): Promise<Stretch> {
  const { names } = await readAll(shadow.query('SELECT * FROM shadow LIMIT 0', signal));
  const { rows } = await readAll(shadow.query(surveySql(choice), signal));
  const played = rows.filter((row) => number(row.rows) !== undefined && Number(row.rows) > 0);
  const hosts = [...new Set(played.map((row) => String(row.host)))];
  const [host] = hosts;
  if (host === undefined)
    throw new Error('The shadow has no sample in this stretch; see what it holds: foreshade shadow stats');
  if (hosts.length > 1) {
    throw new Error(
      `This stretch is of ${hosts.length} hosts, and an engine is of one: name it with --host (${hosts.slice(0, HOSTS_TOLD).join(', ')})`,
    );
  }
  return {
    host,
    fromMs: choice.fromMs ?? Math.min(...played.map((row) => Number(row.from_ms))),
    toMs: choice.toMs ?? Math.max(...played.map((row) => Number(row.to_ms))) + LAST_MS,
    usage: usageOf(choice),
    hasDelay: names.includes(DELAY_COLUMN),
    guests: played.map(surveyedGuest),
  };
}

/** Hosts named in a message. */
const HOSTS_TOLD = 8;

function surveyedGuest(row: Readonly<Record<string, unknown>>): SurveyedGuest {
  const granted: { -readonly [F in keyof Entitlement]?: Entitlement[F] } = {};
  for (const [i, field] of GRANTED_FIELDS.entries()) {
    const value = number(row[GRANTED_COLUMNS[i] as string]);
    if (value !== undefined) granted[field] = value;
  }
  return {
    id: String(row.guest),
    rows: Number(row.rows),
    used: cpuAndMemory(row.used_cpu, row.used_memory),
    granted,
    grantedMost: cpuAndMemory(row.most_cpu, row.most_memory),
  };
}

function cpuAndMemory(cpu: unknown, memory: unknown): SurveyedGuest['used'] {
  const cpuMillicores = number(cpu);
  const memoryBytes = number(memory);
  return {
    ...(cpuMillicores !== undefined && { cpuMillicores }),
    ...(memoryBytes !== undefined && { memoryBytes }),
  };
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && !Number.isNaN(value) ? value : undefined;
}

async function readAll(
  pieces: AsyncIterable<Uint8Array>,
): Promise<{ names: string[]; rows: Record<string, unknown>[] }> {
  const reader = await RecordBatchReader.from(pieces);
  await reader.open();
  const names = reader.schema.fields.map(({ name }) => name);
  const rows: Record<string, unknown>[] = [];
  for await (const batch of reader) for (const row of batch) rows.push(row.toJSON());
  return { names, rows };
}

/**
 * Everything of a stretch in order, in batches. Memory is that of one batch here, and of one slice in the database,
 * however long the stretch is.
 */
export async function* recordedEvents(
  shadow: Recorded,
  stretch: Stretch,
  signal?: AbortSignal,
): AsyncGenerator<Iterable<RecordedEvent>> {
  const { fromMs, toMs, guests } = stretch;
  const rows = guests.reduce((sum, guest) => sum + guest.rows, 0);
  const slices = Math.ceil(rows / SLICE_ROWS_MAX);
  const startMs = (slice: number): number =>
    slice === slices ? toMs : fromMs + ((toMs - fromMs) * slice) / slices;
  // An Arrow reader that is left early does not tell its source.
  const left = new AbortController();
  const signals = AbortSignal.any([left.signal, ...(signal === undefined ? [] : [signal])]);
  try {
    for (let slice = 0; slice < slices; slice += 1) {
      const sql = eventsSql(stretch, startMs(slice), startMs(slice + 1));
      const batches = await RecordBatchReader.from(shadow.query(sql, signals));
      for await (const batch of batches) yield eventsOf(batch, stretch);
    }
  } finally {
    left.abort();
  }
}

function* eventsOf(batch: RecordBatch, stretch: Stretch): Generator<RecordedEvent> {
  const column = (name: string): Float64Array => batch.getChild(name)?.toArray() as Float64Array;
  const atMs = column('at_ms');
  const kind = column('kind');
  const guestNumber = column('guest_number');
  const sampleAt = sampleReader(column, stretch);
  const requests = batch.getChild('request');
  for (let i = 0; i < batch.numRows; i += 1) {
    const at = atMs[i] as number;
    if (kind[i] === SAMPLE_ROW)
      yield { kind: 'sample', atMs: at, sample: sampleAt(i, at), guestNumber: guestNumber[i] as number };
    else yield { kind: 'request', atMs: at, request: requestOf(String(requests?.get(i))) };
  }
}

/** Reads samples of one batch as telemetry would have given them. */
function sampleReader(
  column: (name: string) => Float64Array,
  { guests }: Stretch,
): (row: number, atMs: number) => GuestSample {
  const guestNumber = column('guest_number');
  const periodMs = column('period_ms');
  const instructionsAt = column('instructions_at');
  const flags = column('flags');
  const isImported = column('is_imported');
  const isCut = column('is_cut');
  const isFast = column('is_fast');
  const delay = column('delay_fraction');
  const fields = PROFILE_FIELDS.map(column);
  const classes = CLASS_COLUMNS.map(column);
  return (row, atMs) => {
    const guest = guests[guestNumber[row] as number] as SurveyedGuest;
    const usage = usageAt(fields, row);
    // Where the cadence was not recorded: a guest's memory is read in full samples only.
    const isLikelyFull =
      isImported[row] === 1 || guest.used.memoryBytes === undefined || usage.memoryBytes !== undefined;
    const isFull = Number.isNaN(isFast[row]) ? isLikelyFull : isFast[row] === 0;
    const instructions = instructionsAt[row] as number;
    const counts = countsAt(classes, row);
    const delayFraction = delay[row] as number;
    return {
      guest: guest.id,
      atMs,
      periodMs: periodMs[row] as number,
      cadence: isCut[row] === 1 ? 'cut' : isFull ? 'full' : 'fast',
      usage,
      ...(!Number.isNaN(delayFraction) && {
        vcpus: [{ runFraction: (usage.cpuMillicores ?? 0) / 1000, delayFraction }],
      }),
      ...(!Number.isNaN(instructions) && { instructionsAt: instructions }),
      ...(counts !== undefined && { classes: counts }),
      flags: flagsOf(flags[row] as number),
    };
  };
}

function usageAt(fields: readonly Float64Array[], row: number): ResourceProfile {
  const usage: { -readonly [F in ProfileField]?: number } = {};
  for (let f = 0; f < fields.length; f += 1) {
    const value = fields[f]?.[row] as number;
    if (!Number.isNaN(value)) usage[PROFILE_FIELDS[f] as ProfileField] = value;
  }
  return usage;
}

function countsAt(classes: readonly Float64Array[], row: number): ClassCounts | undefined {
  let counts: { -readonly [C in InstructionClass]?: number } | undefined;
  for (let c = 0; c < classes.length; c += 1) {
    const value = classes[c]?.[row] as number;
    if (Number.isNaN(value)) continue;
    counts ??= {};
    counts[INSTRUCTION_CLASSES[c] as InstructionClass] = value;
  }
  return counts;
}

const NO_FLAGS: readonly SampleFlag[] = [];

function flagsOf(bits: number): readonly SampleFlag[] {
  return bits === 0 ? NO_FLAGS : SAMPLE_FLAGS.filter((_, i) => (bits & (1 << i)) !== 0);
}

/** A parameter as `inputs` has it; neither text nor number: redacted. */
interface StoredParam {
  readonly name: string;
  readonly kind: ParamValue['kind'];
  readonly text: string | null;
  readonly number: number | null;
}

function requestOf(text: string): RecordedRequest {
  const { guest, request_id, tenant, workload, end_ms, params } = JSON.parse(text) as {
    guest: string;
    request_id: string;
    tenant: string;
    workload: string;
    end_ms: number | null;
    params: StoredParam[] | null;
  };
  return {
    guest,
    requestId: request_id,
    tenant,
    workload,
    params: paramsOf(params ?? []),
    ...(end_ms !== null && { endMs: end_ms }),
  };
}

function paramsOf(stored: readonly StoredParam[]): Params {
  const params: Record<string, ParamValue> = {};
  for (const { name, kind, text, number } of stored) {
    const isText = kind === 'category' || kind === 'text';
    if (isText && text !== null) params[name] = { kind, value: text };
    else if (!isText && number !== null) params[name] = { kind, value: number };
    // A hashed number tells equal from different, as a category does.
    else if (text !== null) params[name] = { kind: 'category', value: text };
  }
  return params;
}
