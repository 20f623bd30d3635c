// Goal: what a guest's definition asks for is reserved before it starts, in place soon after, and given back and learned when it
// stops; and the hook's word never waits for libvirt. Method: the engine of production on the simulated host (6,000 millicores to
// promise), its starts told as the hook tells them, definitions read from the simulated libvirt; expectations worked by hand.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { readDefinition } from '../../libvirt-adapter/definition.ts';
import type { DomainRef } from '../../libvirt-adapter/libvirt.ts';
import type { ExpectedStart } from '../../orchestrator/core/guest-start.ts';
import { hasEnded, type Lease } from '../../orchestrator/core/lease.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import { START_MS_MAX } from '../../orchestrator/engine/grants.ts';
import { assertWithinCapacity } from './clients.ts';
import { generator, pick, seeds } from './generator.ts';
import { guest, requestOf, World } from './world.ts';

/** A seed takes half a second; FORESHADE_SEEDS asks for many. */
t.setTimeout(600_000);

const context = { signal: new AbortController().signal };

/** A balloon that is as large as its definition says within a moment of the start. */
const QUICK = { balloon: { shrinkKibPerS: 4 * 1024 * 1024 } };

/** Guests that are off, managed by nobody. */
async function off(
  names: readonly string[],
  policy: Parameters<typeof World.create>[1] = {},
): Promise<World> {
  const world = await World.create([], policy);
  for (const name of names) world.libvirt.addGuest(guest(name, { state: 'shutoff', ...QUICK }));
  return world;
}

async function startOf(
  world: World,
  name: string,
  request: Parameters<typeof requestOf>[0] = {},
  more: Partial<ExpectedStart> = {},
): Promise<ExpectedStart> {
  const { facts } = readDefinition(await world.during(world.libvirt.domainXml(refOf(world, name))));
  return {
    facts,
    request: requestOf({ guest: facts.id, ...request }),
    hasStarted: false,
    lastsAsRun: true,
    adopt: true,
    ...more,
  };
}

async function boot(world: World, name: string): Promise<void> {
  await world.during(world.libvirt.createDomain(refOf(world, name)));
}

function refOf(world: World, name: string): DomainRef {
  const found = world.libvirt.find(name);
  if (found === undefined) throw new Error(`no guest ${name}`);
  return found.ref;
}

const calls = (world: World): number =>
  [...world.libvirt.calls.values()].reduce((sum, count) => sum + count, 0);

t.test('a start from reservation to lesson', async (t) => {
  const world = await off(['a']);
  const start = await startOf(world, 'a', { cpu: 2500, mem: 1024 });
  const before = calls(world);
  const lease = await world.engine.starts.reserve(start, context);
  t.equal(calls(world), before, 'libvirt was asked nothing, and no time passed');
  t.match(lease, { state: 'SCHEDULED', requested: { cpuMillicores: 2500, vcpuCount: 3 } });
  t.equal((await world.engine.status()).committed.cpuMillicores, 2500, 'its room is held');
  t.equal((await world.engine.starts.reserve(start, context)).id, lease.id, 'said twice, reserved once');
  await world.pass(5000);
  t.equal(world.engine.getLease(lease.id).state, 'SCHEDULED', 'it waits for the guest');

  await boot(world, 'a');
  await world.pass(3000);
  t.match(world.engine.getLease(lease.id), {
    state: 'ACTIVE',
    granted: { cpuMillicores: 2500, vcpuCount: 3 },
  });
  t.equal(Math.round(world.memoryMib('a')), 1024);
  t.match((await world.during(world.engine.getGuest('a'))).adopted, {
    mode: 'enforce',
    baseline: {
      entitlement: { cpuMillicores: 1000, vcpuCount: 1, memoryBytes: 256 * MIB },
      cpuLimited: false,
    },
  });

  world.engine.starts.ended(start.facts.id);
  world.libvirt.stop('a');
  await world.pass(1000);
  t.match(world.engine.getLease(lease.id), { state: 'RELEASED', reason: 'the guest stopped' });
  t.match(world.process.forecaster.outcomes, [
    { leaseId: lease.id, completed: false, before: { memoryBytes: 0 } },
  ]);
  t.equal((await world.engine.status()).committed.cpuMillicores, 0);
});

t.test('its lease lasts as the run does, unless it says how long', async (t) => {
  const world = await off(['a', 'b']);
  for (const [name, lastsAsRun, state] of [
    ['a', true, 'ACTIVE'],
    ['b', false, 'EXPIRED'],
  ] as const) {
    const start = await startOf(world, name, { cpu: 1500, ttlMs: 4000 }, { lastsAsRun });
    const { id } = await world.engine.starts.reserve(start, context);
    await boot(world, name);
    await world.pass(20_000);
    t.equal(world.engine.getLease(id).state, state, name);
  }
});

t.test('a start that does not come gives its room back', async (t) => {
  const world = await off(['a', 'b']);
  const told = await startOf(world, 'a', { cpu: 2000 });
  const first = await world.engine.starts.reserve(told, context);
  world.engine.starts.ended(told.facts.id);
  await world.pass(1000);
  t.equal(world.engine.getLease(first.id).state, 'RELEASED', 'told that it failed');

  const second = await world.engine.starts.reserve(await startOf(world, 'b', { cpu: 2000 }), context);
  await world.pass(START_MS_MAX + 2000);
  t.equal(
    world.engine.getLease(second.id).state,
    'EXPIRED',
    'and without a word, after the longest a start may take',
  );
  t.equal((await world.engine.status()).committed.cpuMillicores, 0);
  t.equal(world.process.forecaster.outcomes.length, 0, 'nothing is learned from either');
});

t.test('without room it starts all the same, or is refused where it requires it', async (t) => {
  const world = await off(['a', 'b', 'c']);
  const first = await world.engine.starts.reserve(
    await startOf(world, 'a', { cpu: 4000, mem: 512 }),
    context,
  );
  await boot(world, 'a');
  await world.pass(2000);
  const required = await startOf(world, 'c', { cpu: 3000, mem: 512, noQueue: true });
  await t.rejects(world.engine.starts.reserve(required, context), { code: 'CAPACITY_EXHAUSTED' });
  world.engine.starts.ended(required.facts.id);

  const waiting = await world.engine.starts.reserve(
    await startOf(world, 'b', { cpu: 3000, mem: 512 }),
    context,
  );
  t.equal(waiting.state, 'QUEUED');
  await boot(world, 'b');
  await world.pass(3000);
  t.equal(world.engine.getLease(waiting.id).state, 'QUEUED', 'the guest runs, at its own size');
  await assertWithinCapacity(t, world, 'with one that waits');
  await world.during(world.release(first.id));
  await world.pass(3000);
  t.match(world.engine.getLease(waiting.id), { state: 'ACTIVE', granted: { cpuMillicores: 3000 } });
  await assertWithinCapacity(t, world, 'when it was served');
});

t.test('room that comes free before the guest runs is kept for it', async (t) => {
  const world = await off(['a', 'b']);
  const first = await world.engine.starts.reserve(
    await startOf(world, 'a', { cpu: 4000, mem: 512 }),
    context,
  );
  await boot(world, 'a');
  await world.pass(2000);
  const { id } = await world.engine.starts.reserve(
    await startOf(world, 'b', { cpu: 3000, mem: 512 }),
    context,
  );
  await world.during(world.release(first.id));
  await world.pass(2000);
  t.equal(world.engine.getLease(id).state, 'SCHEDULED');
  await boot(world, 'b');
  await world.pass(3000);
  t.equal(world.engine.getLease(id).state, 'ACTIVE');
});

t.test('a start that only its end told of, and late word of the stop before', async (t) => {
  const world = await off(['a']);
  await boot(world, 'a');
  const late = await startOf(world, 'a', { cpu: 2000 });
  const lease = await world.engine.starts.reserve(late, context);
  world.engine.starts.started(late.facts.id);
  await world.pass(3000);
  t.equal(world.engine.getLease(lease.id).state, 'ACTIVE', 'the service was away when it began');

  world.engine.starts.ended(late.facts.id);
  await world.pass(0);
  const again = await world.engine.starts.reserve(await startOf(world, 'a', { cpu: 1500 }), context);
  world.libvirt.stop('a');
  await world.pass(1000);
  t.equal(
    world.engine.getLease(again.id).state,
    'SCHEDULED',
    'the event of the last stop does not end the next start',
  );
  await boot(world, 'a');
  await world.pass(3000);
  t.equal(world.engine.getLease(again.id).state, 'ACTIVE');
});

t.test('a start whose guest is taken to run still', async (t) => {
  const world = await off(['a']);
  const start = await startOf(world, 'a', { cpu: 2000 });
  const first = await world.engine.starts.reserve(start, context);
  await boot(world, 'a');
  await world.pass(3000);
  const again = { ...start, request: requestOf({ guest: start.facts.id, cpu: 1500 }) };
  t.equal(
    (await world.engine.starts.reserve({ ...again, hasStarted: true }, context)).id,
    first.id,
    'its own run',
  );
  world.libvirt.stop('a');
  const second = await world.engine.starts.reserve(again, context);
  t.not(second.id, first.id, "what the last run had is not the next one's");
  await world.pass(1000);
  t.equal(world.engine.getLease(first.id).state, 'RELEASED');
  t.match(world.engine.getLease(second.id), { state: 'SCHEDULED', requested: { cpuMillicores: 1500 } });
});

t.test('a restart of the service between the reservation and the start', async (t) => {
  const world = await off(['a', 'b']);
  const ids: string[] = [];
  for (const name of ['a', 'b'])
    ids.push((await world.engine.starts.reserve(await startOf(world, name, { cpu: 1500 }), context)).id);
  await boot(world, 'a');
  await world.restart('power');
  await world.pass(3000);
  const [a, b] = ids.map((id) => world.engine.getLease(id).state);
  t.equal(a, 'ACTIVE', 'the guest had come up meanwhile');
  t.equal(b, 'RELEASED', 'nobody knows whether it still starts; if it does, its start is told again');
});

t.test('in shadow nothing is touched, and it is said what would have been done', async (t) => {
  const world = await off(['a'], { mode: 'shadow' });
  const start = await startOf(world, 'a', { cpu: 9000, mem: 512, noQueue: true });
  const lease = await world.engine.starts.reserve(start, context);
  t.match(lease.reason, /^mode shadow: a recommendation, nothing is changed/);
  t.match(lease.requested, { cpuMillicores: 4000 });
  await boot(world, 'a');
  await world.pass(5000);
  const writes = (
    ['setVcpus', 'setSchedulerParameters', 'setMemory', 'setBlockIoTune', 'updateDevice'] as const
  ).filter((name) => world.libvirt.calls.has(name));
  t.strictSame(writes, []);
});

t.test('who is not adopted, and may not be, is refused', async (t) => {
  const world = await off(['a']);
  const start = await startOf(world, 'a', {}, { adopt: false });
  await t.rejects(world.engine.starts.reserve(start, context), { code: 'GUEST_NOT_ADOPTED' });
  t.equal((await world.engine.status()).adopted, 0);
});

t.test('a guest that its definition had managed is forgotten with its definition', async (t) => {
  const world = await off(['a', 'b']);
  for (const name of ['a', 'b']) {
    const start = await startOf(world, name, { cpu: 1500, mem: 300 });
    await world.engine.starts.reserve(start, context);
    await boot(world, name);
    await world.pass(1000);
    world.engine.starts.ended(start.facts.id);
    world.libvirt.stop(name);
  }
  await world.during(world.libvirt.undefineDomain(refOf(world, 'a')));
  await world.pass(20_000);
  t.equal((await world.engine.status()).adopted, 1);
  await world.restart('kill');
  t.equal((await world.engine.status()).adopted, 1, 'also after a restart');
  t.match((await world.during(world.engine.getGuest('b'))).adopted, { mode: 'enforce' });
});

t.test('what a guest could not do while it booted is tried as soon as its agent answers', async (t) => {
  const world = await off([]);
  world.libvirt.addGuest(
    guest('a', { state: 'shutoff', agent: 'disconnected', onlineDelayMs: Number.MAX_SAFE_INTEGER, ...QUICK }),
  );
  const { id } = await world.engine.starts.reserve(
    await startOf(world, 'a', { cpu: 2500, mem: 512 }),
    context,
  );
  await boot(world, 'a');
  await world.pass(20_000);
  t.equal(world.engine.getLease(id).state, 'DEGRADED', 'plugged, and nobody brings them online');
  world.libvirt.setAgent('a', 'answers');
  await world.pass(900);
  t.match(world.engine.getLease(id), { state: 'ACTIVE', granted: { vcpuCount: 3 } });
});

t.test('a balloon that has no driver yet holds nothing up', async (t) => {
  const world = await off([]);
  world.libvirt.addGuest(guest('a', { state: 'shutoff' }));
  const { id } = await world.engine.starts.reserve(
    await startOf(world, 'a', { cpu: 2500, mem: 512 }),
    context,
  );
  await boot(world, 'a');
  await world.pass(200);
  t.equal(world.engine.getLease(id).state, 'PREPARING');
  await sleep(200); // patience is measured by the process's own clock, not by the world's
  await world.pass(200);
  t.equal(world.engine.getLease(id).state, 'ACTIVE', 'its vCPUs are there, and more memory than it asked');
  t.ok(world.memoryMib('a') > 1900, 'its balloon is still on its way');
  await world.pass(60_000);
  t.ok(world.memoryMib('a') < 520, 'and arrives');
});

t.test('a guest that we start ourselves asks in the middle of our own call', async (t) => {
  const web = { name: 'web', guests: ['a', 's'], spare: 0 };
  const scale = { groups: new Map([['web', web]]), startingMax: 2, bootMs: 1000, cooldownMs: 20_000 };
  const world = await World.create(
    ['a', 's'].map((name) => guest(name, QUICK)),
    { scale },
  );
  world.libvirt.stop('s');
  await world.pass(1000);
  const create = world.libvirt.createDomain.bind(world.libvirt);
  let reserved: string | undefined;
  world.libvirt.createDomain = async (ref, options) => {
    const { facts } = readDefinition(await world.libvirt.domainXml(ref));
    const request = requestOf({ guest: facts.id, cpu: 1200, mem: 300 });
    const lease = await world.engine.starts.reserve(
      { facts, request, hasStarted: false, lastsAsRun: true, adopt: true },
      context,
    );
    reserved = lease.id;
    return create(ref, options);
  };
  for (let i = 0; i < 2; i += 1)
    await world.during(world.allocate({ guest: 'web', cpu: 3000, mem: 512, s: 3600 }));
  await world.pass(10_000);
  t.equal(world.libvirt.find('s')?.state, 'running', 'the start did not wait for itself');
  t.equal(world.engine.getLease(reserved ?? '').state, 'ACTIVE');
});

for (const seed of seeds(6)) {
  t.test(`a life of starts and stops, word of which comes late, twice or never: seed ${seed}`, async (t) => {
    const random = generator(seed);
    const names = ['a', 'b', 'c', 'd'];
    const world = await off(names);
    const runs = (name: string): boolean => world.libvirt.find(name)?.state === 'running';
    const told = async (name: string, hasStarted: boolean): Promise<void> => {
      const request = { cpu: pick(random, [1200, 2000, 3500]), mem: 300, noQueue: random() < 0.3 };
      const start = await startOf(world, name, request, { hasStarted });
      await world.engine.starts.reserve(start, context).catch(() => {});
    };
    const open = (name: string): Lease[] =>
      world.engine.listLeases({ guest: name }).filter(({ state }) => !hasEnded(state));
    for (let step = 0; step < 40; step += 1) {
      const name = pick(random, names);
      const id = readDefinition(await world.during(world.libvirt.domainXml(refOf(world, name)))).facts.id;
      if (!runs(name)) {
        if (random() < 0.8) await told(name, false);
        if (random() < 0.1) await told(name, false);
        if (random() < 0.15)
          world.engine.starts.ended(id); // it failed
        else {
          await boot(world, name);
          if (random() < 0.7) await told(name, true).then(() => world.engine.starts.started(id));
        }
      } else {
        if (random() < 0.7) world.engine.starts.ended(id);
        world.libvirt.stop(name);
        if (random() < 0.3) world.engine.starts.ended(id);
      }
      if (random() < 0.08) await world.restart(pick(random, ['kill', 'power']));
      await world.pass(Math.floor(random() * 4000));
      // Guests that got no room start all the same, at their own 1,000 millicores: nobody keeps them from it.
      const unserved = names.filter((one) => open(one).every(({ state }) => state === 'QUEUED')).length;
      const { committed, capacity } = await world.engine.status();
      const most = capacity.cpuMillicores + unserved * 1000;
      if (committed.cpuMillicores > most)
        t.fail(`step ${step}: ${committed.cpuMillicores} of ${most} are promised`);
    }
    await world.pass(START_MS_MAX + 5000);
    for (const name of names) {
      if (runs(name)) t.ok(open(name).length <= 1, `${name} runs, with one lease at most`);
      else t.strictSame(open(name), [], `${name} is off and has none`);
    }
  });
}
