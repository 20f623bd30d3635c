// Goal: a sample says what happened and nothing else, whatever counters, clocks, guests and the daemon do; sampling comes
// back by itself. Method: the fake hypervisor in manual time, one disturbance each; expectations worked by hand.
import t from 'tap';
import { createLibvirtAdapter } from '../../libvirt-adapter/adapter.ts';
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { FakeReadings } from '../../libvirt-adapter/fake/fake-readings.ts';
import { type FakeGuestScript, phases, steady } from '../../libvirt-adapter/fake/guest-script.ts';
import { ManualClock } from '../../libvirt-adapter/fake/manual-clock.ts';
import type {
  HostReadings,
  InstructionCounter,
  InstructionCut,
} from '../../libvirt-adapter/host-readings.ts';
import { LIBVIRT_ERROR } from '../../libvirt-adapter/libvirt.ts';
import { MemoryUse } from '../../libvirt-adapter/memory-use.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';

const DEMAND = { cpuMillicores: 600, memoryKib: 200 * 1024, diskReadBytesPerS: 3e6, netTxBytesPerS: 2e6 };
const SCRIPT: FakeGuestScript = { name: 'g', bootMemoryKib: 1024 * 1024, demand: steady(DEMAND) };
const NO_READINGS: HostReadings = { open: async () => undefined };

function watch(
  script: Partial<FakeGuestScript> = {},
  options: { fast?: boolean; readings?: HostReadings } = {},
) {
  const clock = new ManualClock();
  const libvirt = new FakeLibvirt({ clock });
  const ref = libvirt.addGuest({ ...SCRIPT, ...script });
  const failures: unknown[] = [];
  const { telemetry } = createLibvirtAdapter(libvirt, options.readings ?? new FakeReadings(libvirt), {
    clock,
    onFailure: (cause) => failures.push(cause),
  });
  const samples: GuestSample[] = [];
  telemetry.onSample((sample) => samples.push(sample));
  telemetry.watch(ref.uuid, options.fast ? 'fast' : 'full');
  return {
    clock,
    libvirt,
    ref,
    telemetry,
    samples,
    failures,
    full: () => samples.filter(({ cadence }) => cadence === 'full'),
    fast: () => samples.filter(({ cadence }) => cadence === 'fast'),
  };
}

t.test('a steady guest gives its demand, in the units of the names', async (t) => {
  const { clock, full } = watch({}, { fast: true });
  await clock.advance(3_050);
  t.equal(full().length, 3);
  const last = full().at(-1);
  t.match(last, { periodMs: 1000, atMs: clock.nowMs() - 50, flags: [] });
  t.equal(Math.round(last?.usage.cpuMillicores ?? 0), 600);
  t.equal(Math.round(last?.usage.diskReadBytesPerS ?? 0), 3e6);
  t.equal(Math.round(last?.usage.netTxBytesPerS ?? 0), 2e6);
  t.equal(last?.usage.netRxBytesPerS, 0, 'nothing received is zero: it was read');
  t.equal(last?.usage.memoryBytes, 224 * MIB, '200 MiB of demand and 24 that the kernel keeps');
  t.equal(last?.usage.instructionsPerS, undefined, 'no counter, no value');
});

t.test('fast samples: from the first half second, each over the second before it', async (t) => {
  const burst = phases([
    { forMs: 3000, demand: { cpuMillicores: 0 } },
    { forMs: 1e6, demand: { cpuMillicores: 1000 } },
  ]);
  const { clock, fast } = watch({ demand: burst }, { fast: true });
  await clock.advance(5_050);
  t.equal(fast()[0]?.periodMs, 500);
  t.ok(fast().every(({ periodMs }) => periodMs <= 1000));
  const at = (ms: number) => fast().find(({ atMs }) => atMs === clock.nowMs() - 5_050 + ms);
  t.equal(at(3000)?.usage.cpuMillicores, 0);
  t.equal(Math.round(at(3300)?.usage.cpuMillicores ?? 0), 300, '300 ms of a second');
  t.equal(Math.round(at(4000)?.usage.cpuMillicores ?? 0), 1000);
  t.equal(at(4000)?.usage.memoryBytes, undefined, 'the host alone cannot tell');
});

t.test('block statistics come at their own cadence where nobody holds a lease', async (t) => {
  const { clock, full } = watch();
  await clock.advance(20_050);
  const withDisk = full().filter(({ usage }) => usage.diskReadBytesPerS !== undefined);
  t.equal(full().length, 20);
  t.equal(withDisk.length, 2, 'after 10 and 20 s');
  t.equal(Math.round(withDisk[0]?.usage.diskReadBytesPerS ?? 0), 3e6, 'over their own period');
});

t.test('save and restore: counters begin anew, no rate spans it', async (t) => {
  const { clock, libvirt, samples, full } = watch({}, { fast: true });
  await clock.advance(3_500);
  libvirt.saveAndRestore('g');
  samples.length = 0;
  await clock.advance(600);
  t.strictSame(full()[0]?.flags, ['counter-reset']);
  t.equal(full()[0]?.usage.cpuMillicores, undefined);
  t.equal(full()[0]?.usage.diskReadBytesPerS, undefined);
  t.ok((full()[0]?.usage.memoryBytes ?? 0) > 0, 'a size is not a rate');
  await clock.advance(3_000);
  t.strictSame(full().at(-1)?.flags, []);
  t.equal(Math.round(full().at(-1)?.usage.cpuMillicores ?? 0), 600);
  t.ok(
    samples.every(({ usage }) => (usage.cpuMillicores ?? 0) < 700),
    'no peak out of a reset',
  );
  t.ok(
    samples.some(({ cadence }) => cadence === 'fast'),
    'the new process was found',
  );
});

t.test('a restore that nobody told of, its counters higher by now', async (t) => {
  const { clock, libvirt, samples, full } = watch();
  await clock.advance(1_500);
  libvirt.die();
  libvirt.saveAndRestore('g');
  await clock.advance(10_000);
  samples.length = 0;
  libvirt.comeBack();
  await clock.advance(1_000);
  t.strictSame(full()[0]?.flags, ['counter-reset', 'gap']);
  t.equal(full()[0]?.usage.cpuMillicores, undefined);
});

t.test('availability is told when it changes, and only then', async (t) => {
  const { clock, libvirt } = watch();
  const { hypervisor } = createLibvirtAdapter(libvirt, NO_READINGS, { clock });
  const told: boolean[] = [];
  const stop = hypervisor.onAvailability((available) => told.push(available));
  t.ok(hypervisor.available);
  libvirt.die();
  t.notOk(hypervisor.available);
  libvirt.comeBack();
  stop();
  libvirt.die();
  t.strictSame(told, [false, true]);
});

t.test("a reboot: the guest's own counters go back, the host's do not", async (t) => {
  const swapping = { ...DEMAND, memoryKib: 2 * 1024 * 1024 };
  const { clock, libvirt, ref, samples, full } = watch({ demand: steady(swapping) });
  await clock.advance(3_500);
  t.ok((full().at(-1)?.memory?.majorFaultsPerS ?? 0) > 0);
  await libvirt.resetDomain(ref);
  samples.length = 0;
  await clock.advance(600);
  t.strictSame(full()[0]?.flags, ['counter-reset']);
  t.equal(full()[0]?.memory?.majorFaultsPerS, undefined);
  t.equal(Math.round(full()[0]?.usage.cpuMillicores ?? 0), 600);
});

t.test('the wall clock steps: rates stay, the sample says so', async (t) => {
  const { clock, samples, full } = watch();
  await clock.advance(2_500);
  for (const stepMs of [-3_600_000, 7_000]) {
    samples.length = 0;
    clock.stepWall(stepMs);
    await clock.advance(2_000);
    t.ok(full()[0]?.flags.includes('clock-step'), `${stepMs}`);
    t.equal(Math.round(full()[0]?.usage.cpuMillicores ?? 0), 600);
    t.equal(full()[0]?.atMs, clock.nowMs() - 1_500);
    t.notOk(full()[1]?.flags.includes('clock-step'));
  }
});

t.test('a pause is in the samples that held it', async (t) => {
  const { clock, libvirt, ref, samples, full } = watch({}, { fast: true });
  await clock.advance(2_500);
  samples.length = 0;
  await libvirt.suspendDomain(ref);
  await clock.advance(100);
  await libvirt.resumeDomain(ref);
  await clock.advance(2_000);
  t.strictSame(
    full().map(({ flags }) => flags),
    [['paused'], []],
    'a pause between two readings too',
  );
  t.ok(samples.some(({ cadence, flags }) => cadence === 'fast' && flags.includes('paused')));
  t.strictSame(samples.at(-1)?.flags, []);
});

t.test('a guest that leaves gives no sample, and one that comes back a flagged one', async (t) => {
  const { clock, libvirt, samples, full } = watch();
  await clock.advance(2_500);
  samples.length = 0;
  libvirt.migrateAway('g');
  await clock.advance(5_000);
  t.equal(samples.length, 0);
  libvirt.addGuest(SCRIPT);
  await clock.advance(600);
  t.strictSame(full()[0]?.flags, ['counter-reset', 'gap']);
  t.equal(full()[0]?.usage.cpuMillicores, undefined);
});

t.test('a guest that is off gives no sample and begins anew', async (t) => {
  const { clock, libvirt, ref, samples, full } = watch();
  await clock.advance(2_500);
  libvirt.stop('g');
  samples.length = 0;
  await clock.advance(3_000);
  t.equal(samples.length, 0);
  await libvirt.createDomain(ref);
  await clock.advance(2_000);
  t.strictSame(
    full().map(({ flags }) => flags),
    [[]],
  );
});

t.test('the daemon dies and returns: guests untouched, sampling resumed, the gap flagged', async (t) => {
  const { clock, libvirt, samples, failures, full, fast } = watch({}, { fast: true });
  await clock.advance(2_500);
  libvirt.die();
  samples.length = 0;
  await clock.advance(5_000);
  t.equal(full().length, 0);
  t.ok(fast().length >= 45, 'the host is still read');
  libvirt.comeBack();
  const backMs = clock.nowMs();
  await clock.advance(2_000);
  t.ok((full()[0]?.atMs ?? Number.POSITIVE_INFINITY) - backMs <= 1_000, 'within a second of the return');
  t.strictSame(full()[0]?.flags, ['gap']);
  t.equal(Math.round(full()[0]?.usage.cpuMillicores ?? 0), 600, 'the mean over the gap');
  t.strictSame(full()[1]?.flags, []);
  t.equal(libvirt.find('g')?.statsPeriodS, 1);
  t.strictSame(failures, []);
});

t.test('a daemon that does not answer: one call waits, none pile up', async (t) => {
  const { clock, libvirt, samples, failures, full } = watch();
  await clock.advance(2_500);
  libvirt.stopAnswering();
  const before = libvirt.calls.get('allDomainStats') ?? 0;
  samples.length = 0;
  await clock.advance(12_000);
  t.ok((libvirt.calls.get('allDomainStats') ?? 0) - before <= 3, 'one a time-out');
  t.ok(failures.length >= 2, 'and it is told');
  libvirt.answerAgain();
  await clock.advance(6_000);
  t.ok(full()[0]?.flags.includes('gap'));
  t.strictSame(full().at(-1)?.flags, []);
});

t.test('a failed call is told and costs one sample', async (t) => {
  const { clock, libvirt, failures, full } = watch();
  await clock.advance(2_500);
  libvirt.failNext('allDomainStats', LIBVIRT_ERROR.operationFailed, 'no');
  await clock.advance(1_000);
  t.equal(full().length, 2);
  t.match(failures, [{ code: LIBVIRT_ERROR.operationFailed }]);
  await clock.advance(1_000);
  t.match(full().at(-1), { periodMs: 2000, flags: [] });
});

t.test('stale statistics of the guest are left out', async (t) => {
  const { clock, libvirt, ref, full } = watch();
  await clock.advance(2_500);
  await libvirt.setMemoryStatsPeriod(ref, 0, { live: true });
  await clock.advance(8_000);
  const last = full().at(-1);
  t.strictSame(last?.flags, ['memory-stale']);
  t.equal(last?.usage.memoryBytes, undefined);
  t.equal(last?.memory?.usableBytes, undefined);
  t.equal(last?.memory?.balloonBytes, 1024 * MIB, "the host's own figures stay");
});

t.test('a guest without a balloon or host readings has what is left', async (t) => {
  const { clock, full, fast } = watch({ balloon: false }, { fast: true, readings: NO_READINGS });
  await clock.advance(3_050);
  const last = full().at(-1);
  t.equal(Math.round(last?.usage.cpuMillicores ?? 0), 600);
  t.equal(last?.usage.memoryBytes, undefined);
  t.equal(last?.vcpus, undefined);
  t.equal(fast().length, 0);
});

t.test('used memory does not jump while the balloon moves', async (t) => {
  const { clock, libvirt, ref, full } = watch({
    balloonKib: 512 * 1024,
    balloon: { shrinkKibPerS: 32 * 1024 },
  });
  await clock.advance(3_500);
  await libvirt.setMemory(ref, 1024n * 1024n, { live: true });
  await clock.advance(3_000);
  await libvirt.setMemory(ref, 400n * 1024n, { live: true });
  await clock.advance(25_000);
  const used = full().flatMap(({ usage }) => usage.memoryBytes ?? []);
  t.ok(used.length > 20);
  t.strictSame([...new Set(used)], [224 * MIB]);
});

t.test('used memory from figures of different moments', async (t) => {
  // MiB: balloon, available, usable; then what is known to be used. 16 MiB are the kernel's, 100 are used throughout.
  for (const { name, course } of [
    { name: 'nothing has stood still yet', course: [[512, 496, 412, undefined]] },
    {
      name: "the balloon's event comes late",
      course: [
        [512, 496, 412, undefined],
        [512, 496, 412, 100],
        [512, 1008, 924, 100],
        [1024, 1008, 924, 100],
        [1024, 1008, 924, 100],
      ],
    },
    {
      name: "the guest's figures come late",
      course: [
        [1024, 1008, 924, undefined],
        [1024, 1008, 924, 100],
        [512, 1008, 924, 100],
        [512, 496, 412, 100],
      ],
    },
    {
      name: 'a guest that counts its balloon as used',
      course: [
        [512, 1008, 412, undefined],
        [512, 1008, 412, 100],
        [600, 1008, 412, undefined],
        [600, 1008, 500, 100],
      ],
    },
  ] as const) {
    const use = new MemoryUse();
    for (const [step, [balloon, available, usable, expected]] of course.entries()) {
      const used = use.take({
        balloonBytes: balloon * MIB,
        availableBytes: available * MIB,
        usableBytes: usable * MIB,
      });
      t.equal(used === undefined ? undefined : used / MIB, expected, `${name}, step ${step}`);
    }
  }
});

t.test('what is no longer watched is let go, and close ends it all', async (t) => {
  const { clock, libvirt, ref, telemetry, samples } = watch({}, { fast: true });
  await clock.advance(2_500);
  telemetry.watch(ref.uuid, 'none');
  samples.length = 0;
  const calls = libvirt.calls.get('allDomainStats');
  await clock.advance(5_000);
  t.equal(samples.length, 0);
  t.equal(libvirt.calls.get('allDomainStats'), calls);
  await telemetry.close();
  telemetry.watch('g', 'fast');
  await clock.advance(5_000);
  t.equal(libvirt.calls.get('allDomainStats'), calls);
});

t.test('an unwatched guest is read and never changed', async (t) => {
  const clock = new ManualClock();
  const libvirt = new FakeLibvirt({ clock });
  libvirt.addGuest(SCRIPT);
  const adapter = createLibvirtAdapter(libvirt, new FakeReadings(libvirt), { clock });
  await adapter.hypervisor.guests();
  await clock.advance(5_000);
  t.strictSame(libvirt.changes, []);
});

t.test('samples of instructions come with the others, at the step the guest is set to', async (t) => {
  const clock = new ManualClock();
  const libvirt = new FakeLibvirt({ clock });
  const ref = libvirt.addGuest({
    ...SCRIPT,
    qemuArguments: ['-plugin', 'file=icount.so,out=/run/g.icount'],
  });
  let executed = 0;
  const pending: InstructionCut[] = [];
  const counter: InstructionCounter = {
    read: () => ({ run: '1', total: executed, classes: { branch: executed / 4, other: (executed * 3) / 4 } }),
    newCuts: () => ({ run: '1', cuts: pending.splice(0), lost: 0 }),
    close() {},
  };
  const { telemetry } = createLibvirtAdapter(libvirt, new FakeReadings(libvirt), {
    clock,
    openCounter: () => counter,
  });
  const samples: GuestSample[] = [];
  telemetry.onSample((sample) => samples.push(sample));
  telemetry.watch(ref.uuid, 'full', { instructionStep: 2e6 });
  for (let i = 0; i < 100; i += 1) {
    await clock.advance(50);
    executed += 1e6;
    pending.push({ vcpu: 0, total: executed, ageMs: 0 });
  }
  const full = samples.filter(({ cadence }) => cadence === 'full').at(-1);
  t.equal(full?.usage.instructionsPerS, 20e6);
  t.strictSame(full?.classes, { branch: 5e6, other: 15e6 }, 'in the second');
  t.equal(telemetry.instructions(ref.uuid)?.total, 100e6);
  const cuts = samples.filter(({ cadence }) => cadence === 'cut');
  t.ok(cuts.length >= 35, `${cuts.length} samples`);
  t.equal(cuts.at(-1)?.usage.memoryBytes, full?.usage.memoryBytes, 'with the memory last read');
  telemetry.watch(ref.uuid, 'full', {});
  samples.length = 0;
  await clock.advance(2_000);
  t.notOk(
    samples.some(({ cadence }) => cadence === 'cut'),
    'none unless asked for',
  );
});

t.test('perf events are switched on for whom it watches, and off again', async (t) => {
  const clock = new ManualClock();
  const libvirt = new FakeLibvirt({
    clock,
    host: {
      cpus: 4,
      memoryKib: 8 * 1024 * 1024,
      perfEvents: ['instructions', 'cpu_cycles', 'branch_instructions', 'cache_misses'],
    },
  });
  const ref = libvirt.addGuest(SCRIPT);
  const { telemetry } = createLibvirtAdapter(libvirt, new FakeReadings(libvirt), {
    clock,
    switchPerfEvents: true,
  });
  const areOn = async (): Promise<string[]> => {
    const events = await libvirt.getPerfEvents(ref, { live: true });
    return Object.keys(events).filter((event) => events[event]);
  };
  telemetry.watch(ref.uuid, 'full');
  await clock.advance(2_000);
  t.ok((await areOn()).includes('instructions'));
  telemetry.watch(ref.uuid, 'none');
  await clock.advance(500);
  t.strictSame(await areOn(), []);
});

t.test(
  'a guest that is due while the daemon is away is read when it is back, not a long period later',
  async (t) => {
    const clock = new ManualClock();
    const libvirt = new FakeLibvirt({ clock });
    const ref = libvirt.addGuest(SCRIPT);
    const { telemetry } = createLibvirtAdapter(libvirt, new FakeReadings(libvirt), { clock });
    const times: number[] = [];
    telemetry.onSample(({ atMs }) => times.push(atMs));
    telemetry.watch(ref.uuid, 'full', { fullMs: 60_000 });
    await clock.advance(59_000);
    libvirt.die();
    await clock.advance(3_000);
    libvirt.comeBack();
    await clock.advance(2_000);
    t.equal(times.length, 1, 'a second after its return');
  },
);
