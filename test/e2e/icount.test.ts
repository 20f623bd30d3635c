/**
 * Goal: on a real guest the plugin's counts are those of a known program, by vCPU and by class; each vCPU's cuts lie on
 * the grid of N, within one translation block and without drift; none is lost; and all of it goes on through the plug of
 * a vCPU and a reset of the guest.
 * Method: a lab guest whose plugin counts all classes and cuts each million instructions. Programs of known length run
 * inside, pinned to a vCPU. FORESHADE_ICOUNT_SECONDS sets how long two vCPUs are kept busy.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { IcountReader, type IcountReading, type IcountRecord } from '../../libvirt-adapter/icount-reader.ts';
import type { LabGuest } from '../../libvirt-adapter/lab/guest.ts';
import { Lab } from '../../libvirt-adapter/lab/lab.ts';
import { takesPlugins } from '../../libvirt-adapter/lab/plugin-support.ts';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { virsh } from '../../libvirt-adapter/lab/virsh.ts';
import { recordFigure } from '../figures.ts';
import { CRYPTO, type IcountProgram, installProgram, MIX, MIX_INSTRUCTIONS } from './icount-programs.ts';

t.setTimeout(600_000);

const EVERY = 1_000_000;
const ITERATIONS = 100_000_000;
/** AES is a call of QEMU's for each instruction, and slow; nothing else in the guest does any. */
const CRYPTO_ITERATIONS = 5_000_000;
const BUSY_SECONDS = Number(process.env.FORESHADE_ICOUNT_SECONDS ?? 6);
/** A poll of a reader that has other things to do. */
const POLL_MS = 500;
/** Instructions of a translation block at most, TCG_MAX_INSNS of QEMU. */
const BLOCK_INSTRUCTIONS_MAX = 512;
const WAIT_MS = 90_000;

const skip = labUnavailableReason() ?? ((await takesPlugins()) ? false : 'this QEMU takes no TCG plugins');
const folder = mkdtempSync(join(tmpdir(), 'fs-icount-'));
let lab: Lab;
let guest: LabGuest;
let reader: IcountReader;
/** All cuts since the guest's start, in order. */
const cuts: IcountRecord[] = [];
let next = 0n;
let lost = 0n;

t.before(async () => {
  if (skip !== false) return;
  lab = await Lab.up({
    guests: 1,
    stateDir: join(folder, 'lab'),
    guest: { icountArguments: `every=${EVERY},classes=all`, virtioMemMib: 0 },
    onProgress: (line) => t.comment(line),
  });
  guest = lab.guests[0] as LabGuest;
  reader = new IcountReader(guest.icountFile ?? '');
});

t.teardown(async () => {
  if (skip === false) {
    reader?.close();
    await Lab.remove(join(folder, 'lab'));
  }
  rmSync(folder, { recursive: true, force: true });
});

function takeCuts(): void {
  for (;;) {
    const found = reader.records(next);
    cuts.push(...found.records);
    lost += found.lost;
    next = found.next;
    if (!found.hasMore) return;
  }
}

/** Counts of one vCPU, total and by class. */
function countsOf(reading: IcountReading, vcpu: number): Record<string, number> {
  const classes = [...(reading.classes.get(vcpu) ?? [])].map(([name, count]) => [name, Number(count)]);
  return { total: Number(reading.counts.get(vcpu) ?? 0n), ...Object.fromEntries(classes) };
}

async function onlineVcpus(): Promise<number> {
  return Number((await guest.exec('/bin/nproc')).stdout);
}

async function eventually(check: () => Promise<boolean>): Promise<boolean> {
  for (const deadline = Date.now() + WAIT_MS; Date.now() < deadline; await sleep(200)) {
    if (await check().catch(() => false)) return true;
  }
  return false;
}

/** Run a program on one vCPU; how much each vCPU's counts rose meanwhile. */
async function run(
  vcpu: number,
  program: Pick<IcountProgram, 'body' | 'iterations'>,
): Promise<Record<string, number>[]> {
  const path = await installProgram(guest, folder, { name: program.body, ...program });
  const before = reader.read();
  const { exitCode } = await guest.exec('/bin/taskset', (1 << vcpu).toString(16), path);
  if (exitCode !== 0) throw new Error(`the program ended with ${exitCode}`);
  await sleep(50); // an idle vCPU's counts are exact
  const after = reader.read();
  return [...after.counts.keys()].map((index) => {
    const [from, to] = [countsOf(before, index), countsOf(after, index)];
    return Object.fromEntries(Object.entries(to).map(([name, count]) => [name, count - (from[name] ?? 0)]));
  });
}

/** What the mixed program's iterations alone added, by vCPU: a short run's counts are taken from a long one's. */
async function countMix(vcpu: number): Promise<Record<string, number>[]> {
  const short = await run(vcpu, { body: 'mix', iterations: ITERATIONS / 5 });
  const long = await run(vcpu, { body: 'mix', iterations: ITERATIONS + ITERATIONS / 5 });
  return long.map((counts, index) =>
    Object.fromEntries(
      Object.entries(counts).map(([name, count]) => [name, count - (short[index]?.[name] ?? 0)]),
    ),
  );
}

/** What else the guest does meanwhile only adds, and more of it on a loaded host: the least of a few tries counts. */
async function leastMix(vcpu: number): Promise<Record<string, number>[]> {
  let least: Record<string, number>[] = [];
  for (let tries = 0; tries < 3; tries += 1) {
    const rose = await countMix(vcpu);
    if ((rose[vcpu]?.total ?? Number.NaN) < (least[vcpu]?.total ?? Number.POSITIVE_INFINITY)) least = rose;
    if ((least[vcpu]?.total ?? Number.NaN) < 1.005 * MIX_INSTRUCTIONS * ITERATIONS) break;
  }
  return least;
}

function checkMix(t: Test, rose: Record<string, number> | undefined, bar: string): void {
  const expected = { total: MIX_INSTRUCTIONS, ...MIX };
  const errors = Object.entries(expected).map(([name, perIteration]) => {
    const ratio = (rose?.[name] ?? Number.NaN) / (perIteration * ITERATIONS);
    t.ok(Math.abs(ratio - 1) < 0.01, `${name}: ${ratio} of what was executed`);
    return Math.abs(ratio - 1);
  });
  recordFigure({ bar, value: Math.max(...errors), limit: 'at most 0.01', met: Math.max(...errors) <= 0.01 });
}

t.test('a known program, in total and by class', { skip }, async (t) => {
  checkMix(t, (await leastMix(0))[0], 'icount-known-program-error');
});

t.test('crypto instructions of a known count', { skip }, async (t) => {
  const { stdout } = await guest.exec('/bin/grep', '-m1', '^flags', '/proc/cpuinfo');
  if (!/ pclmulqdq .* aes /.test(stdout)) {
    t.plan(0, "the lab's CPU has no AES-NI and PCLMULQDQ");
    return;
  }
  const rose = (await run(0, { body: 'crypto', iterations: CRYPTO_ITERATIONS }))[0]?.crypto ?? Number.NaN;
  const error = Math.abs(rose / (CRYPTO.crypto * CRYPTO_ITERATIONS) - 1);
  t.ok(error < 0.01, `${rose} crypto instructions`);
  recordFigure({ bar: 'icount-crypto-error', value: error, limit: 'at most 0.01', met: error <= 0.01 });
});

t.test('a plugged vCPU counts on its own', { skip }, async (t) => {
  t.notOk(reader.read().counts.has(1), 'it is not there yet');
  await virsh(lab.uri, ['setvcpus', guest.name, '2', '--live']);
  t.ok(await eventually(async () => (await onlineVcpus()) === 2));
  const [first, second] = await leastMix(1);
  checkMix(t, second, 'icount-known-program-error-plugged-vcpu');
  t.ok((first?.total ?? 0) < (second?.total ?? 0) / 10, 'the other vCPU counts none of it');
});

t.test('two busy vCPUs lose no cut, and each lies on the grid', { skip }, async (t) => {
  const path = await installProgram(guest, folder, { name: 'spin', iterations: 2 ** 40, body: 'spin' });
  takeCuts();
  const from = reader.read();
  const spin = (vcpu: number) => `timeout ${BUSY_SECONDS} taskset ${1 << vcpu} ${path} > /dev/null 2>&1 &`;
  await guest.exec('/bin/sh', '-c', `${spin(0)} ${spin(1)}`);
  for (const end = Date.now() + BUSY_SECONDS * 1000; Date.now() < end; await sleep(POLL_MS)) takeCuts();
  takeCuts();
  const to = reader.read();
  t.equal(lost, 0n, 'none was overwritten before it was read');
  t.ok(
    cuts.every(({ index }, i) => index === BigInt(i)),
    'every cut since the start is there, in order',
  );
  for (const vcpu of [0, 1]) {
    const positions = cuts.filter((cut) => cut.vcpu === vcpu).map((cut) => Number(cut.instructions));
    const rose = countsOf(to, vcpu).total ?? 0;
    const busy = rose - (countsOf(from, vcpu).total ?? 0);
    t.ok(busy > 20 * EVERY * BUSY_SECONDS, `vCPU ${vcpu} executed ${busy} instructions`);
    t.ok(
      positions.every((position, j) => Math.floor(position / EVERY) === j + 1),
      'cut j stands at j x N: no drift',
    );
    const beyond = Math.max(...positions.map((position) => position % EVERY));
    t.ok(beyond <= BLOCK_INSTRUCTIONS_MAX, `at most ${beyond} instructions beyond it`);
    t.ok(rose - (positions.at(-1) ?? 0) < EVERY + to.lagInstructions, 'the last is the latest');
    const steps = positions.slice(1).map((position, j) => position - (positions[j] ?? 0));
    t.comment(`${positions.length} cuts, steps ${Math.min(...steps)} to ${Math.max(...steps)}`);
    recordFigure({
      bar: `icount-cut-beyond-grid-vcpu${vcpu}`,
      value: beyond,
      limit: 'one block',
      met: beyond <= 512,
    });
  }
  recordFigure({ bar: 'icount-cuts-lost', value: Number(lost), limit: '0', met: lost === 0n });
  t.comment(`${cuts.length} cuts, ${BUSY_SECONDS} s`);
});

t.test('a reader that was away for all of it still finds every cut', { skip }, async (t) => {
  const late = new IcountReader(guest.icountFile ?? '');
  let count = 0;
  for (let since = 0n, more = true; more; ) {
    const found = late.records(since);
    t.equal(found.lost, 0n);
    count += found.records.length;
    since = found.next;
    more = found.hasMore;
  }
  late.close();
  t.ok(count >= cuts.length, `${count} cuts`);
});

t.test('a cut carries its classes', { skip }, async (t) => {
  for (const { instructions, classes } of cuts.slice(-100)) {
    const sum = [...(classes?.values() ?? [])].reduce((total, count) => total + count, 0n);
    if (sum !== instructions) t.equal(sum, instructions);
  }
  const ofFirst = cuts.filter((cut) => cut.vcpu === 0).slice(-3, -1);
  const branches = ofFirst.map(({ classes }) => Number(classes?.get('branch') ?? 0n));
  const step = (branches[1] ?? 0) - (branches[0] ?? 0);
  t.ok(
    Math.abs(step / (EVERY / 4) - 1) < 0.1,
    `${step} branches in a million instructions of the loop of four`,
  );
});

t.test('a reset of the guest stops nothing', { skip }, async (t) => {
  const before = reader.read();
  await virsh(lab.uri, ['reset', guest.name]);
  await sleep(1000);
  t.ok(await eventually(async () => (await guest.exec('/bin/true')).exitCode === 0), 'it is up again');
  const after = reader.read();
  t.equal(after.startNs, before.startNs, 'the same run of QEMU');
  for (const [vcpu, count] of before.counts)
    t.ok((after.counts.get(vcpu) ?? 0n) >= count, `vCPU ${vcpu} went on`);
  takeCuts();
  t.equal(lost, 0n);
  t.ok(cuts.every(({ index }, i) => index === BigInt(i)));
  checkMix(t, (await leastMix(0))[0], 'icount-known-program-error-after-reset');
});
