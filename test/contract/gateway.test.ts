// Goal: what gRPC answers, HTTP answers in canonical proto JSON, and what HTTP must refuse it refuses with the rule.
// Method: a real server over an engine double. Every unary method of the descriptors is called both ways with the same
// message and the answers are compared as the library's own JSON; then bad bodies, bad headers and the marks of a web page.
import { statSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { create, fromBinary, toBinary, toJson } from '@bufbuild/protobuf';
import { credentials, makeGenericClientConstructor, type ServiceError, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import { Contract } from '../../orchestrator/service/contract.ts';
import { MESSAGE_BYTES_MAX } from '../../orchestrator/service/server.ts';
import { SOCKET_MODE } from '../../orchestrator/service/socket.ts';
import { leaseOf } from './engine-double.ts';
import { type Fixture, startFixture } from './service-fixture.ts';

const ALLOCATE = '/foreshade.v1.AllocationService/Allocate';
const GET_LEASE = '/foreshade.v1.AllocationService/GetLease';
const VALIDATOR = '@seriousme/openapi-schema-validator';
const contract = Contract.load();
const methods = [...contract.registry]
  .filter((desc) => desc.kind === 'service')
  .flatMap((service) =>
    service.methods.map((method) => ({ path: `/${service.typeName}/${method.name}`, method })),
  );
const unary = methods.filter(({ method }) => method.methodKind === 'unary');

interface Answer {
  readonly code: number;
  readonly headers: IncomingHttpHeaders;
  readonly json: Record<string, unknown> & { details?: Record<string, unknown>[]; message?: string };
}

interface Ask {
  readonly method?: string;
  readonly body?: string | Buffer;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

/** One request to a unix socket, or to a port of loopback. */
function ask(to: string | number, path: string, { method = 'POST', body = '{}', headers, signal }: Ask = {}) {
  return new Promise<Answer>((resolve, reject) => {
    const place = typeof to === 'number' ? { host: '127.0.0.1', port: to } : { socketPath: to };
    const type = { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) };
    const request = httpRequest(
      { ...place, path, method, headers: { ...type, ...headers }, ...(signal && { signal }) },
      async (response) => {
        const chunks: Buffer[] = [];
        for await (const chunk of response) chunks.push(chunk as Buffer);
        const text = Buffer.concat(chunks).toString();
        resolve({
          code: response.statusCode ?? 0,
          headers: response.headers,
          json: JSON.parse(text || '{}'),
        });
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

async function fixtureOf(
  t: { teardown(fn: () => unknown): void },
  changes: Parameters<typeof startFixture>[0] = {},
): Promise<Fixture & { readonly http: string }> {
  const fixture = await startFixture(changes);
  t.teardown(() => fixture.close());
  return { ...fixture, http: fixture.config.service.httpSocket ?? '' };
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** The detail of one kind, as JSON. */
function detail({ json }: Answer, kind: string): Record<string, unknown> | undefined {
  return json.details?.find((each) => each['@type'] === `type.googleapis.com/google.rpc.${kind}`);
}

function refused(t: Test, answer: Answer, code: number, rule: RegExp, name: string): void {
  t.equal(answer.code, code, `${name}: ${JSON.stringify(answer.json)}`);
  t.match(answer.json.message, rule, `${name}: the rule is stated`);
  t.match(detail(answer, 'ErrorInfo'), { domain: 'foreshade' }, `${name}: ErrorInfo`);
}

t.test('every unary method answers as gRPC does', async (t) => {
  const f = await fixtureOf(t);
  f.engine.leases.set('l1', leaseOf({ requestId: 'l1', ttlMs: 60_000, params: {} } as never, { id: 'l1' }));
  const sample = {
    guest: 'alpha',
    requestId: 'r1',
    leaseId: 'l1',
    workload: 'encode',
    mode: 3,
    sampling: {},
    sql: 'SELECT 1',
  };
  t.ok(unary.length >= 18, `${unary.length} methods`);
  for (const { path, method } of unary.filter(({ path }) => !/Drain$/.test(path))) {
    const known = Object.entries(sample).filter(([name]) => method.input.field[name] !== undefined);
    const request = create(method.input, Object.fromEntries(known) as never);
    const Raw = makeGenericClientConstructor(
      {
        call: {
          path,
          requestStream: false,
          responseStream: false,
          requestSerialize: (bytes: Buffer) => bytes,
          requestDeserialize: (bytes: Buffer) => bytes,
          responseSerialize: (bytes: Buffer) => bytes,
          responseDeserialize: (bytes: Buffer) => bytes,
        },
      },
      'Raw',
    );
    const client = new Raw(`unix:${f.config.service.socket}`, credentials.createInsecure()) as never as {
      call(bytes: Buffer, done: (error: ServiceError | null, bytes: Buffer) => void): void;
      close(): void;
    };
    const viaGrpc = await new Promise<unknown>((resolve) => {
      client.call(Buffer.from(toBinary(method.input, request)), (error, bytes) =>
        resolve(error ? error.code : toJson(method.output, fromBinary(method.output, bytes))),
      );
    });
    client.close();
    const answer = await ask(f.http, path, { body: JSON.stringify(toJson(method.input, request)) });
    if (typeof viaGrpc === 'number') t.equal(answer.json.code, viaGrpc, `${path}: the same status`);
    else t.strictSame(answer.json, viaGrpc, `${path}: the same answer`);
    t.equal(answer.headers['transfer-encoding'], undefined, `${path}: not in chunks`);
  }
  t.strictSame(f.faults, []);
});

t.test('a request reads snake_case and camelCase, and an answer is canonical', async (t) => {
  const f = await fixtureOf(t);
  const body = JSON.stringify({
    request_id: 'r1',
    guest: 'alpha',
    workload: 'encode',
    params: { input_mib: { number: 64 }, mode: { category: 'fast' }, dump: { sizeBytes: '4096' } },
    priority: 'PRIORITY_HIGH',
    ttlMs: 60000,
  });
  const { code, json, headers } = await ask(f.http, ALLOCATE, { body });
  t.equal(code, 200, JSON.stringify(json));
  t.match(headers, { 'content-type': /^application\/json/, 'content-length': /^\d+$/ });
  t.match(json, { requestId: 'r1', state: 'LEASE_STATE_ACTIVE', ttlMs: '60000', priority: 'PRIORITY_HIGH' });
  t.match(f.engine.calls.findLast(({ method }) => method === 'allocate')?.args[0], {
    requestId: 'r1',
    priority: 'high',
    ttlMs: 60_000,
    params: {
      input_mib: { kind: 'number', value: 64 },
      mode: { kind: 'category', value: 'fast' },
      dump: { kind: 'size', value: 4096 },
    },
  });
});

t.test('an error is google.rpc.Status under its HTTP code, with the pause before a retry', async (t) => {
  const f = await fixtureOf(t);
  f.engine.fail = new AllocatorError('LEASE_NOT_FOUND', 'No lease none.', { leaseId: 'none' });
  const missing = await ask(f.http, GET_LEASE, { body: '{"leaseId":"none"}' });
  t.equal(missing.code, 404);
  t.equal(missing.json.code, status.NOT_FOUND);
  t.match(detail(missing, 'ErrorInfo'), { reason: 'LEASE_NOT_FOUND', domain: 'foreshade' });

  const invalid = await ask(f.http, ALLOCATE, { body: '{"workload":"encode"}' });
  t.equal(invalid.code, 400);
  t.match(detail(invalid, 'BadRequest'), { fieldViolations: [{ field: 'guest' }] });

  f.engine.fail = new AllocatorError('CAPACITY_EXHAUSTED', 'full', { retryAfterMs: 1500 });
  const full = await ask(f.http, ALLOCATE, { body: '{"guest":"a","workload":"w","noQueue":true}' });
  t.equal(full.code, 429);
  t.match(detail(full, 'RetryInfo'), { retryDelay: '1.500s' });
  t.equal(full.headers['retry-after'], '2', 'whole seconds, rounded up');

  f.engine.fail = new Error('a secret');
  const fault = await ask(f.http, GET_LEASE, { body: '{"leaseId":"x"}' });
  t.equal(fault.code, 500);
  t.notMatch(JSON.stringify(fault.json), /secret/);
  t.match(
    f.faults,
    [{ record: { method: 'foreshade.v1.AllocationService/GetLease' } }],
    'the log has the cause',
  );
});

t.test('bodies that are no message are refused, and nothing reaches the engine', async (t) => {
  const f = await fixtureOf(t);
  const cases: readonly [string, string | Buffer, number, RegExp][] = [
    ['an unknown field', '{"guest":"a","workload":"w","gest":"b"}', 400, /key "gest" is unknown/],
    [
      'an unknown field inside',
      '{"guest":"a","workload":"w","params":{"p":{"nmber":1}}}',
      400,
      /"nmber" is unknown/,
    ],
    ['a field given twice', '{"guest":"a","guest":"b","workload":"w"}', 400, /./],
    ['a field under both names', '{"requestId":"a","request_id":"b"}', 400, /set multiple times/],
    ['two kinds of one parameter', '{"params":{"p":{"number":1,"text":"x"}}}', 400, /oneof/],
    ['a wrong type', '{"guest":7}', 400, /guest/],
    ['a fraction for an int64', '{"ttlMs":1.5}', 400, /ttl_ms/],
    ['an int64 beyond 2^63', '{"ttlMs":"9223372036854775808"}', 400, /ttl_ms/],
    [
      'an int64 beyond 2^53',
      '{"guest":"a","workload":"w","ttlMs":"9007199254740993"}',
      400,
      /integers below 2\^53/,
    ],
    ['an unknown enum name', '{"priority":"PRIORITY_URGENT"}', 400, /PRIORITY_URGENT/],
    [
      'NaN where a number must be finite',
      '{"guest":"a","workload":"w","params":{"p":{"number":"NaN"}}}',
      400,
      /finite/,
    ],
    ['a list', '[]', 400, /AllocateRequest/],
    ['null', 'null', 400, /AllocateRequest/],
    ['half a document', '{"guest":', 400, /proto JSON/],
    ['nothing', '', 400, /./],
    ['invalid UTF-8', Buffer.from([0x22, 0xff, 0x22]), 400, /UTF-8/],
    ['depth', '['.repeat(100_000), 400, /./],
    ['a name of the prototype', '{"__proto__":{"guest":"a"}}', 400, /unknown/],
  ];
  for (const [name, body, code, rule] of cases)
    refused(t, await ask(f.http, ALLOCATE, { body }), code, rule, name);
  const large = Buffer.alloc(MESSAGE_BYTES_MAX + 1, 0x20);
  refused(t, await ask(f.http, ALLOCATE, { body: large }), 413, /at most 4194304 bytes/, 'too long a body');
  t.strictSame(
    f.engine.calls.filter(({ method }) => method === 'allocate'),
    [],
  );
  t.strictSame(f.faults, [], 'none of it was a fault of ours');
});

t.test('requests that HTTP itself refuses', async (t) => {
  const f = await fixtureOf(t);
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/grpc',
    'application/jsonp',
  ])
    refused(
      t,
      await ask(f.http, GET_LEASE, { headers: { 'content-type': type } }),
      415,
      /application\/json/,
      type,
    );
  const parameter = { headers: { 'content-type': 'application/json; charset=utf-8' } };
  t.equal((await ask(f.http, GET_LEASE, parameter)).code, 400, 'a charset is no other type');
  const get = await ask(f.http, GET_LEASE, { method: 'GET' });
  refused(t, get, 405, /POST/, 'GET');
  t.equal(get.headers.allow, 'POST');
  refused(
    t,
    await ask(f.http, '/foreshade.v1.AllocationService/Alocate'),
    404,
    /openapi\.json/,
    'no such method',
  );
  for (const { path } of methods.filter(({ method }) => method.methodKind !== 'unary'))
    refused(t, await ask(f.http, path), 501, /gRPC/, path);
  for (const text of ['soon', '1', '5s', '123456789S', '-1S', 'S', '1.5S'])
    refused(t, await ask(f.http, GET_LEASE, { headers: { 'grpc-timeout': text } }), 400, /digits/, text);
});

t.test("the caller's deadline aborts the engine's signal, and passes whatever the engine does", async (t) => {
  const f = await fixtureOf(t);
  const body = '{"guest":"a","workload":"w"}';
  const signals: AbortSignal[] = [];
  f.engine.allocate = (_request, context) => {
    signals.push(context.signal);
    return new Promise(() => {});
  };
  const until = async (holds: () => boolean): Promise<void> => {
    for (let i = 0; i < 500 && !holds(); i += 1) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  const late = await ask(f.http, ALLOCATE, { body, headers: { 'grpc-timeout': '200m' } });
  t.equal(late.code, 504);
  t.match(detail(late, 'ErrorInfo'), { reason: 'DEADLINE_EXCEEDED' });
  t.equal(signals[0]?.aborted, true);

  const hangUp = new AbortController();
  const gone = ask(f.http, ALLOCATE, { body, signal: hangUp.signal });
  await until(() => signals.length === 2);
  t.equal(signals[1]?.aborted, false, 'without the header there is none');
  hangUp.abort();
  await t.rejects(gone);
  await until(() => signals[1]?.aborted === true);
  t.equal(signals[1]?.aborted, true, 'who hangs up cancels');
});

t.test('a drained service answers UNAVAILABLE', async (t) => {
  const f = await fixtureOf(t);
  let finish = (): void => {};
  const begun = new Promise<void>((begin) => {
    f.engine.allocate = async (request) => {
      begin();
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      return leaseOf(request);
    };
  });
  const inFlight = ask(f.http, ALLOCATE, { body: '{"guest":"a","workload":"w"}' });
  await begun;
  const drained = f.service.drain(5000);
  const refusal = await ask(f.http, GET_LEASE, { body: '{"leaseId":"x"}' });
  t.equal(refusal.code, 503);
  t.match(detail(refusal, 'ErrorInfo'), { reason: 'DRAINING' });
  t.ok(Number(refusal.headers['retry-after']) >= 1);
  finish();
  t.equal((await inFlight).code, 200, 'what was in flight is answered');
  await drained;
});

t.test('sockets: beside the gRPC socket with its mode; the port serves calls only when told', async (t) => {
  const beside = await fixtureOf(t, { httpSocket: undefined as never });
  const path = beside.config.service.socket.replace(/\.sock$/, '.http.sock');
  t.equal(statSync(path).mode & 0o777, SOCKET_MODE);
  t.equal((await ask(path, '/healthz', { method: 'GET' })).code, 200);

  const httpPort = await freePort();
  const f = await fixtureOf(t, { httpPort });
  t.equal((await ask(httpPort, '/healthz', { method: 'GET' })).code, 200);
  t.equal((await ask(httpPort, GET_LEASE)).code, 404, 'no calls');
  await f.close();
});

t.test('on TCP what a web page could send is refused', async (t) => {
  const httpPort = await freePort();
  const f = await fixtureOf(t, { httpPort, httpPortApi: true });
  const body = '{"guest":"a","workload":"w"}';
  t.equal((await ask(httpPort, ALLOCATE, { body })).code, 200);
  for (const host of ['localhost', `LOCALHOST:${httpPort}`, '127.0.0.1', '[::1]:80'])
    t.equal((await ask(httpPort, ALLOCATE, { body, headers: { host } })).code, 200, host);
  for (const host of ['evil.example', `evil.example:${httpPort}`, '127.0.0.1.evil.example', 'localhost.'])
    refused(
      t,
      await ask(httpPort, ALLOCATE, { body, headers: { host } }),
      403,
      /Host must be/,
      `Host ${host}`,
    );
  for (const origin of ['http://evil.example', 'null', `http://localhost:${httpPort}`])
    refused(
      t,
      await ask(httpPort, ALLOCATE, { body, headers: { origin } }),
      403,
      /Origin/,
      `Origin ${origin}`,
    );
  const preflight = await ask(httpPort, ALLOCATE, {
    method: 'OPTIONS',
    headers: { origin: 'http://evil.example' },
  });
  t.not(preflight.code, 200);
  t.equal(preflight.headers['access-control-allow-origin'], undefined);
  t.equal(f.engine.calls.filter(({ method }) => method === 'allocate').length, 5);
});

t.test('/openapi.json is valid OpenAPI 3.1 and describes every unary method', async (t) => {
  const f = await fixtureOf(t);
  const { code, json } = await ask(f.http, '/openapi.json', { method: 'GET' });
  t.equal(code, 200);
  const { Validator } = await import(VALIDATOR);
  const { valid, errors } = await new Validator().validate(json as never);
  t.ok(valid, JSON.stringify(errors));
  const document = json as never as {
    paths: Record<string, { post: { description?: string } }>;
    components: { schemas: Record<string, { properties?: Record<string, { description?: string }> }> };
  };
  t.strictSame(Object.keys(document.paths).sort(), unary.map(({ path }) => path).sort());
  t.match(
    document.paths[ALLOCATE]?.post.description,
    /same request_id gives the same lease/,
    "the contract's words",
  );
  t.match(document.components.schemas['foreshade.v1.ParamValue'], { maxProperties: 1 });
  t.match(
    document.components.schemas['foreshade.v1.AllocateRequest']?.properties?.ttlMs?.description,
    /Time to live/,
  );
  const references = [...JSON.stringify(json).matchAll(/"#\/components\/schemas\/([^"]+)"/g)].map(
    ([, name]) => name,
  );
  for (const name of new Set(references))
    t.ok(name && name in document.components.schemas, `${name} is described`);
});
