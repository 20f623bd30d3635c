import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** Layout of the plugin's file, version 1; icount.c declares the same. */
const MAGIC = 'FSICOUNT';
const VERSION = 1;
const HEADER_BYTES = 4096;
const SLOT_BYTES = 64;
const RECORD_BYTES = 32;
/** Bounds of what a header may claim; a larger one is not the plugin's. */
const SLOTS_MAX = 4096;
const RECORDS_MAX = 1 << 20;

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
  recordsCut: 64,
} as const;
const SLOT_FIELD = { instructions: 0, plugged: 16 } as const;
const RECORD_FIELD = { sequence: 0, vcpu: 8, instructions: 16, monotonicNs: 24 } as const;

/** A counter file that is absent, cut short, or not the plugin's. */
export class IcountError extends Error {
  override readonly name = 'IcountError';
}

/** Instructions executed since the guest's start, by vCPU. A vCPU that was never plugged is absent. */
export interface IcountReading {
  readonly counts: ReadonlyMap<number, bigint>;
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
}

/** Cuts that were read, and where to go on. */
export interface IcountRecords {
  readonly records: readonly IcountRecord[];
  /** Pass it as `since` next time. */
  readonly next: bigint;
  /** Cuts that were overwritten before they were read. */
  readonly lost: bigint;
}

interface Layout {
  readonly slotCount: number;
  readonly recordCount: number;
}

/** Instructions of all vCPUs together. */
export function totalInstructions(reading: IcountReading): bigint {
  let total = 0n;
  for (const count of reading.counts.values()) total += count;
  return total;
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
      this.#header();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** @throws {IcountError} when the file is closed or, during the guest's restart, not yet whole */
  read(): IcountReading {
    const { layout, header } = this.#header();
    const slots = this.#bytes(HEADER_BYTES, layout.slotCount * SLOT_BYTES);
    const counts = new Map<number, bigint>();
    for (let vcpu = 0; vcpu < layout.slotCount; ++vcpu) {
      const slot = vcpu * SLOT_BYTES;
      if (slots.readBigUInt64LE(slot + SLOT_FIELD.plugged) === 0n) continue;
      counts.set(vcpu, slots.readBigUInt64LE(slot + SLOT_FIELD.instructions));
    }
    return {
      counts,
      startNs: header.readBigUInt64LE(FIELD.startNs),
      pid: Number(header.readBigUInt64LE(FIELD.pid)),
    };
  }

  /**
   * Cuts from number `since` on, oldest first; none when the plugin was started without `every`.
   * @param since 0 for all that are kept
   * @throws {IcountError} as {@link read}
   */
  records(since: bigint): IcountRecords {
    const { layout, header } = this.#header();
    const cut = header.readBigUInt64LE(FIELD.recordsCut);
    if (layout.recordCount === 0 || since >= cut) return { records: [], next: cut, lost: 0n };
    const ring = this.#bytes(HEADER_BYTES + layout.slotCount * SLOT_BYTES, layout.recordCount * RECORD_BYTES);
    const size = BigInt(layout.recordCount);
    const oldest = cut > size ? cut - size : 0n;
    const first = since > oldest ? since : oldest;
    const records: IcountRecord[] = [];
    let next = first;
    let lost = first - since;
    for (let index = first; index < cut; ++index) {
      const sequence = ring.readBigUInt64LE(Number(index % size) * RECORD_BYTES + RECORD_FIELD.sequence);
      if (sequence <= index) break; // still to be written: the slot holds an older record, or none
      if (sequence === index + 1n) records.push(toRecord(ring, Number(index % size), index));
      else ++lost; // overwritten while we looked
      next = index + 1n;
    }
    return { records, next, lost };
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
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

  #header(): { layout: Layout; header: Buffer } {
    const header = this.#bytes(0, HEADER_BYTES);
    const refuse = (what: string) => new IcountError(`${this.#path}: ${what}`);
    if (header.toString('latin1', 0, MAGIC.length) !== MAGIC) throw refuse('not an instruction-count file');
    const version = header.readUInt32LE(FIELD.version);
    if (version !== VERSION) throw refuse(`version ${version}; this reader knows ${VERSION}`);
    const layout = {
      slotCount: header.readUInt32LE(FIELD.slotCount),
      recordCount: header.readUInt32LE(FIELD.recordCount),
    };
    const isSound =
      header.readUInt32LE(FIELD.headerBytes) === HEADER_BYTES &&
      header.readUInt32LE(FIELD.slotBytes) === SLOT_BYTES &&
      header.readUInt32LE(FIELD.recordBytes) === RECORD_BYTES &&
      layout.slotCount > 0 &&
      layout.slotCount <= SLOTS_MAX &&
      layout.recordCount <= RECORDS_MAX;
    if (!isSound) throw refuse('its header contradicts version 1');
    return { layout, header };
  }
}

function toRecord(ring: Buffer, slot: number, index: bigint): IcountRecord {
  const at = slot * RECORD_BYTES;
  return {
    index,
    vcpu: Number(ring.readBigUInt64LE(at + RECORD_FIELD.vcpu)),
    instructions: ring.readBigUInt64LE(at + RECORD_FIELD.instructions),
    monotonicNs: ring.readBigUInt64LE(at + RECORD_FIELD.monotonicNs),
  };
}
