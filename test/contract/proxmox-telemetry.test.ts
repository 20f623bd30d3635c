// Goal: samples of Proxmox VE say what was measured, over the time it was measured, and nothing that was not. Method: a mocked node
// in fast time, whose statistics daemon collects when the test says so.
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { createProxmoxAdapter } from '../../integrations/proxmox/adapter.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';
import type { MockGuest } from './proxmox/mock-guest.ts';
import { LEAST_PRIVILEGES, startMockNode, WITH_EXPORT } from './proxmox/mock-node.ts';

const { mock, api, clock } = await startMockNode({ speed: 8 });
let lastVmid = 100;

function given(config: Readonly<Record<string, string | number>> = {}): {
  readonly id: string;
  readonly guest: MockGuest;
} {
  lastVmid += 1;
  const id = randomUUID();
  const guest = mock.addGuest(lastVmid, { cores: 2, memory: 1024, smbios1: `uuid=${id}`, ...config });
  guest.boot();
  return { id, guest };
}

/** An adapter of its own, what it sampled and what failed. */
function observed(t: Test) {
  const failures: unknown[] = [];
  const ports = createProxmoxAdapter(api, {
    node: mock.node,
    clock,
    sampling: { fullMs: 1_000, fastMs: 100, instructionStep: 0 },
    onFailure: (cause) => failures.push(cause),
  });
  t.teardown(() => ports.close());
  const samples: GuestSample[] = [];
  ports.telemetry.onSample((sample) => samples.push(sample));
  return { ...ports, samples, failures };
}

function isNear(actual: number | undefined, expected: number, within: number): boolean {
  return actual !== undefined && Math.abs(actual - expected) <= within;
}

t.test('the export reads all guests without a lease at once, every generation once', async (t) => {
  mock.privileges = WITH_EXPORT;
  const [one, other] = [given(), given()];
  one.guest.busyMillicores = 1_500;
  const { telemetry, hypervisor, samples } = observed(t);
  await hypervisor.guests();
  const from = mock.calls.length;
  mock.collectMetrics();
  for (const { id } of [one, other]) telemetry.watch(id, 'full');
  await clock.wait(2_000);
  // Two rounds of the daemon between two questions.
  for (const pauseMs of [4_000, 4_000, 5_000]) {
    await clock.wait(pauseMs);
    mock.collectMetrics();
  }
  await clock.wait(11_000);
  const mine = samples.filter(({ guest }) => guest === one.id);
  t.equal(mine.length, 3);
  t.strictSame([...new Set(mine.map(({ atMs }) => atMs))].length, 3, 'none of them twice');
  for (const { usage, cadence, periodMs, memory } of mine) {
    t.equal(cadence, 'full');
    t.ok(isNear(usage.cpuMillicores, 1_500, 1), `${usage.cpuMillicores} millicores`);
    t.ok(
      isNear(usage.diskReadBytesPerS, 50_000, 15_000),
      `${usage.diskReadBytesPerS} bytes/s in ${periodMs} ms`,
    );
    t.ok(isNear(usage.netRxBytesPerS, 10_000, 3_000));
    t.equal(usage.memoryBytes, 100 * MIB, 'as its own status has it');
    t.equal(memory, undefined, 'no balloon was read');
  }
  const calls = mock.calls.slice(from);
  t.ok(calls.filter((call) => call.includes('/cluster/metrics/export')).length <= 3);
  t.ok(
    calls.some((call) => /start-time=\d+/.test(call)),
    'only what is new is asked for',
  );

  one.guest.stop();
  one.guest.boot();
  samples.length = 0;
  for (const pauseMs of [5_000, 10_000]) {
    await clock.wait(pauseMs);
    mock.collectMetrics();
  }
  await clock.wait(11_000);
  const anew = samples.filter(({ guest }) => guest === one.id);
  t.equal(anew.length, 1, 'nothing is made of two runs');
  t.ok(isNear(anew[0]?.usage.netRxBytesPerS, 10_000, 3_000), `${anew[0]?.usage.netRxBytesPerS} bytes/s`);
  mock.privileges = LEAST_PRIVILEGES;
});

t.test('where the export is not to be had, each guest is asked itself', async (t) => {
  const one = given();
  const { telemetry, samples, failures } = observed(t);
  telemetry.watch(one.id, 'full');
  await clock.wait(9_000);
  t.ok(samples.length >= 2 && samples.length <= 5, `${samples.length} samples in 9 s: no finer than 2 s`);
  t.equal(failures.length, 1, 'said once');
  t.match(String(failures[0]), /Permission check failed/);
});

t.test(
  'a lease brings CPU and network between complete samples, and what nobody measured is absent',
  async (t) => {
    const one = given();
    const { telemetry, samples } = observed(t);
    telemetry.watch(one.id, 'fast');
    await clock.wait(8_500);
    const [fast, full] = (['fast', 'full'] as const).map((kind) =>
      samples.filter(({ cadence }) => cadence === kind),
    );
    t.ok((fast?.length ?? 0) >= 4, `${fast?.length} fast samples`);
    t.ok((full?.length ?? 0) >= 2, `${full?.length} full samples`);
    t.match(fast?.at(-1)?.usage, { cpuMillicores: 20, netRxBytesPerS: Number });
    t.strictSame(Object.keys(fast?.at(-1)?.usage ?? {}).sort(), [
      'cpuMillicores',
      'netRxBytesPerS',
      'netTxBytesPerS',
    ]);
    t.match(full?.at(-1), {
      usage: { memoryBytes: 100 * MIB, diskReadBytesPerS: Number, diskWriteBytesPerS: Number },
      memory: {
        balloonBytes: 1024 * MIB,
        availableBytes: 964 * MIB,
        unusedBytes: 924 * MIB,
        rssBytes: 1024 * MIB,
      },
      pressure: { cpuSome: 0.125, memorySome: 0, ioSome: 0.01 },
      flags: [],
    });
    // The first answer of a worker that has not seen the guest before.
    one.guest.busyMillicores = 0;
    samples.length = 0;
    await clock.wait(4_500);
    t.ok(samples.length > 2);
    for (const { usage } of samples) t.notOk('cpuMillicores' in usage, 'a share of 0 is no share');
  },
);

t.test('a guest without a balloon that tells has no use of memory', async (t) => {
  const one = given({ balloon: 0 });
  const { telemetry, samples } = observed(t);
  telemetry.watch(one.id, 'fast');
  await clock.wait(5_500);
  const full = samples.filter(({ cadence }) => cadence === 'full').at(-1);
  t.ok(full);
  t.notOk(full && ('memoryBytes' in full.usage || full.memory !== undefined));
});

t.test('a node that was silent leaves a gap that is told, and a guest that is off no samples', async (t) => {
  const one = given();
  const { telemetry, samples } = observed(t);
  telemetry.watch(one.id, 'fast');
  await clock.wait(5_500);
  mock.misbehaviours.push({ at: 'GET /nodes', status: 500, body: '{"data":null,"message":"hm"}' });
  await clock.wait(8_000);
  mock.misbehaviours.length = 0;
  samples.length = 0;
  await clock.wait(5_500);
  t.ok(samples[0]?.flags.includes('gap'));
  t.notOk(samples.at(-1)?.flags.includes('gap'));
  one.guest.stop();
  await clock.wait(1_000);
  samples.length = 0;
  await clock.wait(5_000);
  t.strictSame(samples, []);
});

t.test('nothing was asked or answered outside the schema', async (t) => {
  t.strictSame(mock.violations, []);
});
