// Goal: libvirt's hook obeys the service, and nothing it meets keeps a guest from starting, or libvirt waiting beyond its deadline.
// Method: the program itself, with libvirt's arguments and a domain on stdin, against the real service over doubles, and against a
// server that allows, vetoes, hangs, dies, lies and floods. Times are only held against the deadline, with room for a busy machine.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { installHook } from '../../orchestrator/cli/hook-files.ts';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { ExpectedStart } from '../../orchestrator/core/guest-start.ts';
import { packagePath } from '../../orchestrator/package-path.ts';
import { GUEST_ID } from './engine-double.ts';
import { startFixture } from './service-fixture.ts';

if (!existsSync(packagePath('dist/integrations/libvirt-hook/foreshade-hook'))) {
  t.plan(0, 'the hook was not built here: it needs g++');
  process.exit(0);
}

const DEADLINE_MS = 200;
/** Beyond its deadline the program takes 25 ms at most; the rest is for a machine that does other things. */
const SLACK_MS = 800;
const OPERATIONS = [
  'prepare',
  'start',
  'started',
  'stopped',
  'release',
  'migrate',
  'restore',
  'reconnect',
  'attach',
];

const folder = mkdtempSync(join(tmpdir(), 'fs-hook-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
let roots = 0;

function domain(attributes = `workload='encode' tenant='acme'`): string {
  return `<domain type='kvm'><name>alpha</name><uuid>${GUEST_ID}</uuid>
  <metadata><f:request xmlns:f='urn:foreshade:request:1' ${attributes}><f:param name='title' text='&quot;ü\\&quot;'/></f:request></metadata>
  <memory unit='MiB'>512</memory><vcpu>2</vcpu><devices/></domain>`;
}

/** The hook as it is installed, with a service at `socket`. @returns its path */
function installed(socket: string, settings: { policy?: 'require'; requireWaitMs?: number } = {}): string {
  roots += 1;
  const root = join(folder, `root-${roots}`);
  const { policy = 'prefer', requireWaitMs = 600 } = settings;
  const all = { socket, deadlineMs: DEADLINE_MS, policy, requireWaitMs } as const;
  installHook(root, all);
  return join(root, 'etc/libvirt/hooks/qemu.d/50-foreshade');
}

interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
  readonly ms: number;
}

/** Run the hook as libvirt does. @param input what stands on stdin; a stream may never end */
function run(
  hook: string,
  operation: string,
  input: string | Readable = domain(),
  guest = 'alpha',
): Promise<End> {
  return new Promise((resolve, reject) => {
    const beganAt = performance.now();
    const child = spawn(hook, [guest, operation, 'begin', '-'], { env: {} });
    let [out, err] = ['', ''];
    child.stdout.on('data', (text) => {
      out += text;
    });
    child.stderr.on('data', (text) => {
      err += text;
    });
    child.stdin.on('error', () => {}); // it need not read all of it
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (typeof input !== 'string') input.destroy();
      resolve({ code, signal, out, err, ms: performance.now() - beganAt });
    });
    if (typeof input === 'string') child.stdin.end(input);
    else input.pipe(child.stdin);
  });
}

/** A service that does with each connection what it is told. @returns its socket */
async function serverThat(t: Test, does: (socket: Socket) => void): Promise<string> {
  const path = join(folder, `server-${roots}-${Math.random().toString(36).slice(2)}.sock`);
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    does(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return path;
}

/** Answer once something of the request is there. */
const answering =
  (text: string | Buffer, { hangUp = true } = {}) =>
  (socket: Socket): void => {
    socket.once('data', () => (hangUp ? socket.end(text) : socket.write(text)));
  };

const http = (body: string, head = 'HTTP/1.1 200 OK'): string =>
  `${head}\r\nContent-Type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

function wentOn(t: Test, end: End, name: string, withinMs = DEADLINE_MS + SLACK_MS): void {
  t.match(end, { code: 0, signal: null, out: '' }, `${name}: goes on, nothing on stdout (${end.err.trim()})`);
  t.ok(end.ms < withinMs, `${name}: ${Math.round(end.ms)} ms`);
}

t.test('the real service: told what libvirt told, and obeyed', async (t) => {
  const f = await startFixture();
  t.teardown(() => f.close());
  const hook = installed(f.config.service.httpSocket ?? '');
  wentOn(t, await run(hook, 'prepare'), 'prepare');
  const [{ argument } = { argument: undefined }] = f.starts.calls;
  t.match(argument as ExpectedStart, {
    adopt: true,
    lastsAsRun: true,
    facts: { id: GUEST_ID, name: 'alpha', ceiling: { vcpuCount: 2 } },
    request: {
      guest: GUEST_ID,
      workload: 'encode',
      tenant: 'acme',
      params: { title: { kind: 'text', value: '"ü\\"' } },
    },
  });
  for (const operation of OPERATIONS) wentOn(t, await run(hook, operation), operation);
  const heard = f.starts.calls.map(({ method }) => method);
  t.strictSame(
    heard,
    ['reserve', 'reserve', 'reserve', 'started', 'ended', 'ended'],
    'what it is not told changes nothing',
  );

  f.starts.fail = new AllocatorError('CAPACITY_EXHAUSTED', 'the host has no room for "the"\nmedian need');
  wentOn(t, await run(hook, 'prepare'), 'no room, none required');
  const required = domain(`workload='encode' policy='require'`);
  const vetoed = await run(hook, 'prepare', required);
  t.match(vetoed, {
    code: 1,
    out: '',
    err: 'foreshade: alpha may not start: Foreshade: the host has no room for "the" median need\n',
  });
  wentOn(t, await run(hook, 'started', required), 'no room, required, but it runs already');
  f.starts.mode = 'shadow';
  wentOn(t, await run(hook, 'prepare', required), 'in shadow nothing is vetoed');
  f.starts.mode = 'enforce';
  f.starts.fail = undefined;
  const unreadable = await run(hook, 'prepare', domain(`workload='encode' policy='require' prio='1'`));
  t.match(
    unreadable,
    { code: 1, err: /has no attribute "prio"/ },
    'what is required and cannot be read is said',
  );
  wentOn(
    t,
    await run(hook, 'prepare', domain(`workload='encode' prio='1'`)),
    'what is not required is passed over',
  );
  const count = f.starts.calls.length;
  wentOn(t, await run(hook, 'prepare', '<domain><urn:foreshade:request:1'), 'a domain that is none');
  wentOn(t, await run(hook, 'prepare', domain(), '\xff\xfe"\\\n'), 'a name that is odd');
  wentOn(
    t,
    await run(hook, 'prepare', '<domain type="kvm"><name>other</name></domain>'),
    'a domain that asks for nothing',
  );
  t.ok(f.starts.calls.length <= count + 1);
  t.strictSame(f.faults, []);
});

t.test('an engine that fails is no reason not to start', async (t) => {
  const f = await startFixture();
  t.teardown(() => f.close());
  const hook = installed(f.config.service.httpSocket ?? '');
  f.starts.fail = new Error('a broken assumption');
  const end = await run(hook, 'prepare', domain(`workload='encode' policy='require'`));
  wentOn(t, end, 'an error outside of the table');
  t.match(end.err, /the service refused the call; the guest goes on without/);
});

t.test('whatever the service does, the guest starts in time', async (t) => {
  const cases: readonly { name: string; does: (socket: Socket) => void; says?: RegExp }[] = [
    { name: 'allows', does: answering(http('{"verdict":"VERDICT_ALLOW"}')) },
    {
      name: 'allows and does not hang up',
      does: answering(http('{"verdict":"VERDICT_ALLOW"}'), { hangUp: false }),
    },
    { name: 'reads nothing and says nothing', does: (socket) => socket.pause(), says: /in time/ },
    { name: 'reads and says nothing', does: (socket) => socket.resume(), says: /did not answer in time/ },
    { name: 'hangs up at once', does: (socket) => socket.destroy(), says: /hung up/ },
    {
      name: 'dies in the middle of its answer',
      does: answering(http('{"verdict":"VERDICT_ALLOW"}').slice(0, -9)),
      says: /hung up/,
    },
    {
      name: 'stops in the middle of its answer',
      does: answering(http('{"verdict":"VERDICT_VETO"}').slice(0, -9), { hangUp: false }),
      says: /in time/,
    },
    {
      name: 'answers by the byte, for ever',
      does: (socket) => void drip(socket, 'HTTP/1.1 200 OK\r\nX: '.padEnd(9000, 'y')),
      says: /in time/,
    },
    { name: 'floods', does: (socket) => flood(socket), says: /too long/ },
    {
      name: 'claims a body of a GiB',
      does: answering('HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n{'),
      says: /hung up/,
    },
    {
      name: 'claims a negative body',
      does: answering('HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}'),
      says: /hung up/,
    },
    { name: 'speaks something else', does: answering('SSH-2.0-OpenSSH_9.2\r\n\r\n'), says: /hung up/ },
    { name: 'answers bytes', does: answering(Buffer.from([0, 255, 13, 10, 13, 10, 0])), says: /hung up/ },
    { name: 'fails', does: answering(http('{"code":13}', 'HTTP/1.1 500 Oops')), says: /refused/ },
    {
      name: 'vetoes with another status',
      does: answering(http('{"verdict":"VERDICT_VETO"}', 'HTTP/1.1 429 No')),
      says: /refused/,
    },
    { name: 'runs into its own deadline', does: answering(http('{}', 'HTTP/1.1 504 Late')), says: /in time/ },
    ...[
      '',
      '{}',
      '[]',
      '"VERDICT_VETO"',
      '{"verdict":"VERDICT_VETO"',
      '{"verdict":"VERDICT_VETO"}}',
      '{"verdict":2}',
      '{"verdict":"veto"}',
      '{"reason":"VERDICT_VETO"}',
      '{"verdict":"VERDICT_VETO","x":{"y":1}}',
      '{"verdict":"VERDICT_VETO\\u00"}',
      '{"verdict":"VERDICT_VETO\\',
      '{"a":"',
      `{"${'k'.repeat(5000)}":"VERDICT_VETO"}`,
    ].map((body) => ({
      name: `answers ${body.slice(0, 40)}`,
      does: answering(http(body)),
      says: /makes no sense/,
    })),
  ];
  for (const { name, does, says } of cases) {
    const hook = installed(await serverThat(t, does));
    const end = await run(hook, 'prepare');
    wentOn(t, end, name);
    if (says !== undefined) t.match(end.err, says, `${name}: one line says so`);
    t.equal(end.err.trim().split('\n').length, 1);
  }
});

t.test('a veto is a veto in prepare alone, and its reason fits a line', async (t) => {
  const reason = `no room\\n\\u0007\\ud83d\\ude00 ${'x'.repeat(5000)}`;
  const hook = installed(
    await serverThat(t, answering(http(`{ "reason" : "${reason}",\n "verdict" : "VERDICT_VETO" }`))),
  );
  const end = await run(hook, 'prepare');
  t.match(end, { code: 1, out: '' });
  t.match(end.err, /^foreshade: alpha may not start: no room \?\?\? x+\n$/);
  t.ok(end.err.length < 1024);
  for (const operation of OPERATIONS.slice(1)) wentOn(t, await run(hook, operation), operation);
});

t.test('no service at all', async (t) => {
  wentOn(t, await run(installed(join(folder, 'nobody.sock')), 'prepare'), 'no socket');
  const file = join(folder, 'a-file');
  writeFileSync(file, '');
  wentOn(t, await run(installed(file), 'prepare'), 'a file in its place');
  const full = await fullSocket(t);
  const end = await run(installed(full), 'prepare');
  wentOn(t, end, 'one whose queue of connections is full');
  t.match(end.err, /takes no connection|did not/);
});

t.test('what libvirt hands over may be anything', async (t) => {
  const hook = installed(await serverThat(t, answering(http('{"verdict":"VERDICT_ALLOW"}'))));
  const endless = new Readable({ read() {} });
  endless.push(domain());
  const end = await run(hook, 'prepare', endless);
  wentOn(t, end, 'a stdin that never ends');
  t.match(end.err, /did not hand over the guest's XML in time/);
  const flooding = new Readable({
    read() {
      this.push('urn:foreshade:request:1 '.repeat(1000));
    },
  });
  const flooded = await run(hook, 'prepare', flooding);
  wentOn(t, flooded, 'a stdin without end');
  t.match(flooded.err, /longer than 1 MiB/);
  wentOn(t, await run(hook, 'prepare', domain().padEnd(1_000_000, ' ')), 'nearly a MiB');
  wentOn(
    t,
    await run(hook, 'prepare', 'urn:foreshade:request:1'.padEnd(1_000_000, '\0')),
    'bytes that take six each as JSON',
  );
  wentOn(t, await run(hook, 'prepare', ''), 'nothing');
});

t.test('where its answer is required, prepare waits longer and no answer is a no', async (t) => {
  const silent = installed(await serverThat(t, (socket) => socket.resume()), { policy: 'require' });
  const end = await run(silent, 'prepare');
  t.equal(end.code, 1);
  t.ok(end.ms >= 550 && end.ms < 600 + SLACK_MS, `${Math.round(end.ms)} ms`);
  t.match(end.err, /did not answer in time; the hook is configured to require its answer/);
  wentOn(t, await run(silent, 'started'), 'started');
  wentOn(t, await run(silent, 'prepare', '<domain/>'), 'a guest that asks for nothing');
  const slow = await serverThat(t, (socket) =>
    socket.once('data', () => void sleep(350).then(() => socket.end(http('{"verdict":"VERDICT_ALLOW"}')))),
  );
  wentOn(
    t,
    await run(installed(slow, { policy: 'require' }), 'prepare'),
    'an answer after 350 ms',
    600 + SLACK_MS,
  );
  wentOn(t, await run(installed(slow), 'prepare'), 'which comes too late where it is not required');
});

t.test('settings that make no sense leave the defaults', async (t) => {
  const hook = installed('/nonexistent');
  const settings = join(hook, '../../foreshade.conf');
  t.match(readFileSync(settings, 'utf8'), /^# Foreshade's libvirt hook/);
  for (const text of [
    '',
    '\0\0',
    'deadline_ms',
    'deadline_ms = -5\npolicy = always\nsocket = x',
    'x'.repeat(100_000),
    `socket = /${'a'.repeat(500)}`,
    'deadline_ms = 99999999999999999999',
    ' \t # \n = \n==',
  ]) {
    writeFileSync(settings, text);
    wentOn(t, await run(hook, 'prepare'), JSON.stringify(text.slice(0, 30)));
  }
});

async function drip(socket: Socket, text: string): Promise<void> {
  for (const byte of text) {
    if (socket.destroyed) return;
    socket.write(byte);
    await sleep(1);
  }
}

function flood(socket: Socket): void {
  const more = (): void => {
    while (!socket.destroyed && socket.write(`X: ${'y'.repeat(8192)}`)) {
      // until the hook hangs up
    }
  };
  socket.on('drain', more);
  more();
}

/** A socket that listens, accepts nobody, and has no place left in its queue. */
async function fullSocket(t: Test): Promise<string> {
  const path = join(folder, 'full.sock');
  const script = `import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(0)
waiting = []
for _ in range(3):
    c = socket.socket(socket.AF_UNIX); c.setblocking(False)
    try: c.connect(sys.argv[1])
    except BlockingIOError: pass
    waiting.append(c)
print("full", flush=True)
time.sleep(60)`;
  const child = spawn('python3', ['-c', script, path], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => child.kill());
  await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.stdout.once('data', resolve);
  });
  return path;
}
