import t from 'tap';
import type { GuestCapabilities, GuestFacts, GuestId } from '../../orchestrator/core/guest.ts';
import type { Actuated, GuestEvent, HypervisorPorts } from '../../orchestrator/core/ports.ts';
import { type Entitlement, MIB, type ProfileField } from '../../orchestrator/core/profile.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';
import type { TimerClock } from '../../orchestrator/core/timer-clock.ts';

/**
 * A hypervisor with one running guest to try its ports on. The guest has 1 of 4 vCPUs plugged, an agent that answers, a
 * balloon, memory that can be plugged, one disk and one tap, and no limits.
 */
export interface Harness {
  readonly ports: HypervisorPorts;
  readonly guest: GuestId;
  readonly clock: TimerClock;
  readonly capabilities: Partial<GuestCapabilities>;
  readonly memory: MemorySizes;
  readonly samples: SampleKinds;
  /** Rates of the tap that can be held exactly. */
  readonly netLimits: Partial<Entitlement>;
  readonly somebodyElse: SomebodyElse;
  /** Let time pass until `work` has settled. */
  settle<T>(work: Promise<T>): Promise<T>;
  wait(ms: number): Promise<void>;
  /** Keep every vCPU of the guest busy for a time; resolves once it is. */
  makeBusy(forMs: number): Promise<void>;
}

/** Sizes to try, bytes, smallest first. */
export interface MemorySizes {
  /** Where the guest stands: its balloon has taken the rest. */
  readonly base: number;
  /** The balloon alone reaches it. */
  readonly more: number;
  /** Only plugged memory reaches it. */
  readonly most: number;
  readonly ceiling: number;
}

/** What samples of the hypervisor are like. */
export interface SampleKinds {
  readonly fullMs: number;
  readonly fastMs: number;
  /** What nobody can tell at the fast cadence. */
  readonly fastLacks: ProfileField;
  /** The time vCPUs wait for a host CPU is known. */
  readonly vcpuDelays: boolean;
  readonly instructions: boolean;
}

/** Another manager of the same guest. */
export interface SomebodyElse {
  limitCpu(millicores: number): Promise<unknown>;
  limitDiskReads(bytesPerS: number): Promise<unknown>;
  setMemory(bytes: number): Promise<unknown>;
  pause(): Promise<unknown>;
  resume(): Promise<unknown>;
}

const never = new AbortController().signal;

function isNear(actual: number | undefined, expected: number, within: number): boolean {
  return actual !== undefined && Math.abs(actual - expected) <= within;
}

/** Between looks at what is still to come, and how many: on a busy machine a clock that runs fast leaves little real time between them. */
const LOOK_MS = 100;
const LOOKS_MAX = 200;

/** Poll a condition that a hypervisor promises only for later. */
async function eventually<T>(
  harness: Harness,
  read: () => Promise<T>,
  holds: (value: T) => boolean,
): Promise<T> {
  for (let i = 0; ; i += 1) {
    const value = await harness.settle(read());
    if (holds(value) || i >= LOOKS_MAX) return value;
    await harness.wait(LOOK_MS);
  }
}

/**
 * The cases every hypervisor behind the core's ports has to pass, as subtests in an order in which each leaves the guest
 * as it found it.
 */
export function hypervisorContract(harness: Harness): void {
  const { ports: adapter, guest, memory, samples: kinds, somebodyElse } = harness;
  const settle = <T>(work: Promise<T>) => harness.settle(work);
  const wait = (ms: number) => harness.wait(ms);
  const inspect = () => settle(adapter.hypervisor.inspect(guest));
  const change = (actuator: Actuated, target: Partial<Entitlement>, signal = never) =>
    settle(adapter.actuators[actuator].apply(guest, { ...base.entitlement, ...target }, signal));
  const restore = (actuator: Actuated) => settle(adapter.actuators[actuator].restore(guest, base, never));
  let base: GuestFacts;

  t.teardown(() => adapter.close());

  t.test('a guest is described as it is', async (t) => {
    base = await inspect();
    t.match(base, {
      id: guest,
      state: 'running',
      entitlement: { cpuMillicores: 1000, vcpuCount: 1 },
      ceiling: { cpuMillicores: 4000, vcpuCount: 4, memoryBytes: memory.ceiling },
      capabilities: { vcpuPlug: true, agent: true, balloon: true, ...harness.capabilities },
      vcpusPlugged: 1,
      cpuLimited: false,
    });
    t.ok(isNear(base.entitlement.memoryBytes, memory.base, MIB), `${base.entitlement.memoryBytes}`);
    const listed = (await settle(adapter.hypervisor.guests())).find(({ id }) => id === guest);
    t.strictSame(listed, base, 'the list says the same');
  });

  t.test('a guest that does not exist is so in every answer', async (t) => {
    const nobody = '00000000-0000-4000-8000-000000000000';
    await t.rejects(settle(adapter.hypervisor.inspect(nobody)), { code: 'GUEST_NOT_FOUND' });
    for (const actuator of Object.values(adapter.actuators)) {
      const target = {
        cpuMillicores: 500,
        vcpuCount: 1,
        memoryBytes: memory.base,
        diskReadBytesPerS: 1e6,
        netRxBytesPerS: 1e6,
      };
      await t.rejects(
        settle(actuator.apply(nobody, target, never)),
        { code: 'GUEST_NOT_FOUND' },
        actuator.resource,
      );
      await t.rejects(settle(actuator.read(nobody)), { code: 'GUEST_NOT_FOUND' }, actuator.resource);
    }
  });

  t.test('CPU grows on the host and in the guest, and goes back as far as is safe', async (t) => {
    t.strictSame(await change('cpu', { cpuMillicores: 1500, vcpuCount: 2 }), {
      cpuMillicores: 1500,
      vcpuCount: 2,
      cpuWeight: 1,
    });
    const seen = await settle(adapter.window.see(guest, never));
    t.equal(seen?.vcpusOnline, 2, 'read inside the guest');
    t.match(await inspect(), {
      entitlement: { cpuMillicores: 1500, vcpuCount: 2 },
      cpuLimited: true,
      vcpusPlugged: 2,
    });

    t.strictSame(await restore('cpu'), { cpuMillicores: 1000, vcpuCount: 1, cpuWeight: 1 });
    const after = await inspect();
    t.match(after.entitlement, { cpuMillicores: 1000, vcpuCount: 1 });
    if (after.capabilities.vcpuUnplug) {
      t.equal(after.vcpusPlugged, 1);
      t.notOk(after.cpuLimited, 'nothing is left of our quota');
    } else {
      t.equal(after.vcpusPlugged, 2, 'a plugged vCPU stays: unplugging it is not safe here');
      t.ok(after.cpuLimited, 'and so does the quota that holds it to the baseline');
    }

    t.strictSame(await change('cpu', { cpuMillicores: 1800, vcpuCount: 2 }), {
      cpuMillicores: 1800,
      vcpuCount: 2,
      cpuWeight: 1,
    });
    t.equal((await settle(adapter.window.see(guest, never)))?.vcpusOnline, 2, 'online again');
    await restore('cpu');
  });

  t.test('a quota is what the guest can use, on the whole domain', async (t) => {
    const samples: GuestSample[] = [];
    const stop = adapter.telemetry.onSample((sample) => samples.push(sample));
    adapter.telemetry.watch(guest, 'fast');
    await change('cpu', { cpuMillicores: 400, vcpuCount: 1 });
    const busyMs = Math.max(6_000, 4 * kinds.fullMs);
    await harness.makeBusy(busyMs);
    await wait(busyMs - 1_000);
    adapter.telemetry.watch(guest, 'none');
    stop();
    for (const cadence of ['full', 'fast'] as const) {
      if (cadence === 'fast' && kinds.fastLacks === 'cpuMillicores') continue;
      const mine = samples.filter((sample) => sample.cadence === cadence);
      const usage = mine.flatMap(({ usage }) => usage.cpuMillicores ?? []);
      const peak = Math.max(...usage.slice(-Math.ceil(usage.length / 2)));
      t.ok(
        isNear(peak, 400, 80),
        `${cadence}: peak of ${mine.length} samples is ${Math.round(peak)} millicores`,
      );
    }
    const delays = samples.flatMap(({ vcpus }) => vcpus?.map((vcpu) => vcpu.delayFraction) ?? []);
    if (kinds.vcpuDelays) t.ok(Math.max(...delays) > 0.1, 'the vCPU thread waits while it is held back');
    await restore('cpu');
  });

  t.test('a weight is set beside the quota, and put back', async (t) => {
    t.equal(base.entitlement.cpuWeight, 1);
    t.match(await change('cpu', { cpuWeight: 2.5 }), { cpuMillicores: 1000, cpuWeight: 2.5 });
    t.match((await inspect()).entitlement, { cpuWeight: 2.5 });
    t.match(await change('cpu', { cpuMillicores: 700 }), { cpuMillicores: 700, cpuWeight: 1 });
    for (const cpuWeight of [0, -1, Number.NaN, 1e6]) {
      await t.rejects(change('cpu', { cpuWeight }), { code: 'INVALID_REQUEST' }, `${cpuWeight}`);
    }
    t.match(await restore('cpu'), { cpuWeight: 1 });
  });

  t.test('memory grows by the balloon, then by what is plugged, and comes back', async (t) => {
    const before = await settle(adapter.window.see(guest, never));
    const more = await change('memory', { memoryBytes: memory.more });
    t.ok(isNear(more.memoryBytes, memory.more, MIB), `balloon: ${more.memoryBytes}`);
    const grown = await settle(adapter.window.see(guest, never));
    const gained = (grown?.memTotalBytes ?? 0) - (before?.memTotalBytes ?? 0);
    t.ok(isNear(gained, memory.more - memory.base, 8 * MIB), `the guest sees ${gained} bytes more`);

    const most = await change('memory', { memoryBytes: memory.most });
    t.ok(isNear(most.memoryBytes, memory.most, 3 * MIB), `with what is plugged: ${most.memoryBytes}`);
    t.ok(isNear((await inspect()).entitlement.memoryBytes, memory.most, 3 * MIB));
    t.ok(isNear((await settle(adapter.actuators.memory.read(guest))).memoryBytes, memory.most, 3 * MIB));

    const back = await restore('memory');
    t.ok(isNear(back.memoryBytes, memory.base, MIB), `restored: ${back.memoryBytes}`);
  });

  t.test('more memory than there is gives what there is', async (t) => {
    const held = await change('memory', { memoryBytes: 2 * memory.ceiling });
    t.ok(isNear(held.memoryBytes, memory.ceiling, 3 * MIB), `${held.memoryBytes}`);
    await restore('memory');
  });

  t.test('an aborted change answers with what the guest has so far', async (t) => {
    const startMs = harness.clock.monotonicMs();
    const held = await change('memory', { memoryBytes: memory.more }, AbortSignal.abort());
    t.ok(harness.clock.monotonicMs() - startMs < 2_000, 'it does not wait');
    t.type(held.memoryBytes, 'number');
    await restore('memory');
  });

  t.test('disk limits come and go', async (t) => {
    const limits = {
      diskReadBytesPerS: 2_000_000,
      diskWriteBytesPerS: 1_000_000,
      diskReadOpsPerS: 400,
      diskWriteOpsPerS: 200,
    };
    t.strictSame(await change('disk', limits), limits);
    t.match((await inspect()).entitlement, limits);
    t.strictSame(await restore('disk'), {});
    t.notMatch((await inspect()).entitlement, { diskReadBytesPerS: Number });
  });

  t.test('net limits are in force or refused by name', async (t) => {
    const limits = harness.netLimits;
    const outcome = await change('net', limits).catch((error: unknown) => error);
    if (outcome instanceof Error) {
      t.match(outcome, { code: 'NOT_SUPPORTED' });
      t.strictSame(await settle(adapter.actuators.net.read(guest)), {}, 'and nothing is claimed');
      return;
    }
    t.strictSame(outcome, limits);
    t.strictSame(await restore('net'), {});
  });

  t.test('a change by someone else is told and read', async (t) => {
    const events: GuestEvent[] = [];
    const stop = adapter.hypervisor.onGuestEvent((event) => events.push(event));
    await settle(somebodyElse.limitCpu(700));
    await settle(somebodyElse.limitDiskReads(3_000_000));
    await settle(somebodyElse.setMemory(memory.more));
    const told = (resource: string) =>
      events.some((event) => event.kind === 'tuned' && event.resource === resource);
    for (const resource of ['cpu', 'disk', 'memory']) {
      t.ok(await eventually(harness, async () => told(resource), Boolean), `${resource} is told`);
    }
    t.match(await settle(adapter.actuators.cpu.read(guest)), { cpuMillicores: 700 });
    t.strictSame(await settle(adapter.actuators.disk.read(guest)), { diskReadBytesPerS: 3_000_000 });
    stop();
    for (const resource of ['cpu', 'disk', 'memory'] as const) await restore(resource);
  });

  t.test('samples carry what was read and nothing else', async (t) => {
    const samples: GuestSample[] = [];
    const stop = adapter.telemetry.onSample((sample) => samples.push(sample));
    adapter.telemetry.watch(guest, 'fast');
    const watchedMs = 5.5 * kinds.fullMs;
    await wait(watchedMs);
    const full = samples.filter((sample) => sample.cadence === 'full');
    const fast = samples.filter((sample) => sample.cadence === 'fast');
    t.ok(full.length >= 3 && full.length <= 6, `${full.length} full samples in ${watchedMs} ms`);
    t.ok(fast.length >= (0.45 * watchedMs) / kinds.fastMs, `${fast.length} fast samples in ${watchedMs} ms`);
    const last = full.at(-1);
    t.match(last, {
      guest,
      usage: { cpuMillicores: Number, memoryBytes: Number, diskReadBytesPerS: Number },
    });
    t.match(last?.memory, { balloonBytes: Number, availableBytes: Number, rssBytes: Number });
    const used = last?.usage.memoryBytes ?? 0;
    t.ok(used > 0 && used <= memory.more, `used memory is ${used}`);
    t.equal(fast.at(-1)?.usage[kinds.fastLacks], undefined, 'what is not known is absent');
    if (kinds.instructions) t.ok((last?.usage.instructionsPerS ?? 0) > 0, 'instructions are counted');
    for (const sample of samples) {
      const values = Object.values(sample.usage);
      t.ok(
        values.every((value) => Number.isFinite(value) && value >= 0),
        'no rate is negative or not a number',
      );
    }
    stop();
    adapter.telemetry.watch(guest, 'none');
  });

  t.test('a pause is told, flagged and survived', async (t) => {
    const samples: GuestSample[] = [];
    const events: string[] = [];
    const stop = [
      adapter.telemetry.onSample((sample) => samples.push(sample)),
      adapter.hypervisor.onGuestEvent((event) => events.push(event.kind)),
    ];
    adapter.telemetry.watch(guest, 'full');
    await wait(2.2 * kinds.fullMs);
    await settle(somebodyElse.pause());
    t.equal((await inspect()).state, 'paused');
    await wait(1.5 * kinds.fullMs);
    await settle(somebodyElse.resume());
    await wait(2.5 * kinds.fullMs);
    t.strictSame(
      events.filter((kind) => kind !== 'tuned'),
      ['paused', 'resumed'],
    );
    t.ok(
      samples.some(({ flags }) => flags.includes('paused')),
      'a sample that held the pause says so',
    );
    t.notOk(samples.at(-1)?.flags.includes('paused'), 'a later one does not');
    for (const done of stop) done();
    adapter.telemetry.watch(guest, 'none');
  });

  t.test('the guest is as it was', async (t) => {
    const { entitlement } = await inspect();
    t.match(entitlement, { cpuMillicores: 1000, vcpuCount: 1 });
    t.ok(isNear(entitlement.memoryBytes, memory.base, MIB), `${entitlement.memoryBytes}`);
  });
}
