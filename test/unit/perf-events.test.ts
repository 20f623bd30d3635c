// Goal: perf events are switched on where the host has them, said once where not, and counted only when they are the whole
// guest's. Method: the contract of a host without a PMU over the fake, which real guests keep in
// test/e2e/perf-events.test.ts; a fake with a PMU for the rest; readings worked by hand.
import t from 'tap';
import { eachDomain } from '../../libvirt-adapter/domain-stats.ts';
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import type { FakeGuestScript } from '../../libvirt-adapter/fake/guest-script.ts';
import { ManualClock, settle } from '../../libvirt-adapter/fake/manual-clock.ts';
import { type DomainRef, LIBVIRT_ERROR } from '../../libvirt-adapter/libvirt.ts';
import { PERF_EVENTS, PerfEvents, WITNESS_EVENT } from '../../libvirt-adapter/perf-events.ts';
import {
  countedBetween,
  cyclesPerInstruction,
  type PerfReading,
  perfReading,
} from '../../libvirt-adapter/perf-reading.ts';
import { PerfTrack } from '../../libvirt-adapter/perf-track.ts';
import { executedBetween } from '../../orchestrator/core/sample.ts';
import { perfContract } from '../contract/perf-contract.ts';

const LIVE = { live: true };
const BUSY: Omit<FakeGuestScript, 'name'> = {
  vcpusMax: 2,
  demand: () => ({ cpuMillicores: 800 }),
  perfPerNs: { instructions: 1.5, cpu_cycles: 3, branch_instructions: 0.25, cache_misses: 0.001 },
};

function host(perfEvents: readonly string[]) {
  const clock = new ManualClock();
  const libvirt = new FakeLibvirt({ clock, host: { cpus: 4, memoryKib: 2 ** 24, perfEvents } });
  const reasons: string[] = [];
  const events = new PerfEvents(libvirt, { onUnsupported: (reason) => reasons.push(reason) });
  const read = async (domain: DomainRef): Promise<PerfReading | undefined> => {
    let reading: PerfReading | undefined;
    eachDomain(await libvirt.allDomainStats(['cpuTotal', 'perf'], { domains: [domain] }), (_, values) => {
      reading = perfReading(values);
    });
    return reading;
  };
  const isOn = async (domain: DomainRef) =>
    Object.entries(await libvirt.getPerfEvents(domain, LIVE)).flatMap(([event, on]) => (on ? [event] : []));
  return { clock, libvirt, reasons, events, read, isOn };
}

const plain = host([]);
perfContract({
  libvirt: plain.libvirt,
  async start(perfEvents) {
    const domain = plain.libvirt.addGuest({
      ...BUSY,
      name: `g${plain.libvirt.calls.get('destroyDomain') ?? 0}`,
      perfEvents,
    });
    await plain.clock.advance(1_000);
    return domain;
  },
  wait: (ms) => plain.clock.advance(ms),
  async restartDaemon() {
    plain.libvirt.die();
    plain.libvirt.comeBack();
  },
});

t.test('a guest that was started with its events is counted whole', async (t) => {
  const { clock, libvirt, events, reasons, read } = host(PERF_EVENTS);
  const domain = libvirt.addGuest({ ...BUSY, name: 'g', perfEvents: [...PERF_EVENTS, WITNESS_EVENT] });
  t.strictSame(await events.enable(domain), PERF_EVENTS);
  const from = await read(domain);
  await clock.advance(1_000);
  const to = await read(domain);
  const counted = countedBetween(from ?? {}, to ?? {});
  t.strictSame(counted, {
    instructions: 1_200_000_000, // 800 ms at 1.5 a nanosecond
    cpuCycles: 2_400_000_000,
    branchInstructions: 200_000_000,
    cacheMisses: 800_000,
  });
  t.equal(cyclesPerInstruction(counted ?? {}), 2);
  t.strictSame(reasons, []);
  await events.close();
  t.match(await read(domain), { instructions: Number }, 'they were on before us, and stay');
});

t.test('a guest whose counts begin anew has another run', async (t) => {
  const { clock, libvirt } = host(PERF_EVENTS);
  const track = new PerfTrack();
  const script = { ...BUSY, vcpusPlugged: 1, perfEvents: [...PERF_EVENTS, WITNESS_EVENT] };
  const domain = libvirt.addGuest({ ...script, name: 'g' });
  const take = async () => {
    await clock.advance(1_000);
    const stats = await libvirt.allDomainStats(['cpuTotal', 'perf'], { domains: [domain] });
    let step: ReturnType<PerfTrack['take']>;
    eachDomain(stats, (_, values) => {
      step = track.take(values);
    });
    return step;
  };
  t.equal(await take(), undefined, 'nothing to compare with');
  const [first, second] = [await take(), await take()];
  t.match(first, { instructions: { total: 2_400_000_000 }, hardware: { cyclesPerInstruction: 2 } });
  t.strictSame(first && second && executedBetween(first.instructions, second.instructions), {
    total: 1_200_000_000,
  });
  libvirt.saveAndRestore('g');
  t.equal(await take(), undefined, 'a new process');
  const third = await take();
  t.ok(third && second && third.instructions.run !== second.instructions.run);
  track.clear();
  t.equal(await take(), undefined, 'said to be another guest');
  const fourth = await take();
  t.ok(fourth && third && fourth.instructions.run !== third.instructions.run);
  libvirt.die();
  libvirt.comeBack();
  t.equal(await take(), undefined, 'the daemon counts anew');
  t.equal(await take(), undefined, 'and not the whole guest');
});

t.test('a host that has some of the events is asked for the others once', async (t) => {
  const { libvirt, events, reasons, isOn } = host(['instructions', 'cpu_cycles']);
  const [first, second] = ['a', 'b'].map((name) => libvirt.addGuest({ ...BUSY, name }));
  const counted = await Promise.all([first, second].map((domain) => events.enable(domain as DomainRef)));
  t.strictSame(counted, [
    ['instructions', 'cpu_cycles'],
    ['instructions', 'cpu_cycles'],
  ]);
  t.match(reasons, [/branch_instructions/]);
  t.equal(libvirt.calls.get('setPerfEvents'), 1 + PERF_EVENTS.length + 1 + 2, 'the second guest: two calls');
  t.strictSame((await isOn(second as DomainRef)).sort(), ['cpu_cycles', 'instructions', WITNESS_EVENT]);
  await events.close();
  t.strictSame(await isOn(first as DomainRef), []);
  t.strictSame(await isOn(second as DomainRef), []);
});

t.test(
  'a host without a PMU is asked again when the connection returns, and not told of again',
  async (t) => {
    const { libvirt, events, reasons } = host([]);
    const domain = libvirt.addGuest({ ...BUSY, name: 'g' });
    await events.enable(domain);
    const asked = libvirt.calls.get('setPerfEvents');
    await events.enable(domain);
    t.equal(libvirt.calls.get('setPerfEvents'), asked);
    libvirt.die();
    libvirt.comeBack();
    await events.enable(domain);
    t.ok((libvirt.calls.get('setPerfEvents') ?? 0) > (asked ?? 0));
    t.equal(reasons.length, 1);
  },
);

t.test("a guest's own failure tells nothing about the host", async (t) => {
  const { clock, libvirt, events, reasons } = host(PERF_EVENTS);
  const domain = libvirt.addGuest({ ...BUSY, name: 'g' });
  for (const [code, message, expected] of [
    [LIBVIRT_ERROR.operationInvalid, 'domain is not running', 'GUEST_NOT_RUNNING'],
    [LIBVIRT_ERROR.operationTimeout, 'cannot acquire state change lock', 'GUEST_BUSY'],
    [LIBVIRT_ERROR.noDomain, 'Domain not found', 'GUEST_NOT_FOUND'],
  ] as const) {
    libvirt.failNext('setPerfEvents', code, message);
    await t.rejects(events.enable(domain), { code: expected });
  }
  libvirt.stopAnswering();
  await t.rejects(settle(clock, events.enable(domain)), { code: 'HYPERVISOR_UNAVAILABLE' });
  libvirt.answerAgain();
  const answer = libvirt.setPerfEvents.bind(libvirt);
  libvirt.setPerfEvents = (...call) => {
    libvirt.stop('g');
    libvirt.failNext('setPerfEvents', 38, 'unable to open host cpu perf event: No such process');
    return answer(...call);
  };
  await t.rejects(events.enable(domain), { code: 'GUEST_NOT_RUNNING' });
  libvirt.setPerfEvents = answer;
  await libvirt.createDomain(domain);
  t.strictSame(await events.enable(domain), PERF_EVENTS);
  t.strictSame(reasons, []);
});

t.test('what was switched on before an answer was lost is taken back', async (t) => {
  const { libvirt, events, isOn } = host(PERF_EVENTS);
  const domain = libvirt.addGuest({ ...BUSY, name: 'g' });
  const answer = libvirt.setPerfEvents.bind(libvirt);
  libvirt.setPerfEvents = async (...call) => {
    await answer(...call);
    libvirt.failNext('getPerfEvents', LIBVIRT_ERROR.timeout, 'timed out');
  };
  await t.rejects(events.enable(domain), { code: 'HYPERVISOR_UNAVAILABLE' });
  libvirt.setPerfEvents = answer;
  libvirt.failNoMore();
  t.not((await isOn(domain)).length, 0);
  await events.close();
  t.strictSame(await isOn(domain), []);
});

t.test('events that a new run of the guest brings along are not ours', async (t) => {
  const { libvirt, events, isOn } = host(PERF_EVENTS);
  const domain = libvirt.addGuest({ ...BUSY, name: 'g' });
  await events.enable(domain);
  libvirt.stop('g');
  await libvirt.createDomain(domain);
  await libvirt.setPerfEvents(domain, { [WITNESS_EVENT]: true, instructions: true }, LIVE);
  t.strictSame(await events.enable(domain), ['instructions']);
  await events.close();
  t.strictSame((await isOn(domain)).sort(), ['instructions', WITNESS_EVENT]);
});

for (const { name, from, to, counted } of [
  {
    name: 'whole',
    from: { instructions: 100, seenNs: 1_000, usedNs: 5_000 },
    to: { instructions: 400, seenNs: 1_950, usedNs: 6_000 },
    counted: { instructions: 300 },
  },
  {
    name: 'not whole',
    from: { instructions: 100, seenNs: 1_000, usedNs: 5_000 },
    to: { instructions: 400, seenNs: 1_949, usedNs: 6_000 },
    counted: undefined,
  },
  {
    name: 'nobody tells what is seen',
    from: { instructions: 100, usedNs: 5_000 },
    to: { instructions: 400, usedNs: 6_000 },
    counted: undefined,
  },
  {
    name: 'switched on anew',
    from: { instructions: 100, seenNs: 1_000, usedNs: 5_000 },
    to: { instructions: 40, seenNs: 2_000, usedNs: 6_000 },
    counted: undefined,
  },
  {
    name: 'an idle guest',
    from: { instructions: 100, seenNs: 1_000, usedNs: 5_000 },
    to: { instructions: 100, seenNs: 1_000, usedNs: 5_000 },
    counted: { instructions: 0 },
  },
  {
    name: 'an event that came later',
    from: { instructions: 100, seenNs: 1_000, usedNs: 5_000 },
    to: { instructions: 400, cacheMisses: 7, seenNs: 2_000, usedNs: 6_000 },
    counted: { instructions: 300 },
  },
]) {
  t.test(`between two readings: ${name}`, async (t) => {
    t.strictSame(countedBetween(from, to), counted);
  });
}

t.test('cycles per instruction need both', async (t) => {
  t.equal(cyclesPerInstruction({ instructions: 4, cpuCycles: 6 }), 1.5);
  t.equal(cyclesPerInstruction({ instructions: 4 }), undefined);
  t.equal(cyclesPerInstruction({ cpuCycles: 4 }), undefined);
  t.equal(cyclesPerInstruction({ instructions: 0, cpuCycles: 4 }), undefined);
});
