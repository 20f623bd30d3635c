// Goal: the service keeps the contract of proto/foreshade/v1, whatever the engine answers.
// Method: a real server on a unix socket over an engine double; every RPC, every error code, deadlines, cancellation,
// health, reflection, metrics, socket ownership and drain, through generated clients.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { createRequire } from 'node:module';
import { type AddressInfo, createServer, type Server as NetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import {
  type Client,
  credentials,
  loadPackageDefinition,
  makeClientConstructor,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { service as healthService } from 'grpc-health-check';
import t from 'tap';
import { defaultConfig } from '../../orchestrator/config.ts';
import { AllocatorError, ERROR_CODES } from '../../orchestrator/core/errors.ts';
import { HostTable } from '../../orchestrator/core/host-table.ts';
import type { AllocationRequest } from '../../orchestrator/core/request.ts';
import { ANSWER_MARGIN_MS } from '../../orchestrator/service/caller.ts';
import { Service } from '../../orchestrator/service/server.ts';
import { GRPC_STATUS } from '../../orchestrator/service/status.ts';
import { AdminServiceClient } from '../../proto/gen/foreshade/v1/admin.ts';
import { LeaseState } from '../../proto/gen/foreshade/v1/allocation.ts';
import { Axis, Mode, Track } from '../../proto/gen/foreshade/v1/resources.ts';
import { ReflectionClient } from '../reflection-client.ts';
import { EngineDouble, GUEST_ID, leaseOf } from './engine-double.ts';
import { call, detailsOf, type Fixture, failureOf, startFixture } from './service-fixture.ts';

const MIB = 1024 * 1024;
const ALLOCATE = { requestId: 'r1', guest: 'alpha', workload: 'encode', params: {} };

async function fixtureOf(
  t: { teardown(fn: () => unknown): void },
  changes: Parameters<typeof startFixture>[0] = {},
): Promise<Fixture> {
  const fixture = await startFixture(changes);
  t.teardown(() => fixture.close());
  return fixture;
}

const lastCall = ({ engine }: Fixture, method: string) =>
  engine.calls.findLast((call) => call.method === method);
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 500; i += 1) {
    if (await condition()) return;
    await sleep(10);
  }
  throw new Error('the condition did not come true within 5 s');
}

t.test(
  "AllocationService: every method reaches the engine in its words and answers in the contract's",
  async (t) => {
    const f = await fixtureOf(t);
    const { allocation } = f;

    const startMs = Date.now() + 60_000;
    const lease = await call(allocation, allocation.allocate, {
      ...ALLOCATE,
      tenant: 'acme',
      params: {
        rows: { kind: { $case: 'number', number: 2e6 } },
        mode: { kind: { $case: 'category', category: 'fast' } },
        note: { kind: { $case: 'text', text: 'two words' } },
        input: { kind: { $case: 'sizeBytes', sizeBytes: 64 * MIB } },
        due: { kind: { $case: 'timeMs', timeMs: 1_800_000_000_000 } },
      },
      priority: 3,
      startMs,
      durationMs: 5000,
      ttlMs: 30_000,
      noQueue: true,
      validateOnly: true,
    });
    const expected: AllocationRequest = {
      requestId: 'r1',
      tenant: 'acme',
      workload: 'encode',
      guest: 'alpha',
      params: {
        rows: { kind: 'number', value: 2e6 },
        mode: { kind: 'category', value: 'fast' },
        note: { kind: 'text', value: 'two words' },
        input: { kind: 'size', value: 64 * MIB },
        due: { kind: 'time', value: 1_800_000_000_000 },
      },
      priority: 'high',
      startMs,
      durationMs: 5000,
      ttlMs: 30_000,
      noQueue: true,
      validateOnly: true,
    };
    t.strictSame(lastCall(f, 'allocate')?.args[0], expected, 'the engine sees the request in core words');
    t.match(lease, {
      id: 'lease-r1',
      guest: GUEST_ID,
      state: LeaseState.LEASE_STATE_ACTIVE,
      params: { due: { kind: { $case: 'timeMs', timeMs: 1_800_000_000_000 } } },
      predicted: {
        fields: { cpu_millicores: { q05: 800, q50: 1000, q95: 1400 } },
        durationS: { q50: 2 },
        runs: 14,
      },
      requested: { cpuMillicores: 1500, vcpuCount: 2, memoryBytes: 256 * MIB, netRxBytesPerS: undefined },
      guestSeen: { vcpusOnline: 2 },
      before: { cpuMillicores: 12.5, memoryBytes: 100 * MIB, diskReadBytesPerS: undefined },
      adjustments: [{ resource: 'cpu', residual: 400 }],
      queue: undefined,
    });

    await call(allocation, allocation.allocate, { guest: 'alpha', workload: 'encode', params: {} });
    const defaults = lastCall(f, 'allocate')?.args[0] as AllocationRequest;
    t.match(defaults, { tenant: '', priority: 'normal', ttlMs: 60_000, noQueue: false, validateOnly: false });
    t.match(defaults.requestId, /^[0-9a-f-]{36}$/, 'an empty request_id gets a fresh one');
    t.notOk('startMs' in defaults || 'durationMs' in defaults, 'what is absent stays absent');

    await call(allocation, allocation.renewLease, { leaseId: 'lease-r1', ttlMs: 5000, need: undefined });
    t.strictSame(lastCall(f, 'renew')?.args, ['lease-r1', 5000, undefined]);
    const need = { memoryBytes: 2 ** 30 };
    await call(allocation, allocation.renewLease, { leaseId: 'lease-r1', need });
    t.strictSame(lastCall(f, 'renew')?.args, ['lease-r1', 30_000, need], 'with what its work needs');
    await call(allocation, allocation.renewLease, { leaseId: 'lease-r1', need: undefined });
    t.strictSame(
      lastCall(f, 'renew')?.args,
      ['lease-r1', 30_000, undefined],
      "without ttl_ms the lease's own",
    );

    const released = await call(allocation, allocation.releaseLease, {
      leaseId: 'lease-r1',
      workStartedAtMs: 10,
      workFinishedAtMs: 20,
      workFailed: true,
    });
    t.equal(released.state, LeaseState.LEASE_STATE_RELEASED);
    t.strictSame(lastCall(f, 'release')?.args.slice(0, 2), [
      'lease-r1',
      { succeeded: false, startedAtMs: 10, finishedAtMs: 20 },
    ]);

    t.equal((await call(allocation, allocation.getLease, { leaseId: 'lease-r1' })).id, 'lease-r1');

    const forecast = await call(allocation, allocation.forecast, {
      guest: 'alpha',
      workload: 'encode',
      params: {},
    });
    t.equal(forecast.forecast?.fields.length, 1, 'fields that were never read are absent, not NaN');
    t.match(forecast.forecast?.fields[0], { field: 'cpu_millicores', peak: [100, 200], values: [7, 7] });
    t.equal(forecast.forecast?.levels.length, 12);
    t.equal(forecast.requested?.vcpuCount, 2);
    const course = await call(allocation, allocation.forecast, { guest: 'alpha', params: {} });
    t.equal(course.requested, undefined, 'without a workload nothing would be asked for');
    const cycles = await call(allocation, allocation.forecast, {
      guest: 'alpha',
      params: {},
      axis: Axis.AXIS_INSTRUCTIONS,
      horizon: 1.5,
    });
    t.strictSame(lastCall(f, 'forecast')?.args[1], { axis: 'instructions', track: 'short' });
    t.match(cycles.forecast, { axis: Axis.AXIS_INSTRUCTIONS, knots: [1, 1.5] });
    await call(allocation, allocation.forecast, { guest: 'alpha', params: {}, track: Track.TRACK_LONG });
    t.strictSame(lastCall(f, 'forecast')?.args[1], { axis: 'seconds', track: 'long' });

    const { decisions } = await call(allocation, allocation.explainDecision, { leaseId: 'lease-r1' });
    t.match(decisions, [
      { action: 'admit', rule: 'room-for-quantile', inputs: { freeCpuMillicores: '3000', tenant: 'acme' } },
    ]);

    const states: unknown[] = [];
    for await (const change of allocation.watchLease({ leaseId: 'lease-r1' })) states.push(change.state);
    t.strictSame(states, [LeaseState.LEASE_STATE_ACTIVE, LeaseState.LEASE_STATE_RELEASED]);
  },
);

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

t.test('ListLeases pages, newest first, and goes on past a lease that vanished', async (t) => {
  const f = await fixtureOf(t);
  const { allocation, engine } = f;
  for (let i = 0; i < 5; i += 1) {
    const lease = leaseOf({ ...lastRequest, requestId: `p${i}` }, { requestedAtMs: 1000 + i });
    engine.leases.set(lease.id, lease);
  }
  const list = (pageToken?: string) =>
    call(allocation, allocation.listLeases, { guest: 'alpha', states: [4, 5, 4], pageSize: 2, pageToken });
  const first = await list();
  t.strictSame(
    first.leases.map(({ id }) => id),
    ['lease-p4', 'lease-p3'],
  );
  t.strictSame(lastCall(f, 'listLeases')?.args, [{ guest: 'alpha', states: ['ACTIVE', 'DEGRADED'] }]);
  engine.leases.delete('lease-p3');
  const second = await list(first.nextPageToken);
  t.strictSame(
    second.leases.map(({ id }) => id),
    ['lease-p2', 'lease-p1'],
  );
  const third = await list(second.nextPageToken);
  t.strictSame(
    third.leases.map(({ id }) => id),
    ['lease-p0'],
  );
  t.equal(third.nextPageToken, '');
});

const lastRequest: AllocationRequest = {
  requestId: '',
  tenant: '',
  workload: 'encode',
  guest: 'alpha',
  params: {},
  priority: 'normal',
  ttlMs: 60_000,
  noQueue: false,
  validateOnly: false,
};

t.test('AdminService and ShadowService', async (t) => {
  const f = await fixtureOf(t);
  const { admin, shadow } = f;
  t.match(await call(admin, admin.getStatus, {}), {
    host: 'host-a',
    version: '9.9.9',
    mode: Mode.MODE_ENFORCE,
    hypervisorAvailable: true,
    capacity: { cpuMillicores: 10_500 },
    guests: 2,
    leases: { ACTIVE: 0 },
  });
  t.match((await call(admin, admin.listGuests, {})).guests, [
    { id: GUEST_ID, adoption: { mode: Mode.MODE_ENFORCE } },
  ]);
  t.match(await call(admin, admin.getGuest, { guest: 'alpha' }), {
    capabilities: ['cpu-quota', 'vcpu-plug', 'agent', 'balloon', 'disk-limits'],
    adoption: { relinquished: ['net'], leadTimesMs: { memory: 812 } },
    usage: { cpuMillicores: 500 },
  });
  await call(admin, admin.adoptGuest, { guest: 'alpha' });
  t.strictSame(lastCall(f, 'adopt')?.args, ['alpha', 'shadow'], "without a mode the host's");
  await call(admin, admin.adoptGuest, { guest: 'alpha', mode: Mode.MODE_ADVISE });
  t.strictSame(lastCall(f, 'adopt')?.args, ['alpha', 'advise']);
  t.equal((await call(admin, admin.releaseGuest, { guest: 'alpha' })).adoption, undefined);
  t.ok(await call(admin, admin.restoreGuest, { guest: 'alpha' }));
  await call(admin, admin.setGuestMode, { guest: 'alpha', mode: Mode.MODE_ENFORCE });
  t.strictSame(lastCall(f, 'setMode')?.args, ['alpha', 'enforce']);

  t.match((await call(admin, admin.listAnomalies, { guest: 'alpha' })).anomalies, [
    {
      kind: 'miner',
      guestName: 'alpha',
      leaseId: '',
      severity: 'critical',
      evidence: { cpuMillicores: 990.5 },
      startMs: 1_700_000_000_001,
    },
  ]);
  t.strictSame(lastCall(f, 'listAnomalies')?.args, ['alpha']);

  const stream = shadow.watchGuest({ guest: 'alpha', track: Track.TRACK_LONG });
  stream.on('error', () => {});
  await until(() => lastCall(f, 'watchGuest') !== undefined);
  t.strictSame(lastCall(f, 'watchGuest')?.args.slice(0, 2), ['alpha', 'long']);
  const flags: unknown[] = [];
  for await (const sample of stream) {
    flags.push(...(sample as { flags: string[] }).flags);
    if (flags.length === 3) break;
  }
  stream.cancel();
  t.strictSame(flags, ['gap', 'gap', 'gap']);
  const context = lastCall(f, 'watchGuest')?.args[2] as { signal: AbortSignal };
  await until(() => context.signal.aborted);
  t.pass('a stream that its client left is ended in the engine too');

  t.equal((await call(admin, admin.drain, {})).draining, true);
});

t.test('every error code has its status, exactly one ErrorInfo and the details that fit', async (t) => {
  const f = await fixtureOf(t);
  const { allocation, engine } = f;
  const DETAILS: Partial<Record<status, string[]>> = {
    [status.INVALID_ARGUMENT]: ['BadRequest'],
    [status.FAILED_PRECONDITION]: ['PreconditionFailure'],
    [status.RESOURCE_EXHAUSTED]: ['QuotaFailure', 'RetryInfo'],
    [status.ABORTED]: ['RetryInfo'],
    [status.UNAVAILABLE]: ['RetryInfo'],
  };
  for (const code of ERROR_CODES) {
    engine.fail = new AllocatorError(code, `because of ${code}`, {
      guest: 'alpha',
      field: 'guest',
      rule: 'must exist',
    });
    const error = await failureOf(call(allocation, allocation.getLease, { leaseId: 'x' }));
    t.equal(error.code, GRPC_STATUS[code], code);
    t.equal(error.details, `because of ${code}`);
    const { ErrorInfo, ...others } = detailsOf(error);
    t.match(ErrorInfo, { reason: code, domain: 'foreshade', metadata: { guest: 'alpha' } });
    t.strictSame(Object.keys(others).sort(), DETAILS[GRPC_STATUS[code]] ?? [], `${code}: details`);
  }
  engine.fail = new AllocatorError('QUEUE_FULL', 'full', { tenant: 'acme', retryAfterMs: 1500 });
  const details = detailsOf(await failureOf(call(allocation, allocation.allocate, ALLOCATE)));
  t.match(details, {
    RetryInfo: { retryDelay: { seconds: 1, nanos: 5e8 } },
    QuotaFailure: { violations: [{ subject: 'tenant:acme', description: 'full' }] },
  });
  t.strictSame(f.faults, [], 'expected failures are not logged as faults');
});

t.test('a fault of ours is INTERNAL with an id, logged once under it, and shows no internals', async (t) => {
  const f = await fixtureOf(t);
  f.engine.fail = new TypeError('secret path /etc/shadow');
  const error = await failureOf(call(f.allocation, f.allocation.getLease, { leaseId: 'x' }));
  t.equal(error.code, status.INTERNAL);
  const { metadata } = detailsOf(error).ErrorInfo as { metadata: { errorId: string } };
  t.match(error.details, metadata.errorId);
  t.notMatch(JSON.stringify(error), /secret|shadow'|at /);
  t.equal(f.faults.length, 1);
  t.match(f.faults[0]?.record, {
    errorId: metadata.errorId,
    method: 'foreshade.v1.AllocationService/GetLease',
  });
});

t.test('deadlines and cancellation', async (t) => {
  const f = await fixtureOf(t);
  const { allocation, engine } = f;

  await t.test('Allocate answers with the lease as it stands, shortly before the deadline', async (t) => {
    engine.allocate = async (request, { signal }) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      return leaseOf(request, { state: 'PREPARING' });
    };
    const startedAt = performance.now();
    const lease = await call(allocation, allocation.allocate, ALLOCATE, { deadline: Date.now() + 500 });
    const elapsedMs = performance.now() - startedAt;
    t.equal(lease.state, LeaseState.LEASE_STATE_PREPARING);
    // Not before the margin: an engine is given the time its caller allowed, timers' rounding aside.
    t.ok(elapsedMs > 500 - ANSWER_MARGIN_MS - 20, `answered after ${elapsedMs.toFixed(0)} ms`);
  });

  await t.test(
    'a deadline shorter than twice the margin still leaves half of it to the engine',
    async (t) => {
      const lease = await call(allocation, allocation.allocate, ALLOCATE, { deadline: Date.now() + 80 });
      t.equal(lease.state, LeaseState.LEASE_STATE_PREPARING);
    },
  );

  await t.test('an engine that throws at the abort gives DEADLINE_EXCEEDED, not a fault', async (t) => {
    for (const fail of [
      (signal: AbortSignal) => signal.throwIfAborted(),
      () => {
        throw new DOMException('x', 'AbortError');
      },
    ]) {
      engine.allocate = async (_request, { signal }) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        fail(signal);
        throw new Error('unreachable');
      };
      const error = await failureOf(
        call(allocation, allocation.allocate, ALLOCATE, { deadline: Date.now() + 300 }),
      );
      t.equal(error.code, status.DEADLINE_EXCEEDED);
      t.match(
        detailsOf(error).ErrorInfo,
        { reason: 'DEADLINE_EXCEEDED' },
        "it is our answer, not the client's timer",
      );
    }
    t.strictSame(f.faults, []);
  });

  await t.test('a caller that hangs up aborts the signal', async (t) => {
    let signal: AbortSignal | undefined;
    engine.allocate = async (request, context) => {
      signal = context.signal;
      await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
      return leaseOf(request);
    };
    const pending = allocation.allocate(ALLOCATE, () => {});
    await until(() => signal !== undefined);
    pending.cancel();
    await until(() => signal?.aborted === true);
    t.pass();
  });

  await t.test('a stream that reaches its deadline ends with it, not as if it were complete', async (t) => {
    const stream = f.shadow.watchGuest({ guest: 'alpha' }, { deadline: Date.now() + 200 } as never);
    const error = await failureOf(
      (async () => {
        for await (const _ of stream);
      })(),
    );
    t.equal(error.code, status.DEADLINE_EXCEEDED);
  });
});

t.test(
  'validation at the door: every broken rule is named, all together, and the engine is not called',
  async (t) => {
    const f = await fixtureOf(t);
    const { allocation, admin, engine } = f;
    const number = (value: number) => ({ kind: { $case: 'number' as const, number: value } });
    const cases: readonly [string, object, Record<string, RegExp>][] = [
      [
        'nothing given',
        { guest: '', workload: '' },
        { guest: /1 to 256 characters/, workload: /1 to 256 characters/ },
      ],
      [
        'names too long',
        { guest: 'g'.repeat(257), tenant: 't'.repeat(257), requestId: 'r'.repeat(257) },
        { guest: /256/, tenant: /256/, request_id: /256/ },
      ],
      ['unknown priority', { priority: 99 }, { priority: /PRIORITY_LOW.*got 99/ }],
      [
        'start yesterday',
        { startMs: Date.now() - 86_400_000 },
        { start_ms: /60,000 ms behind and 7 days ahead/ },
      ],
      ['start in a month', { startMs: Date.now() + 30 * 86_400_000 }, { start_ms: /7 days ahead/ }],
      ['no duration', { durationMs: 0 }, { duration_ms: /1 to/ }],
      ['negative duration', { durationMs: -5 }, { duration_ms: /got -5/ }],
      ['ttl too short', { ttlMs: 1999 }, { ttl_ms: /2,000 to 86,400,000 ms; got 1999/ }],
      ['ttl too long', { ttlMs: 86_400_001 }, { ttl_ms: /2,000/ }],
      ['NaN', { params: { x: number(Number.NaN) } }, { 'params["x"]': /finite number; got NaN/ }],
      ['infinite', { params: { x: number(Number.NEGATIVE_INFINITY) } }, { 'params["x"]': /finite/ }],
      ['no kind', { params: { x: { kind: undefined } } }, { 'params["x"]': /one of number, category, text/ }],
      [
        'text too long',
        { params: { x: { kind: { $case: 'text', text: 'x'.repeat(4097) } } } },
        { 'params["x"]': /4,096 characters; got 4,097/ },
      ],
      [
        'empty category',
        { params: { x: { kind: { $case: 'category', category: '' } } } },
        { 'params["x"]': /category of 1 to 256/ },
      ],
      [
        'negative size',
        { params: { x: { kind: { $case: 'sizeBytes', sizeBytes: -1 } } } },
        { 'params["x"]': /0 bytes or more/ },
      ],
      [
        'too many',
        { params: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`p${i}`, number(i)])) },
        { params: /at most 64 entries; got 65/ },
      ],
      ['nameless', { params: { '': number(1) } }, { 'params[""]': /name of 1 to 256/ }],
      [
        '__proto__',
        { params: JSON.parse('{"__proto__":{"kind":{"$case":"number","number":1}}}') },
        { 'params["__proto__"]': /reserved/ },
      ],
      [
        'many at once',
        { guest: '', ttlMs: 1, priority: 9, durationMs: 0 },
        { guest: /./, ttl_ms: /./, priority: /./, duration_ms: /./ },
      ],
    ];
    for (const [name, changes, violations] of cases) {
      const error = await failureOf(
        call(allocation, allocation.allocate, { ...ALLOCATE, ...changes } as never),
      );
      t.equal(error.code, status.INVALID_ARGUMENT, name);
      const { BadRequest } = detailsOf(error) as {
        BadRequest: { fieldViolations: { field: string; description: string }[] };
      };
      const found = Object.fromEntries(
        BadRequest.fieldViolations.map(({ field, description }) => [field, description]),
      );
      t.strictSame(Object.keys(found).sort(), Object.keys(violations).sort(), `${name}: fields`);
      t.match(found, violations, `${name}: rules`);
    }
    const others = [
      call(allocation, allocation.getLease, {}),
      call(allocation, allocation.renewLease, { leaseId: 'x', ttlMs: 1, need: undefined }),
      call(allocation, allocation.releaseLease, { leaseId: 'x', workStartedAtMs: 5, workFinishedAtMs: 4 }),
      call(allocation, allocation.listLeases, { states: [77 as never], pageSize: 1001, pageToken: '!!' }),
      call(allocation, allocation.forecast, { guest: '', params: {} }),
      call(allocation, allocation.forecast, { guest: 'alpha', params: {}, track: 9 as never }),
      call(admin, admin.getGuest, { guest: '' }),
      call(admin, admin.setGuestMode, { guest: 'alpha' }),
      call(admin, admin.adoptGuest, { guest: 'alpha', mode: 9 as never }),
    ];
    for (const other of others) t.equal((await failureOf(other)).code, status.INVALID_ARGUMENT);
    t.strictSame(
      engine.calls.filter(({ method }) => method !== 'status'),
      [],
    );
  },
);

t.test('a repeated request_id reaches the engine each time, which answers with the same lease', async (t) => {
  const f = await fixtureOf(t);
  const [first, second] = [
    await call(f.allocation, f.allocation.allocate, ALLOCATE),
    await call(f.allocation, f.allocation.allocate, ALLOCATE),
  ];
  t.strictSame(first, second);
  t.equal(f.engine.calls.filter(({ method }) => method === 'allocate').length, 2);
});

t.test(
  'health: the whole server and each service; allocation needs a hypervisor; drain ends all',
  async (t) => {
    const f = await fixtureOf(t);
    const HealthClient = makeClientConstructor(healthService as never, 'health');
    const client = new HealthClient(`unix:${f.config.service.socket}`, credentials.createInsecure());
    t.teardown(() => client.close());
    const check = async (service: string): Promise<unknown> => {
      const answer = (await call(client, client.check as never, { service })) as { status: string };
      return answer.status;
    };
    t.equal(await check(''), 'SERVING');
    t.equal(await check('foreshade.v1.AllocationService'), 'SERVING');
    f.engine.hypervisorAvailable = false;
    await until(async () => (await check('foreshade.v1.AllocationService')) === 'NOT_SERVING');
    t.equal(await check('foreshade.v1.AdminService'), 'SERVING');
    t.equal(await check(''), 'SERVING');
    t.equal((await failureOf(check('nobody') as Promise<unknown>)).code, status.NOT_FOUND);
    await call(f.admin, f.admin.drain, {});
    for (const name of ['', 'foreshade.v1.AllocationService', 'foreshade.v1.ShadowService']) {
      t.equal(await check(name), 'NOT_SERVING', name);
    }
  },
);

interface ReflectionAnswer {
  readonly listServicesResponse: { readonly service: { readonly name: string }[] };
  readonly fileDescriptorResponse: { readonly fileDescriptorProto: Buffer[] };
}

t.test('reflection lists the services and describes them with everything they refer to', async (t) => {
  const f = await fixtureOf(t);
  const folder = dirname(createRequire(import.meta.url).resolve('@grpc/reflection/package.json'));
  for (const version of ['v1', 'v1alpha']) {
    const file = join(folder, `build/proto/grpc/reflection/${version}/reflection.proto`);
    const loaded = loadPackageDefinition(loadSync(file, { longs: String, oneofs: true })) as never as {
      grpc: { reflection: Record<string, { ServerReflection: new (...args: unknown[]) => Client }> };
    };
    const Reflection = loaded.grpc.reflection[version]?.ServerReflection;
    if (!Reflection) throw new Error(`no reflection ${version}`);
    const client = new Reflection(`unix:${f.config.service.socket}`, credentials.createInsecure());
    t.teardown(() => client.close());
    const ask = (request: object): Promise<ReflectionAnswer> =>
      new Promise((resolve, reject) => {
        const stream = (client as never as { ServerReflectionInfo(): Duplex }).ServerReflectionInfo();
        stream.on('data', (answer: ReflectionAnswer) => {
          stream.end();
          resolve(answer);
        });
        stream.on('error', reject);
        stream.write(request);
      });
    const { listServicesResponse } = await ask({ listServices: '*' });
    t.strictSame(listServicesResponse.service.map(({ name }) => name).sort(), [
      'foreshade.v1.AdminService',
      'foreshade.v1.AllocationService',
      'foreshade.v1.PlacementService',
      'foreshade.v1.ShadowService',
    ]);
    for (const symbol of [
      'foreshade.v1.AllocationService',
      'foreshade.v1.Lease',
      'foreshade.v1.AdminService.AdoptGuest',
    ]) {
      const { fileDescriptorResponse } = await ask({ fileContainingSymbol: symbol });
      const text = Buffer.concat(fileDescriptorResponse.fileDescriptorProto).toString('latin1');
      t.match(text, /ResourceProfile/, `${version} ${symbol}: the types it refers to are included`);
    }
  }
});

t.test('a client that knows nothing but reflection can call', async (t) => {
  const f = await fixtureOf(t);
  const address = `unix:${f.config.service.socket}`;
  const allocation = await ReflectionClient.of(address, 'foreshade.v1.AllocationService');
  const request = { guest: 'alpha', workload: 'w', params: { rows: { number: 7 } }, ttlMs: '5000' };
  const lease = await allocation.call('foreshade.v1.AllocationService', 'Allocate', request);
  t.match(lease, { params: { rows: { number: 7 } }, requested: { vcpuCount: 2 }, ttlMs: '5000' });
  t.match(lastCall(f, 'allocate')?.args[0], { params: { rows: { kind: 'number', value: 7 } }, ttlMs: 5000 });
  for (const service of ['Admin', 'Placement', 'Shadow'])
    await ReflectionClient.of(address, `foreshade.v1.${service}Service`);
});

t.test('HTTP: metrics parse and count; health follows the engine', async (t) => {
  const f = await fixtureOf(t);
  const get = (path: string): Promise<{ code: number | undefined; body: string }> =>
    new Promise((resolve, reject) => {
      httpRequest({ socketPath: f.config.service.httpSocket, path }, (response) => {
        let body = '';
        response.on('data', (chunk) => {
          body += chunk;
        });
        response.on('end', () => resolve({ code: response.statusCode, body }));
      })
        .on('error', reject)
        .end();
    });
  await call(f.allocation, f.allocation.allocate, ALLOCATE);
  await failureOf(call(f.allocation, f.allocation.allocate, { ...ALLOCATE, guest: '' }));
  const { code, body } = await get('/metrics');
  t.equal(code, 200);
  // prom-client writes Nan, of event-loop lags it has none of; Prometheus reads it in any case.
  const line =
    /^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_]\w*="(\\.|[^"\\])*",?)*\})? (N[aA][nN]|[+-]?Inf|[-+0-9.eE]+)$/;
  const samples = body.split('\n').filter((text) => text !== '' && !text.startsWith('#'));
  t.strictSame(
    samples.filter((text) => !line.test(text)),
    [],
    'every line is a sample of the text format',
  );
  for (const expected of [
    'foreshade_rpc_started_total{method="foreshade.v1.AllocationService/Allocate"} 2',
    'foreshade_rpc_handled_total{method="foreshade.v1.AllocationService/Allocate",code="OK"} 1',
    'foreshade_rpc_handled_total{method="foreshade.v1.AllocationService/Allocate",code="INVALID_ARGUMENT"} 1',
    'foreshade_rpc_duration_seconds_count{method="foreshade.v1.AllocationService/Allocate"} 2',
    'foreshade_leases{state="ACTIVE"} 1',
    'foreshade_capacity_cpu_cores 10.5',
    'foreshade_hypervisor_available 1',
  ]) {
    t.ok(samples.includes(expected), expected);
  }
  t.match(body, /^nodejs_eventloop_lag_seconds /m);
  t.strictSame(await get('/readyz'), { code: 200, body: '{"status":"ready"}' });
  f.engine.fail = new AllocatorError('HYPERVISOR_UNAVAILABLE', 'gone');
  t.notMatch(
    (await get('/metrics')).body,
    /^foreshade_capacity_cpu_cores /m,
    'what is not known is absent, not zero',
  );
  await until(async () => (await get('/readyz')).code === 503);
  t.equal((await get('/healthz')).code, 200);
});

t.test('the socket: mode, stale, taken, not a socket; TCP on loopback', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-socket-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const socket = join(folder, 's');
  const port = await freePort();
  const start = () => {
    const base = defaultConfig();
    const config = { ...base, service: { ...base.service, socket, tcp: `127.0.0.1:${port}` } };
    const logger = { info: () => {}, warn: () => {}, error: () => {} };
    const hosts = new HostTable({ nowMs: () => 0, monotonicMs: () => 0 });
    return Service.start({ engine: new EngineDouble(), hosts, config, version: '0', logger });
  };
  // A stale socket: bound by a server that is gone. Node removes its own, so the file is kept by hand.
  const stale = await new Promise<NetServer>((resolve) => {
    const server = createServer().listen(socket, () => resolve(server));
  });
  const first = await failureOf(start());
  t.match(first, { code: 'STATE_CONFLICT', message: /Another server is listening/ });
  await new Promise((resolve) => stale.close(resolve));
  const program = `require('net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', program]);
  t.ok(statSync(socket).isSocket(), 'a stale socket is there');
  const service = await start();
  t.equal(statSync(socket).mode & 0o777, 0o660);
  t.match(await failureOf(start()), { code: 'STATE_CONFLICT' });
  const client = new AdminServiceClient(`unix:${socket}`, credentials.createInsecure());
  t.equal(
    (await call(client, client.getStatus, {})).host,
    'host-a',
    'a refused second server left the first alone',
  );
  client.close();
  const tcp = new AdminServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
  t.equal((await call(tcp, tcp.getStatus, {})).host, 'host-a', 'loopback TCP answers too');
  tcp.close();
  await service.stop();
  t.notOk(statSync(socket, { throwIfNoEntry: false }), 'the socket goes with its server');
  writeFileSync(socket, '');
  chmodSync(socket, 0o600);
  t.match(await failureOf(start()), { code: 'STATE_CONFLICT', message: /not a socket/ });
});

t.test('drain refuses new calls, ends streams, finishes what is in flight, then closes', async (t) => {
  const f = await fixtureOf(t);
  let finish: (() => void) | undefined;
  f.engine.allocate = async (request) => {
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
    return leaseOf(request);
  };
  const inFlight = call(f.allocation, f.allocation.allocate, ALLOCATE);
  const watched = failureOf(
    (async () => {
      for await (const _ of f.shadow.watchGuest({ guest: 'alpha' }));
    })(),
  );
  await until(() => finish !== undefined && lastCall(f, 'watchGuest') !== undefined);
  const drained = f.service.drain(5000);
  const refused = await failureOf(call(f.allocation, f.allocation.getLease, { leaseId: 'x' }));
  t.equal(refused.code, status.UNAVAILABLE);
  t.match(detailsOf(refused).ErrorInfo, { reason: 'DRAINING' });
  const ended = await watched;
  t.match(detailsOf(ended).ErrorInfo, { reason: 'DRAINING' });
  finish?.();
  t.equal((await inFlight).id, 'lease-r1', 'a call in flight gets its answer');
  await drained;
  const gone = await failureOf(
    call(f.allocation, f.allocation.getLease, { leaseId: 'x' }, { deadline: Date.now() + 1000 }),
  );
  t.ok([status.UNAVAILABLE, status.DEADLINE_EXCEEDED].includes(gone.code));
});

t.test(
  'drain gives up on calls that do not end in time, and lets them answer with what they have',
  async (t) => {
    const f = await fixtureOf(t);
    let entered = 0;
    f.engine.allocate = async (request, { signal }) => {
      entered += 1;
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      return request.requestId === 'deaf' ? new Promise(() => {}) : leaseOf(request, { state: 'PREPARING' });
    };
    const willing = call(f.allocation, f.allocation.allocate, ALLOCATE);
    const deaf = failureOf(call(f.allocation, f.allocation.allocate, { ...ALLOCATE, requestId: 'deaf' }));
    await until(() => entered === 2);
    const startedAt = performance.now();
    await f.service.drain(100);
    t.ok(performance.now() - startedAt < 2000, 'a deaf call does not hold the service');
    t.equal((await willing).state, LeaseState.LEASE_STATE_PREPARING);
    t.equal((await deaf).code, status.CANCELLED);
  },
);
