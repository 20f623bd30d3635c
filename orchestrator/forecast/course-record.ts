import { createHash } from 'node:crypto';
import { FIELDS } from '../core/forecast.ts';

/** What the long track of a guest is made of, apart from its grid's shape. */
export interface CourseRecord {
  readonly guest: string;
  /** Rows of the grid, f64. */
  readonly rows: Float64Array;
  /** f64[FIELDS], bins that each field's series has taken. */
  readonly taken: Float64Array;
  /** u8[FIELDS], fits that are to be made. */
  readonly fits: Uint8Array;
  /** u8[FIELDS, stateBytes]; those of fields that took no bin are zero. */
  readonly states: Uint8Array;
}

const MAGIC = 'FSCOURSE';
/** To be raised whenever the layout of a series' state or of a grid's row changes, or what a number in it means. */
const VERSION = 3;
const SHA_BYTES = 32;
// MAGIC, u32 VERSION, u32 bytes of the guest's id, u32 bytes of the rows, u32 bytes of a state; then the checksum, and what it is of.
const VERSION_AT = 8;
const GUEST_AT = 12;
const ROWS_AT = 16;
const STATE_AT = 20;
const SHA_AT = 24;
const BODY_AT = SHA_AT + SHA_BYTES;

/** Over all of a record but the checksum itself. */
function checksum(record: Buffer): Buffer {
  return createHash('sha256').update(record.subarray(0, SHA_AT)).update(record.subarray(BODY_AT)).digest();
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float64Array | Uint8Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** A record as a file's content. States of fields without a bin are left out. */
export function encodeCourse({ guest, rows, taken, fits, states }: CourseRecord): Buffer {
  const size = states.length / FIELDS;
  const held = Array.from(taken, (bins, f) => (bins > 0 ? [states.subarray(f * size, (f + 1) * size)] : []));
  const id = Buffer.from(guest);
  const head = Buffer.alloc(BODY_AT);
  head.write(MAGIC);
  head.writeUInt32LE(VERSION, VERSION_AT);
  head.writeUInt32LE(id.length, GUEST_AT);
  head.writeUInt32LE(rows.byteLength, ROWS_AT);
  head.writeUInt32LE(size, STATE_AT);
  const record = Buffer.concat([head, id, bytesOf(rows), bytesOf(taken), fits, ...held.flat()]);
  checksum(record).copy(record, SHA_AT);
  return record;
}

/**
 * The record in a file's content.
 * @param stateBytes of a series of this program
 * @throws {Error} that says what is wrong with it
 */
export function decodeCourse(content: Uint8Array, stateBytes: number): CourseRecord {
  const file = Buffer.from(content);
  if (file.length < BODY_AT || file.toString('latin1', 0, MAGIC.length) !== MAGIC)
    throw new Error('it is no record of a course');
  const version = file.readUInt32LE(VERSION_AT);
  if (version !== VERSION) throw new Error(`it is of version ${version}, and this program reads ${VERSION}`);
  if (!checksum(file).equals(file.subarray(SHA_AT, BODY_AT))) throw new Error('its checksum differs');
  if (file.readUInt32LE(STATE_AT) !== stateBytes) throw new Error('its states are of another program');
  let at = BODY_AT;
  // Copied out, so that numbers of eight bytes stand where they must.
  const next = (bytes: number): Uint8Array => {
    at += bytes;
    return new Uint8Array(file.subarray(at - bytes, at));
  };
  const guest = Buffer.from(next(file.readUInt32LE(GUEST_AT))).toString();
  const rows = new Float64Array(next(file.readUInt32LE(ROWS_AT)).buffer);
  const taken = new Float64Array(next(FIELDS * 8).buffer);
  const fits = next(FIELDS);
  const states = new Uint8Array(FIELDS * stateBytes);
  for (let f = 0; f < FIELDS; f += 1)
    if ((taken[f] as number) > 0) states.set(next(stateBytes), f * stateBytes);
  return { guest, rows, taken, fits, states };
}
