// Goal: on a real libvirt, a guest whose definition asks for room has it before its work begins; and whatever the service does, no
// start fails or waits for long for it. Method: a private libvirtd that runs the hook, a guest that boots Linux and guests that boot
// nothing, `virsh start` as an operator runs it; sizes are read through libvirt and inside the guest. Times are printed; they are
// held against the hook's deadline with room for a machine that does other things.
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { LabPaths } from '../../libvirt-adapter/lab/state.ts';
import { balloonActualKib, virsh } from '../../libvirt-adapter/lab/virsh.ts';
import type { Lease } from '../../proto/gen/foreshade/v1/allocation.ts';
import { LeaseState } from '../../proto/gen/foreshade/v1/allocation.ts';
import { HookStage, requestXml } from './hook-stage.ts';

const unavailable = labUnavailableReason();
if (unavailable !== undefined) {
  t.plan(0, `no guest is started here: ${unavailable}`);
  process.exit(0);
}
t.setTimeout(240_000);

const MIB = 1024 * 1024;
/** Guests started at once. */
const AT_ONCE = Number(process.env.FORESHADE_STARTS ?? 6);
/** Of a start here, beside what the hook may take: QEMU's own, on a machine that does other things. */
const START_MS_MAX = 20_000;

const stage = await HookStage.set((line) => t.comment(line));
t.teardown(() => stage.close());
const { lab } = stage;
let started = 0;

async function leasesOf(guest: string): Promise<Lease[]> {
  const { client } = stage;
  const request = { guest, states: [] };
  const { leases } = await client.ask(client.allocation, client.allocation.listLeases, request, {
    timeoutMs: 10_000,
  });
  return leases;
}

/** A guest's newest lease once it is in one of these states. */
async function settled(guest: string, ...states: LeaseState[]): Promise<Lease> {
  for (let waited = 0; ; waited += 100) {
    const [lease] = await leasesOf(guest);
    if (lease?.state !== undefined && states.includes(lease.state)) return lease;
    if (waited > 60_000) throw new Error(`the lease of ${guest} is ${JSON.stringify(lease)}`);
    await sleep(100);
  }
}

const isRunning = async (name: string): Promise<boolean> =>
  (await virsh(lab.uri, ['domstate', name])).trim() === 'running';

t.test('without a hook, and with the service away, a start is a start', async (t) => {
  await comesUp(t, 'no hook');
  stage.install();
  await lab.restartDaemon();
  await comesUp(t, 'the service away');
});

t.test('a guest that asks for room has it before its work begins', async (t) => {
  await stage.serve();
  const console_ = new LabPaths(lab.stateDir).console('worker');
  let readyAtMs = Number.POSITIVE_INFINITY;
  const watch = setInterval(() => {
    if (existsSync(console_) && readFileSync(console_, 'utf8').includes('lab: ready'))
      readyAtMs = Math.min(readyAtMs, Date.now());
  }, 20);
  const metadata = requestXml(`workload='render' tenant='studio' priority='high'`);
  await lab.addGuest({ name: 'worker', icount: false, virtioMemMib: 0, memoryMib: 384, metadata });
  clearInterval(watch);
  const lease = await settled('worker', LeaseState.LEASE_STATE_ACTIVE);
  const { requested, granted } = lease;
  t.comment(`asked ${JSON.stringify(requested)}, got ${JSON.stringify(granted)}: ${lease.reason}`);
  t.ok(
    (requested?.cpuMillicores ?? 0) > 2400 && (requested?.cpuMillicores ?? 0) < 3000,
    'as its runs taught',
  );
  t.ok((requested?.memoryBytes ?? 0) > 190 * MIB && (requested?.memoryBytes ?? 0) < 260 * MIB);
  const leadMs = readyAtMs - (lease.inPlaceAtMs ?? Number.POSITIVE_INFINITY);
  t.comment(`in place ${leadMs} ms before the guest could begin its work`);
  t.ok(leadMs > 0);
  const ready = /lab: ready .*vcpus=(\d+) mem_total_mib=(\d+)/.exec(readFileSync(console_, 'utf8'));
  t.equal(
    ready?.[1],
    String(requested?.vcpuCount),
    'its vCPUs were online when it could begin, as it says itself',
  );
  t.ok(
    Number(ready?.[2]) * MIB > (requested?.memoryBytes ?? 0) * 0.75,
    `and ${ready?.[2]} MiB of memory there`,
  );
  const wantedKib = (requested?.memoryBytes ?? 0) / 1024;
  t.ok((await balloonActualKib(lab.uri, 'worker')) > wantedKib - 2048, 'its memory is there');
  let actualKib = Number.NaN;
  for (let tries = 0; tries < 200 && !(Math.abs(actualKib - wantedKib) < 2048); tries += 1) {
    await sleep(100);
    actualKib = await balloonActualKib(lab.uri, 'worker');
  }
  t.ok(
    Math.abs(actualKib - wantedKib) < 2048,
    `${actualKib} KiB of ${wantedKib}: no more, once its balloon moves`,
  );
  const dump = await virsh(lab.uri, ['dumpxml', 'worker', '--inactive']);
  t.match(dump, /<vcpu placement='static' current='1'>4</, 'its definition is as it was');
});

t.test('libvirtd starts again beside it: the hook is called, and the guest runs on', async (t) => {
  await lab.restartDaemon();
  t.ok(await isRunning('worker'));
  const [lease] = await leasesOf('worker');
  t.equal(lease?.state, LeaseState.LEASE_STATE_ACTIVE);
});

t.test('it stops: its lease ends, and the run has taught', async (t) => {
  const sees = async (): Promise<boolean> => ((await leasesOf('worker'))[0]?.used?.memoryBytes ?? 0) > 0;
  for (let tries = 0; tries < 100 && !(await sees()); tries += 1) await sleep(100);
  const outcomes = stage.outcomes();
  await stage.destroy('worker');
  const lease = await settled('worker', LeaseState.LEASE_STATE_RELEASED);
  t.equal(lease.reason, 'the guest stopped');
  t.ok((lease.used?.memoryBytes ?? 0) > 20 * MIB, `it was seen to use ${JSON.stringify(lease.used)}`);
  t.equal(stage.outcomes(), outcomes + 1);
});

t.test(`${AT_ONCE} guests started at once`, async (t) => {
  const names = Array.from({ length: AT_ONCE }, (_, i) => `herd-${i + 1}`);
  for (const name of names) await stage.define(name);
  const beganAt = performance.now();
  const times = await Promise.all(names.map((name) => stage.start(name)));
  t.comment(
    `all up after ${(performance.now() - beganAt).toFixed(0)} ms; the slowest ${Math.max(...times).toFixed(0)} ms`,
  );
  for (const name of names) {
    t.ok(await isRunning(name), name);
    const lease = await settled(
      name,
      LeaseState.LEASE_STATE_ACTIVE,
      LeaseState.LEASE_STATE_DEGRADED,
      LeaseState.LEASE_STATE_QUEUED,
    );
    t.equal(lease.workload, 'render', lease.reason ?? '');
    // Twenty of them are more than the host may promise: the last ones wait, and run at their own size.
    const vcpus = lease.state === LeaseState.LEASE_STATE_QUEUED ? '1' : '2';
    t.equal(
      (await virsh(lab.uri, ['vcpucount', name, '--live', '--active'])).trim(),
      vcpus,
      `${vcpus} vCPUs`,
    );
  }
  t.ok(Math.max(...times) < START_MS_MAX + AT_ONCE * 1000, 'none waited for another, nor for us');
  await Promise.all(names.map((name) => stage.destroy(name)));
  for (const name of names) await settled(name, LeaseState.LEASE_STATE_RELEASED);
});

t.test('a start that requires what there is not is refused, and says why', async (t) => {
  await stage.define(
    'greedy',
    requestXml(`workload='render' tenant='studio' policy='require' ttl_s='a day'`),
  );
  await t.rejects(
    stage.start('greedy'),
    { message: /ttl_s is no number of seconds/ },
    'as virsh tells its operator',
  );
  t.notOk(await isRunning('greedy'));
  await stage.define('odd', requestXml(`workload='render' ttl_s='a day'`));
  await stage.start('odd');
  t.ok(await isRunning('odd'), 'what is not required is passed over');
  await stage.destroy('odd');
});

t.test('whatever stands in the place of the service, or of the hook', async (t) => {
  await stage.stopService();
  const faults: readonly [string, (socket: Socket) => void][] = [
    ['hangs', (socket) => socket.resume()],
    ['hangs up', (socket) => socket.destroy()],
    ['answers garbage', (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":{}')],
  ];
  for (const [name, does] of faults) await withService(does, () => comesUp(t, `a service that ${name}`));
  await comesUp(t, 'no service');
  stage.uninstall();
  await comesUp(t, 'a hook that was taken away');
});

/** Start a guest of its own, which runs on: ending it would take longer than its start. */
async function comesUp(t: Test, name: string): Promise<void> {
  started += 1;
  const guest = `plain-${started}`;
  await stage.define(guest);
  const ms = await stage.start(guest);
  t.ok(await isRunning(guest), `${name}: it runs after ${ms.toFixed(0)} ms`);
  t.ok(ms < START_MS_MAX, `${name}: in time`);
}

async function withService(does: (socket: Socket) => void, work: () => Promise<void>): Promise<void> {
  rmSync(stage.httpSocket, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    does(socket);
  });
  await new Promise<void>((resolve) => server.listen(stage.httpSocket, resolve));
  try {
    await work();
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}
