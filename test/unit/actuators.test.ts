// Goal: what an actuator returns is what the guest has, whatever the guest, its agent or libvirt does; nothing unsafe is
// ever asked. Method: the fake hypervisor in manual time with one fault each; expectations worked by hand.
import t from 'tap';
import { createLibvirtAdapter } from '../../libvirt-adapter/adapter.ts';
import { translate } from '../../libvirt-adapter/errors.ts';
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { FakeReadings } from '../../libvirt-adapter/fake/fake-readings.ts';
import type { FakeGuestScript } from '../../libvirt-adapter/fake/guest-script.ts';
import { ManualClock, settle } from '../../libvirt-adapter/fake/manual-clock.ts';
import { LIBVIRT_ERROR, LibvirtError } from '../../libvirt-adapter/libvirt.ts';
import type { Baseline } from '../../orchestrator/core/guest.ts';
import type { Actuated } from '../../orchestrator/core/ports.ts';
import { type Entitlement, MIB } from '../../orchestrator/core/profile.ts';

const LIVE = { live: true };
const GIB_IN_KIB = 1024 * 1024;
const never = new AbortController().signal;

function lab(script: Partial<FakeGuestScript> = {}, options: { kvmUnplugIsSafe?: boolean } = {}) {
  const clock = new ManualClock();
  const libvirt = new FakeLibvirt({ clock });
  const ref = libvirt.addGuest({
    name: 'g',
    bootMemoryKib: GIB_IN_KIB,
    balloonKib: GIB_IN_KIB / 2,
    ...script,
  });
  const adapter = createLibvirtAdapter(libvirt, new FakeReadings(libvirt), {
    clock,
    tapShaping: true,
    ...options,
  });
  const now: Entitlement = { cpuMillicores: 1000, vcpuCount: 1, memoryBytes: 512 * MIB };
  return {
    clock,
    libvirt,
    ref,
    inspect: () => settle(clock, adapter.hypervisor.inspect(ref.uuid)),
    apply: (resource: Actuated, target: Partial<Entitlement>, signal = never) =>
      settle(clock, adapter.actuators[resource].apply(ref.uuid, { ...now, ...target }, signal)),
    restore: (resource: Actuated, baseline: Baseline) =>
      settle(clock, adapter.actuators[resource].restore(ref.uuid, baseline, never)),
    calls: () => libvirt.changes.map(({ call, argument }) => [call, argument]),
  };
}

t.test('cpu: the quota goes first, and the guest is asked only once it holds when it falls', async (t) => {
  const { libvirt, apply, calls } = lab({ vcpusPlugged: 1 });
  await apply('cpu', { cpuMillicores: 2500, vcpuCount: 3 });
  t.strictSame(calls(), [
    ['setSchedulerParameters', { global_quota: 250_000n }],
    ['setVcpus', { count: 3, live: true }],
  ]);
  libvirt.setLatency('setSchedulerParameters', 300);
  await apply('cpu', { cpuMillicores: 500, vcpuCount: 1 });
  t.strictSame(calls().slice(2), [
    ['setSchedulerParameters', { global_quota: 50_000n }],
    ['setVcpus', { count: 1, guest: true }],
  ]);
});

t.test('cpu: what is in force already is not set again', async (t) => {
  const { apply, calls } = lab();
  await apply('cpu', { cpuMillicores: 700 });
  const before = calls().length;
  await apply('cpu', { cpuMillicores: 700 });
  t.equal(calls().length, before);
});

t.test('cpu: more vCPUs than the guest can have are cut to what it can', async (t) => {
  const { apply } = lab({ vcpusMax: 2 });
  t.strictSame(await apply('cpu', { cpuMillicores: 6000, vcpuCount: 6 }), {
    cpuMillicores: 2000,
    vcpuCount: 2,
    cpuWeight: 1,
  });
});

t.test('cpu: an emulated guest is never asked to give a vCPU back', async (t) => {
  const { libvirt, apply, restore, calls, inspect } = lab({ type: 'qemu' }, { kvmUnplugIsSafe: true });
  const baseline = await inspect();
  for (let round = 0; round < 3; round += 1) {
    await apply('cpu', { cpuMillicores: 3000, vcpuCount: 3 });
    await restore('cpu', baseline);
  }
  t.notOk(libvirt.find('g')?.unplugAttempted);
  t.equal(libvirt.find('g')?.state, 'running');
  t.equal(calls().filter(([, argument]) => (argument as { count?: number }).count === 3).length >= 1, true);
});

t.test(
  'cpu: a KVM guest gives vCPUs back where that is known to be safe, and then has no quota left',
  async (t) => {
    const { apply, restore, inspect } = lab(
      { type: 'kvm', vcpuUnplugWorks: true },
      { kvmUnplugIsSafe: true },
    );
    const baseline = await inspect();
    await apply('cpu', { cpuMillicores: 3000, vcpuCount: 3 });
    t.strictSame(await restore('cpu', baseline), { cpuMillicores: 1000, vcpuCount: 1, cpuWeight: 1 });
    t.match(await inspect(), { vcpusPlugged: 1, cpuLimited: false });
  },
);

t.test('cpu: a refused unplug costs its time-out once, then the agent switches vCPUs off', async (t) => {
  const { clock, apply, restore, inspect } = lab({ type: 'kvm' }, { kvmUnplugIsSafe: true });
  const baseline = await inspect();
  await apply('cpu', { cpuMillicores: 2000, vcpuCount: 2 });
  const atMs = clock.monotonicMs();
  t.strictSame(await restore('cpu', baseline), { cpuMillicores: 1000, vcpuCount: 1, cpuWeight: 1 });
  t.ok(clock.monotonicMs() - atMs >= 5000, 'libvirt waited for the guest');
  t.match(await inspect(), { vcpusPlugged: 2, cpuLimited: true });
  await apply('cpu', { cpuMillicores: 2000, vcpuCount: 2 });
  const againMs = clock.monotonicMs();
  await restore('cpu', baseline);
  t.ok(clock.monotonicMs() - againMs < 1000, 'it is not asked again');
});

t.test('cpu: without an agent the online count is not claimed, the quota holds all the same', async (t) => {
  for (const agent of ['absent', 'disconnected'] as const) {
    const { clock, apply, libvirt } = lab({ agent });
    const atMs = clock.monotonicMs();
    t.strictSame(
      await apply('cpu', { cpuMillicores: 1500, vcpuCount: 2 }),
      { cpuMillicores: 1500, cpuWeight: 1 },
      agent,
    );
    t.ok(clock.monotonicMs() - atMs < 1000, 'and nobody waits for it');
    t.equal(libvirt.find('g')?.scheduler.global_quota, 150_000n);
  }
});

t.test('cpu: a hung agent costs a bounded time, and less the next time', async (t) => {
  const { clock, apply } = lab({ agent: 'hangs' });
  const atMs = clock.monotonicMs();
  t.strictSame(await apply('cpu', { cpuMillicores: 1500, vcpuCount: 2 }), {
    cpuMillicores: 1500,
    cpuWeight: 1,
  });
  t.ok(clock.monotonicMs() - atMs <= 10_000, `${clock.monotonicMs() - atMs} ms`);
  const againMs = clock.monotonicMs();
  await apply('cpu', { cpuMillicores: 1200, vcpuCount: 2 });
  t.ok(clock.monotonicMs() - againMs < 200, `${clock.monotonicMs() - againMs} ms`);
});

t.test('cpu: a caller that gives up gets what there is', async (t) => {
  const { clock, apply } = lab({ onlineDelayMs: 60_000 });
  const controller = new AbortController();
  clock.after(300, () => controller.abort());
  const held = await apply('cpu', { cpuMillicores: 2000, vcpuCount: 2 }, controller.signal);
  t.equal(held.cpuMillicores, 2000);
  t.ok(clock.monotonicMs() <= 1000, `${clock.monotonicMs()} ms`);
});

t.test('cpu: vCPUs that do not come online by themselves are switched on', async (t) => {
  const { apply, calls } = lab({ onlineDelayMs: 60_000 });
  t.strictSame(await apply('cpu', { cpuMillicores: 2000, vcpuCount: 2 }), {
    cpuMillicores: 2000,
    vcpuCount: 2,
    cpuWeight: 1,
  });
  t.strictSame(calls().at(-1), ['setVcpus', { count: 2, guest: true }]);
});

t.test("cpu: somebody's own quota stays and comes back as the only one", async (t) => {
  const { libvirt, ref, inspect, apply, restore } = lab({ vcpusPlugged: 2 });
  await libvirt.setSchedulerParameters(ref, { vcpu_quota: 30_000n }, LIVE);
  const baseline = await inspect();
  t.match(baseline, { cpuLimited: true, entitlement: { cpuMillicores: 600 } });
  t.match(
    await apply('cpu', { cpuMillicores: 1500, vcpuCount: 2 }),
    { cpuMillicores: 600 },
    'less than was asked',
  );
  t.match(await restore('cpu', baseline), { cpuMillicores: 600 });
  t.equal(libvirt.find('g')?.scheduler.global_quota, -1n, 'ours is gone');
  await libvirt.setSchedulerParameters(ref, { vcpu_quota: -1n, global_quota: 80_000n }, LIVE);
  const limited = await inspect();
  await apply('cpu', { cpuMillicores: 1500, vcpuCount: 2 });
  await restore('cpu', limited);
  t.equal(libvirt.find('g')?.scheduler.global_quota, 80_000n, "a domain's own quota is put back");
});

t.test('memory: a balloon that sticks gives what it gave, after it has stalled', async (t) => {
  const { clock, apply } = lab({ balloonStuckAtKib: 400 * 1024 });
  t.strictSame(await apply('memory', { memoryBytes: 256 * MIB }), { memoryBytes: 400 * MIB });
  t.ok(clock.monotonicMs() < 6000, `${clock.monotonicMs()} ms: 1.75 s of moving and 3 s of patience`);
});

t.test('memory: a slow balloon is waited for', async (t) => {
  const { clock, apply } = lab({ balloon: { shrinkKibPerS: 16 * 1024 } });
  const held = await apply('memory', { memoryBytes: 256 * MIB });
  t.ok(Math.abs((held.memoryBytes ?? 0) - 256 * MIB) <= MIB);
  t.ok(clock.monotonicMs() > 15_000, `${clock.monotonicMs()} ms`);
});

t.test('memory: without a balloon nothing is claimed or moved', async (t) => {
  const { apply, calls } = lab({ balloon: false, balloonKib: GIB_IN_KIB });
  await t.rejects(apply('memory', { memoryBytes: 256 * MIB }), { code: 'NOT_SUPPORTED' });
  t.strictSame(
    await apply('memory', { memoryBytes: 1024 * MIB }),
    { memoryBytes: 1024 * MIB },
    'it has that',
  );
  t.strictSame(calls(), []);
});

t.test('memory: virtio-mem is spread over its devices in whole blocks', async (t) => {
  const { libvirt, apply } = lab({ virtioMemKib: [8 * 1024, 64 * 1024] });
  const held = await apply('memory', { memoryBytes: (1024 + 13) * MIB });
  t.ok(Math.abs((held.memoryBytes ?? 0) - (1024 + 14) * MIB) <= MIB, `${held.memoryBytes}`);
  t.strictSame(
    libvirt.find('g')?.virtioMem.map(({ currentKib }) => currentKib),
    [8 * 1024, 6 * 1024],
  );
});

t.test(
  'memory: the balloon shrinks after virtio-mem, whose blocks its pages would else lie in',
  async (t) => {
    const { libvirt, apply, calls } = lab({ virtioMemKib: [256 * 1024] });
    await apply('memory', { memoryBytes: (1024 + 256) * MIB });
    const held = await apply('memory', { memoryBytes: 512 * MIB });
    t.ok(Math.abs((held.memoryBytes ?? 0) - 512 * MIB) <= MIB, `${held.memoryBytes}`);
    t.strictSame(
      libvirt.find('g')?.virtioMem.map(({ currentKib }) => currentKib),
      [0],
    );
    t.strictSame(
      calls().map(([call]) => call),
      ['updateDevice', 'setMemory', 'updateDevice', 'setMemory'],
      'each is asked once',
    );
  },
);

t.test('memory: virtio-mem whose pages are in use is asked again', async (t) => {
  const { clock, libvirt, apply } = lab({ virtioMemKib: [64 * 1024], virtioMemBusyRequests: 2 });
  await apply('memory', { memoryBytes: (1024 + 64) * MIB });
  const atMs = clock.monotonicMs();
  t.strictSame(await apply('memory', { memoryBytes: 1024 * MIB }), { memoryBytes: 1024 * MIB });
  t.strictSame(
    libvirt.find('g')?.virtioMem.map(({ currentKib }) => currentKib),
    [0],
  );
  const tookMs = clock.monotonicMs() - atMs;
  t.ok(tookMs > 2_000 && tookMs < 5_000, `${tookMs} ms: three requests of 0.3 s, 1.2 s between them`);
});

t.test('memory: virtio-mem that never shrinks is reported, and does not hold the balloon', async (t) => {
  const { clock, libvirt, apply } = lab({ virtioMemKib: [64 * 1024] });
  await apply('memory', { memoryBytes: (1024 + 64) * MIB });
  for (const device of libvirt.find('g')?.virtioMem ?? []) device.busyRequests = Number.POSITIVE_INFINITY;
  const atMs = clock.monotonicMs();
  const held = await apply('memory', { memoryBytes: 512 * MIB });
  const [keptKib = 0] = libvirt.find('g')?.virtioMem.map(({ currentKib }) => currentKib) ?? [];
  t.ok(keptKib > 0, `${keptKib} KiB stay plugged`);
  t.ok(Math.abs((held.memoryBytes ?? 0) - 512 * MIB - keptKib * 1024) <= MIB, `${held.memoryBytes}`);
  t.ok(clock.monotonicMs() - atMs < 40_000, `${clock.monotonicMs() - atMs} ms`);
  const growMs = clock.monotonicMs();
  await apply('memory', { memoryBytes: 896 * MIB });
  t.ok(
    clock.monotonicMs() - growMs < 1_000,
    `${clock.monotonicMs() - growMs} ms: growth does not wait for it`,
  );
});

t.test('memory: a caller that gives up still has all of it asked', async (t) => {
  const { apply, calls } = lab({ virtioMemKib: [64 * 1024] });
  await apply('memory', { memoryBytes: (1024 + 64) * MIB });
  await apply('memory', { memoryBytes: 512 * MIB }, AbortSignal.abort());
  t.strictSame(
    calls()
      .slice(-2)
      .map(([call]) => call),
    ['updateDevice', 'setMemory'],
  );
});

t.test('disk: every disk gets the limit; a limit on the total is left alone', async (t) => {
  const { libvirt, ref, apply } = lab({ disks: ['vda', 'vdb'] });
  t.strictSame(await apply('disk', { diskReadBytesPerS: 5e6 }), { diskReadBytesPerS: 5e6 });
  t.strictSame(
    libvirt.find('g')?.disks.map(({ tune }) => tune.read_bytes_sec),
    [5_000_000n, 5_000_000n],
  );
  await apply('disk', {});
  await libvirt.setBlockIoTune(ref, 'vda', { total_bytes_sec: 9_000_000n }, LIVE);
  await libvirt.setBlockIoTune(ref, 'vdb', { total_bytes_sec: 9_000_000n }, LIVE);
  await t.rejects(apply('disk', { diskReadBytesPerS: 5e6 }), { code: 'NOT_SUPPORTED' });
});

t.test('disk: limits that differ between disks are left alone by a restore', async (t) => {
  const { libvirt, ref, inspect, restore } = lab({ disks: ['vda', 'vdb'] });
  await libvirt.setBlockIoTune(ref, 'vda', { read_bytes_sec: 1_000_000n }, LIVE);
  const baseline = await inspect();
  t.notOk(baseline.capabilities.diskLimits);
  await restore('disk', baseline);
  t.equal(libvirt.find('g')?.disks[0]?.tune.read_bytes_sec, 1_000_000n);
});

t.test('disk: a refusal with nothing moved is the answer', async (t) => {
  const { libvirt, apply } = lab({ disks: ['vda', 'vdb'] });
  libvirt.failNext('setBlockIoTune', LIBVIRT_ERROR.operationFailed, 'no');
  await t.rejects(apply('disk', { diskReadBytesPerS: 5e6 }), { code: 'ACTUATION_REFUSED' });
  t.strictSame(await apply('disk', { diskReadBytesPerS: 5e6 }), { diskReadBytesPerS: 5e6 });
});

t.test(
  "disk: operations are limited beside bytes; somebody's limit on their total is left alone",
  async (t) => {
    const { libvirt, ref, inspect, apply } = lab();
    const limits = { diskReadBytesPerS: 5e6, diskWriteOpsPerS: 100 };
    t.strictSame(await apply('disk', limits), limits);
    t.match((await inspect()).entitlement, limits);
    t.strictSame(await apply('disk', {}), {});
    await libvirt.setBlockIoTune(ref, 'vda', { total_iops_sec: 900n }, LIVE);
    t.match(await inspect(), { capabilities: { diskLimits: false }, entitlement: { diskReadOpsPerS: 900 } });
    await t.rejects(apply('disk', { diskReadBytesPerS: 5e6 }), { code: 'NOT_SUPPORTED' });
    t.equal(libvirt.find('g')?.disks[0]?.tune.total_iops_sec, 900n);
  },
);

t.test('disk: a rate that is none is refused, and nothing is asked', async (t) => {
  const { apply, calls } = lab();
  for (const rate of [-1, Number.NaN, Number.POSITIVE_INFINITY, 1e16]) {
    await t.rejects(apply('disk', { diskReadOpsPerS: rate }), { code: 'INVALID_REQUEST' }, `${rate}`);
  }
  t.strictSame(calls(), []);
});

t.test('net: kilobytes of 1,000, rounded up; what has no tap is refused', async (t) => {
  const { libvirt, apply } = lab();
  t.strictSame(await apply('net', { netRxBytesPerS: 1_000_001 }), { netRxBytesPerS: 1_001_000 });
  t.equal(libvirt.find('g')?.interfaces[0]?.bandwidth['inbound.average'], 1001);
  t.strictSame(await apply('net', {}), {});

  const tapless = lab({ interfaces: ['ethernet', 'user'] });
  await t.rejects(tapless.apply('net', { netRxBytesPerS: 1e6 }), { code: 'NOT_SUPPORTED' });
  t.strictSame(await tapless.apply('net', {}), {}, 'nothing asked, nothing refused');
  t.strictSame(tapless.calls(), []);
  t.equal((await tapless.inspect()).capabilities.netLimits, false);

  libvirt.failNext(
    'setInterfaceParameters',
    LIBVIRT_ERROR.internal,
    'Child process (tc) unexpected exit status 2',
  );
  await t.rejects(apply('net', { netRxBytesPerS: 1e6 }), { code: 'NOT_SUPPORTED' });
});

t.test('a guest that is off and a hypervisor that is gone are told apart', async (t) => {
  const off = lab({ state: 'shutoff' });
  const target = { cpuMillicores: 500, memoryBytes: 256 * MIB, diskReadBytesPerS: 1e6, netRxBytesPerS: 1e6 };
  for (const resource of ['cpu', 'memory', 'disk', 'net'] as const) {
    await t.rejects(off.apply(resource, target), { code: 'GUEST_NOT_RUNNING' }, resource);
  }
  t.strictSame(off.calls(), []);
  const gone = lab();
  gone.libvirt.die();
  for (const resource of ['cpu', 'memory', 'disk', 'net'] as const) {
    await t.rejects(
      gone.apply(resource, target),
      { code: 'HYPERVISOR_UNAVAILABLE', retryable: true },
      resource,
    );
  }
});

t.test('a daemon that dies while memory moves ends the wait', async (t) => {
  const { clock, libvirt, apply } = lab();
  clock.after(500, () => libvirt.die());
  await t.rejects(apply('memory', { memoryBytes: 128 * MIB }), { code: 'HYPERVISOR_UNAVAILABLE' });
});

t.test("libvirt's errors in the core's words", async (t) => {
  for (const [code, message, expected] of [
    [LIBVIRT_ERROR.noDomain, 'Domain not found', 'GUEST_NOT_FOUND'],
    [
      LIBVIRT_ERROR.operationInvalid,
      'Requested operation is not valid: domain is not running',
      'GUEST_NOT_RUNNING',
    ],
    [LIBVIRT_ERROR.operationInvalid, 'cannot change this', 'ACTUATION_REFUSED'],
    [LIBVIRT_ERROR.operationTimeout, 'cannot acquire state change lock', 'GUEST_BUSY'],
    [LIBVIRT_ERROR.configUnsupported, "interfaces of type 'user'", 'NOT_SUPPORTED'],
    [LIBVIRT_ERROR.argumentUnsupported, 'QEMU guest agent is not configured', 'NOT_SUPPORTED'],
    [LIBVIRT_ERROR.agentUnresponsive, 'agent is not connected', 'NOT_SUPPORTED'],
    [LIBVIRT_ERROR.rpc, 'client socket is closed', 'HYPERVISOR_UNAVAILABLE'],
    [LIBVIRT_ERROR.disconnected, 'gone', 'HYPERVISOR_UNAVAILABLE'],
    [LIBVIRT_ERROR.timeout, 'timed out', 'HYPERVISOR_UNAVAILABLE'],
    [LIBVIRT_ERROR.internal, 'unable to execute QEMU command', 'ACTUATION_REFUSED'],
    [987654, 'a code of a later libvirt', 'ACTUATION_REFUSED'],
  ] as const) {
    const cause = new LibvirtError({ code, domain: 10, level: 2, message, call: 'virCall' });
    const error = translate(cause, { guest: 'g' });
    t.match(
      error,
      { code: expected, cause, detail: { guest: 'g', call: 'virCall', libvirtCode: code } },
      message,
    );
  }
  const bug = new TypeError('ours');
  t.equal(translate(bug, {}), bug, 'a broken assumption is not dressed up');
});
