// Goal: a real guest receives and sends at the rates it was given, two guests share a CPU by their weights, and what is
// not ours is left as it was. Method: two guests of the lab with taps in its namespace. What arrives is counted by who
// receives it: in the guest, and in a program on the host. CPU time is the kernel's count of the guest's process.
import { spawn } from 'node:child_process';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createLibvirtAdapter } from '../../libvirt-adapter/adapter.ts';
import { runInNetwork } from '../../libvirt-adapter/lab/daemon.ts';
import { addresses } from '../../libvirt-adapter/lab/domain.ts';
import type { LabGuest } from '../../libvirt-adapter/lab/guest.ts';
import { Lab } from '../../libvirt-adapter/lab/lab.ts';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { NativeLibvirt } from '../../libvirt-adapter/native/connection.ts';
import { ProcessReadings } from '../../libvirt-adapter/process-readings.ts';
import { canUseTc } from '../../libvirt-adapter/tap-shaping.ts';
import { TcShaper } from '../../libvirt-adapter/tc-shaper.ts';
import type { Entitlement } from '../../orchestrator/core/profile.ts';

const unavailable =
  labUnavailableReason() ?? ((await canUseTc()) ? undefined : 'the kernel has no tbf or ifb');
if (unavailable !== undefined) {
  t.plan(0, `rates and weights are not tested on real guests here: ${unavailable}`);
  process.exit(0);
}

/** Two boots and 12 s of transfers and contention; a loaded machine takes three times as long. */
t.setTimeout(180_000);

const LIVE = { live: true };
const RX_BYTES_PER_S = 2_000_000;
const TX_BYTES_PER_S = 1_000_000;
const MEASURE_MS = 3_000;
/** TCP has found the rate and the bucket's first burst is gone. */
const RAMP_MS = 1_000;
/** CPU time is counted in ticks of 10 ms, and other tests have most of the CPU. */
const CONTENTION_MS = 5_000;
/** libvirt's map of host CPUs that holds the first alone. */
const FIRST_CPU = Uint8Array.of(1);
const never = new AbortController().signal;

const stateDir = mkdtempSync(join(tmpdir(), 'fs-net-'));
const lab = await Lab.up({
  guests: 2,
  guest: { icount: false, maxVcpus: 1, virtioMemMib: 0 },
  stateDir,
  onProgress: (line) => t.comment(line),
});
const libvirt = await NativeLibvirt.open(lab.uri);
const readings = new ProcessReadings();
const newAdapter = () =>
  createLibvirtAdapter(libvirt, readings, { tapShaper: new TcShaper((guest) => readings.pid(guest)) });
const adapter = newAdapter();
t.teardown(async () => {
  await adapter.close();
  await libvirt.close();
  await Lab.remove(stateDir);
  rmSync(stateDir, { recursive: true, force: true });
});
const [one, two] = lab.guests as [LabGuest, LabGuest];
const base = await adapter.hypervisor.inspect(one.uuid);

const apply = (guest: LabGuest, resource: 'cpu' | 'disk' | 'net', target: Partial<Entitlement>) =>
  adapter.actuators[resource].apply(guest.uuid, { ...base.entitlement, ...target }, never);

const tc = (...args: string[]) => runInNetwork(lab.holder, 'tc', args);

/** What stands on the taps, without the handles that the kernel counts up. */
const qdiscs = async () => (await tc('qdisc', 'show')).replaceAll(/ [0-9a-f]+: /g, ' ');

/** A program in the lab's network, ended with the test. Its input stays open: nc hangs up at the end of either's. */
function onNetwork(stdin: 'pipe' | number, ...command: string[]) {
  const child = spawn('nsenter', ['--target', `${lab.holder.pid}`, '--net', ...command], {
    stdio: [stdin, 'pipe', 'ignore'],
  });
  t.teardown(() => child.kill());
  return child;
}

/** Bytes a second by which a count grows, after `RAMP_MS`. */
async function rateOf(count: () => Promise<number>): Promise<number> {
  await sleep(RAMP_MS);
  const [before, sinceMs] = [await count(), performance.now()];
  await sleep(MEASURE_MS);
  return ((await count()) - before) / ((performance.now() - sinceMs) / 1000);
}

function isWithinTenth(actual: number, wanted: number): boolean {
  return Math.abs(actual - wanted) <= wanted / 10;
}

t.test('what a guest receives and sends keeps to the rates set', async (t) => {
  const limits = { netRxBytesPerS: RX_BYTES_PER_S, netTxBytesPerS: TX_BYTES_PER_S };
  const asFound = await qdiscs();
  t.ok(base.capabilities.netLimits);
  t.strictSame(await apply(one, 'net', limits), limits);
  const { host, guest } = addresses(one.state.index);

  await one.exec('/bin/sh', '-c', '({ sleep 30 | nc -l -p 7001; } >/dev/null 2>&1 &)');
  const sender = onNetwork(openSync('/dev/zero', 'r'), 'busybox', 'nc', guest, '7001');
  const received = await rateOf(async () =>
    Number((await one.exec('/bin/cat', '/sys/class/net/eth0/statistics/rx_bytes')).stdout),
  );
  sender.kill();
  t.ok(
    isWithinTenth(received, RX_BYTES_PER_S),
    `receives ${Math.round(received)} of ${RX_BYTES_PER_S} bytes/s`,
  );

  let arrived = 0;
  const receiver = onNetwork('pipe', 'busybox', 'nc', '-l', '-p', '7002');
  receiver.stdout?.on('data', (chunk: Buffer) => {
    arrived += chunk.length;
  });
  await sleep(300); // until it listens
  await one.exec('/bin/sh', '-c', `(nc ${host} 7002 </dev/zero >/dev/null 2>&1 &)`);
  const sent = await rateOf(async () => arrived);
  receiver.kill();
  t.ok(isWithinTenth(sent, TX_BYTES_PER_S), `sends ${Math.round(sent)} of ${TX_BYTES_PER_S} bytes/s`);

  const later = newAdapter();
  t.match((await later.hypervisor.inspect(one.uuid)).entitlement, limits, 'found again by another process');
  t.strictSame(await later.actuators.net.restore(one.uuid, base, never), {});
  await later.close();
  t.equal(await qdiscs(), asFound, 'nothing of ours is left');
  t.notMatch(await runInNetwork(lab.holder, 'ip', ['link', 'show']), /foreshade/);
});

t.test("somebody else's shaping is reported, and left alone", async (t) => {
  await tc(
    'qdisc',
    'replace',
    'dev',
    one.tap,
    'root',
    'handle',
    '7:',
    'tbf',
    ...['rate', '8mbit'],
    ...['burst', '16kb', 'limit', '64kb'],
  );
  const before = await tc('qdisc', 'show');
  await t.rejects(apply(one, 'net', { netRxBytesPerS: RX_BYTES_PER_S }), { code: 'NOT_SUPPORTED' });
  t.equal((await adapter.hypervisor.inspect(one.uuid)).capabilities.netLimits, false);
  t.strictSame(await adapter.actuators.net.restore(one.uuid, base, never), {});
  t.equal(await tc('qdisc', 'show'), before);
  await tc('qdisc', 'del', 'dev', one.tap, 'root');
});

t.test('operations a second are limited and given back', async (t) => {
  const limits = { diskReadOpsPerS: 300, diskWriteBytesPerS: 4_000_000 };
  t.strictSame(await apply(one, 'disk', limits), limits);
  t.strictSame(await adapter.actuators.disk.restore(one.uuid, base, never), {});
});

t.test('two guests at 2:1 on one CPU get 2:1', { skip: !lab.hasCgroups && 'no cgroups here' }, async (t) => {
  const weights = [
    [one, 2],
    [two, 1],
  ] as const;
  for (const [guest, cpuWeight] of weights) {
    // The whole guest: what its emulator does elsewhere is part of its weight, and is missing here.
    const ref = { uuid: guest.uuid, name: guest.name, id: -1 };
    await libvirt.pinVcpu(ref, 0, FIRST_CPU, LIVE);
    await libvirt.pinEmulator(ref, FIRST_CPU, LIVE);
    t.match(await apply(guest, 'cpu', { cpuWeight }), { cpuWeight });
    await guest.exec('/bin/sh', '-c', `(timeout 20 sh -c 'while :; do :; done' >/dev/null 2>&1 &)`);
  }
  const cpuNs = async (guest: LabGuest) => (await readings.open(guest.uuid))?.read()?.cpuNs ?? Number.NaN;
  await sleep(RAMP_MS);
  const before = await Promise.all([cpuNs(one), cpuNs(two)]);
  await sleep(CONTENTION_MS);
  const after = await Promise.all([cpuNs(one), cpuNs(two)]);
  const ratio = (after[0] - before[0]) / (after[1] - before[1]);
  t.ok(isWithinTenth(ratio, 2), `CPU time is as ${ratio.toFixed(3)}:1`);
  t.match(await adapter.actuators.cpu.restore(one.uuid, base, never), { cpuWeight: 1 });
});
