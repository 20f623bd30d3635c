/**
 * Goal: whatever stands in the counter's file, the reader gives counts or an IcountError, at once and in bounded memory:
 * never another error, a hang, a negative count or a record that was not asked for.
 * Method: well-formed files, then cut off at each byte of the header and at random ones behind it, or with random bytes
 * and extreme words in random places, or garbage alone. Random numbers come from a printed seed.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { IcountError, IcountReader } from '../../libvirt-adapter/icount-reader.ts';
import { randomFrom } from '../random.ts';

const SEED = Number(process.env.FORESHADE_SEED ?? Date.now() % 1_000_000);
const ROUNDS = 3_000;
const SLOTS = 4;
const RING = 64;
const HEADER_FIELDS_BYTES = 72;
/** Longest one file may hold up the reader, ms: hundreds of times what it takes. */
const READ_MS_MAX = 1_000;
const EXTREMES = [0n, 1n, 2n ** 15n, 2n ** 16n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 63n, 2n ** 64n - 1n];

t.comment(`seed ${SEED}`);

const next = randomFrom(SEED);
const random = (below: number): number => Math.floor(next() * below);

const folder = mkdtempSync(join(tmpdir(), 'foreshade-icount-fuzz-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'guest.icount');

/** A file as the plugin leaves it, after more cuts than its ring holds. */
function soundFile(hasClasses: boolean): Buffer {
  const recordBytes = hasClasses ? 64 : 32;
  const ring = 4096 + SLOTS * 64;
  const file = Buffer.alloc(ring + RING * recordBytes);
  file.write('FSICOUNT', 'latin1');
  [2, 4096, SLOTS, 64, RING, recordBytes].forEach((value, i) => {
    file.writeUInt32LE(value, 8 + i * 4);
  });
  file.writeBigUInt64LE(1000n, 32);
  file.writeUInt32LE(hasClasses ? 31 : 0, 56);
  const cut = RING + random(RING);
  file.writeBigUInt64LE(BigInt(cut), 64);
  for (let vcpu = 0; vcpu < SLOTS; ++vcpu) {
    file.writeBigUInt64LE(BigInt(cut * 1000), 4096 + vcpu * 64);
    file.writeBigUInt64LE(1n, 4096 + vcpu * 64 + 48);
  }
  for (let k = cut - RING; k < cut; ++k) {
    const at = ring + (k % RING) * recordBytes;
    file.writeBigUInt64LE((BigInt(k + 1) << 16n) | 1n, at);
    file.writeBigUInt64LE(BigInt((k + 1) * 1000), at + 8);
  }
  return file;
}

/** Open and read the file whole; undefined when it was refused. */
function readAll(bytes: Buffer, since: bigint): { cuts: number; lost: bigint } | undefined {
  writeFileSync(path, bytes);
  let reader: IcountReader | undefined;
  try {
    reader = new IcountReader(path);
    const reading = reader.read();
    const counts = [
      ...reading.counts.values(),
      ...[...reading.classes.values()].flatMap((c) => [...c.values()]),
    ];
    if (counts.some((count) => count < 0n)) throw new Error('a negative count');
    const { records, next, lost } = reader.records(since);
    if (records.some(({ index }) => index < since || index >= next))
      throw new Error('a record nobody asked for');
    if (records.length > RING && bytes.length < 65_536) throw new Error('more records than the file holds');
    if (lost < 0n) throw new Error('a negative loss');
    return { cuts: records.length, lost };
  } catch (error) {
    if (error instanceof IcountError) return undefined;
    throw error;
  } finally {
    reader?.close();
  }
}

function checked(t: { fail(message: string): unknown }, bytes: Buffer, since: bigint, what: string): boolean {
  const began = performance.now();
  let isSound = false;
  try {
    isSound = readAll(bytes, since) !== undefined;
  } catch (error) {
    t.fail(`${what}: ${(error as Error).stack}`);
  }
  const ms = performance.now() - began;
  if (ms > READ_MS_MAX) t.fail(`${what}: took ${ms} ms`);
  return isSound;
}

t.test('a sound file is read whole', async (t) => {
  for (const hasClasses of [false, true]) t.equal(readAll(soundFile(hasClasses), 0n)?.cuts, RING);
});

t.test('a file cut off anywhere', async (t) => {
  let refused = 0;
  for (const hasClasses of [false, true]) {
    const whole = soundFile(hasClasses);
    const ends = [
      ...Array.from({ length: HEADER_FIELDS_BYTES + 1 }, (_, i) => i),
      ...Array.from(
        { length: ROUNDS / 10 },
        () => HEADER_FIELDS_BYTES + random(whole.length - HEADER_FIELDS_BYTES),
      ),
    ];
    for (const end of ends) if (!checked(t, whole.subarray(0, end), 0n, `cut off at ${end}`)) ++refused;
  }
  t.ok(refused > 2 * HEADER_FIELDS_BYTES, `${refused} refused`);
});

t.test('damaged files', async (t) => {
  let read = 0;
  for (let round = 0; round < ROUNDS; ++round) {
    const file = soundFile(random(2) === 1);
    for (let i = random(6); i >= 0; --i) {
      const at = random(2) === 1 ? random(HEADER_FIELDS_BYTES) : random(file.length - 8);
      if (random(2) === 1) file[at] = random(256);
      else file.writeBigUInt64LE(EXTREMES[random(EXTREMES.length)] ?? 0n, at & ~7);
    }
    const since = [0n, BigInt(random(3 * RING)), 2n ** 64n, 2n ** 47n][random(4)] ?? 0n;
    if (checked(t, file, since, `round ${round} since ${since}`)) ++read;
  }
  t.ok(read > ROUNDS / 20 && read < ROUNDS, `${read} of ${ROUNDS} were still sound`);
});

t.test('garbage', async (t) => {
  let read = 0;
  for (let round = 0; round < ROUNDS / 10; ++round) {
    const bytes = Buffer.from(Array.from({ length: random(9000) }, () => random(256)));
    if (random(2) === 1) bytes.write('FSICOUNT', 'latin1');
    if (checked(t, bytes, 0n, `garbage ${round}`)) ++read;
  }
  t.equal(read, 0);
});
