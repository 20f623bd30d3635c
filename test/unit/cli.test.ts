// Goal: the command line keeps its manners: help a person can use, exit codes 0, 1 and 2, one JSON document with --json,
// errors that say what to do.
// Method: runCli in process with captured streams, against a real service over an engine double.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import {
  localTime,
  parseBytes,
  parseDurationMs,
  parseTimeMs,
  size,
} from '../../orchestrator/cli/quantities.ts';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { AllocationRequest } from '../../orchestrator/core/request.ts';
import { type Fixture, startFixture } from '../contract/service-fixture.ts';
import { runCaptured } from '../run-cli.ts';

// Times are printed in local time.
process.env.TZ = 'UTC';

let fixture: Fixture;
t.before(async () => {
  fixture = await startFixture();
});
t.teardown(() => fixture.close());

const run = (
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>> = { FORESHADE_SOCKET: fixture.config.service.socket },
) => runCaptured(args, { env });

const COMMANDS = [
  'serve',
  'status',
  'guest',
  'allocate',
  'run',
  'lease',
  'forecast',
  'shadow',
  'hook',
  'config',
  'doctor',
];

t.test('help', async (t) => {
  t.match((await run(['--help'])).out, /Commands:[\s\S]*Examples:/);
  for (const name of COMMANDS) {
    const { code, out, err } = await run([name, '--help']);
    t.equal(code, 0, name);
    t.equal(err, '');
    t.matchSnapshot(out, `${name} --help`);
  }
  t.equal((await run(['help', 'lease'])).out, (await run(['lease', '--help'])).out);
  t.match(await run(['--version']), { code: 0, out: /^\d+\.\d+\.\d+\n$/ });
});

t.test('wrong usage is 2, said on stderr with where to look', async (t) => {
  for (const args of [
    ['bogus'],
    ['status', '--bogus'],
    ['allocate'],
    ['allocate', 'alpha'],
    ['allocate', 'alpha', '--workload', 'w', '--param', 'x'],
    ['allocate', 'alpha', '--workload', 'w', '--param', 'x=1', '--param', 'x=2'],
    ['allocate', 'alpha', '--workload', 'w', '--param', 'x:size=lots'],
    ['allocate', 'alpha', '--workload', 'w', '--priority', 'urgent'],
    ['allocate', 'alpha', '--workload', 'w', '--ttl', '5'],
    ['guest', 'mode', 'alpha', 'off'],
    ['lease', 'list', '--state', 'GONE'],
  ]) {
    const { code, out, err } = await run(args);
    t.equal(code, 2, args.join(' '));
    t.equal(out, '', 'nothing on stdout');
    t.match(err, /See: foreshade/);
  }
});

t.test('allocate sends what was typed', async (t) => {
  const { code, out } = await run([
    'allocate', 'alpha', '--workload', 'encode', '--tenant', 'acme', '--priority', 'high', '--ttl', '5m', '--duration', '90s',
    '--param', 'rows=2e6', '--param', 'mode=fast', '--param', 'note:text=a = b', '--param', 'in:size=64MiB',
    '--param', 'due:time=2026-01-31T18:00:00Z', '--no-queue', '--validate-only', '--request-id', 'id-1',
  ]); // biome-ignore format: as a person types it
  t.equal(code, 0);
  const request = fixture.engine.calls.findLast(({ method }) => method === 'allocate')
    ?.args[0] as AllocationRequest;
  t.strictSame(request, {
    requestId: 'id-1',
    tenant: 'acme',
    workload: 'encode',
    guest: 'alpha',
    params: {
      rows: { kind: 'number', value: 2e6 },
      mode: { kind: 'category', value: 'fast' },
      note: { kind: 'text', value: 'a = b' },
      in: { kind: 'size', value: 64 * 1024 * 1024 },
      due: { kind: 'time', value: Date.UTC(2026, 0, 31, 18) },
    },
    priority: 'high',
    durationMs: 90_000,
    ttlMs: 300_000,
    noQueue: true,
    validateOnly: true,
  });
  t.match(out, /^lease +lease-id-1$/m);
  t.match(out, /^granted +1\.50 cores on 2 vCPU, 256 MiB$/m);
  const second = await run(['allocate', 'alpha', '--workload', 'encode', '--json']);
  t.match(JSON.parse(second.out).request_id, /^[0-9a-f-]{36}$/, 'a fresh request_id without one');
});

t.test('every command that answers: text for people, one document for programs', async (t) => {
  await run(['allocate', 'alpha', '--workload', 'encode', '--request-id', 'shown', '--param', 'level=9']);
  const CASES: readonly (readonly string[])[] = [
    ['status'],
    ['guest', 'list'],
    ['guest', 'show', 'alpha'],
    ['guest', 'adopt', 'alpha', '--mode', 'advise'],
    ['guest', 'mode', 'alpha', 'enforce'],
    ['guest', 'sampling', 'alpha', '--full', '5s', '--instructions', '1e6'],
    ['guest', 'restore', 'alpha'],
    ['guest', 'release', 'alpha'],
    ['lease', 'list', '--state', 'ACTIVE', '--guest', 'alpha'],
    ['lease', 'show', 'lease-shown'],
    ['lease', 'renew', 'lease-shown', '--ttl', '10s'],
    ['lease', 'explain', 'lease-shown'],
    ['lease', 'release', 'lease-shown', '--failed'],
    ['forecast', 'alpha', '--workload', 'encode', '--param', 'level=9'],
    ['forecast', 'alpha'],
  ];
  for (const args of CASES) {
    const name = args.join(' ');
    const text = await run(args);
    t.equal(text.code, 0, `${name}: ${text.err}`);
    t.equal(text.err, '', `${name}: nothing on stderr`);
    t.matchSnapshot(text.out.replace(/lease-[0-9a-f-]{36}(, )?/g, ''), name);
    const json = await run([...args, '--json']);
    t.equal(json.code, 0);
    const keys = JSON.stringify(JSON.parse(json.out)).match(/"[A-Za-z_0-9]+":/g) ?? [];
    t.strictSame(
      keys.filter((key) => /^"[a-z]+[A-Z]/.test(key) && key !== '"freeCpuMillicores":'),
      [],
      `${name}: snake_case`,
    );
  }
  const watch = await run(['lease', 'watch', 'lease-shown', '--json']);
  t.match(JSON.parse(watch.out), {
    lease_id: 'lease-shown',
    changes: [{ state: 'ACTIVE' }, { state: 'RELEASED' }],
  });
});

t.test(
  'failures are 1: the message, its reason and what to do; with --json still one document',
  async (t) => {
    fixture.engine.fail = new AllocatorError('CAPACITY_EXHAUSTED', 'The host has no room.', {
      guest: 'alpha',
    });
    const args = ['allocate', 'alpha', '--workload', 'w', '--no-queue'];
    const { code, out, err } = await run(args);
    t.equal(code, 1);
    t.equal(out, '');
    t.matchSnapshot(err, 'capacity');
    const json = await run([...args, '--json']);
    t.match(JSON.parse(json.out), {
      error: { reason: 'CAPACITY_EXHAUSTED', retry_after_ms: 5000, metadata: { guest: 'alpha' } },
    });
    fixture.engine.fail = undefined;
    const invalid = await run(['allocate', 'alpha', '--workload', 'w'.repeat(300), '--json']);
    t.match(JSON.parse(invalid.out), {
      error: { reason: 'INVALID_REQUEST', violations: [{ field: 'workload' }] },
    });
    const nobody = await run(['status'], { FORESHADE_SOCKET: '/nonexistent/s' });
    t.equal(nobody.code, 1);
    t.matchSnapshot(nobody.err, 'no server');
    t.equal(
      (await run(['status', '--socket', fixture.config.service.socket], {})).code,
      0,
      '--socket is enough',
    );
  },
);

t.test('config and doctor need no service', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-cli-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'f.toml');
  const defaults = await run(['config', 'default']);
  writeFileSync(file, defaults.out);
  t.match(await run(['config', 'check', file]), { code: 0, out: /no problems/ });
  t.match(JSON.parse((await run(['config', 'print', file])).out), { engine: { tick_ms: 1000 } });
  writeFileSync(file, '[engine]\ntick_ms = 1\n');
  t.match(await run(['config', 'check', file]), { code: 1, err: /engine\.tick_ms: must be a whole number/ });
  t.match(JSON.parse((await run(['config', 'check', file, '--json'])).out), {
    error: { problems: [{ path: 'engine.tick_ms' }] },
  });
  const doctor = await run(['doctor', '--json', '--config', file]);
  t.equal(doctor.code, 1, 'a configuration that is wrong fails');
  for (const check of JSON.parse(doctor.out).checks) {
    t.match(check, { name: String, found: String });
    t.equal(
      check.level === 'ok',
      check.advice === undefined,
      `${check.name}: advice exactly when it is not ok`,
    );
  }
});

t.test('quantities', async (t) => {
  t.strictSame(
    ['500ms', '30s', '1.5m', '2h', '1d'].map(parseDurationMs),
    [500, 30_000, 90_000, 7_200_000, 86_400_000],
  );
  t.strictSame(['4096', '64MiB', '1.5G', '2 KiB'].map(parseBytes), [4096, 67_108_864, 1_610_612_736, 2048]);
  t.equal(parseTimeMs('+30s', 1000), 31_000);
  t.equal(parseTimeMs('1700000000000', 0), 1_700_000_000_000);
  for (const bad of ['', '5', '-1s', '1w']) t.throws(() => parseDurationMs(bad), bad);
  for (const bad of ['', 'x', '1XB', '-5']) t.throws(() => parseBytes(bad), bad);
  t.throws(() => parseTimeMs('tomorrow', 0));
  t.strictSame(
    [0, 1023, 1536, 256 * 1024 ** 2, 20 * 1024 ** 3].map((bytes) => size(bytes)),
    ['0 B', '1,023 B', '1.5 KiB', '256 MiB', '20 GiB'],
  );
  t.equal(localTime(0), '1970-01-01T00:00:00.000+00:00');
});
