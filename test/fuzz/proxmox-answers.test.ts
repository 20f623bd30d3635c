// Goal: whatever a node of Proxmox VE answers, a port of ours gives figures that are figures, or one of the core's errors; nothing
// breaks, and nothing hangs. Method: right answers of a mocked node, damaged at random places, from a seed that is printed.
import { randomInt } from 'node:crypto';
import t from 'tap';
import { createProxmoxAdapter } from '../../integrations/proxmox/adapter.ts';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import { type Entitlement, MIB } from '../../orchestrator/core/profile.ts';
import { startMockNode } from '../contract/proxmox/mock-node.ts';
import { randomFrom } from '../random.ts';

const ROUNDS = Number(process.env.FORESHADE_ROUNDS ?? 300);
const seed = Number(process.env.FORESHADE_SEED ?? randomInt(2 ** 31));
t.comment(`seed ${seed}, ${ROUNDS} rounds`);
const random = randomFrom(seed);
const chance = (below: number): number => Math.floor(random() * below);

const { mock, api, clock } = await startMockNode({ speed: 50, timeoutMs: 3_000 });
const UUID = '1b4e28ba-2fa1-41d2-883f-0016d3cca427';
const guest = mock.addGuest(101, {
  cores: 4,
  vcpus: 1,
  memory: 1024,
  balloon: 512,
  shares: 0,
  numa: 1,
  hotplug: 'cpu,memory',
  agent: 1,
  smbios1: `uuid=${UUID}`,
  scsi0: 'local-lvm:vm-101-disk-0,size=32G',
  net0: 'virtio=BC:24:11:2E:00:01,bridge=vmbr0',
});
guest.boot();

const WRONG = [
  null,
  true,
  -1,
  1e308,
  'NaN',
  '',
  '\u0000',
  [],
  {},
  [[]],
  { data: {} },
  'x'.repeat(10_000),
  0.1,
  '0x10',
];
const pick = <T>(all: readonly T[]): T => all[chance(all.length)] as T;

/** The same with one value replaced, at any depth. */
function damaged(value: unknown): unknown {
  if (chance(4) === 0 || typeof value !== 'object' || value === null) return pick(WRONG);
  if (Array.isArray(value)) {
    if (value.length === 0) return [pick(WRONG)];
    const at = chance(value.length);
    return value.map((item, i) => (i === at ? damaged(item) : item));
  }
  const keys = Object.keys(value);
  const key = pick(keys.length === 0 ? ['x'] : keys);
  return { ...value, [key]: damaged((value as Record<string, unknown>)[key]) };
}

/** A body as it should be, and then not quite. */
function spoilt(body: string): Buffer {
  switch (chance(4)) {
    case 0:
      return Buffer.from(body.slice(0, chance(body.length)));
    case 1: {
      const bytes = Buffer.from(body);
      for (let i = 0; i < 3; i += 1) bytes[chance(bytes.length)] = chance(256);
      return bytes;
    }
    default:
      return Buffer.from(JSON.stringify(damaged(JSON.parse(body))));
  }
}

const failures: unknown[] = [];
const ports = createProxmoxAdapter(api, {
  node: mock.node,
  clock,
  sampling: { fullMs: 2_000, fastMs: 1_000, instructionStep: 0 },
  unplugIsSafe: true,
  plugToMib: 1_536,
  onFailure: (cause) => failures.push(cause),
});
ports.telemetry.onSample((sample) => {
  for (const [name, value] of Object.entries({ ...sample.usage, ...sample.memory })) {
    if (!Number.isFinite(value) || value < 0) t.fail(`${name} of a sample is ${value}`);
  }
});
ports.telemetry.watch(UUID, 'fast');
t.teardown(() => ports.close());

const SIGNAL = { ms: 5_000 };
const target = (): Entitlement => ({
  cpuMillicores: 500 + chance(3_500),
  vcpuCount: 1 + chance(4),
  memoryBytes: (300 + chance(1_000)) * MIB,
  diskReadBytesPerS: 1 + chance(1e7),
  netRxBytesPerS: 1 + chance(1e7),
  netTxBytesPerS: 1 + chance(1e7),
});
const { hypervisor, actuators, window } = ports;
const QUESTIONS: readonly (() => Promise<unknown>)[] = [
  () => hypervisor.host(),
  () => hypervisor.guests(),
  () => hypervisor.inspect(UUID),
  () => window.see(UUID, AbortSignal.timeout(SIGNAL.ms)),
  ...Object.values(actuators).flatMap((actuator) => [
    () => actuator.read(UUID),
    () => actuator.apply(UUID, target(), AbortSignal.timeout(SIGNAL.ms)),
  ]),
];

/** Numbers anywhere in an answer that are none. */
function badNumbers(value: unknown, path = ''): string[] {
  if (typeof value === 'number') return Number.isFinite(value) && value >= 0 ? [] : [`${path}: ${value}`];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => badNumbers(inner, `${path}.${key}`));
}

t.test('answers that are damaged', async (t) => {
  let [answered, refused] = [0, 0];
  for (let round = 0; round < ROUNDS; round += 1) {
    mock.spoil = chance(3) === 0 ? undefined : (body) => (chance(3) === 0 ? spoilt(body) : Buffer.from(body));
    try {
      const bad = badNumbers(await pick(QUESTIONS)());
      if (bad.length > 0) t.fail(`round ${round}: ${bad.join(', ')}`);
      answered += 1;
    } catch (cause) {
      if (!(cause instanceof AllocatorError)) t.fail(`round ${round}: ${(cause as Error).stack}`);
      refused += 1;
    }
  }
  mock.spoil = undefined;
  t.ok(answered > ROUNDS / 10 && refused > ROUNDS / 50, `${answered} answered, ${refused} refused`);
});

t.test('and when they are right again, all is as ever', async (t) => {
  await clock.wait(60_000);
  t.match(await hypervisor.inspect(UUID), { id: UUID, state: 'running' });
  const wanted = { cpuMillicores: 1_000, vcpuCount: 1, memoryBytes: 512 * MIB };
  t.match(await actuators.cpu.apply(UUID, wanted, AbortSignal.timeout(SIGNAL.ms)), { cpuMillicores: 1_000 });
  t.strictSame(await actuators.memory.apply(UUID, wanted, AbortSignal.timeout(SIGNAL.ms)), {
    memoryBytes: 512 * MIB,
  });
  t.equal(hypervisor.available, true);
});
