/**
 * Goal: the reader gives exact counts and cuts from a well-formed file, and a precise error for anything else.
 * Method: files are written here byte by byte, from icount.c's layout and not from the reader's constants.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { IcountError, IcountReader, totalInstructions } from '../../libvirt-adapter/icount/reader.ts';

const folder = mkdtempSync(join(tmpdir(), 'foreshade-icount-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const RING = 16;
const SLOTS = 256;

interface FileParts {
  /** Instructions by vCPU. */
  counts?: Record<number, bigint>;
  /** Sequence numbers as they stand in the ring's slots; record k carries sequence k + 1. */
  sequences?: bigint[];
  cut?: bigint;
  patch?: (file: Buffer) => void;
}

function makeFile({ counts = {}, sequences = [], cut = 0n, patch = () => undefined }: FileParts): string {
  const file = Buffer.alloc(4096 + SLOTS * 64 + RING * 32);
  file.write('FSICOUNT', 'latin1');
  for (const [at, value] of [
    [8, 1],
    [12, 4096],
    [16, SLOTS],
    [20, 64],
    [24, RING],
    [28, 32],
  ] as const) {
    file.writeUInt32LE(value, at);
  }
  file.writeBigUInt64LE(1000n, 32);
  file.writeBigUInt64LE(4321n, 40);
  file.writeBigUInt64LE(123456789n, 48);
  file.writeBigUInt64LE(cut, 64);
  for (const [vcpu, count] of Object.entries(counts)) {
    file.writeBigUInt64LE(count, 4096 + Number(vcpu) * 64);
    file.writeBigUInt64LE(1n, 4096 + Number(vcpu) * 64 + 16);
  }
  sequences.forEach((sequence, slot) => {
    const at = 4096 + SLOTS * 64 + slot * 32;
    file.writeBigUInt64LE(sequence, at);
    file.writeBigUInt64LE(2n, at + 8);
    file.writeBigUInt64LE(sequence * 1000n, at + 16);
    file.writeBigUInt64LE(sequence * 7n, at + 24);
  });
  patch(file);
  const path = join(folder, 'guest.icount');
  writeFileSync(path, file);
  return path;
}

t.test('counts are exact beyond 2^53, and an unplugged vCPU is absent', async (t) => {
  const reader = new IcountReader(makeFile({ counts: { 0: 0n, 1: 2n ** 53n + 1n, 255: 7n } }));
  const reading = reader.read();
  t.strictSame(
    [...reading.counts],
    [
      [0, 0n],
      [1, 2n ** 53n + 1n],
      [255, 7n],
    ],
  );
  t.equal(totalInstructions(reading), 2n ** 53n + 8n);
  t.equal(reading.startNs, 123456789n);
  t.equal(reading.pid, 4321);
  reader.close();
  t.throws(() => reader.read(), IcountError);
});

// Sequence numbers in the ring's 16 slots, oldest first; what a reader must give is worked by hand.
for (const { name, sequences, cut, since, indexes, next, lost } of [
  { name: 'no cut yet', sequences: [], cut: 0n, since: 0n, indexes: [], next: 0n, lost: 0n },
  {
    name: 'a ring that is not full',
    sequences: [1n, 2n, 3n],
    cut: 3n,
    since: 1n,
    indexes: [1n, 2n],
    next: 3n,
    lost: 0n,
  },
  {
    name: 'a ring that went round: 17 cuts, the first is lost',
    sequences: [17n, 2n, 3n, 4n, 5n, 6n, 7n, 8n, 9n, 10n, 11n, 12n, 13n, 14n, 15n, 16n],
    cut: 17n,
    since: 0n,
    indexes: Array.from({ length: 16 }, (_, i) => BigInt(i + 1)),
    next: 17n,
    lost: 1n,
  },
  {
    name: 'a record being written ends the reading',
    sequences: [1n, 0n, 3n],
    cut: 3n,
    since: 0n,
    indexes: [0n],
    next: 1n,
    lost: 0n,
  },
  {
    name: 'a record overwritten while we looked is lost',
    sequences: [1n, 18n, 3n],
    cut: 3n,
    since: 0n,
    indexes: [0n, 2n],
    next: 3n,
    lost: 1n,
  },
]) {
  t.test(name, async (t) => {
    const reader = new IcountReader(makeFile({ sequences, cut }));
    const found = reader.records(since);
    t.strictSame(
      found.records.map((record) => record.index),
      indexes,
    );
    t.ok(found.records.every((r) => r.instructions === (r.index + 1n) * 1000n && r.vcpu === 2));
    t.equal(found.next, next);
    t.equal(found.lost, lost);
    reader.close();
  });
}

for (const { name, patch, message } of [
  {
    name: "another program's file",
    patch: (f: Buffer) => f.write('PNG'),
    message: /not an instruction-count file/,
  },
  { name: 'a later version', patch: (f: Buffer) => f.writeUInt32LE(9, 8), message: /version 9/ },
  { name: 'slots of another size', patch: (f: Buffer) => f.writeUInt32LE(32, 20), message: /contradicts/ },
  {
    name: 'an absurd slot count',
    patch: (f: Buffer) => f.writeUInt32LE(2 ** 31, 16),
    message: /contradicts/,
  },
  { name: 'an absurd ring', patch: (f: Buffer) => f.writeUInt32LE(2 ** 31, 24), message: /contradicts/ },
]) {
  t.test(`${name} is refused`, async (t) => {
    t.throws(() => new IcountReader(makeFile({ patch })), { name: 'IcountError', message });
  });
}

t.test('a file cut short is refused, at the opening and later', async (t) => {
  const path = makeFile({ counts: { 0: 5n } });
  const reader = new IcountReader(path);
  t.equal(reader.read().counts.get(0), 5n);
  truncateSync(path, 5000);
  t.throws(() => reader.read(), { name: 'IcountError', message: /cut short: 5000 bytes/ });
  truncateSync(path, 0);
  t.throws(() => reader.read(), { name: 'IcountError', message: /cut short: 0 bytes/ });
  reader.close();
  t.throws(() => new IcountReader(path), { name: 'IcountError', message: /cut short/ });
  t.throws(() => new IcountReader(join(folder, 'absent')), { name: 'IcountError', message: /ENOENT/ });
});
