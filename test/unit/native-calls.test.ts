/**
 * Goal: the addon carries calls to libvirt and answers back without loss, types its errors, and keeps its lanes'
 * promises (order, time-out, cancellation, bound).
 * Method: libvirt's own in-process test driver for what libvirt means, and a shim in libvirt's place for what it cannot
 * show: counters above 2^53 and calls that hang for a known time.
 */
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

import t, { type Test } from 'tap';

import {
  type DomainRef,
  LIBVIRT_ERROR,
  LibvirtError,
  type LibvirtEvent,
} from '../../libvirt-adapter/libvirt.ts';
import { NativeLibvirt } from '../../libvirt-adapter/native/connection.ts';
import { LANE_QUEUE_MAX } from '../../libvirt-adapter/native/lane.ts';
import {
  BLOCK_IO_TUNE_PARAMETERS,
  encodeParameters,
  INTERFACE_PARAMETERS,
  SCHEDULER_PARAMETERS,
} from '../../libvirt-adapter/native/parameters.ts';
import { addonUnavailableReason, buildShim } from '../bench/libvirt-shim.ts';

const NAMESPACE = 'https://example.org/native-calls';
const UUID = 'c7a5fdbd-edaf-9455-926a-d65c16db1809';
const ABSENT: DomainRef = { uuid: '00000000-0000-0000-0000-00000000dead', name: 'absent', id: -1 };

function guestXml(name: string): string {
  return `<domain type='test'><name>${name}</name><uuid>${UUID}</uuid><memory unit='KiB'>204800</memory>
    <vcpu current='1'>4</vcpu><os><type>hvm</type></os>
    <devices><disk type='file' device='disk'><source file='/guest.img'/><target dev='vda' bus='virtio'/></disk></devices>
  </domain>`;
}

/** Open for the length of a test. */
async function open(t: Test, uri: string): Promise<NativeLibvirt> {
  const library = uri.startsWith('shim:') ? { libvirt: shimPath } : {};
  const libvirt = await NativeLibvirt.open(uri, { library });
  t.teardown(() => libvirt.close());
  return libvirt;
}

async function failureOf(promise: Promise<unknown>): Promise<LibvirtError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof LibvirtError) return error;
    throw error;
  }
  throw new Error('the call succeeded');
}

const unbuilt = addonUnavailableReason();
const shim = unbuilt === undefined ? buildShim() : unbuilt;
const needsShim = typeof shim === 'string' ? { skip: shim } : {};
const shimPath = typeof shim === 'string' ? '' : shim.path;
t.teardown(() => {
  if (typeof shim !== 'string') shim.remove();
});

const noLibvirt =
  unbuilt ??
  (await NativeLibvirt.open('test:///default').then(
    async (libvirt) => void (await libvirt.close()),
    (error: Error) => error.message,
  ));
const needsLibvirt = noLibvirt === undefined ? {} : { skip: noLibvirt };

t.test('an absent library is a clear error, and only when used', { skip: unbuilt ?? false }, async (t) => {
  const error = await failureOf(
    NativeLibvirt.open('test:///default', { library: { libvirt: '/nowhere/libvirt.so.0' } }),
  );
  t.match(error, { code: LIBVIRT_ERROR.library, call: 'dlopen', notStarted: true });
  t.match(error.message, /\/nowhere\/libvirt\.so\.0.*install libvirt's client library/);
});

t.test('a call that the library lacks fails alone', needsShim, async (t) => {
  const libvirt = await open(t, 'shim:///1');
  t.match(await failureOf(libvirt.capabilities()), {
    code: LIBVIRT_ERROR.library,
    message: 'virConnectGetCapabilities: the installed libvirt has no virConnectGetCapabilities',
  });
  t.equal((await libvirt.listDomains()).length, 1);
  await libvirt.close();
});

t.test('options out of range are refused together', async (t) => {
  const options = {
    keepalive: { intervalS: -1, count: 1.5 },
    timeoutsMs: { stats: Number.NaN },
    openTimeoutMs: 0,
  };
  const error = await failureOf(NativeLibvirt.open('', options));
  t.equal(error.code, LIBVIRT_ERROR.invalidArg);
  for (const part of [
    'uri',
    'keepalive.intervalS',
    'keepalive.count',
    'the stats time-out',
    'the open time-out',
  ]) {
    t.match(error.message, part);
  }
});

t.test('a guest from definition to removal', needsLibvirt, async (t) => {
  const libvirt = await open(t, 'test:///default');
  const events: LibvirtEvent[] = [];
  const unsubscribe = libvirt.on('lifecycle', (event) => void events.push(event));

  const defined = await libvirt.defineDomain(guestXml('native-guest'));
  t.strictSame(defined, { uuid: UUID, name: 'native-guest', id: -1 });
  t.match(await libvirt.domainState(defined), { state: 'shutoff' });
  t.strictSame(await libvirt.listDomains({ inactive: true }), [defined]);
  t.strictSame(await libvirt.listDomains({ active: false }), [defined]);
  t.strictSame(await libvirt.listDomains({ active: false, inactive: false }), []);
  t.equal((await libvirt.listDomains({ active: true })).length, 1, "the driver's own guest");
  t.equal((await libvirt.listDomains()).length, 2);

  await libvirt.createDomain(defined);
  const running = await libvirt.lookupByName('native-guest');
  t.ok(running.id > 0);
  t.match(await libvirt.domainXml(running), '<name>native-guest</name>');
  await libvirt.suspendDomain(running);
  t.match(await libvirt.domainState(running), { state: 'paused' });
  await libvirt.resumeDomain(running);

  t.equal(await libvirt.getMetadata(running, NAMESPACE, { live: true }), undefined);
  await libvirt.setMetadata(running, NAMESPACE, 'own', '<note>ä &amp; b</note>', { live: true });
  t.equal(await libvirt.getMetadata(running, NAMESPACE, { live: true }), '<note>ä &amp; b</note>');
  await libvirt.setMetadata(running, NAMESPACE, 'own', undefined, { live: true });
  t.equal(await libvirt.getMetadata(running, NAMESPACE, { live: true }), undefined);

  t.equal(await libvirt.getMaxVcpus(running), 4);
  await libvirt.setVcpus(running, 3, { live: true });
  t.equal(await libvirt.getVcpus(running, { live: true }), 3);
  t.equal(await libvirt.getVcpus(running, { config: true }), 1, 'a live change leaves the definition alone');
  await libvirt.setMemory(running, 102_400n, { live: true });
  t.match(await libvirt.domainXml(running), "<currentMemory unit='KiB'>102400</currentMemory>");
  t.strictSame(await libvirt.memoryStats(running), {}, 'a guest without a balloon reports nothing');

  const tune = { read_bytes_sec: 10n ** 15n - 1n, read_bytes_sec_max: 10n ** 15n, group_name: 'g' };
  await libvirt.setBlockIoTune(running, 'vda', tune, { live: true });
  t.match(await libvirt.getBlockIoTune(running, 'vda', { live: true }), tune);

  await libvirt.destroyDomain(running);
  await libvirt.undefineDomain(running);
  t.match(await failureOf(libvirt.domainState(running)), { code: LIBVIRT_ERROR.noDomain });

  const transient = await libvirt.createDomainFromXml(guestXml('native-transient'));
  t.match(transient, { uuid: UUID, name: 'native-transient' }, 'the uuid is free again and looked up afresh');
  t.equal((await libvirt.domainState(transient)).state, 'running');
  await libvirt.destroyDomain(transient);

  const lifecycle = (): string[] =>
    events.flatMap((event) =>
      event.kind === 'lifecycle' && event.domain.name === 'native-guest' ? [event.event] : [],
    );
  // Events come by another thread than answers: the last may still be on its way.
  for (let waited = 0; lifecycle().length < 6 && waited < 100; ++waited) await sleep(20);
  unsubscribe();
  t.strictSame(lifecycle(), ['defined', 'started', 'suspended', 'resumed', 'stopped', 'undefined']);
  await libvirt.close();
  await libvirt.close();
  t.match(await failureOf(libvirt.nodeInfo()), { code: LIBVIRT_ERROR.disconnected, notStarted: true });
});

t.test('the host', needsLibvirt, async (t) => {
  const libvirt = await open(t, 'test:///default');
  t.match(await libvirt.nodeInfo(), { model: 'i686', memoryKib: 3_145_728n, cpus: 16, nodes: 2 });
  t.match(await libvirt.capabilities(), '<capabilities>');
  t.match(await libvirt.versions(), { libvirt: /^\d+\.\d+\.\d+$/, hypervisor: '0.0.2' });
  const cpu = await libvirt.nodeCpuStats('all');
  for (const kind of ['user', 'kernel', 'idle', 'iowait']) t.type(cpu[kind], 'bigint');
  await libvirt.close();
});

t.test('errors carry what libvirt said', needsLibvirt, async (t) => {
  const libvirt = await open(t, 'test:///default');
  const [own] = await libvirt.listDomains({ active: true });
  if (own === undefined) throw new Error('the test driver has no guest');
  const live = { live: true };
  for (const { name, call, expected } of [
    {
      name: 'an absent guest',
      call: () => libvirt.domainXml(ABSENT),
      expected: {
        code: LIBVIRT_ERROR.noDomain,
        domain: 12,
        level: 2,
        call: 'virDomainGetXMLDesc',
        notStarted: false,
      },
    },
    {
      name: 'an absent name',
      call: () => libvirt.lookupByName('none'),
      expected: { code: LIBVIRT_ERROR.noDomain },
    },
    {
      name: 'a driver without the call',
      call: () => libvirt.qemuMonitorCommand(own, '{}'),
      expected: { code: LIBVIRT_ERROR.noSupport, call: 'virDomainQemuMonitorCommand' },
    },
    { name: 'no XML', call: () => libvirt.defineDomain('<domain'), expected: { code: 35, level: 2 } },
    {
      name: 'no vCPUs',
      call: () => libvirt.setVcpus(own, 0, live),
      expected: { code: LIBVIRT_ERROR.invalidArg },
    },
    {
      name: 'NaN',
      call: () => libvirt.setVcpus(own, Number.NaN, live),
      expected: {
        code: LIBVIRT_ERROR.invalidArg,
        notStarted: true,
        message: /argument 2 must be an integer from 0 to/,
      },
    },
    {
      name: 'a negative size',
      call: () => libvirt.setMemory(own, -1n, live),
      expected: {
        code: LIBVIRT_ERROR.invalidArg,
        notStarted: true,
        message: /argument 2 must be a bigint from 0/,
      },
    },
    {
      name: 'NUL in a text',
      call: () => libvirt.lookupByName('te\0st'),
      expected: { code: LIBVIRT_ERROR.invalidArg, notStarted: true, message: /without NUL/ },
    },
    {
      name: 'no group',
      call: () => libvirt.allDomainStats([]),
      expected: { code: LIBVIRT_ERROR.invalidArg },
    },
    {
      name: 'an unknown parameter',
      call: () => libvirt.setSchedulerParameters(own, { quota: 1 }, live),
      expected: {
        code: LIBVIRT_ERROR.invalidArg,
        notStarted: true,
        message: /no parameter "quota".*vcpu_quota/,
      },
    },
    {
      name: 'a time-out of nothing',
      call: () => libvirt.nodeInfo({ timeoutMs: Number.NaN }),
      expected: { code: LIBVIRT_ERROR.invalidArg, notStarted: true },
    },
  ]) {
    t.match(await failureOf(call()), expected, name);
  }
  t.equal((await libvirt.domainState(own)).state, 'running', 'and nothing changed');
  await libvirt.close();

  t.match(await failureOf(NativeLibvirt.open('nonsense:///')), { call: 'virConnectOpen', notStarted: false });
});

t.test('a parameter has the type that libvirt wants, or is refused', async (t) => {
  const most = 2n ** 64n - 1n;
  for (const { table, name, value, raw } of [
    { table: SCHEDULER_PARAMETERS, name: 'vcpu_quota', value: -1, raw: ['vcpu_quota', 3, -1n] },
    { table: SCHEDULER_PARAMETERS, name: 'vcpu_period', value: 100_000, raw: ['vcpu_period', 4, 100_000n] },
    { table: SCHEDULER_PARAMETERS, name: 'vcpu_period', value: -1, raw: undefined },
    { table: SCHEDULER_PARAMETERS, name: 'cpu_shares', value: 1.5, raw: undefined },
    { table: SCHEDULER_PARAMETERS, name: 'cpu_shares', value: 2 ** 53, raw: undefined },
    {
      table: BLOCK_IO_TUNE_PARAMETERS,
      name: 'read_iops_sec_max',
      value: most,
      raw: ['read_iops_sec_max', 4, most],
    },
    { table: BLOCK_IO_TUNE_PARAMETERS, name: 'total_bytes_sec', value: most + 1n, raw: undefined },
    { table: BLOCK_IO_TUNE_PARAMETERS, name: 'group_name', value: 'g', raw: ['group_name', 7, 'g'] },
    { table: BLOCK_IO_TUNE_PARAMETERS, name: 'group_name', value: 1, raw: undefined },
    { table: INTERFACE_PARAMETERS, name: 'inbound.average', value: 128n, raw: ['inbound.average', 2, 128] },
    { table: INTERFACE_PARAMETERS, name: 'inbound.average', value: 2 ** 32, raw: undefined },
    { table: INTERFACE_PARAMETERS, name: 'inbound.average', value: Number.NaN, raw: undefined },
    { table: INTERFACE_PARAMETERS, name: 'inbound', value: 1, raw: undefined },
  ]) {
    const title = `${name} = ${value}`;
    if (raw === undefined) {
      t.throws(
        () => encodeParameters('virX', table, { [name]: value }),
        { code: LIBVIRT_ERROR.invalidArg },
        title,
      );
    } else {
      t.strictSame(encodeParameters('virX', table, { [name]: value }), [raw], title);
    }
  }
});

t.test('statistics are packed exactly', needsShim, async (t) => {
  const libvirt = await open(t, 'shim:///3');
  const stats = await libvirt.allDomainStats(['state']);
  t.strictSame(
    stats.domains.map((domain) => `${domain.name} ${domain.id} ${domain.uuid.slice(-4)}`),
    ['guest-0 1 0000', 'guest-1 2 0001', 'guest-2 3 0002'],
  );
  t.strictSame([...stats.offsets], [0, 88, 176, 264]);
  t.equal(stats.keys.length, 88);

  const first = 88; // of guest-1
  const values = stats.values.slice(first, first + 10);
  t.strictSame([...stats.types.slice(first, first + 10)], [4, 4, 3, 1, 2, 5, 6, 7, 7, 4]);
  t.equal(BigInt.asUintN(64, values[0] ?? 0n), 2n ** 64n - 1n);
  t.equal(values[1], 2n ** 53n + 1n);
  t.equal(values[2], -(2n ** 63n));
  t.equal(values[3], -(2n ** 31n));
  t.equal(values[4], 2n ** 32n - 1n);
  t.equal(new Float64Array(values.buffer)[5], 0.1);
  t.equal(values[6], 1n);
  t.equal(stats.strings[Number(values[7])], 'vda');
  t.equal(stats.strings[Number(values[8])], '/images/guest-1.qcow2');
  t.equal(values[9], 1_009n);
  t.equal(stats.keys[stats.keyIds[first + 9] ?? -1], 'shim.9');

  const again = await libvirt.allDomainStats(['state']);
  t.equal(again.keys, stats.keys, 'keys are shared by all answers');
  t.equal(again.keys.length, 88);
  t.strictSame(again.domains, stats.domains);
  t.strictSame(again.values, stats.values);
  await libvirt.close();

  const empty = await open(t, 'shim:///0');
  const none = await empty.allDomainStats(['state']);
  t.strictSame([none.domains, [...none.offsets], none.values.length, none.strings], [[], [0], 0, []]);
  await empty.close();
});

t.test('a lane keeps order, time-outs, cancellation and its bound', needsShim, async (t) => {
  const libvirt = await open(t, 'shim:///8');
  const domains = await libvirt.listDomains();
  const [guest] = domains;
  if (guest === undefined) throw new Error('the shim has no guest');
  const ask = (command: string, options = {}): Promise<string> =>
    libvirt.qemuAgentCommand(guest, command, 5, options);

  // One call in flight: two of 150 ms on one lane need 300 ms, and come back in order.
  const started = performance.now();
  const order: string[] = [];
  const remember = (answer: string): void => void order.push(answer);
  await Promise.all([
    ask('sleep 150').then(remember),
    ask('sleep 151').then(remember),
    ask('third').then(remember),
  ]);
  t.strictSame(order, ['sleep 150', 'sleep 151', 'third']);
  t.ok(performance.now() - started >= 295, 'one at a time');

  const hung = ask('sleep 400', { timeoutMs: 100 });
  const late = failureOf(hung);
  const abort = new AbortController();
  const cancelled = failureOf(ask('never', { signal: abort.signal }));
  const queued = failureOf(ask('never', { timeoutMs: 50 }));
  const patient = ask('after');
  abort.abort();
  t.match(await cancelled, { code: LIBVIRT_ERROR.cancelled, notStarted: true });
  t.match(await queued, { code: LIBVIRT_ERROR.timeout, notStarted: true, message: /has not started/ });
  t.match(await late, {
    code: LIBVIRT_ERROR.timeout,
    notStarted: false,
    message: /within 100 ms.*may still take effect/,
  });
  t.match(await failureOf(ask('never', { signal: abort.signal })), {
    code: LIBVIRT_ERROR.cancelled,
    notStarted: true,
  });

  const other = performance.now();
  t.equal(await libvirt.getVcpus(guest, {}), 1, 'other lanes go on');
  t.equal((await libvirt.allDomainStats(['state'])).domains.length, 8);
  t.ok(performance.now() - other < 150);
  t.equal(await patient, 'after', 'the lane goes on when its call has come back');

  const holding = ask('sleep 200');
  const waiting = Array.from({ length: LANE_QUEUE_MAX }, (_, i) => ask(`${i}`));
  t.match(await failureOf(ask('one too many')), { code: LIBVIRT_ERROR.laneFull, notStarted: true });
  await holding;
  t.strictSame(await Promise.all(waiting), [...waiting.keys()].map(String));

  // An abort after the start changes nothing.
  const started2 = new AbortController();
  const running = ask('sleep 50', { signal: started2.signal });
  started2.abort();
  t.equal(await running, 'sleep 50');

  const inFlight = failureOf(ask('sleep 3000'));
  const behind = failureOf(ask('never'));
  const closing = performance.now();
  await libvirt.close();
  t.ok(performance.now() - closing < 2_800, 'close does not wait for a hung call');
  t.match(await inFlight, { code: LIBVIRT_ERROR.disconnected, notStarted: false });
  t.match(await behind, { code: LIBVIRT_ERROR.disconnected, notStarted: true });
});

t.test('an answer after its time-out still teaches its keys', needsShim, async (t) => {
  const libvirt = await open(t, 'shim:///20000');
  t.match(await failureOf(libvirt.allDomainStats(['state'], { timeoutMs: 1 })), {
    code: LIBVIRT_ERROR.timeout,
  });
  const stats = await libvirt.allDomainStats(['state']);
  t.equal(stats.keys.length, 88);
  t.equal(stats.keys[stats.keyIds[87] ?? -1], 'shim.87');
  await libvirt.close();
});

t.test('connection listeners', needsShim, async (t) => {
  const libvirt = await open(t, 'shim:///1');
  const states: string[] = [];
  const unsubscribe = libvirt.onConnection(({ state }) => void states.push(state));
  libvirt.onConnection(({ state }) => void states.push(`second ${state}`))();
  await libvirt.close();
  unsubscribe();
  t.strictSame(states, ['connected', 'second connected', 'disconnected']);
});

t.test('a connection that dies comes back by itself', needsShim, async (t) => {
  const libvirt = await open(t, 'shim:///8');
  const [guest] = await libvirt.listDomains();
  if (guest === undefined) throw new Error('the shim has no guest');
  const states: string[] = [];
  libvirt.onConnection(({ state }) => void states.push(state));

  const died = failureOf(libvirt.qemuAgentCommand(guest, 'die', 5));
  const behind = failureOf(libvirt.qemuAgentCommand(guest, 'never', 5));
  t.match(await died, { code: LIBVIRT_ERROR.disconnected, notStarted: false, message: /told to die/ });
  t.match(await behind, { code: LIBVIRT_ERROR.disconnected, notStarted: true });
  t.equal((await libvirt.allDomainStats(['state'])).domains.length, 8, 'other lanes go on');
  for (let waited = 0; states.length < 3 && waited < 100; ++waited) await sleep(20);
  t.strictSame(states, ['connected', 'disconnected', 'connected']);
  t.equal(await libvirt.qemuAgentCommand(guest, 'again', 5), 'again');
});

t.test(
  'events arrive in order, and a storm beyond the bound says that some were lost',
  needsShim,
  async (t) => {
    const libvirt = await open(t, 'shim:///8');
    const [guest] = await libvirt.listDomains();
    if (guest === undefined) throw new Error('the shim has no guest');
    const details: number[] = [];
    libvirt.on('lifecycle', (event) => void details.push(event.detail));
    const states: string[] = [];
    libvirt.onConnection((now) => void states.push(now.state === 'connected' ? now.state : now.reason));

    await libvirt.qemuAgentCommand(guest, 'storm 5000', 5);
    for (let waited = 0; details.length < 5_000 && waited < 100; ++waited) await sleep(20);
    t.strictSame(details, [...details.keys()]);
    t.equal(details.length, 5_000);

    const storm = libvirt.qemuAgentCommand(guest, 'storm 70000', 5);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500); // the event loop is busy with something else
    await storm;
    for (let waited = 0; states.length < 3 && waited < 200; ++waited) await sleep(20);
    t.strictSame(states, ['connected', 'events came faster than they were taken', 'connected']);
    t.equal(details.length, 5_000 + 65_536, 'what fitted was delivered');
    await libvirt.qemuAgentCommand(guest, 'storm 1', 5);
    for (let waited = 0; details.length < 70_537 && waited < 100; ++waited) await sleep(20);
    t.equal(details.length, 70_537, 'and events go on');
  },
);

t.test('a thread inside a hung call outlives whoever started it', needsShim, async (t) => {
  // Both end with calls in flight, whose threads come back to an environment that is gone.
  const connection = new URL('../../libvirt-adapter/native/connection.js', import.meta.url).href;
  const hang = `
    const { NativeLibvirt } = await import('${connection}');
    const libvirt = await NativeLibvirt.open('shim:///8', { library: { libvirt: '${shimPath}' } });
    for (const guest of await libvirt.listDomains()) {
      libvirt.qemuAgentCommand(guest, 'sleep 300', 5).catch(() => {});
    }`;

  const worker = new Worker(
    `(async () => {${hang}
    require('node:worker_threads').parentPort.postMessage('hung');
    for (;;) await libvirt.allDomainStats(['state']);
  })()`,
    { eval: true },
  );
  t.equal(await new Promise((resolve) => worker.once('message', resolve)), 'hung');
  await worker.terminate();
  await sleep(400);

  const exit = spawnSync(process.execPath, ['--input-type=module', '-e', `${hang}\nprocess.exit(7);`]);
  t.strictSame([exit.status, exit.signal, String(exit.stderr)], [7, null, '']);
});
