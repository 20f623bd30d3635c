// Goal: the fake is cheap enough to measure others by, and has the traps that real guests have. Method: costs by the
// process' own CPU time over many calls; each trap by the call that springs it.
import t from 'tap';
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { steady } from '../../libvirt-adapter/fake/guest-script.ts';
import { ManualClock, settle } from '../../libvirt-adapter/fake/manual-clock.ts';
import { LIBVIRT_ERROR, type LibvirtEvent } from '../../libvirt-adapter/libvirt.ts';

const LIVE = { live: true };

t.test('1,000 guests cost little', async (t) => {
  const clock = new ManualClock();
  const libvirt = new FakeLibvirt({ clock });
  const demand = steady({ cpuMillicores: 500, memoryKib: 200_000 });
  const refs = Array.from({ length: 1000 }, (_, i) => libvirt.addGuest({ name: `g${i}`, demand }));
  const [ref] = refs as [(typeof refs)[0]];
  const costUs = async (times: number, call: (i: number) => Promise<unknown>) => {
    for (let i = 0; i < times / 4; i += 1) await call(i);
    const before = process.cpuUsage();
    for (let i = 0; i < times; i += 1) await call(i);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / times;
  };
  // Bounds are ten times what an idle machine shows: they catch a cost that grows with the guests, not a busy host.
  for (const [name, boundUs, times, call] of [
    ['getSchedulerParameters', 30, 20_000, () => libvirt.getSchedulerParameters(ref, LIVE)],
    [
      'setSchedulerParameters',
      60,
      20_000,
      (i) => libvirt.setSchedulerParameters(ref, { global_quota: 2000n + BigInt(i) }, LIVE),
    ],
    ['memoryStats', 30, 20_000, () => libvirt.memoryStats(ref)],
    ['domainXml', 200, 5_000, () => libvirt.domainXml(ref)],
  ] as const satisfies [string, number, number, (i: number) => Promise<unknown>][]) {
    const us = await costUs(times, call);
    t.ok(us < boundUs, `${name}: ${us.toFixed(1)} us a call`);
    t.comment(`${name}: ${us.toFixed(1)} us`);
  }
  const us = await costUs(8, async () => {
    await clock.advance(1000);
    await libvirt.allDomainStats(['state', 'cpuTotal', 'balloon', 'interface']);
  });
  t.ok(us < 200_000, `a second of 1,000 guests and their statistics: ${(us / 1000).toFixed(1)} ms`);
  t.comment(`allDomainStats of 1,000: ${(us / 1000).toFixed(1)} ms`);
});

t.test('an emulated guest does not give a vCPU back, and the next plug crashes it', async (t) => {
  const clock = new ManualClock();
  const libvirt = new FakeLibvirt({ clock });
  const ref = libvirt.addGuest({ name: 'g', type: 'qemu', vcpusPlugged: 2 });
  const events: LibvirtEvent[] = [];
  libvirt.on('lifecycle', (event) => events.push(event));
  await t.rejects(settle(clock, libvirt.setVcpus(ref, 1, LIVE)), { code: LIBVIRT_ERROR.operationTimeout });
  await t.rejects(settle(clock, libvirt.setVcpus(ref, 3, LIVE)), { code: LIBVIRT_ERROR.operationFailed });
  t.match(events, [{ event: 'stopped', domain: { name: 'g' } }]);
  await t.rejects(libvirt.memoryStats(ref), { code: LIBVIRT_ERROR.operationInvalid });
});

t.test('calls fail as libvirt makes them fail', async (t) => {
  const libvirt = new FakeLibvirt({ clock: new ManualClock() });
  const ref = libvirt.addGuest({ name: 'g', bootMemoryKib: 1000 });
  const nobody = { uuid: 'nobody', name: 'nobody', id: -1 };
  const { invalidArg, noDomain, cancelled, disconnected } = LIBVIRT_ERROR;
  for (const [code, call] of [
    [invalidArg, () => libvirt.setMemory(ref, 1001n, LIVE)],
    [invalidArg, () => libvirt.setVcpus(ref, 5, LIVE)],
    [invalidArg, () => libvirt.setSchedulerParameters(ref, { global_quota: 999n }, LIVE)],
    [invalidArg, () => libvirt.setBlockIoTune(ref, 'vda', { total_bytes_sec: 1n, read_bytes_sec: 1n }, LIVE)],
    [noDomain, () => libvirt.domainXml(nobody)],
    [noDomain, () => libvirt.lookupByName('nobody')],
    [cancelled, () => libvirt.nodeInfo({ signal: AbortSignal.abort() })],
  ] as [number, () => Promise<unknown>][]) {
    await t.rejects(call(), { name: 'LibvirtError', code }, String(call));
  }
  libvirt.die();
  await t.rejects(libvirt.nodeInfo(), { code: disconnected, notStarted: true });
});

t.test('a daemon that hangs holds its calls until it answers, they time out, or it dies', async (t) => {
  const clock = new ManualClock();
  const libvirt = new FakeLibvirt({ clock });
  libvirt.stopAnswering();
  const patient = libvirt.nodeInfo();
  await t.rejects(settle(clock, libvirt.nodeInfo({ timeoutMs: 700 })), { code: LIBVIRT_ERROR.timeout });
  libvirt.answerAgain();
  t.match(await patient, { cpus: Number });
  libvirt.stopAnswering();
  const doomed = libvirt.nodeInfo();
  const states: string[] = [];
  libvirt.onConnection(({ state }) => states.push(state));
  await clock.advance(10);
  libvirt.die();
  await t.rejects(doomed, { code: LIBVIRT_ERROR.rpc });
  libvirt.comeBack();
  t.match(await libvirt.nodeInfo(), { cpus: Number });
  t.strictSame(states, ['connected', 'disconnected', 'connected']);
});
