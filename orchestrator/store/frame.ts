import { createHash } from 'node:crypto';

/**
 * A frame of the log: a header of 32 bytes, the payload, zeros to a multiple of 8.
 *
 *   0  4  magic      "FSL1"
 *   4  4  bytes      length of the payload
 *   8  8  sequence   counts frames through all segments of a store
 *  16  8  payload's hash: the first 8 bytes of SHA-256
 *  24  8  hash of bytes 0..24, likewise: a length is believed before its payload was read
 *
 * SHA-256 instead of CRC32C: Node has it natively in every version that is supported, and 64 bits leave no doubt when a
 * reader looks for the next whole frame behind a bad block.
 */
export const FRAME_HEADER_BYTES = 32;
const MAGIC = 0x314c5346; // "FSL1", little endian
const ALIGNMENT = 8;
/** Longest payload a reader believes; a writer's batch is far smaller. */
export const PAYLOAD_BYTES_MAX = 256 * 1024 * 1024;

/** One whole frame of a segment. */
export interface Frame {
  readonly sequence: number;
  readonly payload: Uint8Array;
  /** Offset behind it. */
  readonly end: number;
}

function hash64(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest().subarray(0, 8);
}

function padded(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** The pieces of a frame in order, for one gathering write; the payload is not copied. */
export function encodeFrame(sequence: number, payload: Uint8Array): Uint8Array[] {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(payload.byteLength, 4);
  header.writeBigUInt64LE(BigInt(sequence), 8);
  hash64(payload).copy(header, 16);
  hash64(header.subarray(0, 24)).copy(header, 24);
  const padding = padded(payload.byteLength) - payload.byteLength;
  return padding === 0 ? [header, payload] : [header, payload, new Uint8Array(padding)];
}

/** The whole frame at `offset` of a segment's bytes, or why there is none: its end is missing, or it is bad. */
export function decodeFrame(segment: Buffer, offset: number): Frame | 'short' | 'bad' {
  if (segment.byteLength - offset < FRAME_HEADER_BYTES) return 'short';
  const header = segment.subarray(offset, offset + FRAME_HEADER_BYTES);
  if (header.readUInt32LE(0) !== MAGIC) return 'bad';
  if (!hash64(header.subarray(0, 24)).equals(header.subarray(24, 32))) return 'bad';
  const bytes = header.readUInt32LE(4);
  if (bytes > PAYLOAD_BYTES_MAX) return 'bad';
  const start = offset + FRAME_HEADER_BYTES;
  const end = start + padded(bytes);
  if (end > segment.byteLength) return 'short';
  const payload = segment.subarray(start, start + bytes);
  if (!hash64(payload).equals(header.subarray(16, 24))) return 'bad';
  return { sequence: Number(header.readBigUInt64LE(8)), payload, end };
}

/** Offset of the next whole frame at or behind `offset`, or undefined. Frames start at multiples of 8. */
export function findFrame(segment: Buffer, offset: number): number | undefined {
  for (let at = padded(offset); at + FRAME_HEADER_BYTES <= segment.byteLength; at += ALIGNMENT) {
    if (segment.readUInt32LE(at) === MAGIC && typeof decodeFrame(segment, at) === 'object') return at;
  }
  return undefined;
}
