// Goal: whoever is asked for room gets one request, whole, however often it takes, and whatever comes back is an answer. Method: a
// server of the test's own that answers as it is told, request by request.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { ScaleRequest } from '../../orchestrator/core/scale.ts';
import { Webhook } from '../../orchestrator/scale/webhook.ts';

const REQUEST: ScaleRequest = {
  id: 'ask-1',
  atMs: 1_764_547_200_000,
  host: 'h1',
  short: 'host',
  tenant: 'shop',
  workload: 'encode',
  priority: 'high',
  guest: 'web',
  needed: { cpuMillicores: 3000, memoryBytes: 2 ** 30 },
  leaseId: 'lease-1',
};
const PATIENCE_MS = 20_000;

type Answer = (response: ServerResponse, request: IncomingMessage) => void;

interface Asked {
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** A server that gives these answers in turn, the last one for ever. */
async function answering(...answers: readonly Answer[]) {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const answer = answers[Math.min(asked.length, answers.length - 1)];
      asked.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
      answer?.(response, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { asked, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/scale` };
}

const says =
  (status: number, body = ''): Answer =>
  (response) =>
    response.writeHead(status).end(body);

t.test('one request says all that is known, and nothing of its parameters', async (t) => {
  const { asked, url } = await answering(says(202, '{"text":"a host is on its way"}'));
  const answer = await new Webhook({ url }).ask(REQUEST, AbortSignal.timeout(PATIENCE_MS));
  t.strictSame(answer, { accepted: true, text: 'a host is on its way' });
  t.strictSame(JSON.parse(asked[0]?.body ?? ''), {
    id: 'ask-1',
    at_ms: 1_764_547_200_000,
    host: 'h1',
    short: 'host',
    tenant: 'shop',
    workload: 'encode',
    priority: 'high',
    guest: 'web',
    needed: { cpu_millicores: 3000, memory_bytes: 2 ** 30 },
    lease_id: 'lease-1',
  });
  t.equal(asked[0]?.headers['idempotency-key'], 'ask-1');
  t.equal(asked[0]?.headers.authorization, undefined);
});

t.test('the token of the file is sent, as it is at that moment', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'fs-webhook-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const tokenFile = join(folder, 'token');
  const { asked, url } = await answering(says(204));
  const webhook = new Webhook({ url, tokenFile });
  for (const token of ['one', 'two']) {
    writeFileSync(tokenFile, `${token}\n`);
    await webhook.ask(REQUEST, AbortSignal.timeout(PATIENCE_MS));
  }
  t.strictSame(
    asked.map(({ headers }) => headers.authorization),
    ['Bearer one', 'Bearer two'],
  );
});

t.test('passing trouble is outlasted under the same key', async (t) => {
  const { asked, url } = await answering(
    says(503),
    (response) => response.destroy(),
    says(200, '{"accepted":true}'),
  );
  const answer = await new Webhook({ url }).ask(REQUEST, AbortSignal.timeout(PATIENCE_MS));
  t.strictSame(answer, { accepted: true, text: 'asked outside for room' });
  t.strictSame(new Set(asked.map(({ headers }) => headers['idempotency-key'])), new Set(['ask-1']));
  t.equal(asked.length, 3);
});

for (const { name, answer, expected } of [
  {
    name: 'a refusal',
    answer: says(403),
    expected: { accepted: false, text: 'room was refused outside (HTTP 403)' },
  },
  {
    name: 'consent that its body takes back',
    answer: says(200, '{"accepted":false,"text":"no budget"}'),
    expected: { accepted: false, text: 'no budget' },
  },
  {
    name: 'a refusal whose body consents',
    answer: says(409, '{"accepted":true}'),
    expected: { accepted: false, text: 'room was refused outside (HTTP 409)' },
  },
  {
    name: 'garbage',
    answer: says(200, '<html>'),
    expected: { accepted: true, text: 'asked outside for room' },
  },
  {
    name: 'a body that is no object',
    answer: says(200, 'null'),
    expected: { accepted: true, text: 'asked outside for room' },
  },
  {
    name: 'control characters and a text without end',
    answer: says(200, JSON.stringify({ text: `a\u001b[31m\nb${'c'.repeat(1000)}` })),
    expected: { accepted: true, text: `a [31m b${'c'.repeat(192)}` },
  },
  {
    name: 'more than is read',
    answer: says(200, JSON.stringify({ accepted: false, padding: 'x'.repeat(100_000) })),
    expected: { accepted: true, text: 'asked outside for room' },
  },
]) {
  t.test(`${name} is an answer`, async (t) => {
    const { asked, url } = await answering(answer);
    t.strictSame(await new Webhook({ url }).ask(REQUEST, AbortSignal.timeout(PATIENCE_MS)), expected);
    t.equal(asked.length, 1);
  });
}

t.test('a redirect is not followed, nor is silence waited out', async (t) => {
  const elsewhere = await answering(says(200));
  const { url } = await answering((response) => response.writeHead(307, { location: elsewhere.url }).end());
  const moved = await new Webhook({ url }).ask(REQUEST, AbortSignal.timeout(300));
  t.match(moved, { accepted: false, text: /no answer from the scaling webhook/ });
  t.equal(elsewhere.asked.length, 0);
  const silent = await answering(() => {});
  const began = performance.now();
  const unanswered = await new Webhook({ url: silent.url }).ask(REQUEST, AbortSignal.timeout(300));
  t.match(unanswered, { accepted: false, text: /no answer/ });
  t.ok(performance.now() - began < 5000, 'the caller is heard');
});

t.test('a token that cannot be read is not asked without', async (t) => {
  const { asked, url } = await answering(says(200));
  const webhook = new Webhook({ url, tokenFile: join(tmpdir(), 'fs-no-such-token') });
  t.match(await webhook.ask(REQUEST, AbortSignal.timeout(300)), { accepted: false, text: /ENOENT/ });
  t.equal(asked.length, 0);
});
