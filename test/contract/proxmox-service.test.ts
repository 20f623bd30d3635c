// Goal: the service serves guests of Proxmox VE as it serves libvirt's, its hookscript keeps out of the lock's way and is never
// too late, and nothing of a lease outlives it. Method: the whole service over a mocked node, and the hookscript itself, run by the
// mock as Proxmox VE runs it: inside the lock, after the configuration was read.
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { runChecks } from '../../orchestrator/cli/checks.ts';
import { parseConfig } from '../../orchestrator/config.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { MemoryLedger } from '../../orchestrator/ledger/memory-ledger.ts';
import { type Running, serveOn } from '../../orchestrator/main.ts';
import { packagePath } from '../../orchestrator/package-path.ts';
import type { MockGuest } from './proxmox/mock-guest.ts';
import { startMockNode } from './proxmox/mock-node.ts';

if (!hasPerl()) {
  t.plan(0, 'perl is not installed, in which the hookscript is written');
  process.exit(0);
}

const { mock, api, url, fingerprint } = await startMockNode({ speed: 5 });
const folder = mkdtempSync(join(tmpdir(), 'fs-pve-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
let services = 0;
let lastVmid = 200;

function hasPerl(): boolean {
  try {
    execFileSync('perl', ['-MSys::Syslog', '-e', '1']);
    return true;
  } catch {
    return false;
  }
}

/** The service. @returns it, and the socket of its HTTP */
async function service(t: Test, mode = 'enforce'): Promise<{ running: Running; socket: string }> {
  services += 1;
  const socket = join(folder, `${services}.http.sock`);
  const text = `[host]\nmode = "${mode}"\n[service]\nsocket = "${folder}/${services}.sock"\nhttp_socket = "${socket}"
    [proxmox]\nurl = "https://localhost"\nnode = "${mock.node}"\ntoken_file = "/dev/null"\nvcpu_unplug = true`;
  const foundation = {
    api,
    node: mock.node,
    forecaster: await ParametricForecaster.create(),
    ledger: new MemoryLedger(),
  };
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  const running = await serveOn(parseConfig(text, 'the test'), foundation, log);
  t.teardown(() => running.stop());
  return { running, socket };
}

/** The hookscript as it is installed, with its own folder of configurations. */
function hookscript(settings: Readonly<Record<string, string | number>>): string {
  const own = mkdtempSync(join(folder, 'hook-'));
  const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}\n`);
  writeFileSync(join(own, 'settings'), lines.join(''));
  const source = readFileSync(packagePath('integrations/proxmox/hookscript/foreshade-hook.pl'), 'utf8');
  const path = join(own, 'foreshade-hook.pl');
  writeFileSync(
    path,
    source
      .replace('/etc/foreshade/proxmox-hook.conf', join(own, 'settings'))
      .replace('/etc/pve/qemu-server', own),
  );
  chmodSync(path, 0o755);
  return path;
}

interface End {
  readonly code: number | null;
  readonly err: string;
  readonly ms: number;
}

/** Run it as Proxmox VE does: with the guest's configuration on the cluster's file system. */
function run(script: string, vmid: number, phase: string): Promise<End> {
  const guest = mock.guest(vmid);
  const notes = guest.config.get('description') ?? '';
  const lines = [...guest.config]
    .filter(([key]) => key !== 'description')
    .map(([key, value]) => `${key}: ${value}`);
  const described = notes.split('\n').map((line) => `#${line.replaceAll('%', '%25').replaceAll(':', '%3A')}`);
  writeFileSync(
    join(script, '..', `${vmid}.conf`),
    [...described, ...lines, '', '[snap]', 'vcpus: 4', ''].join('\n'),
  );
  return new Promise((resolve, reject) => {
    const beganAt = performance.now();
    const child = spawn(script, [String(vmid), phase]);
    let err = '';
    child.stderr.on('data', (text) => {
      err += text;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, err, ms: performance.now() - beganAt }));
  });
}

/** A guest that is off, of 1 of 4 vCPUs, with these notes. */
function given(notes = ''): { readonly vmid: number; readonly guest: MockGuest; readonly name: string } {
  lastVmid += 1;
  const guest = mock.addGuest(lastVmid, {
    cores: 4,
    vcpus: 1,
    memory: 1024,
    balloon: 512,
    shares: 0,
    hotplug: 'network,disk,usb,cpu',
    smbios1: `uuid=00000000-0000-4000-9000-000000000${lastVmid}`,
    ...(notes !== '' && { description: notes }),
  });
  return { vmid: lastVmid, guest, name: `vm-${lastVmid}` };
}

async function until(t: Test, holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 200; i += 1) {
    if (await holds()) return void t.pass(what);
    await sleep(50);
  }
  t.fail(what);
}

const context = { signal: new AbortController().signal };

function request(guest: string) {
  return {
    requestId: `of ${guest}`,
    tenant: '',
    workload: 'encode',
    guest,
    params: {},
    priority: 'normal' as const,
    ttlMs: 60_000,
    noQueue: true,
    validateOnly: false,
  };
}

t.test('a lease is put in place and given back; a guest that stops takes nothing of it along', async (t) => {
  const { guest, name } = given();
  guest.boot();
  const before = Object.fromEntries(guest.config);
  const { running } = await service(t);
  await running.engine.adopt(name, 'enforce');
  const lease = await running.engine.allocate(request(name), context);
  t.equal(lease.state, 'ACTIVE');
  t.ok(guest.running.vcpus > 1, `${guest.running.vcpus} vCPUs`);
  t.equal(lease.granted?.vcpuCount, guest.running.vcpus);
  t.equal(lease.granted?.memoryBytes, guest.balloonBytes);
  t.ok(guest.balloonBytes > 512 * 1024 * 1024, `${guest.balloonBytes} bytes`);
  await running.engine.release(lease.id, { succeeded: true }, context);
  await until(t, () => guest.running.vcpus === 1 && guest.balloonBytes === 512 * 1024 * 1024, 'given back');
  t.strictSame(Object.fromEntries(guest.config), before);

  const next = await running.engine.allocate({ ...request(name), requestId: 'again' }, context);
  t.not(guest.config.get('vcpus'), '1');
  guest.stop();
  await until(t, () => running.engine.getLease(next.id).state === 'RELEASED', 'it ends with its guest');
  await until(t, () => guest.config.get('vcpus') === '1', 'and does not shape the next start');
  await until(t, () => isEqual(Object.fromEntries(guest.config), before), 'nothing of it is left');
});

function isEqual(a: unknown, b: unknown): boolean {
  return (
    JSON.stringify(Object.entries(a as object).sort()) === JSON.stringify(Object.entries(b as object).sort())
  );
}

t.test('a start is admitted in pre-start, handed over in post-start, and in place after it', async (t) => {
  const { guest, vmid, name } = given(
    'A web server.\nforeshade: workload=render tenant=studio number.frames=240',
  );
  const before = Object.fromEntries(guest.config);
  const { running, socket } = await service(t);
  const script = hookscript({ socket, deadline_ms: 2_000 });
  const ends: End[] = [];
  mock.hook = async (id, phase) => {
    const end = await run(script, id, phase);
    ends.push(end);
    return end.code ?? 1;
  };
  const beganAt = performance.now();
  t.equal(await mock.startGuest(vmid), 'OK');
  const tookMs = performance.now() - beganAt;
  t.ok(tookMs < 5_000, `the start took ${Math.round(tookMs)} ms`);
  t.match(guest.running, { vcpus: 1 }, 'as its configuration had it');
  const lease = () => running.engine.listLeases({}).find((one) => one.guestName === name);
  await until(t, () => lease()?.state === 'ACTIVE', 'its lease begins');
  t.match(lease(), { tenant: 'studio', workload: 'render', granted: { vcpuCount: guest.running.vcpus } });
  t.ok(guest.running.vcpus > 1, 'plugged once the lock was free');
  t.equal(mock.lockTimeouts, 0, 'nobody waited for a lock in vain');

  guest.stop();
  t.equal((await run(script, vmid, 'post-stop')).code, 0);
  await until(t, () => lease()?.state === 'RELEASED', 'its lease ends');
  await until(t, () => isEqual(Object.fromEntries(guest.config), before), 'and its settings are put back');
  mock.hook = async () => 0;
});

t.test('a restart at once does not take what a lease had set for the definition', async (t) => {
  const { guest, vmid, name } = given('foreshade: workload=render');
  const before = Object.fromEntries(guest.config);
  const { running, socket } = await service(t);
  const script = hookscript({ socket, deadline_ms: 2_000 });
  mock.hook = async (id, phase) => (await run(script, id, phase)).code ?? 1;
  const active = () =>
    running.engine.listLeases({}).filter((one) => one.guestName === name && one.state === 'ACTIVE').length;
  t.equal(await mock.startGuest(vmid), 'OK');
  await until(t, () => active() === 1, 'its lease begins');
  t.not(guest.config.get('vcpus'), '1');
  guest.stop();
  const ended = run(script, vmid, 'post-stop');
  t.equal(await mock.startGuest(vmid), 'OK');
  await ended;
  await until(t, () => active() === 1, 'and another one');
  t.match(
    (await running.engine.getGuest(name)).adopted?.baseline.entitlement,
    { vcpuCount: 1 },
    'the baseline is as it was',
  );
  guest.stop();
  await run(script, vmid, 'post-stop');
  await until(t, () => isEqual(Object.fromEntries(guest.config), before), 'and is put back in the end');
  mock.hook = async () => 0;
});

t.test('in shadow nothing is changed', async (t) => {
  const { guest, name } = given();
  guest.boot();
  const { running } = await service(t, 'shadow');
  const from = mock.calls.length;
  await running.engine.adopt(name, 'shadow');
  const lease = await running.engine.allocate(request(name), context);
  await running.engine.release(lease.id, { succeeded: true }, context);
  await running.engine.allocate({ ...request(name), requestId: 'again' }, context);
  guest.stop();
  await sleep(3_000);
  t.strictSame(
    mock.calls.slice(from).filter((call) => !call.startsWith('GET')),
    [],
  );
});

t.test('a start is vetoed only where its notes require what they cannot have', async (t) => {
  const { socket } = await service(t);
  const script = hookscript({ socket, deadline_ms: 2_000 });
  mock.hook = async (id, phase) => (await run(script, id, phase)).code ?? 1;
  const strict = given('foreshade: workload=render policy=require number.frames=many');
  t.match(await mock.startGuest(strict.vmid), /hookscript error/);
  t.notOk(strict.guest.isRunning);
  t.match(await run(script, strict.vmid, 'pre-start'), {
    code: 1,
    err: /^Foreshade: .*is no number: "many"/,
  });
  const easy = given('foreshade: workload=render number.frames=many');
  t.equal(await mock.startGuest(easy.vmid), 'OK');
  const silent = given('nothing for you');
  t.equal((await run(script, silent.vmid, 'pre-start')).code, 0);
  mock.hook = async () => 0;
});

t.test('a service that is away, hangs, dies, lies or floods lets the guest start', async (t) => {
  const { vmid } = given('foreshade: workload=render');
  const absent = join(folder, 'nobody.sock');
  t.equal((await run(hookscript({ socket: absent }), vmid, 'pre-start')).code, 0);
  t.match(
    await run(hookscript({ socket: absent, policy: 'require', require_wait_ms: 300 }), vmid, 'pre-start'),
    {
      code: 1,
      err: /does not answer/,
    },
  );
  const answers: Readonly<Record<string, (socket: Socket) => void>> = {
    'hangs without a word': () => {},
    'hangs up': (socket) => socket.destroy(),
    'answers no HTTP': (socket) => socket.end('\0\xff garbage'),
    'answers no verdict': (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n[]'),
    fails: (socket) => socket.end('HTTP/1.1 500 Oops\r\n\r\n{"verdict":"VERDICT_VETO"}'),
    floods: (socket) => {
      const flood = setInterval(() => socket.write(Buffer.alloc(65_536, 0x20)), 1);
      socket.on('close', () => clearInterval(flood));
    },
  };
  for (const [name, does] of Object.entries(answers)) {
    const path = join(folder, `${services}-${name.replaceAll(' ', '-')}.sock`);
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.once('data', () => does(socket));
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const end = await run(hookscript({ socket: path, deadline_ms: 300 }), vmid, 'pre-start');
    t.equal(end.code, 0, name);
    t.ok(end.ms < 3_000, `${name}: over after ${Math.round(end.ms)} ms`);
    for (const phase of ['post-start', 'post-stop']) {
      const detached = await run(hookscript({ socket: path, policy: 'require' }), vmid, phase);
      t.equal(detached.code, 0);
      t.ok(detached.ms < 1_500, `${phase} is handed over, not waited for: ${Math.round(detached.ms)} ms`);
    }
    for (const socket of sockets) socket.destroy();
    server.close();
  }
  for (const args of [['pre-stop'], ['nonsense']]) {
    t.equal((await run(hookscript({ socket: absent }), vmid, args[0] ?? '')).code, 0);
  }
});

t.test('the doctor says whether the node answers, and who may read the token', async (t) => {
  const file = join(folder, 'doctor.toml');
  const token = join(folder, 'token');
  writeFileSync(token, `${mock.token}\n`, { mode: 0o600 });
  const check = async (pin: string) => {
    const text = `[proxmox]\nurl = "${url}"\nnode = "${mock.node}"\ntoken_file = "${token}"\nfingerprint = "${pin}"`;
    writeFileSync(file, `state_dir = "${folder}"\n${text}`);
    const checks = await runChecks({ configFile: file, socket: undefined, path: '' });
    return checks.filter(({ name }) => name.startsWith('proxmox'));
  };
  t.match(await check(fingerprint), [
    { level: 'ok' },
    { level: 'ok', found: /Proxmox VE 9\.1\.3, 8 CPUs, \d+ guests/ },
  ]);
  chmodSync(token, 0o644);
  t.match(await check(fingerprint), [{ level: 'warn', advice: /chmod 600/ }, { level: 'ok' }]);
  t.match(await check('0'.repeat(64)), [{}, { level: 'fail', found: /not the pinned one/ }]);
  rmSync(token);
  t.match(await check(fingerprint), [{ level: 'fail' }, { level: 'fail', found: /token cannot be read/ }]);
});

t.test('nothing was asked or answered outside the schema', async (t) => {
  t.strictSame(mock.violations, []);
});
