// Goal: what a domain's metadata asks for is read as it is meant, from our namespace alone, and nothing that is not quite right is
// taken for a request. Method: domains written here, one thing changed at a time; random damage for the rest.
import t from 'tap';
import { readDefinition } from '../../libvirt-adapter/definition.ts';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { StartRequest } from '../../orchestrator/core/guest-start.ts';
import { randomFrom } from '../random.ts';

const NAMESPACE = 'urn:foreshade:request:1';

function domain(metadata: string, more = ''): string {
  return `<domain type='kvm' ${more}>
  <name>web-1</name><uuid>6F1C3A52-0C52-4A1E-9F57-2F1D7F6F0001</uuid>
  <metadata>${metadata}</metadata>
  <memory unit='MiB'>1024</memory><currentMemory unit='MiB'>256</currentMemory>
  <vcpu current='1'>4</vcpu><cputune><global_period>100000</global_period><global_quota>80000</global_quota></cputune>
  <devices><memballoon model='virtio'/></devices>
</domain>`;
}

const requestIn = (metadata: string, more?: string): StartRequest | undefined =>
  readDefinition(domain(metadata, more)).request;
const request = (attributes: string, children = ''): string =>
  `<foreshade:request xmlns:foreshade='${NAMESPACE}' ${attributes}>${children}</foreshade:request>`;

t.test('a whole request', async (t) => {
  const metadata = request(
    `workload='encode' tenant='acme' priority='high' policy='require' duration_s='90.5' ttl_s='7200'`,
    `<foreshade:param name='input_mib' number='64.5'/><foreshade:param name='mode' category='best'/>
     <foreshade:param name='title' text='Tom &amp; Jerry'/><foreshade:param name='source' size_bytes='1073741824'/>
     <!-- who reads this --><foreshade:param name='due' time_ms='1796000000000'/>`,
  );
  t.strictSame(requestIn(metadata), {
    policy: 'require',
    tenant: 'acme',
    workload: 'encode',
    priority: 'high',
    params: {
      input_mib: { kind: 'number', value: 64.5 },
      mode: { kind: 'category', value: 'best' },
      title: { kind: 'text', value: 'Tom & Jerry' },
      source: { kind: 'size', value: 1073741824 },
      due: { kind: 'time', value: 1796000000000 },
    },
    durationMs: 90_500,
    ttlMs: 7_200_000,
    problems: [],
  });
  t.match(readDefinition(domain(metadata)).facts, {
    id: '6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001',
    name: 'web-1',
    state: 'shut-off',
    entitlement: { cpuMillicores: 800, vcpuCount: 1, memoryBytes: 256 * 1024 * 1024 },
    ceiling: { cpuMillicores: 4000, vcpuCount: 4, memoryBytes: 1024 * 1024 * 1024 },
    cpuLimited: true,
  });
  t.match(requestIn(request(`workload='w'`)), {
    policy: 'prefer',
    priority: 'normal',
    tenant: '',
    problems: [],
  });
});

t.test('the namespace decides, whatever its prefix and wherever it is declared', async (t) => {
  const plain = { workload: 'w', params: { x: { kind: 'number', value: 1 } }, problems: [] };
  t.match(
    requestIn(`<f:request xmlns:f='${NAMESPACE}' workload='w'><f:param name='x' number='1'/></f:request>`),
    plain,
  );
  t.match(
    requestIn(`<request xmlns='${NAMESPACE}' workload='w'><param name='x' number='1'/></request>`),
    plain,
  );
  t.match(
    requestIn(`<f:request workload='w'><f:param name='x' number='1'/></f:request>`, `xmlns:f='${NAMESPACE}'`),
    plain,
    'declared at the root',
  );
  t.match(
    requestIn(`<n:instance xmlns:n='urn:nova'/>${request(`workload='w'`)}`),
    { workload: 'w' },
    'beside another',
  );
  for (const [name, metadata] of [
    ['no namespace', `<request workload='w'/>`],
    ['another', `<foreshade:request xmlns:foreshade='urn:other' workload='w'/>`],
    ['a prefix declared elsewhere', `<a xmlns:foreshade='${NAMESPACE}'/><foreshade:request workload='w'/>`],
    ['another element', `<foreshade:requests xmlns:foreshade='${NAMESPACE}' workload='w'/>`],
    ['text', `${NAMESPACE}`],
    ['nothing', ''],
  ] as const)
    t.equal(requestIn(metadata), undefined, name);
});

t.test('what is wrong with a request is said, and it is none', async (t) => {
  for (const { name, attributes = `workload='w'`, children = '', problem } of [
    {
      name: 'a priority',
      attributes: `workload='w' priority='urgent'`,
      problem: /priority must be one of low, .* not "urgent"/,
    },
    {
      name: 'a policy',
      attributes: `workload='w' policy='must'`,
      problem: /policy must be one of prefer, require/,
    },
    {
      name: 'a time to live',
      attributes: `workload='w' ttl_s='1h'`,
      problem: /ttl_s is no number of seconds: "1h"/,
    },
    { name: 'an attribute', attributes: `workload='w' prio='low'`, problem: /has no attribute "prio"/ },
    {
      name: 'a number',
      children: `<foreshade:param name='x' number='0x10'/>`,
      problem: /number of param "x" is no number/,
    },
    {
      name: 'a size',
      children: `<foreshade:param name='x' size_bytes='-1'/>`,
      problem: /size_bytes of param "x"/,
    },
    {
      name: 'a size beyond 2^53',
      children: `<foreshade:param name='x' size_bytes='9999999999999999'/>`,
      problem: /size_bytes/,
    },
    {
      name: 'two kinds',
      children: `<foreshade:param name='x' number='1' text='a'/>`,
      problem: /exactly one of/,
    },
    { name: 'no kind', children: `<foreshade:param name='x'/>`, problem: /exactly one of/ },
    {
      name: 'the same name twice',
      children: `<foreshade:param name='x' number='1'/><foreshade:param name='x' number='2'/>`,
      problem: /"x" is given twice/,
    },
    {
      name: 'a reserved name',
      children: `<foreshade:param name='__proto__' number='1'/>`,
      problem: /reserved/,
    },
    {
      name: 'another element',
      children: `<foreshade:parameter name='x' number='1'/>`,
      problem: /is no param/,
    },
  ]) {
    const { problems = [] } = requestIn(request(attributes, children)) ?? {};
    t.match(problems[0], problem, name);
  }
  const many = Array.from({ length: 50 }, (_, i) => `<foreshade:param name='p${i}'/>`).join('');
  t.equal(requestIn(request(`workload='w'`, many))?.problems.length, 5, 'no more than a few are named');
});

t.test('what is no domain is refused, entities from outside included', async (t) => {
  for (const [name, xml] of [
    [
      'an external entity',
      `<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>${domain(request(`workload='&x;'`))}`,
    ],
    ['entities upon entities', `<!DOCTYPE d [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>${domain('&b;')}`],
    ['an unknown entity', domain(request(`workload='&x;'`))],
    ['nothing', ''],
    ['a network', '<network/>'],
    ['an open end', domain('').slice(0, -20)],
    ['depth', `${'<a>'.repeat(10_000)}${'</a>'.repeat(10_000)}`],
  ] as const)
    t.throws(() => readDefinition(xml), { code: 'INVALID_REQUEST' }, name);
});

t.test('no damage makes it do anything but read or refuse', async (t) => {
  const seed = 20261201;
  const random = randomFrom(seed);
  t.comment(`seed ${seed}`);
  const whole = domain(request(`workload='encode' ttl_s='60'`, `<foreshade:param name='x' number='1'/>`));
  const odd = ['<', '>', '&', "'", '"', '\0', '\ud800', ']]>', '<!--', 'xmlns=', ' ', '\u202e', '/'];
  let read = 0;
  for (let round = 0; round < 5000; round += 1) {
    let xml = whole;
    for (let i = 0; i <= random() * 3; i += 1) {
      const at = Math.floor(random() * xml.length);
      const cut = Math.floor(random() * 8);
      xml =
        xml.slice(0, at) +
        (random() < 0.7 ? odd[Math.floor(random() * odd.length)] : '') +
        xml.slice(at + cut);
    }
    try {
      readDefinition(xml);
      read += 1;
    } catch (error) {
      if (!(error instanceof AllocatorError && error.code === 'INVALID_REQUEST')) throw error;
    }
  }
  t.ok(read > 0 && read < 5000, `${read} of 5,000 could still be read`);
});
