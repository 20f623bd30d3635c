// Goal: in shadow and advise nothing is written to the hypervisor, whatever is asked, fails or restarts. Method: seeded
// random load on the simulated host under seeded faults, with a restart in the middle; every call that reached libvirt
// is counted at the adapter's boundary and sorted by what it does. The same seeds in enforce must write.
import t from 'tap';
import type { FakeCall } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { LIBVIRT_ERROR } from '../../libvirt-adapter/libvirt.ts';
import type { Mode } from '../../orchestrator/core/guest.ts';
import { Clients } from './clients.ts';
import { generator, pick, seeds } from './generator.ts';
import { guest, World } from './world.ts';

const SEEDS_DEFAULT = 6;
/** A quarter of a second on a quiet host, for each mode. */
const SEED_MS_MAX = 15_000;
const GUESTS = ['a', 'b', 'c'];
const STEPS = 20;

/**
 * Every call of the boundary: one that is new does not compile until it is sorted. `asks` changes how often the guest
 * reports its memory, without which nothing is seen of it, and no more.
 */
const KIND: Readonly<Record<FakeCall, 'reads' | 'writes' | 'asks'>> = {
  listDomains: 'reads',
  lookupByName: 'reads',
  domainState: 'reads',
  allDomainStats: 'reads',
  memoryStats: 'reads',
  setMemoryStatsPeriod: 'asks',
  setVcpus: 'writes',
  getVcpus: 'reads',
  getMaxVcpus: 'reads',
  setVcpu: 'writes',
  setMemory: 'writes',
  attachDevice: 'writes',
  detachDevice: 'writes',
  updateDevice: 'writes',
  setBlockIoTune: 'writes',
  getBlockIoTune: 'reads',
  setInterfaceParameters: 'writes',
  getInterfaceParameters: 'reads',
  setSchedulerParameters: 'writes',
  getSchedulerParameters: 'reads',
  setPerfEvents: 'writes',
  getPerfEvents: 'reads',
  pinVcpu: 'writes',
  pinEmulator: 'writes',
  domainXml: 'reads',
  qemuMonitorCommand: 'writes',
  qemuAgentCommand: 'reads', // the window's questions; what agents are told to do goes by setVcpus
  defineDomain: 'writes',
  createDomainFromXml: 'writes',
  createDomain: 'writes',
  shutdownDomain: 'writes',
  destroyDomain: 'writes',
  undefineDomain: 'writes',
  suspendDomain: 'writes',
  resumeDomain: 'writes',
  resetDomain: 'writes',
  getMetadata: 'reads',
  setMetadata: 'writes',
  migrateToUri3: 'writes',
  nodeInfo: 'reads',
  nodeCpuStats: 'reads',
  nodeMemoryStats: 'reads',
  capabilities: 'reads',
  versions: 'reads',
};

const SEEDS = seeds(SEEDS_DEFAULT);
t.setTimeout(SEEDS.length * SEED_MS_MAX);

for (const mode of ['shadow', 'advise'] as const) {
  t.test(`${mode} makes no write in ${SEEDS.length} seeds`, async (t) => {
    for (const seed of SEEDS) {
      const calls = await play(seed, mode);
      t.strictSame(
        calls.filter(([call]) => KIND[call] === 'writes'),
        [],
        `seed ${seed}`,
      );
      t.ok(calls.length > 0, 'it looked');
    }
  });
}

t.test('the same load in enforce writes', async (t) => {
  const calls = await play(SEEDS[0] ?? 1, 'enforce');
  t.ok(calls.some(([call]) => KIND[call] === 'writes'));
});

/** One life of the host and its service. Returns the calls that reached libvirt, by name, with their number. */
async function play(seed: number, mode: Mode): Promise<[FakeCall, number][]> {
  const random = generator(seed);
  const world = await World.create(
    GUESTS.map((name) => guest(name)),
    {},
    mode,
  );
  const clients = new Clients(world, GUESTS, random);
  const restartAt = Math.floor(random() * STEPS);
  for (let step = 0; step < STEPS; step += 1) {
    if (random() < 0.2) {
      const call = pick(random, ['memoryStats', 'domainXml', 'getVcpus', 'getSchedulerParameters'] as const);
      world.libvirt.failNext(call, LIBVIRT_ERROR.operationFailed, 'refused', 2);
    }
    if (random() < 0.1) world.libvirt.die();
    else world.libvirt.comeBack();
    clients.call();
    await world.pass(250 * Math.floor(random() * 6));
    if (step !== restartAt) continue;
    world.libvirt.comeBack();
    world.libvirt.failNoMore();
    await world.restart(pick(random, ['kill', 'power']));
  }
  world.libvirt.comeBack();
  world.libvirt.failNoMore();
  await world.pass(2_000);
  await clients.releaseAll();
  await world.pass(2_000);
  return [...world.libvirt.calls];
}
