// Goal: no input of a client breaks the service: each gets a precise error or a closed connection, the engine sees nothing
// of it, and the next good call is answered.
// Method: a real server on a unix socket; hostile messages through the generated client, hostile bytes through a raw
// socket; after each one a good call. Random bytes come from a printed seed.
import { connect, type Socket } from 'node:net';
import {
  type Client,
  credentials,
  Metadata,
  makeGenericClientConstructor,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import t from 'tap';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { AllocationRequest } from '../../orchestrator/core/request.ts';
import { MESSAGE_BYTES_MAX } from '../../orchestrator/service/server.ts';
import { AllocationServiceClient } from '../../proto/gen/foreshade/v1/allocation.ts';
import { call, detailsOf, type Fixture, failureOf, startFixture } from '../contract/service-fixture.ts';
import { randomFrom } from '../random.ts';

const SEED = Number(process.env.FORESHADE_SEED ?? Date.now() % 1_000_000);
const MIB = 1024 * 1024;
/** Client connection preface of HTTP/2 (RFC 9113, section 3.4) and an empty SETTINGS frame. */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);

t.comment(`seed ${SEED}`);

const random = randomFrom(SEED);
const garbage = (bytes: number): Buffer =>
  Buffer.from(Array.from({ length: bytes }, () => Math.floor(random() * 256)));
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

let fixture: Fixture;
let good = 0;

/** A call that must succeed whatever came before it. */
async function isAlive(): Promise<boolean> {
  good += 1;
  const { allocation } = fixture;
  const request = { requestId: `good-${good}`, guest: 'alpha', workload: 'encode', params: {} };
  return (
    (await call(allocation, allocation.allocate, request, { deadline: Date.now() + 5000 })).id ===
    `lease-good-${good}`
  );
}

/** Calls that reached the engine, the good ones aside. */
const engineCalls = (): number =>
  fixture.engine.calls.filter(
    ({ method, args: [request] }) =>
      method === 'allocate' && !(request as AllocationRequest).requestId.startsWith('good-'),
  ).length;

t.before(async () => {
  fixture = await startFixture();
});
t.teardown(() => fixture.close());

t.test('hostile messages get INVALID_ARGUMENT with the field and the rule', async (t) => {
  const { allocation } = fixture;
  const base = { requestId: 'bad', guest: 'alpha', workload: 'encode', params: {} };
  const huge = 'x'.repeat(MIB);
  const number = (value: number) => ({ kind: { $case: 'number', number: value } });
  const cases: readonly [string, object, string][] = [
    ['1 MiB guest', { guest: huge }, 'guest'],
    ['1 MiB tenant', { tenant: huge }, 'tenant'],
    ['1 MiB workload', { workload: huge }, 'workload'],
    ['1 MiB request_id', { requestId: huge }, 'request_id'],
    ['1 MiB text', { params: { t: { kind: { $case: 'text', text: huge } } } }, 'params["t"]'],
    ['1 MiB category', { params: { t: { kind: { $case: 'category', category: huge } } } }, 'params["t"]'],
    ['1 MiB parameter name', { params: { [huge]: number(1) } }, `params["${'x'.repeat(64)}"…]`],
    [
      '10,000 parameters',
      { params: Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`p${i}`, number(i)])) },
      'params',
    ],
    [
      '64 bad parameters',
      { params: Object.fromEntries(Array.from({ length: 64 }, (_, i) => [`p${i}`, number(Number.NaN)])) },
      'params["p0"]',
    ],
    ['NaN', { params: { x: number(Number.NaN) } }, 'params["x"]'],
    ['wrong enum', { priority: 2 ** 31 - 1 }, 'priority'],
    ['negative enum', { priority: -7 }, 'priority'],
    ['absurd start', { startMs: Number.MAX_SAFE_INTEGER }, 'start_ms'],
    ['absurd ttl', { ttlMs: Number.MIN_SAFE_INTEGER }, 'ttl_ms'],
    ['empty workload', { workload: '' }, 'workload'],
  ];
  for (const [name, changes, field] of cases) {
    const before = engineCalls();
    const error = await failureOf(call(allocation, allocation.allocate, { ...base, ...changes } as never));
    t.equal(error.code, status.INVALID_ARGUMENT, name);
    t.ok(error.details.length <= 512, `${name}: the message is bounded`);
    const { BadRequest } = detailsOf(error) as { BadRequest: { fieldViolations: { field: string }[] } };
    t.equal(BadRequest.fieldViolations[0]?.field, field, `${name}: field`);
    t.ok(BadRequest.fieldViolations.length <= 10, `${name}: violations are bounded`);
    t.equal(engineCalls(), before, `${name}: nothing reached the engine`);
  }
  t.ok(await isAlive());
});

t.test("an unknown guest is the engine's answer, passed on", async (t) => {
  const { allocation, engine } = fixture;
  const allocate = engine.allocate;
  engine.allocate = async () => {
    throw new AllocatorError('GUEST_NOT_FOUND', 'No guest of this host is called nobody.', {
      guest: 'nobody',
    });
  };
  const error = await failureOf(
    call(allocation, allocation.allocate, { guest: 'nobody', workload: 'w', params: {} }),
  );
  engine.allocate = allocate;
  t.equal(error.code, status.NOT_FOUND);
  t.match(detailsOf(error).ErrorInfo, { reason: 'GUEST_NOT_FOUND', metadata: { guest: 'nobody' } });
});

t.test(
  'messages above the bound are RESOURCE_EXHAUSTED; bytes that are no message INVALID_ARGUMENT',
  async (t) => {
    const Raw = makeGenericClientConstructor(
      {
        allocate: {
          path: '/foreshade.v1.AllocationService/Allocate',
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
    const client: Client = new Raw(`unix:${fixture.config.service.socket}`, credentials.createInsecure());
    t.teardown(() => client.close());
    const send = (bytes: Buffer): Promise<ServiceError> =>
      failureOf(call(client, (client as never as { allocate: never }).allocate, bytes));

    t.equal((await send(Buffer.alloc(MESSAGE_BYTES_MAX + 1))).code, status.RESOURCE_EXHAUSTED);
    const cases: readonly [string, Buffer][] = [
      ['a length beyond the end', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0x7f])],
      ['an unfinished varint', Buffer.from([0x30, 0xff])],
      ['a ttl of 2^62', Buffer.from([0x48, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40])],
      ['invalid UTF-8', Buffer.from([0x22, 0x02, 0xff, 0xfe])],
      ['an invalid wire type', Buffer.from([0x0f])],
      ['a field number of 0', Buffer.from([0x02, 0x00])],
    ];
    for (const [name, bytes] of cases) {
      const error = await send(bytes);
      t.equal(error.code, status.INVALID_ARGUMENT, `${name}: ${error.details}`);
      t.match(detailsOf(error).ErrorInfo, { reason: 'INVALID_REQUEST' });
    }
    const before = engineCalls();
    for (let i = 0; i < 300; i += 1) {
      const error = await send(garbage(1 + Math.floor(random() * 64)));
      if (error.code !== status.INVALID_ARGUMENT) t.fail(`seed ${SEED}, message ${i}: ${error.message}`);
    }
    t.equal(engineCalls(), before, 'no garbage reached the engine');
    t.strictSame(fixture.faults, [], 'and none of it was a fault of ours');
    t.ok(await isAlive());
  },
);

/** A raw connection that has written `bytes`. */
function rawConnection(bytes: Buffer): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect(fixture.config.service.socket);
    socket.on('error', () => {});
    socket.on('data', () => {});
    socket.once('connect', () => socket.write(bytes, () => resolve(socket)));
  });
}

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** HPACK literal without indexing and without Huffman coding (RFC 7541, section 6.2.2); lengths below 127. */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
}

const callHeaders = Buffer.concat([
  literal(':method', 'POST'),
  literal(':scheme', 'http'),
  literal(':path', '/foreshade.v1.AllocationService/Allocate'),
  literal(':authority', 'x'),
  literal('content-type', 'application/grpc'),
  literal('te', 'trailers'),
]);
const END_HEADERS = 4;
const giantHeaders = Buffer.concat([
  callHeaders,
  ...Array.from({ length: 140 }, (_, i) => literal(`h${i}`, 'v'.repeat(120))),
]);

t.test('hostile bytes on the socket leave the service alive', async (t) => {
  const opening = Buffer.concat([PREFACE, SETTINGS]);
  const cases: readonly [string, Buffer][] = [
    ['garbage', garbage(4096)],
    ['an HTTP/1 request', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['half a preface', PREFACE.subarray(0, 10)],
    ['a preface, then garbage', Buffer.concat([opening, garbage(4096)])],
    ['a truncated frame', Buffer.concat([opening, frame(1, END_HEADERS, 1, callHeaders).subarray(0, 20)])],
    ['headers that never end', Buffer.concat([opening, frame(1, 0, 1, callHeaders)])],
    ['giant headers', Buffer.concat([opening, frame(1, END_HEADERS, 1, giantHeaders.subarray(0, 16_000))])],
    ['a frame beyond the size limit', Buffer.concat([opening, frame(1, END_HEADERS, 1, garbage(20_000))])],
    ['data on a stream that is not open', Buffer.concat([opening, frame(0, 1, 5, garbage(10))])],
    [
      'a call cut inside its message',
      Buffer.concat([
        opening,
        frame(1, END_HEADERS, 1, callHeaders),
        frame(0, 0, 1, Buffer.from([0, 0, 0, 1, 0, 1])),
      ]),
    ],
    [
      'a message longer than it says',
      Buffer.concat([
        opening,
        frame(1, END_HEADERS, 1, callHeaders),
        frame(0, 1, 1, Buffer.concat([Buffer.from([0, 0, 0, 0, 1]), garbage(40)])),
      ]),
    ],
    [
      'an unknown compression',
      Buffer.concat([
        opening,
        frame(1, END_HEADERS, 1, Buffer.concat([callHeaders, literal('grpc-encoding', 'x')])),
        frame(0, 1, 1, Buffer.from([1, 0, 0, 0, 1, 0])),
      ]),
    ],
    [
      'a bad timeout header',
      Buffer.concat([
        opening,
        frame(1, END_HEADERS, 1, Buffer.concat([callHeaders, literal('grpc-timeout', 'soon')])),
      ]),
    ],
    [
      'a thousand resets',
      Buffer.concat([
        opening,
        ...Array.from({ length: 1000 }, (_, i) =>
          Buffer.concat([
            frame(1, END_HEADERS, 2 * i + 1, callHeaders),
            frame(3, 0, 2 * i + 1, Buffer.alloc(4)),
          ]),
        ),
      ]),
    ],
  ];
  const before = engineCalls();
  for (const [name, bytes] of cases) {
    const socket = await rawConnection(bytes);
    await sleep(20);
    t.equal(engineCalls(), before, `${name}: nothing reached the engine`);
    t.ok(await isAlive(), `${name}: alive`);
    socket.destroy();
  }
  for (let i = 0; i < 50; i += 1) {
    const socket = await rawConnection(Buffer.concat([opening, garbage(1 + Math.floor(random() * 512))]));
    socket.destroy();
  }
  t.ok(await isAlive(), 'fifty more openings with garbage');
});

t.test('giant headers through a proper client get an error, and the next call an answer', async (t) => {
  // A connection of its own: the client's, not the server's, is what its own giant header breaks.
  const client = new AllocationServiceClient(
    `unix:${fixture.config.service.socket}`,
    credentials.createInsecure(),
    {
      'grpc.use_local_subchannel_pool': 1,
    },
  );
  t.teardown(() => client.close());
  const metadata = new Metadata();
  metadata.set('giant', 'x'.repeat(MIB));
  const error = await failureOf(
    new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + 3000 };
      client.getLease({ leaseId: 'x' }, metadata, options, (failure, lease) =>
        failure ? reject(failure) : resolve(lease),
      );
    }),
  );
  t.not(error.code, status.OK, error.message);
  t.ok(await isAlive());
});

t.test('200 half-open connections do not keep others out, and go when the service stops', async (t) => {
  const sockets = await Promise.all(
    Array.from({ length: 200 }, (_, i) =>
      rawConnection(i % 2 === 0 ? PREFACE.subarray(0, 5) : Buffer.concat([PREFACE, SETTINGS])),
    ),
  );
  t.ok(await isAlive());
  const closed = sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
  const startedAt = performance.now();
  await fixture.service.stop();
  await Promise.all(closed);
  t.ok(performance.now() - startedAt < 5000, 'all of them closed');
  t.strictSame(fixture.faults, [], 'nothing on the way was a fault of ours');
});
