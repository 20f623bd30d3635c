// Goal: a call of Proxmox VE reaches who it should and nobody else, ends in time, is repeated only where that is safe, and
// fails in the core's words. Method: a mocked node that misbehaves on the wire; what it was sent is counted.
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { proxmoxVersion } from '../../integrations/proxmox/adapter.ts';
import { ProxmoxApi } from '../../integrations/proxmox/api.ts';
import { ProxmoxError, translate } from '../../integrations/proxmox/errors.ts';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import { makeCertificate } from './proxmox/certificate.ts';
import { startMockNode } from './proxmox/mock-node.ts';
import type { Misbehaviour } from './proxmox/mock-proxmox.ts';

const LIST = '/nodes/{node}/qemu';
const CONFIG = '/nodes/{node}/qemu/{vmid}/config';

const { mock, api, url, fingerprint, clock } = await startMockNode({ speed: 1, timeoutMs: 2_000 });
mock.addGuest(101, { cores: 2, memory: 1024 }).boot();

/** Calls made since, by their beginning. */
function callsSince(from: number, beginning: string): number {
  return mock.calls.slice(from).filter((call) => call.startsWith(beginning)).length;
}

async function failureOf(work: Promise<unknown>): Promise<ProxmoxError> {
  const failure = await work.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  if (failure instanceof ProxmoxError) return failure;
  throw new Error(`a ProxmoxError was expected, not ${String(failure)}`);
}

function codeOf(cause: unknown): string {
  const error = translate(cause, {});
  return error instanceof AllocatorError ? error.code : String(error);
}

async function misbehaving<T>(how: Misbehaviour, work: () => Promise<T>): Promise<T> {
  mock.misbehaviours.push(how);
  try {
    return await work();
  } finally {
    mock.misbehaviours.length = 0;
  }
}

t.test('a pinned server is recognised by its fingerprint, with colons or without', async (t) => {
  t.equal(await proxmoxVersion(api), '9.1.3');
  const other = new ProxmoxApi({
    url,
    fingerprint: fingerprint.replaceAll(':', '').toLowerCase(),
    readToken: () => mock.token,
  });
  t.equal(await proxmoxVersion(other), '9.1.3');
  other.close();
});

t.test('a server that is not who it should be gets no token', async (t) => {
  const stranger = makeCertificate();
  if (stranger === undefined) throw new Error('a certificate could be made before');
  let requests = 0;
  const server = createServer({ cert: stranger.cert, key: stranger.key }, (_, response) => {
    requests += 1;
    response.end('{"data":{"version":"9.1.3"}}');
  });
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  const strange = `https://localhost:${(server.address() as AddressInfo).port}`;
  const readToken = () => mock.token;
  for (const [name, trust, pattern] of [
    ['another certificate than the pinned', { fingerprint }, /not the pinned one/],
    ['a certificate of no known authority', {}, /self-signed/],
    ['another authority', { ca: makeCertificate('localhost')?.cert ?? '' }, /self-signed|signature/],
    [
      'the pinned one, and an authority that is not its',
      { fingerprint: stranger.fingerprint, ca: makeCertificate()?.cert ?? '' },
      /self-signed|signature/,
    ],
  ] as const) {
    const distrustful = new ProxmoxApi({ url: strange, readToken, timeoutMs: 2_000, ...trust });
    const failure = await failureOf(distrustful.get('/version'));
    t.match(failure.message, pattern, name);
    t.equal(failure.phase, 'unsent');
    t.equal(codeOf(failure), 'HYPERVISOR_UNAVAILABLE');
    distrustful.close();
  }
  t.equal(requests, 0, 'not a byte of a request arrived');
  const trusting = new ProxmoxApi({ url: strange, readToken, ca: stranger.cert });
  t.equal(await proxmoxVersion(trusting), '9.1.3', 'its own authority is enough where it is named');
  trusting.close();
  server.closeAllConnections();
  server.close();
});

t.test('the token is exchanged while the service runs, and never told', async (t) => {
  const file = join(t.testdir(), 'token');
  writeFileSync(file, mock.token);
  let reads = 0;
  const readToken = () => {
    reads += 1;
    return mock.token;
  };
  const own = new ProxmoxApi({ url, fingerprint, readToken });
  await own.get('/version');
  await own.get('/version');
  t.equal(reads, 1);
  mock.token = mock.token.replace(/=.{8}/, '=00000000');
  t.equal(await proxmoxVersion(own), '9.1.3', 'refused once, read anew, repeated');
  t.equal(reads, 2);
  own.close();

  const expired = `foreshade@pve!test=${'1'.repeat(36)}`;
  const stale = new ProxmoxApi({ url, fingerprint, readToken: () => expired });
  const failure = await failureOf(stale.get('/version'));
  t.equal(failure.status, 401);
  t.equal(codeOf(failure), 'HYPERVISOR_UNAVAILABLE');
  t.notMatch(JSON.stringify(failure) + failure.stack + failure.message, /1{36}/);
  stale.close();

  const halfToken = 'foreshade@pve!test=short-secret';
  const broken = new ProxmoxApi({ url, fingerprint, readToken: () => halfToken });
  const refused = await failureOf(broken.get('/version'));
  t.equal(refused.phase, 'unsent');
  t.notMatch(`${refused.stack}`, /short-secret/, 'what may be most of a secret is not shown');
  broken.close();
});

t.test('a read is tried again where a moment mends it', async (t) => {
  await api.get('/version'); // with the token as it is now
  for (const how of [
    { at: 'GET /nodes', times: 2, status: 595, reason: 'Connection refused' },
    { at: 'GET /nodes', times: 1, status: 596, reason: 'Connection timed out' },
    { at: 'GET /nodes', times: 1, cut: 'before' },
    { at: 'GET /nodes', times: 1, cut: 'middle', body: '{"data":[{"vmid":101}]}' },
  ] as const) {
    const from = mock.calls.length;
    const listed = await misbehaving({ ...how }, () => api.get(LIST, { node: mock.node }));
    t.match(listed, [{ vmid: 101 }]);
    t.equal(callsSince(from, 'GET /nodes'), how.times + 1);
  }
  const from = mock.calls.length;
  const failure = await misbehaving({ at: 'GET /nodes', status: 595, reason: 'No route to host' }, () =>
    failureOf(api.get(LIST, { node: mock.node })),
  );
  t.match(failure, { status: 595, message: 'No route to host' });
  t.equal(codeOf(failure), 'HYPERVISOR_UNAVAILABLE');
  t.equal(callsSince(from, 'GET /nodes'), 3, 'and not for ever');
});

t.test('a change is made once, whatever comes of it', async (t) => {
  for (const how of [
    { at: 'POST', status: 595, reason: 'Connection refused' },
    { at: 'POST', cut: 'before' },
    { at: 'POST', cut: 'middle', body: '{"data":"UPID"}' },
  ] as const) {
    const from = mock.calls.length;
    await misbehaving({ ...how }, () =>
      failureOf(api.post(CONFIG, { node: mock.node, vmid: 101, cpulimit: 1 })),
    );
    t.equal(callsSince(from, 'POST'), 1);
  }
});

t.test('every call ends in time', async (t) => {
  const startMs = clock.monotonicMs();
  const failure = await misbehaving({ at: 'GET /version', delayMs: 4_000 }, () =>
    failureOf(api.get('/version')),
  );
  t.match(failure, { phase: 'unanswered', message: 'no answer in time' });
  const tookMs = clock.monotonicMs() - startMs;
  t.ok(tookMs > 1_500 && tookMs < 6_000, `${Math.round(tookMs)} ms, retries included`);
  const aborted = await misbehaving({ at: 'GET /version', delayMs: 4_000 }, () =>
    failureOf(api.get('/version', {}, AbortSignal.timeout(100))),
  );
  t.equal(codeOf(aborted), 'HYPERVISOR_UNAVAILABLE');
});

t.test('answers that make no sense are failures, not crashes', async (t) => {
  const huge = Buffer.alloc(33 * 1024 * 1024, 0x20);
  for (const [name, body] of [
    ['no JSON', '<html>bad gateway</html>'],
    ['nothing', ''],
    ['no object', '[]'],
    ['null', 'null'],
    ['no data', '{"message":"hm"}'],
    ['bytes', Buffer.from([0xff, 0xfe, 0x00, 0x80])],
    ['too much', huge],
  ] as const) {
    const failure = await misbehaving({ at: 'GET /version', body }, () => failureOf(proxmoxRaw()));
    t.equal(codeOf(failure), 'HYPERVISOR_UNAVAILABLE', name);
    t.ok(failure.message.length < 600, 'and short to tell');
  }
});

/** The version's call as it is, without translation. */
function proxmoxRaw(): Promise<unknown> {
  return api.get('/version');
}

t.test("what Proxmox VE says is told in the core's words", async (t: Test) => {
  for (const [status, message, code] of [
    [500, "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout", 'GUEST_BUSY'],
    [500, 'VM is locked (backup)', 'GUEST_BUSY'],
    [500, 'detected modified configuration - file changed by other user? Try again.', 'STATE_CONFLICT'],
    [500, "Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist", 'GUEST_NOT_FOUND'],
    [500, 'VM 101 not running', 'GUEST_NOT_RUNNING'],
    [500, 'QEMU guest agent is not running', 'NOT_SUPPORTED'],
    [501, "Method 'GET /version' not implemented", 'NOT_SUPPORTED'],
    [403, 'Permission check failed (/vms/101, VM.Config.CPU)', 'ACTUATION_REFUSED'],
    [400, 'Parameter verification failed.', 'ACTUATION_REFUSED'],
    [503, 'Service Unavailable', 'HYPERVISOR_UNAVAILABLE'],
  ] as const) {
    const body = JSON.stringify({ data: null, message: `${message}\n`, errors: { vcpus: 'too many' } });
    const failure = await misbehaving({ at: 'GET /version', status, body }, () => failureOf(proxmoxRaw()));
    t.equal(codeOf(failure), code, message);
    t.equal(failure.message, `${message}; vcpus: too many`);
    // Older versions have the sentence in the status line alone.
    const bare = await misbehaving({ at: 'GET /version', status, reason: message, body: '' }, () =>
      failureOf(proxmoxRaw()),
    );
    t.equal(codeOf(bare), code);
  }
});

t.test('nothing that was sent here was outside the schema', async (t) => {
  t.strictSame(mock.violations, []);
});
