import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { InstructionClass } from '../orchestrator/core/sample.ts';

/** Layout of the plugin's file, version 2; icount-file.h declares the same. */
const MAGIC = 'FSICOUNT';
const VERSION = 2;
const HEADER_BYTES = 4096;
const SLOT_BYTES = 64;
const RECORD_BYTES = 32;
const RECORD_BYTES_WITH_CLASSES = 64;
/** Bounds of what a header may claim; a larger one is not the plugin's. */
const SLOTS_MAX = 256;
const RECORDS_MAX = 1 << 22;
/** Cuts given at once, 4 MiB of the file: a reader that fell behind catches up in steps. */
const CUTS_PER_READ_MAX = 1 << 16;

const FIELD = {
  version: 8,
  headerBytes: 12,
  slotCount: 16,
  slotBytes: 20,
  recordCount: 24,
  recordBytes: 28,
  every: 32,
  pid: 40,
  startNs: 48,
  classMask: 56,
  lagInstructions: 60,
  recordsCut: 64,
} as const;
const HEADER_FIELDS_BYTES = 72;
const SLOT_FIELD = { instructions: 0, classes: 8, plugged: 48 } as const;
const RECORD_FIELD = { mark: 0, instructions: 8, monotonicNs: 16, classes: 24 } as const;
const MARK_VCPU_BITS = 16n;

/** Classes that the plugin decodes, in the file's order; insn-class.h says what belongs to each. */
const DECODED_CLASSES = [
  'system',
  'crypto',
  'vector',
  'branch',
  'memory',
] as const satisfies readonly InstructionClass[];

/** Instructions by class: those that the plugin was told to count, and `other`. Together they are the total. */
export type ClassCounts = ReadonlyMap<InstructionClass, bigint>;

/** A counter file that is absent, cut short, or not the plugin's. */
export class IcountError extends Error {
  override readonly name = 'IcountError';
}

/** Instructions executed since the guest's start, by vCPU. A vCPU that was never plugged is absent. */
export interface IcountReading {
  readonly counts: ReadonlyMap<number, bigint>;
  /** The same by class; empty when the plugin was started without `classes`. Each sum is behind by the lag at most. */
  readonly classes: ReadonlyMap<number, ClassCounts>;
  /** Instructions by which a running vCPU's counts may be behind; an idle one's are exact. */
  readonly lagInstructions: number;
  /** Start of this run on the host's monotonic clock; another value means that all counts began anew. */
  readonly startNs: bigint;
  /** QEMU's process. */
  readonly pid: number;
}

/** One cut: a vCPU had executed `instructions` at `monotonicNs` on the host's monotonic clock. */
export interface IcountRecord {
  /** Position in the sequence of all cuts of the guest, from 0. */
  readonly index: bigint;
  readonly vcpu: number;
  readonly instructions: bigint;
  readonly monotonicNs: bigint;
  /** `instructions` by class; absent when the plugin was started without `classes`. */
  readonly classes?: ClassCounts;
}

/** Cuts that were read, and where to go on. */
export interface IcountRecords {
  readonly records: readonly IcountRecord[];
  /** Pass it as `since` next time. */
  readonly next: bigint;
  /** Cuts that were overwritten before they were read. */
  readonly lost: bigint;
  /** More cuts stand ready: read again at once. */
  readonly hasMore: boolean;
  /** As in {@link IcountReading}: with another value than before, start again with `since` 0. */
  readonly startNs: bigint;
  /** Instructions of a vCPU from one cut to the next; 0 when the plugin was started without `every`. */
  readonly every: bigint;
}

interface Header {
  readonly slotCount: number;
  readonly recordCount: number;
  readonly recordBytes: number;
  readonly every: bigint;
  readonly pid: number;
  readonly startNs: bigint;
  readonly classMask: number;
  readonly lagInstructions: number;
  readonly recordsCut: bigint;
}

/** Instructions of all vCPUs together. */
export function totalInstructions(reading: IcountReading): bigint {
  let total = 0n;
  for (const count of reading.counts.values()) total += count;
  return total;
}

/** Instructions of all vCPUs together, by class; undefined when the plugin counts none. */
export function totalClasses(reading: IcountReading): ClassCounts | undefined {
  if (reading.classes.size === 0) return undefined;
  const totals = new Map<InstructionClass, bigint>();
  for (const counts of reading.classes.values()) {
    for (const [name, count] of counts) totals.set(name, (totals.get(name) ?? 0n) + count);
  }
  return totals;
}

/**
 * Reads the file that the icount plugin writes while the guest runs. Each reading is a fresh look: the counts of two
 * vCPUs may lie some microseconds apart, each count itself is whole. After the guest's restart the file is written
 * anew in place, and readings go on with another `startNs`.
 */
export class IcountReader {
  readonly #path: string;
  #fd: number | undefined;

  /** @throws {IcountError} when the file is absent or not the plugin's */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#fd = openSync(path, 'r');
    } catch (cause) {
      throw new IcountError(`${path}: ${(cause as Error).message}`, { cause });
    }
    try {
      const header = this.#header();
      const last = ringOffset(header) + header.recordCount * header.recordBytes;
      this.#bytes(last - 1, 1);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** @throws {IcountError} when the file is closed or, during the guest's restart, not yet whole */
  read(): IcountReading {
    const header = this.#header();
    const slots = this.#bytes(HEADER_BYTES, header.slotCount * SLOT_BYTES);
    const counts = new Map<number, bigint>();
    const classes = new Map<number, ClassCounts>();
    for (let vcpu = 0; vcpu < header.slotCount; ++vcpu) {
      const slot = vcpu * SLOT_BYTES;
      if (slots.readBigUInt64LE(slot + SLOT_FIELD.plugged) === 0n) continue;
      const instructions = slots.readBigUInt64LE(slot + SLOT_FIELD.instructions);
      counts.set(vcpu, instructions);
      if (header.classMask === 0) continue;
      classes.set(vcpu, toClasses(slots, slot + SLOT_FIELD.classes, header.classMask, instructions));
    }
    const { lagInstructions, startNs, pid } = header;
    return { counts, classes, lagInstructions, startNs, pid };
  }

  /**
   * Cuts from number `since` on, oldest first and 65,536 at most; none when the plugin was started without `every`.
   * @param since 0 for all that are kept
   * @throws {IcountError} as {@link read}
   */
  records(since: bigint): IcountRecords {
    const header = this.#header();
    const { recordCount, recordsCut: cut, startNs, every } = header;
    if (recordCount === 0 || since >= cut) {
      return { records: [], next: cut, lost: 0n, hasMore: false, startNs, every };
    }
    const size = BigInt(recordCount);
    const oldest = cut > size ? cut - size : 0n;
    const first = since > oldest ? since : oldest;
    const end = cut - first > CUTS_PER_READ_MAX ? first + BigInt(CUTS_PER_READ_MAX) : cut;
    const bytes = this.#ringBytes(header, first, Number(end - first));
    // A record may have been overwritten while it was copied, from the moment its successor in the ring was begun.
    const after = this.#header();
    if (after.startNs !== startNs) throw new IcountError(`${this.#path}: the guest restarted meanwhile`);
    const firstWhole = after.recordsCut - size;

    const records: IcountRecord[] = [];
    let next = first;
    let lost = first - since;
    for (let index = first; index < end; ++index) {
      const at = Number(index - first) * header.recordBytes;
      const sequence = bytes.readBigUInt64LE(at + RECORD_FIELD.mark) >> MARK_VCPU_BITS;
      if (sequence <= index) break; // still to be written: its place holds an older record, or none
      if (sequence === index + 1n && index >= firstWhole) records.push(toRecord(bytes, at, index, header));
      else ++lost;
      next = index + 1n;
    }
    return { records, next, lost, hasMore: next === end && end < cut, startNs, every };
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** `count` records from number `first` on, in order, wherever the ring's end lies between them. */
  #ringBytes(header: Header, first: bigint, count: number): Buffer {
    const ring = ringOffset(header);
    const from = Number(first % BigInt(header.recordCount));
    const tail = Math.min(count, header.recordCount - from);
    const parts = [this.#bytes(ring + from * header.recordBytes, tail * header.recordBytes)];
    if (tail < count) parts.push(this.#bytes(ring, (count - tail) * header.recordBytes));
    return Buffer.concat(parts);
  }

  #bytes(offset: number, length: number): Buffer {
    if (this.#fd === undefined) throw new IcountError(`${this.#path}: the reader is closed`);
    const buffer = Buffer.alloc(length);
    const count = readSync(this.#fd, buffer, 0, length, offset);
    if (count < length) {
      const size = fstatSync(this.#fd).size;
      throw new IcountError(`${this.#path}: cut short: ${size} bytes, ${offset + length} expected`);
    }
    return buffer;
  }

  #header(): Header {
    const bytes = this.#bytes(0, HEADER_FIELDS_BYTES);
    const refuse = (what: string) => new IcountError(`${this.#path}: ${what}`);
    if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) throw refuse('not an instruction-count file');
    const version = bytes.readUInt32LE(FIELD.version);
    if (version !== VERSION) throw refuse(`version ${version}; this reader knows ${VERSION}`);
    const header = {
      slotCount: bytes.readUInt32LE(FIELD.slotCount),
      recordCount: bytes.readUInt32LE(FIELD.recordCount),
      recordBytes: bytes.readUInt32LE(FIELD.recordBytes),
      every: bytes.readBigUInt64LE(FIELD.every),
      pid: Number(bytes.readBigUInt64LE(FIELD.pid)),
      startNs: bytes.readBigUInt64LE(FIELD.startNs),
      classMask: bytes.readUInt32LE(FIELD.classMask),
      lagInstructions: bytes.readUInt32LE(FIELD.lagInstructions),
      recordsCut: bytes.readBigUInt64LE(FIELD.recordsCut),
    };
    const isSound =
      bytes.readUInt32LE(FIELD.headerBytes) === HEADER_BYTES &&
      bytes.readUInt32LE(FIELD.slotBytes) === SLOT_BYTES &&
      header.recordBytes === (header.classMask === 0 ? RECORD_BYTES : RECORD_BYTES_WITH_CLASSES) &&
      header.classMask < 1 << DECODED_CLASSES.length &&
      header.slotCount > 0 &&
      header.slotCount <= SLOTS_MAX &&
      header.recordCount <= RECORDS_MAX &&
      (header.recordCount === 0) === (header.every === 0n);
    if (!isSound) throw refuse(`its header contradicts version ${VERSION}`);
    return header;
  }
}

function ringOffset({ slotCount }: Header): number {
  return HEADER_BYTES + slotCount * SLOT_BYTES;
}

/** Sums at `at`, those in `mask`; what they leave of the total is `other`, never below 0 while the sums change. */
function toClasses(bytes: Buffer, at: number, mask: number, instructions: bigint): ClassCounts {
  const counts = new Map<InstructionClass, bigint>();
  let other = instructions;
  DECODED_CLASSES.forEach((name, i) => {
    if (((mask >> i) & 1) === 0) return;
    const count = bytes.readBigUInt64LE(at + i * 8);
    counts.set(name, count);
    other -= count;
  });
  return counts.set('other', other > 0n ? other : 0n);
}

function toRecord(bytes: Buffer, at: number, index: bigint, { classMask }: Header): IcountRecord {
  const instructions = bytes.readBigUInt64LE(at + RECORD_FIELD.instructions);
  return {
    index,
    vcpu: bytes.readUInt16LE(at + RECORD_FIELD.mark),
    instructions,
    monotonicNs: bytes.readBigUInt64LE(at + RECORD_FIELD.monotonicNs),
    ...(classMask !== 0 && {
      classes: toClasses(bytes, at + RECORD_FIELD.classes, classMask, instructions),
    }),
  };
}
