// Goal: whatever is reported to HookService is answered precisely, says no only where it has a say, and breaks nothing. Method: a
// real service over doubles, asked as the hook's program asks; then damaged reports and definitions from a printed seed, with a
// good report after each.
import { request as httpRequest } from 'node:http';
import t from 'tap';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import { DEFINITION_CHARS_MAX } from '../../orchestrator/service/hook.ts';
import { randomFrom } from '../random.ts';
import { GUEST_ID } from './engine-double.ts';
import { type Fixture, startFixture } from './service-fixture.ts';

const SEED = Number(process.env.FORESHADE_SEED ?? 20261201);
const DAMAGES = 400;

interface Answer {
  readonly code: number;
  readonly body: { verdict?: string; reason?: string; leaseId?: string; message?: string };
}

let fixture: Fixture;
t.before(async () => {
  fixture = await startFixture();
});
t.teardown(() => fixture.close());

function ask(body: string | Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        socketPath: fixture.config.service.httpSocket,
        path: '/foreshade.v1.HookService/Report',
        method: 'POST',
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      },
      async (response) => {
        const chunks: Buffer[] = [];
        for await (const chunk of response) chunks.push(chunk as Buffer);
        resolve({ code: response.statusCode ?? 0, body: JSON.parse(Buffer.concat(chunks).toString()) });
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

function domain(attributes = "workload='encode'"): string {
  return `<domain type='kvm'><name>alpha</name><uuid>${GUEST_ID}</uuid><metadata>
    <f:request xmlns:f='urn:foreshade:request:1' ${attributes}><f:param name='x' number='1'/></f:request></metadata>
    <memory unit='MiB'>512</memory><vcpu>2</vcpu><devices/></domain>`;
}

const report = (operation: string, definition = domain()): string =>
  JSON.stringify({ guest: 'alpha', operation, sub_operation: 'begin', extra: '-', definition });

t.test('each operation has its answer', async (t) => {
  for (const [operation, reason, leaseId] of [
    ['prepare', /^1\.5 cores and 256 MiB: everything requested/, 'lease-start'],
    ['started', /^1\.5 cores/, 'lease-start'],
    ['stopped', /its leases end/, undefined],
    ['release', /its leases end/, undefined],
    ['reconnect', /nothing is done at reconnect/, undefined],
    ['something new', /nothing is done/, undefined],
  ] as const)
    t.match(
      await ask(report(operation)),
      { code: 200, body: { verdict: 'VERDICT_ALLOW', reason, leaseId } },
      operation,
    );
  const { code, body } = await ask(report('prepare', '<domain><uuid>1</uuid></domain>'));
  t.match({ code, body }, { code: 400, body: { message: /The domain's XML cannot be read/ } });
  const tooLong = domain().padEnd(DEFINITION_CHARS_MAX + 1, ' ');
  t.match(await ask(report('prepare', tooLong)), {
    code: 400,
    body: { message: /at most 1,048,576 characters/ },
  });
  t.match(
    await ask('{}'),
    { code: 400, body: { message: /guest .*; operation / } },
    'all that is wrong is said',
  );
});

t.test('a no is said in prepare alone, where it is required, and never in shadow', async (t) => {
  const required = domain("workload='encode' policy='require'");
  fixture.starts.fail = new AllocatorError('CAPACITY_EXHAUSTED', 'no room');
  t.teardown(() => {
    fixture.starts.fail = undefined;
    fixture.starts.mode = 'enforce';
  });
  for (const [operation, definition, mode, verdict] of [
    ['prepare', required, 'enforce', 'VERDICT_VETO'],
    ['prepare', domain(), 'enforce', 'VERDICT_ALLOW'],
    ['started', required, 'enforce', 'VERDICT_ALLOW'],
    ['prepare', required, 'advise', 'VERDICT_ALLOW'],
    ['prepare', required, 'shadow', 'VERDICT_ALLOW'],
  ] as const) {
    fixture.starts.mode = mode;
    const { body } = await ask(report(operation, definition));
    t.match(body, { verdict, reason: /no room/ }, `${operation}, ${mode}`);
  }
});

t.test('a request is validated as every other', async (t) => {
  for (const [attributes, reason] of [
    ["workload=''", /workload must have 1 to 256 characters/],
    ["workload='w' ttl_s='1'", /ttl_ms must be 2,000 to 86,400,000/],
    ["workload='w' duration_s='-1'", /duration_ms must be/],
    [`workload='${'w'.repeat(300)}'`, /workload must have/],
  ] as const)
    t.match(
      (await ask(report('prepare', domain(attributes)))).body,
      { verdict: 'VERDICT_ALLOW', reason },
      attributes.slice(0, 40),
    );
  const many = Array.from({ length: 65 }, (_, i) => `<f:param name='p${i}' number='1'/>`).join('');
  const crowded = domain().replace("<f:param name='x' number='1'/>", many);
  t.match((await ask(report('prepare', crowded))).body, { reason: /at most 64 entries; got 65/ });
});

t.test('damaged reports are answered, and the next good one too', async (t) => {
  t.comment(`seed ${SEED}`);
  const random = randomFrom(SEED);
  const odd = ['"', '\\', '{', '<', '&', '\0', '\ud800', 'ü', '>', "'", ']]>', '<!DOCTYPE x>', '\n'];
  const damaged = (text: string): string => {
    const at = Math.floor(random() * text.length);
    return (
      text.slice(0, at) + odd[Math.floor(random() * odd.length)] + text.slice(at + Math.floor(random() * 6))
    );
  };
  const codes = new Map<number, number>();
  for (let i = 0; i < DAMAGES; i += 1) {
    const operation = ['prepare', 'started', 'stopped'][i % 3] ?? '';
    const inner = i % 2 === 0 ? report(operation, damaged(damaged(domain()))) : damaged(report(operation));
    const { code } = await ask(inner);
    codes.set(code, (codes.get(code) ?? 0) + 1);
    if (code !== 200 && code !== 400) t.fail(`${code} for ${JSON.stringify(inner)}`);
    if (i % 50 === 0) t.match(await ask(report('prepare')), { code: 200, body: { leaseId: 'lease-start' } });
  }
  t.comment(`answers: ${JSON.stringify([...codes])}`);
  t.ok((codes.get(200) ?? 0) > 20 && (codes.get(400) ?? 0) > 20, 'some could be read and some could not');
  t.strictSame(fixture.faults, [], 'nothing fell out of the table');
});
