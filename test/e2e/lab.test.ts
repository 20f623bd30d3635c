/**
 * Goal: the lab's guests are real, what is done to them from outside is seen inside, the runner's workloads use what
 * they say they use, and a lab that has ended leaves nothing behind.
 * Method: one lab of two guests, driven by virsh and the runner; expectations are read inside the guest through its
 * agent, or from libvirt's and the plugin's counters, never from the lab's own state.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { IcountReader, totalInstructions } from '../../libvirt-adapter/icount-reader.ts';
import type { LabGuest } from '../../libvirt-adapter/lab/guest.ts';
import { emulatorsNaming, findProcess, isRunning } from '../../libvirt-adapter/lab/host-process.ts';
import { Lab } from '../../libvirt-adapter/lab/lab.ts';
import { type LabReport, labExec, labStatus, labUp } from '../../libvirt-adapter/lab/report.ts';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { virsh } from '../../libvirt-adapter/lab/virsh.ts';

// A lab on a loaded host boots in 40 s; tap's own limit for a file is 30.
t.setTimeout(600_000);

const MIB_IN_KIB = 1024;
const SMALL = { input_mib: 16, level: 1, mode: 'fast' };
const LARGE = { input_mib: 256, level: 9, mode: 'best' };

const unavailable = labUnavailableReason();
const skip = unavailable ?? false;
let stateDir = '';
let lab: Lab;
let first: LabGuest;
let second: LabGuest;
let report: LabReport;
let partition: string;

t.before(async () => {
  if (skip !== false) return;
  stateDir = mkdtempSync(join(tmpdir(), 'fs-lab-'));
  report = await labUp({ guests: 2, stateDir, onProgress: (line) => t.comment(line) });
  lab = await Lab.attach(stateDir);
  [first, second] = lab.guests as [LabGuest, LabGuest];
  partition = JSON.parse(readFileSync(join(stateDir, 'lab.json'), 'utf8')).partition;
});

t.teardown(async () => {
  if (stateDir === '') return;
  await Lab.remove(stateDir);
  rmSync(stateDir, { recursive: true, force: true });
});

/** This lab's own cgroups: other labs may run on the host at the same time. */
function cgroupFolders(partition: string): string[] {
  return readdirSync('/sys/fs/cgroup', { recursive: true, encoding: 'utf8' }).filter((folder) =>
    folder.endsWith(`${partition}.partition`),
  );
}

async function memTotalKib(guest: LabGuest): Promise<number> {
  const { stdout } = await guest.exec('/bin/cat', '/proc/meminfo');
  return Number(/MemTotal:\s+(\d+)/.exec(stdout)?.[1]);
}

/** CPU time of QEMU, seconds: fields 14 and 15 of proc(5)'s stat, in ticks of 10 ms. */
function hostCpuS(guest: LabGuest): number {
  const [, rest = ''] = readFileSync(`/proc/${guest.pid}/stat`, 'utf8').split(') ');
  const fields = rest.split(' ').map(Number);
  return ((fields[11] ?? 0) + (fields[12] ?? 0)) / 100;
}

/** Poll until `check` holds; its last value otherwise. */
async function eventually<T>(read: () => Promise<T>, check: (value: T) => boolean): Promise<T> {
  const deadline = Date.now() + 15_000;
  for (;;) {
    const value = await read();
    if (check(value) || Date.now() > deadline) return value;
    await sleep(100);
  }
}

/** A counter of `virsh domblkstat` or `domifstat`. */
async function counter(command: string, guest: LabGuest, device: string, name: string): Promise<number> {
  const text = await virsh(lab.uri, [command, guest.name, device]);
  return Number(new RegExp(`${name}\\s+(\\d+)`).exec(text)?.[1]);
}

t.test('two guests are up, and another process sees them', { skip }, async (t) => {
  t.strictSame(
    report.guests.map((guest) => guest.name),
    ['lab-1', 'lab-2'],
  );
  t.ok(report.running);
  t.strictSame(
    (await labStatus(stateDir)).guests.map((guest) => guest.pid),
    [first.pid, second.pid],
  );
  t.strictSame(await labExec(stateDir, 'lab-2', ['/bin/sh', '-c', 'echo out; echo err >&2; exit 3']), {
    exitCode: 3,
    stdout: 'out\n',
    stderr: 'err\n',
  });
  t.match(readFileSync(first.consoleLog, 'utf8'), /lab: ready/);
  const { stdout } = await first.exec('/bin/nproc');
  t.equal(stdout.trim(), '1');
  await t.rejects(labExec(stateDir, 'lab-9', ['/bin/true']), { message: /no guest lab-9 .* lab-1, lab-2/ });
});

t.test("the runner's clock is known to within 20 ms", { skip }, async (t) => {
  const { offsetMs, errorMs } = await first.runner.clockOffset();
  t.comment(`offset ${offsetMs.toFixed(2)} ms, error ${errorMs.toFixed(2)} ms`);
  t.ok(errorMs > 0 && errorMs < 20, String(errorMs));
  t.ok(Math.abs(offsetMs) < 60_000, 'the guest took its time from the host');
});

t.test('a request that breaks a rule is refused with the rule', { skip }, async (t) => {
  for (const { request, message } of [
    {
      request: { workload: 'paint', params: {}, seed: 1 },
      message: /workload must be encode, query or transfer/,
    },
    {
      request: { workload: 'encode', params: { ...SMALL, level: 12 }, seed: 1 },
      message: /level must be in \[1, 9\]/,
    },
    {
      request: { workload: 'encode', params: { ...SMALL, mode: 'x' }, seed: 1 },
      message: /mode must be fast/,
    },
    { request: { workload: 'encode', params: { level: 1 }, seed: 1 }, message: /input_mib must be/ },
    { request: { workload: 'encode', params: SMALL, seed: -1 }, message: /seed must be/ },
  ]) {
    await t.rejects(first.runner.run(request), { name: 'RunnerError', message });
  }
});

t.test('need depends on the parameters', { skip }, async (t) => {
  const requestedAtMs = Date.now();
  let startedAtMs = Number.NaN;
  const small = await first.runner.run(
    { workload: 'encode', params: SMALL, seed: 1 },
    {
      onStarted: (started) => {
        startedAtMs = started.startedAtMs;
      },
    },
  );
  const large = await second.runner.run({
    workload: 'encode',
    params: { ...LARGE, mode: 'fast', input_mib: 32 },
    seed: 1,
  });
  t.equal(small.status, 'done');
  t.equal(large.status, 'done');
  t.equal(startedAtMs, small.startedAtMs);
  t.ok(small.startedAtMs >= requestedAtMs - small.clockErrorMs - 1 && small.startedAtMs < small.finishedAtMs);
  t.ok(small.finishedAtMs <= Date.now());
  t.ok(large.maxRssKib > 1.3 * small.maxRssKib, `memory ${large.maxRssKib} KiB against ${small.maxRssKib}`);
});

t.test('a run that does not fit is killed, and the runner lives', { skip }, async (t) => {
  const outcome = await first.runner.run({ workload: 'encode', params: LARGE, seed: 2 });
  t.equal(outcome.status, 'killed');
  t.equal(outcome.signal, 9);
  t.ok(await first.runner.isReady(5000));
  const cancel = new AbortController();
  const cancelled = await second.runner.run(
    { workload: 'encode', params: SMALL, seed: 2 },
    { signal: cancel.signal, onStarted: () => cancel.abort() },
  );
  t.equal(cancelled.status, 'killed');
  t.equal(cancelled.signal, 15);
});

t.test('a plugged vCPU is online inside, and used', { skip }, async (t) => {
  await virsh(lab.uri, ['setvcpus', first.name, '2', '--live']);
  const online = async () => Number((await first.exec('/bin/nproc')).stdout);
  t.equal(await eventually(online, (count) => count === 2), 2);
});

t.test('a CPU quota on the host binds', { skip }, async (t) => {
  if (!lab.hasCgroups) {
    t.comment('this host gives no cgroups');
    return;
  }
  await virsh(lab.uri, ['schedinfo', second.name, '--live', '--set', 'vcpu_quota=30000']);
  const before = hostCpuS(second);
  const run = await second.runner.run({ workload: 'encode', params: SMALL, seed: 5 });
  const share = (hostCpuS(second) - before) / ((run.finishedAtMs - run.startedAtMs) / 1000);
  // 0.3 for the vCPU, and what QEMU's other threads use.
  t.ok(share > 0.1 && share < 0.45, `${share} of a core`);
  await virsh(lab.uri, ['schedinfo', second.name, '--live', '--set', 'vcpu_quota=-1']);
});

t.test('balloon and virtio-mem are seen inside', { skip }, async (t) => {
  const before = await memTotalKib(first);
  await virsh(lab.uri, ['setmem', first.name, `${first.state.baselineMib + 256}M`, '--live']);
  const grown = before + 256 * MIB_IN_KIB;
  t.equal(
    await eventually(
      () => memTotalKib(first),
      (kib) => kib === grown,
    ),
    grown,
  );
  await virsh(lab.uri, ['update-memory-device', first.name, '--live', '--requested-size', '128MiB']);
  const added = await eventually(
    () => memTotalKib(first),
    (kib) => kib >= grown + 128 * MIB_IN_KIB,
  );
  t.equal(added, grown + 128 * MIB_IN_KIB);
});

t.test('instructions follow the work', { skip }, async (t) => {
  if (first.icountFile === undefined) {
    t.comment('this QEMU takes no TCG plugins');
    return;
  }
  const reader = new IcountReader(first.icountFile);
  const run = async (
    params: typeof SMALL,
    depart?: { at_fraction: number; memory_factor: number; cpu_factor: number },
  ) => {
    const before = totalInstructions(reader.read());
    const request = { workload: 'encode', params, seed: 3, ...(depart === undefined ? {} : { depart }) };
    const outcome = await first.runner.run(request);
    t.equal(outcome.status, 'done');
    return { ...outcome, instructions: Number(totalInstructions(reader.read()) - before) };
  };
  const once = await run(SMALL);
  const again = await run(SMALL);
  // The same parameters and seed are the same work: what differs is the guest's own idle work, some per cent.
  t.ok(
    Math.abs(again.instructions / once.instructions - 1) < 0.05,
    `${once.instructions}, ${again.instructions}`,
  );
  const large = await run(LARGE);
  t.ok(large.instructions > 3 * once.instructions, `${large.instructions} against ${once.instructions}`);
  t.ok(large.maxRssKib > 150 * MIB_IN_KIB);
  t.ok((reader.read().counts.get(1) ?? 0n) > once.instructions / 10, 'the plugged vCPU counts on its own');
  // Half of the work is left at the departure and costs twice: 1.5 times the whole.
  const departed = await run(SMALL, { at_fraction: 0.5, memory_factor: 2, cpu_factor: 2 });
  const ratio = departed.instructions / once.instructions;
  t.ok(ratio > 1.4 && ratio < 1.6, String(ratio));
  t.ok(departed.maxRssKib > 1.7 * once.maxRssKib, `${departed.maxRssKib} KiB against ${once.maxRssKib}`);
  reader.close();
});

t.test('query moves the disk, transfer moves the network', { skip }, async (t) => {
  const disk = (name: string) => counter('domblkstat', first, 'vda', name);
  const net = (name: string) => counter('domifstat', first, first.tap, name);
  const before = {
    read: await disk('rd_bytes'),
    written: await disk('wr_bytes'),
    sent: await net('tx_bytes'),
  };
  const query = await first.runner.run({ workload: 'query', params: { rows: 500_000, joins: 3 }, seed: 4 });
  t.equal(query.status, 'done', query.error);
  t.ok((await disk('rd_bytes')) - before.read > 20e6);
  t.ok((await disk('wr_bytes')) - before.written > 5e6);
  const transfer = await first.runner.run({
    workload: 'transfer',
    params: { files: 40, size_kib: 512 },
    seed: 4,
  });
  t.equal(transfer.status, 'done', transfer.error);
  // libvirt counts from the guest's side.
  const sent = (await net('tx_bytes')) - before.sent;
  t.ok(sent > 5e6 && sent < 40 * 512 * 1024, `${sent} bytes`);
  for (const [name, run] of Object.entries({ query, transfer })) {
    t.comment(`${name} took ${Math.round(run.finishedAtMs - run.startedAtMs)} ms`);
  }
});

t.test('the daemon may die and come back without the guests', { skip }, async (t) => {
  const pids = lab.guests.map((guest) => guest.pid);
  process.kill(lab.daemon.pid, 'SIGKILL');
  await lab.restartDaemon();
  t.ok(lab.isRunning);
  t.strictSame(
    lab.guests.map((guest) => guest.pid),
    pids,
  );
  t.ok((await virsh(lab.uri, ['list', '--name'])).includes('lab-2'));
  t.ok(await second.runner.isReady(5000));
});

t.test('a lab whose daemon died is replaced, and then ends without a trace', { skip }, async (t) => {
  const guests = lab.guests.map((guest) => guest.pid);
  t.equal(cgroupFolders(partition).length > 0, lab.hasCgroups);
  for (const guest of lab.guests) await guest.runner.close();
  process.kill(lab.daemon.pid, 'SIGKILL');
  const next = await Lab.up({ guests: 0, stateDir });
  t.equal(emulatorsNaming(stateDir).length, 0, 'the orphaned guests are gone');
  for (const pid of guests) t.equal(findProcess(Number(pid)), undefined);
  await next.down();
  t.notOk(isRunning(next.daemon));
  t.notOk(isRunning(next.holder));
  t.notOk(existsSync(stateDir));
  t.notOk(readFileSync('/proc/self/mountinfo', 'utf8').includes(stateDir));
  t.strictSame(cgroupFolders(partition), []);
  t.equal(await Lab.remove(stateDir), false);
});
