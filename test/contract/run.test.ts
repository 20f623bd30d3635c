// Goal: `foreshade run` gives its command a lease and never keeps it back: whatever ends the command, the exit code is the
// command's and the lease is released, or ends by itself when there is no service to release it to. Method: the real command
// line over a real service process with a hypervisor in memory; commands that end in every way, signals from outside, and a
// service that is killed meanwhile.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { ForeshadeClient } from '../../integrations/client-node/client.ts';
import { type Lease, LeaseState } from '../../proto/gen/foreshade/v1/allocation.ts';
import { FAKE_GUEST, FAKE_SERVICE, socketIn } from './fake-service.ts';

const PROGRAM = fileURLToPath(new URL('../../../bin/foreshade.js', import.meta.url));

const folder = mkdtempSync(join(tmpdir(), 'foreshade-run-'));
const client = new ForeshadeClient(socketIn(folder));
let service = await serve();
t.teardown(() => {
  client.close();
  service.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

async function serve(): Promise<ChildProcess> {
  const child = spawn(process.execPath, [FAKE_SERVICE, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}

async function killed(): Promise<void> {
  service.kill('SIGKILL');
  await once(service, 'exit');
}

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** `foreshade run`: `said` resolves when the command, or foreshade itself, has said `words`. */
function run(options: readonly string[], command: readonly string[], workload = 'encode') {
  const args = ['run', FAKE_GUEST, '--workload', workload, ...options, '--', ...command];
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    env: { ...process.env, FORESHADE_SOCKET: socketIn(folder) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const text = { out: '', err: '' };
  child.stdout.on('data', (chunk) => {
    text.out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    text.err += chunk;
  });
  const ended: Promise<Ran> = once(child, 'close').then(([code]) => ({ code, ...text }));
  const said = async (words: RegExp): Promise<void> => {
    await until(async () => words.test(text.out + text.err), `${words}`);
  };
  return { child, ended, said };
}

const sh = (script: string): string[] => ['sh', '-c', script];
/** Leases of the service, by workload. */
async function leases(): Promise<ReadonlyMap<string, Lease>> {
  const request = { guest: '', tenant: '', states: [], pageSize: 100 };
  const { leases } = await client.ask(client.allocation, client.allocation.listLeases, request);
  return new Map(leases.map((lease) => [lease.workload ?? '', lease]));
}

/** Poll until it holds; a loaded machine takes its time. */
async function until(holds: () => Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 1000; i += 1) {
    if (await holds()) return;
    await sleep(20);
  }
  throw new Error(`it did not come to pass: ${what}`);
}

t.test('however the command ends, and whatever it is sent', async (t) => {
  const script = join(folder, 'not-executable');
  writeFileSync(script, '#!/bin/sh\n', { mode: 0o644 });
  const trap = 'trap "exit 33" TERM; echo ready; while :; do sleep 0.05; done';
  const cases = [
    { name: 'well', command: sh('exit 0'), code: 0 },
    { name: 'badly', command: sh('exit 7'), code: 7 },
    { name: 'by a crash', command: sh('kill -SEGV $$'), code: 128 + 11 },
    { name: 'not found', command: ['no-such-command-anywhere'], code: 127 },
    { name: 'not executable', command: [script], code: 126 },
    { name: 'interrupted', command: sh('echo ready; exec sleep 60'), signal: 'SIGINT', code: 128 + 2 },
    { name: 'terminated', command: sh('echo ready; exec sleep 60'), signal: 'SIGTERM', code: 128 + 15 },
    { name: 'with the last word', command: sh(trap), signal: 'SIGTERM', code: 33 },
  ] as const;
  const ended = async ({ name, command, code, ...rest }: (typeof cases)[number]): Promise<void> => {
    const ran = run([], command, name);
    if ('signal' in rest) {
      await ran.said(/ready/);
      ran.child.kill(rest.signal);
    }
    const { code: actual, err } = await ran.ended;
    t.equal(actual, code, `${name}: ${err}`);
  };
  await Promise.all(cases.map(ended));
  const states = [...(await leases())].map(([workload, { state }]) => [workload, state]);
  t.strictSame(
    states.sort(),
    cases.map(({ name }) => [name, LeaseState.LEASE_STATE_RELEASED]).sort(),
    'every command had a lease, and every lease was released',
  );
});

t.test('the command has its figures, its arguments and its own stdout', async (t) => {
  const show = sh('env | grep ^FORESHADE_; echo "$1"').concat('sh', '--json');
  const { code, out } = await run([], show, 'shown').ended;
  t.equal(code, 0);
  const { id, granted } = (await leases()).get('shown') ?? {};
  for (const line of [
    `FORESHADE_LEASE_ID=${id}`,
    'FORESHADE_LEASE_STATE=ACTIVE',
    `FORESHADE_GUEST=${FAKE_GUEST}`,
    `FORESHADE_SOCKET=${socketIn(folder)}`,
    `FORESHADE_CPU_MILLICORES=${granted?.cpuMillicores}`,
    `FORESHADE_VCPUS=${granted?.vcpuCount}`,
    `FORESHADE_MEMORY_BYTES=${granted?.memoryBytes}`,
  ])
    t.ok(out.split('\n').includes(line), line);
  t.match(out, /\n--json\n$/, "what follows -- is the command's");
});

t.test('a signal while the lease waits for its start gives it back', async (t) => {
  const { child, ended } = run(['--start', '+60s'], sh('echo ran'), 'later');
  await until(async () => (await leases()).has('later'), 'a lease');
  child.kill('SIGTERM');
  const { code, out } = await ended;
  t.equal(code, 128 + 15);
  t.equal(out, '', 'the command was not run');
  t.equal((await leases()).get('later')?.state, LeaseState.LEASE_STATE_RELEASED);
});

t.test('the service is killed and started again: the lease is renewed and released', async (t) => {
  const go = join(folder, 'go');
  const script = `echo ready; until [ -e ${go} ]; do sleep 0.1; done; exit 5`;
  const { said, ended } = run(['--ttl', '9s'], sh(script), 'survivor');
  await said(/ready/);
  await killed();
  service = await serve();
  const expiresAtMs = async () => Number((await leases()).get('survivor')?.expiresAtMs);
  const before = await expiresAtMs();
  await until(async () => (await expiresAtMs()) > before, 'a renewal');
  writeFileSync(go, '');
  const ran = await ended;
  t.equal(ran.code, 5);
  t.notMatch(ran.err, /lost/);
  t.equal((await leases()).get('survivor')?.state, LeaseState.LEASE_STATE_RELEASED);
});

t.test('the service stays away: it is said, and the command goes on', async (t) => {
  const go = join(folder, 'gone');
  const script = `echo ready; until [ -e ${go} ]; do sleep 0.1; done; exit 6`;
  const { said, ended } = run(['--ttl', '2s'], sh(script), 'orphan');
  await said(/ready/);
  await killed();
  await said(/the command goes on without it/);
  writeFileSync(go, '');
  const ran = await ended;
  t.equal(ran.code, 6);
  t.match(ran.err, /^Lease \S+ is lost: no renewal was answered within its time to live; the command/m);

  const none = await run([], sh('echo ran')).ended;
  t.equal(none.code, 125, 'without a service there is no lease');
  t.match(none.err, /No server answers/);
  t.equal(none.out, '', 'and the command is not run');
  service = await serve();
  const orphan = async () => (await leases()).get('orphan')?.state;
  await until(async () => (await orphan()) === LeaseState.LEASE_STATE_EXPIRED, 'the orphan expires');
});
