// Goal: a running lease is followed: begun ahead of its start by what its guest's growths took, enlarged when its client asks,
// and not followed down again and again. Method: the real engine and adapter on the fake hypervisor, as in engine.test.ts.
import t from 'tap';
import { MIB } from '../../orchestrator/core/profile.ts';
import { guest, World } from './world.ts';

const slow = { balloon: { growKibPerS: 128 * 1024 } };

t.test('a lease that lies ahead begins early enough to be in place at its start', async (t) => {
  const world = await World.create([guest('a', slow)]);
  const lead = async (): Promise<number> =>
    (await world.during(world.engine.getGuest('a'))).leadTimesMs?.memory ?? 0;
  t.equal(await lead(), 0, 'nothing is known of a guest that never grew');
  const first = await world.during(world.allocate({ cpu: 1500, mem: 1024 }));
  t.ok((first.inPlaceAtMs ?? 0) - first.requestedAtMs > 5000, 'a slow balloon');
  t.ok((await lead()) > 5000, `measured: ${await lead()} ms`);
  await world.during(world.release(first.id));
  await world.restart('power');
  t.ok((await lead()) > 5000, 'and known after a restart');
  const startMs = world.clock.nowMs() + 20_000;
  const { id } = await world.allocate({ cpu: 1500, mem: 1024, startMs });
  await world.pass(20_000);
  const inPlaceAtMs = world.engine.getLease(id).inPlaceAtMs ?? Number.POSITIVE_INFINITY;
  t.ok(inPlaceAtMs <= startMs, `in place ${startMs - inPlaceAtMs} ms before its start`);
  t.ok(inPlaceAtMs > startMs - 3000, 'and not long before');
});

t.test('a client that asks for more has it with the answer, and keeps it', async (t) => {
  const world = await World.create([guest('a')]);
  const lease = await world.during(world.allocate({ cpu: 1500, mem: 512, s: 600, ttlMs: 600_000 }));
  const grown = await world.during(world.engine.renew(lease.id, 600_000, { memoryBytes: 1024 * MIB }));
  t.equal(grown.state, 'ACTIVE');
  t.equal(Math.round((grown.granted?.memoryBytes ?? 0) / MIB), 1024);
  t.equal(Math.round(world.memoryMib('a')), 1024, 'on the guest as well');
  t.match(grown.adjustments, [{ resource: 'memory', to: 1024 * MIB, reason: 'its client asked for it' }]);
  await world.pass(20_000);
  t.equal(Math.round(world.memoryMib('a')), 1024, 'what is not used yet is not taken back');
  const changes = world.libvirt.changes.length;
  await world.during(world.engine.renew(lease.id, 600_000, { memoryBytes: 900 * MIB }));
  t.equal(world.libvirt.changes.length, changes, 'less than it has changes nothing');
  await world.restart('power');
  t.equal(Math.round(world.memoryMib('a')), 1024, 'the promise is durable');
  await world.during(world.release(lease.id));
  t.equal(Math.round(world.memoryMib('a')), 256, 'and ends with the lease');
});

t.test('a client that asks for more than there is has what there is', async (t) => {
  const world = await World.create([guest('a'), guest('b')]);
  await world.during(world.allocate({ guest: 'b', cpu: 3500, ttlMs: 600_000 }));
  const lease = await world.during(world.allocate({ guest: 'a', cpu: 1500, ttlMs: 600_000 }));
  const grown = await world.during(world.engine.renew(lease.id, 600_000, { cpuMillicores: 3900 }));
  t.equal(grown.state, 'DEGRADED', 'and says so');
  t.equal(grown.granted?.cpuMillicores, 2500, 'all that was left of 6000');
  const { committed, capacity } = await world.engine.status();
  t.ok(committed.cpuMillicores <= capacity.cpuMillicores);
  await t.rejects(world.during(world.engine.renew(lease.id, 600_000, { cpuMillicores: 3900 })), {
    code: 'CAPACITY_EXHAUSTED',
  });
  const ahead = await world.allocate({ guest: 'b', cpu: 100, startMs: world.clock.nowMs() + 60_000 });
  await t.rejects(world.engine.renew(ahead.id, 600_000, { cpuMillicores: 2000 }), { code: 'STATE_CONFLICT' });
});

t.test('a demand that comes and goes is not followed down each time', async (t) => {
  const world = await World.create([guest('a')]);
  const { id } = await world.during(
    world.allocate({ cpu: 1000, mem: 300, s: 1, ttlMs: 3_600_000, priority: 'critical' }),
  );
  world.libvirt.setDemand('a', (ms) => ({
    cpuMillicores: 100,
    memoryKib: (Math.floor(ms / 1000) % 12 < 3 ? 900 : 150) * 1024,
  }));
  await world.pass(300_000);
  const { adjustments } = world.engine.getLease(id);
  const shrunk = adjustments.filter(({ from, to }) => to < from);
  t.ok(shrunk.length > 0, 'at first it is');
  const late = shrunk.filter(({ atMs }) => atMs > world.clock.nowMs() - 120_000);
  t.ok(late.length <= 5, `${late.length} shrinks in the last two minutes, of ten rounds`);
});

t.test('what adjustments freed stays free over a restart, and what they gave stays given', async (t) => {
  const world = await World.create([guest('a')]);
  const lease = await world.during(world.allocate({ cpu: 1500, mem: 512, s: 600, ttlMs: 600_000 }));
  world.libvirt.setDemand('a', () => ({ cpuMillicores: 500, memoryKib: 500 * 1024 }));
  await world.pass(4_000);
  const adjustments = world.engine.getLease(lease.id).adjustments.length;
  t.ok(adjustments > 0, 'it was adjusted');
  const before = { mib: world.memoryMib('a'), committed: (await world.engine.status()).committed };
  t.ok(before.mib > 512, 'beyond what it asked for');
  await world.restart('power');
  t.strictSame(
    { mib: world.memoryMib('a'), committed: (await world.engine.status()).committed },
    before,
    'the guest and the sums are what they were',
  );
});
