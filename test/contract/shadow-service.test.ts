// Goal: ShadowService takes in what clients saw, whole and durable, and answers questions about all that was recorded.
// Method: a real server and a real store in a folder of its own, through the generated client; rows are read back by a question.
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { tableFromIPC } from 'apache-arrow';
import t from 'tap';
import type { LogDisk } from '../../orchestrator/store/log-writer.ts';
import type { Point } from '../../proto/gen/foreshade/v1/shadow.ts';
import { runCaptured } from '../run-cli.ts';
import { newFolder, newStore } from '../unit/store-fixture.ts';
import { GUEST_ID } from './engine-double.ts';
import { call, detailsOf, type Fixture, failureOf, startFixture } from './service-fixture.ts';

const AT_MS = Date.UTC(2026, 0, 31, 12);

function point(more: Partial<Point> = {}): Point {
  return {
    guest: 'alpha',
    atMs: AT_MS,
    params: {},
    instructions: {},
    usage: { cpuMillicores: 700 },
    ...more,
  };
}

async function fixtureOf(
  t: { teardown(work: () => unknown): unknown },
  options: Parameters<typeof newStore>[1] = {},
): Promise<Fixture> {
  const fixture = await startFixture({}, newStore(t, options));
  t.teardown(() => fixture.close());
  return fixture;
}

/** Rows of the answer to `sql`, as the client reads them. */
async function rowsOf({ shadow }: Fixture, sql: string): Promise<Record<string, unknown>[]> {
  const pieces: Uint8Array[] = [];
  for await (const { arrow } of shadow.query({ sql })) pieces.push(arrow);
  return tableFromIPC(Buffer.concat(pieces))
    .toArray()
    .map((row: { toJSON(): Record<string, unknown> }) => row.toJSON());
}

t.test('what a client saw is recorded, found by its input, and marked as a claim', async (t) => {
  const f = await fixtureOf(t);
  const points = [
    point({
      requestId: 'r1',
      tenant: 'acme',
      workload: 'encode',
      periodMs: 1000,
      params: { rows: { kind: { $case: 'number', number: 2e6 } } },
      instructions: { branch: 40, other: 60 },
    }),
    point({ atMs: AT_MS + 1000, usage: { memoryBytes: 0 } }),
  ];
  t.match(await call(f.shadow, f.shadow.record, { points }), { recorded: 2 });
  const rows = await rowsOf(
    f,
    `SELECT guest, host, tenant, workload, cpu_millicores, memory_bytes, instructions_branch, flags
     FROM shadow ORDER BY time`,
  );
  t.match(rows[0], {
    guest: GUEST_ID,
    host: 'host-a',
    tenant: 'acme',
    workload: 'encode',
    cpu_millicores: 700,
    memory_bytes: null,
    instructions_branch: 40,
  });
  t.match(String(rows[0]?.flags), 'reported');
  t.match(rows[1], { tenant: null, cpu_millicores: null, memory_bytes: 0 }, 'zero was read, absent was not');
  t.match(await rowsOf(f, "SELECT request_id FROM inputs WHERE name = 'rows' AND number = 2e6"), [
    { request_id: 'r1' },
  ]);
});

t.test('a tenant is erased while the service runs, over the call and from the command line', async (t) => {
  const directory = newFolder(t);
  const f = await fixtureOf(t, { directory });
  const points = ['acme', 'other', 'third'].map((tenant, i) => point({ tenant, atMs: AT_MS + i }));
  await call(f.shadow, f.shadow.record, { points });
  await call(f.shadow, f.shadow.eraseTenant, { tenant: 'acme' });
  t.match(await rowsOf(f, 'SELECT tenant FROM shadow ORDER BY time'), [
    { tenant: 'other' },
    { tenant: 'third' },
  ]);
  const erase = (tenant: string, store: string) => {
    const env = { FORESHADE_SOCKET: f.config.service.socket, FORESHADE_STORE: store };
    return runCaptured(['shadow', 'erase', tenant, '--yes'], { env });
  };
  t.match(await erase('other', directory), { code: 0, out: 'Erased: other\n' });
  t.match(await rowsOf(f, 'SELECT tenant FROM shadow'), [{ tenant: 'third' }]);
  const elsewhere = newStore(t);
  t.match(await erase('third', elsewhere.directory), { code: 1 }, "another's store is not the service's");
  t.match(
    await erase('third', join(directory, 'nowhere')),
    { code: 1 },
    'a store that is not there is not made',
  );
  t.match(await rowsOf(f, 'SELECT tenant FROM shadow'), [{ tenant: 'third' }]);
  t.match(await failureOf(call(f.shadow, f.shadow.eraseTenant, {})), { code: status.INVALID_ARGUMENT });
});

t.test('the input of a request is kept once, whoever brings it', async (t) => {
  const store = newStore(t);
  const f = await startFixture({}, store);
  t.teardown(() => f.close());
  const params = { rows: { kind: { $case: 'number' as const, number: 7 } } };
  const requestId = 'r1';
  store.recordInputs({
    atMs: AT_MS,
    requestId,
    guest: GUEST_ID,
    host: 'host-a',
    params: { rows: { kind: 'number', value: 7 } },
  });
  const points = [point({ requestId, params }), point({ requestId, params, atMs: AT_MS + 1 })];
  await call(f.shadow, f.shadow.record, { points });
  t.equal((await rowsOf(f, 'FROM inputs')).length, 1);
});

t.test('what is wrong with points is named, point by point, and none is taken', async (t) => {
  const f = await fixtureOf(t);
  const points = [
    point(),
    point({ atMs: Date.now() + 2 * 86_400_000 }),
    point({ guest: '', periodMs: -1 }),
    point({ usage: { cpuMillicores: Number.NaN, vcpuCount: 2 } }),
    point({ instructions: { magic: 1 } }),
    point({ params: { rows: { kind: { $case: 'number', number: 1 } } } }),
  ];
  const error = await failureOf(call(f.shadow, f.shadow.record, { points }));
  t.equal(error.code, status.INVALID_ARGUMENT);
  const { BadRequest } = detailsOf(error) as { BadRequest: { fieldViolations: { field: string }[] } };
  t.strictSame(
    BadRequest.fieldViolations.map(({ field }) => field),
    [
      'points[1].at_ms',
      'points[2].period_ms',
      'points[2].guest',
      'points[3].usage.vcpu_count',
      'points[3].usage.cpu_millicores',
      'points[4].instructions',
      'points[5].request_id',
    ],
  );
  t.match(await failureOf(call(f.shadow, f.shadow.record, { points: [] })), {
    code: status.INVALID_ARGUMENT,
  });
  t.strictSame(await rowsOf(f, 'FROM shadow'), []);
});

t.test('questions: refused ones say why, streams end with their client', async (t) => {
  const f = await fixtureOf(t, {
    limits: { threads: 1, memoryBytes: 64 * 1024 * 1024, spillBytes: 1024 * 1024 },
  });
  const refusal = async (sql: string) => failureOf(rowsOf(f, sql));
  t.match(await refusal(''), { code: status.INVALID_ARGUMENT });
  t.match(await refusal('SELEC 1'), { code: status.INVALID_ARGUMENT, message: /syntax/i });
  const copy = join(newFolder(t), 'copy.csv');
  t.match(await refusal(`COPY shadow TO '${copy}'`), { code: status.INVALID_ARGUMENT });
  const large = await refusal('SELECT count(DISTINCT hash(range) || range) FROM range(100000000)');
  t.equal(large.code, status.RESOURCE_EXHAUSTED, large.message);
  t.match(detailsOf(large), { ErrorInfo: { reason: 'QUERY_TOO_LARGE' } });
  const stream = f.shadow.query({ sql: 'SELECT * FROM range(100000000)' });
  stream.on('error', () => {});
  for await (const _ of stream) break;
  stream.cancel();
  t.match(await rowsOf(f, 'SELECT 1 AS one'), [{ one: 1 }], 'the next question is answered');
});

t.test('a disk that takes nothing: the call ends with its deadline, the rows wait', async (t) => {
  let isFull = true;
  const disk: LogDisk = {
    async write(file, bytes, offset) {
      if (isFull) throw new Error('ENOSPC: no space left on device');
      await file.write(bytes, 0, bytes.byteLength, offset);
    },
    sync: (file) => file.datasync(),
  };
  const f = await fixtureOf(t, { disk });
  const late = call(f.shadow, f.shadow.record, { points: [point()] }, { deadline: Date.now() + 500 });
  t.match(await failureOf(late), { code: status.DEADLINE_EXCEEDED });
  t.match((await call(f.admin, f.admin.getStatus, {})).record, {
    state: 'stalled',
    reason: 'ENOSPC: no space left on device',
    rowsWritten: 0,
    rowsAccepted: 1,
  });
  t.match(
    await failureOf(call(f.shadow, f.shadow.eraseTenant, { tenant: 'acme' })),
    { code: status.UNAVAILABLE },
    'rows that wait would come after the erasure',
  );
  isFull = false;
  t.match(await call(f.shadow, f.shadow.record, { points: [point({ atMs: AT_MS + 1 })] }), { recorded: 1 });
  t.equal((await rowsOf(f, 'FROM shadow')).length, 2, 'both are there now');
});

t.test('a service without a record says so', async (t) => {
  const f = await startFixture();
  t.teardown(() => f.close());
  t.equal((await call(f.admin, f.admin.getStatus, {})).record, undefined);
  t.match(await failureOf(rowsOf(f, 'SELECT 1')), { code: status.FAILED_PRECONDITION, message: /no record/ });
});
