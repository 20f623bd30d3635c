/**
 * Goal: the reader gives exact counts and cuts from a well-formed file, and a precise error for anything else.
 * Method: files are written here byte by byte, from icount-file.h's layout and not from the reader's constants.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openIcountCounter } from '../../libvirt-adapter/icount-counter.ts';
import {
  IcountError,
  IcountReader,
  totalClasses,
  totalInstructions,
} from '../../libvirt-adapter/icount-reader.ts';

const folder = mkdtempSync(join(tmpdir(), 'foreshade-icount-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const RING = 16;
const SLOTS = 8;
const BRANCH_AND_MEMORY = 0b11000;

interface FileParts {
  /** Instructions by vCPU. */
  counts?: Record<number, bigint>;
  /** Sums of branch and memory by vCPU; absent without classes. */
  classes?: Record<number, readonly [branch: bigint, memory: bigint]>;
  /** Sequence numbers as they stand in the ring's places; record k carries sequence k + 1. */
  sequences?: bigint[];
  cut?: bigint;
  patch?: (file: Buffer) => void;
}

function makeFile(parts: FileParts): string {
  const { counts = {}, classes, sequences = [], cut = 0n, patch = () => undefined } = parts;
  const recordBytes = classes === undefined ? 32 : 64;
  const file = Buffer.alloc(4096 + SLOTS * 64 + RING * recordBytes);
  file.write('FSICOUNT', 'latin1');
  for (const [at, value] of [
    [8, 2],
    [12, 4096],
    [16, SLOTS],
    [20, 64],
    [24, RING],
    [28, recordBytes],
    [56, classes === undefined ? 0 : BRANCH_AND_MEMORY],
    [60, 3583],
  ] as const) {
    file.writeUInt32LE(value, at);
  }
  file.writeBigUInt64LE(1000n, 32);
  file.writeBigUInt64LE(4321n, 40);
  file.writeBigUInt64LE(123456789n, 48);
  file.writeBigUInt64LE(cut, 64);
  for (const [vcpu, count] of Object.entries(counts)) {
    const slot = 4096 + Number(vcpu) * 64;
    file.writeBigUInt64LE(count, slot);
    file.writeBigUInt64LE(classes?.[Number(vcpu)]?.[0] ?? 0n, slot + 32);
    file.writeBigUInt64LE(classes?.[Number(vcpu)]?.[1] ?? 0n, slot + 40);
    file.writeBigUInt64LE(1n, slot + 48);
  }
  sequences.forEach((sequence, place) => {
    const at = 4096 + SLOTS * 64 + place * recordBytes;
    file.writeBigUInt64LE(sequence === 0n ? 0n : (sequence << 16n) | 2n, at);
    file.writeBigUInt64LE(sequence * 1000n, at + 8);
    file.writeBigUInt64LE(sequence * 7n, at + 16);
    if (classes !== undefined) file.writeBigUInt64LE(sequence * 300n, at + 56);
  });
  patch(file);
  const path = join(folder, 'guest.icount');
  writeFileSync(path, file);
  return path;
}

t.test('counts are exact beyond 2^53, and an unplugged vCPU is absent', async (t) => {
  const reader = new IcountReader(makeFile({ counts: { 0: 0n, 1: 2n ** 53n + 1n, 7: 7n } }));
  const reading = reader.read();
  t.strictSame(
    [...reading.counts],
    [
      [0, 0n],
      [1, 2n ** 53n + 1n],
      [7, 7n],
    ],
  );
  t.equal(totalInstructions(reading), 2n ** 53n + 8n);
  t.equal(reading.startNs, 123456789n);
  t.equal(reading.pid, 4321);
  t.equal(reading.classes.size, 0);
  t.equal(totalClasses(reading), undefined);
  reader.close();
  t.throws(() => reader.read(), IcountError);
});

t.test('classes by vCPU, and what they leave is other', async (t) => {
  const reader = new IcountReader(
    makeFile({
      counts: { 0: 100n, 3: 2n ** 60n, 4: 5n },
      classes: { 0: [20n, 30n], 3: [1n, 2n], 4: [4n, 4n] },
    }),
  );
  const reading = reader.read();
  t.strictSame(Object.fromEntries(reading.classes.get(0) ?? []), { branch: 20n, memory: 30n, other: 50n });
  t.equal(reading.classes.get(3)?.get('other'), 2n ** 60n - 3n);
  t.equal(reading.classes.get(4)?.get('other'), 0n, 'sums that ran ahead of the total leave nothing');
  t.equal(reading.lagInstructions, 3583);
  t.strictSame(Object.fromEntries(totalClasses(reading) ?? []), {
    branch: 25n,
    memory: 36n,
    other: 2n ** 60n + 47n,
  });
  reader.close();
});

t.test('a cut carries its classes', async (t) => {
  const reader = new IcountReader(makeFile({ classes: {}, sequences: [1n, 2n], cut: 2n }));
  const [, second] = reader.records(0n).records;
  t.equal(second?.instructions, 2000n);
  t.strictSame(Object.fromEntries(second?.classes ?? []), { branch: 0n, memory: 600n, other: 1400n });
  reader.close();
});

// Sequence numbers in the ring's 16 places, oldest first; what a reader must give is worked by hand.
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
    t.equal(found.hasMore, false);
    t.equal(found.every, 1000n);
    reader.close();
  });
}

t.test('a counter gives totals and new cuts, and nothing when the file is gone', async (t) => {
  const path = makeFile({ counts: { 0: 5n, 1: 6n }, sequences: [1n, 2n, 3n], cut: 3n });
  const counter = openIcountCounter(path);
  t.match(counter?.read(), { total: 11 });
  t.match(counter?.newCuts(), { cuts: [], lost: 0 }, 'what was cut before is past');
  const { run } = counter?.read() ?? {};
  t.equal(counter?.newCuts()?.run, run);
  makeFile({ counts: { 0: 5n }, sequences: [1n, 2n, 3n, 4n, 5n], cut: 5n });
  t.match(counter?.newCuts()?.cuts, [
    { vcpu: 2, total: 4000 },
    { vcpu: 2, total: 5000 },
  ]);
  t.strictSame(counter?.newCuts()?.cuts, [], 'each once');
  truncateSync(path, 50);
  t.equal(counter?.read(), undefined);
  t.equal(counter?.newCuts(), undefined);
  counter?.close();
  t.equal(openIcountCounter(path), undefined);
});

for (const { name, patch, message } of [
  {
    name: "another program's file",
    patch: (f: Buffer) => f.write('PNG'),
    message: /not an instruction-count file/,
  },
  { name: 'a later version', patch: (f: Buffer) => f.writeUInt32LE(9, 8), message: /version 9/ },
  { name: 'the earlier version', patch: (f: Buffer) => f.writeUInt32LE(1, 8), message: /version 1/ },
  { name: 'an unknown class', patch: (f: Buffer) => f.writeUInt32LE(32, 56), message: /contradicts/ },
  {
    name: 'classes in records that have no room for them',
    patch: (f: Buffer) => f.writeUInt32LE(1, 56),
    message: /contradicts/,
  },
  {
    name: 'a ring without a step',
    patch: (f: Buffer) => f.writeBigUInt64LE(0n, 32),
    message: /contradicts/,
  },
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
  truncateSync(path, 4500);
  t.throws(() => reader.read(), { name: 'IcountError', message: /cut short: 4500 bytes/ });
  truncateSync(path, 0);
  t.throws(() => reader.read(), { name: 'IcountError', message: /cut short: 0 bytes/ });
  reader.close();
  t.throws(() => new IcountReader(path), { name: 'IcountError', message: /cut short/ });
  t.throws(() => new IcountReader(join(folder, 'absent')), { name: 'IcountError', message: /ENOENT/ });
});
