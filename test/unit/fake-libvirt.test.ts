// Goal: the fake has the traps that real guests have. Method: each trap by the call that springs it.
import t from 'tap';
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { ManualClock, settle } from '../../libvirt-adapter/fake/manual-clock.ts';
import { LIBVIRT_ERROR, type LibvirtEvent } from '../../libvirt-adapter/libvirt.ts';

const LIVE = { live: true };

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

t.test('a guest whose balloon and vCPUs know no delay is at its sizes within the call', async (t) => {
  const libvirt = new FakeLibvirt({ clock: new ManualClock() });
  const ref = libvirt.addGuest({
    name: 'g',
    vcpusMax: 4,
    bootMemoryKib: 2_097_152,
    balloonKib: 262_144,
    onlineDelayMs: 0,
    balloon: { growKibPerS: Number.POSITIVE_INFINITY, shrinkKibPerS: Number.POSITIVE_INFINITY },
  });
  const moves: LibvirtEvent[] = [];
  libvirt.on('balloon-change', (event) => moves.push(event));
  await libvirt.setMemory(ref, 1_048_576n, LIVE);
  t.equal((await libvirt.memoryStats(ref)).actualBalloonKib, 1_048_576);
  await libvirt.setMemory(ref, 524_288n, LIVE);
  t.equal((await libvirt.memoryStats(ref)).actualBalloonKib, 524_288);
  t.match(moves, [{ actualKib: 1_048_576n }, { actualKib: 524_288n }]);
  await libvirt.setVcpus(ref, 3, LIVE);
  t.equal(libvirt.find('g')?.onlineCount, 3);
});
