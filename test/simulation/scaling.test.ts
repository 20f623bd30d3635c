// Goal: a guest that stands by is started for who waits, and for nobody else; it goes again only when it is ours and idle; and
// whoever can make room outside is asked. Method: the engine of production on the simulated host (6,000 millicores to promise),
// groups of guests of 1,000 millicores that grow to 4,000, expectations worked by hand, every start counted at libvirt.
import t from 'tap';
import { LIBVIRT_ERROR } from '../../libvirt-adapter/libvirt.ts';
import type { ScaleOut } from '../../orchestrator/core/ports.ts';
import type { GuestGroup, ScalePolicy, ScaleRequest } from '../../orchestrator/core/scale.ts';
import { assertWithinCapacity } from './clients.ts';
import { guest, TENANT, World } from './world.ts';

const BOOT_MS = 10_000;
const COOLDOWN_MS = 20_000;
/** Its guest is full with one such lease: two lack 1,000 millicores of the ceiling. */
const FILLS = { guest: 'web', cpu: 3000, mem: 300, s: 3600, ttlMs: 3_600_000 } as const;

function scale(more: Partial<GuestGroup> = {}, bounds: Partial<ScalePolicy> = {}): { scale: ScalePolicy } {
  const web: GuestGroup = { name: 'web', guests: ['a', 's', 'u'], spare: 0, ...more };
  return {
    scale: {
      groups: new Map([['web', web]]),
      startingMax: 2,
      bootMs: BOOT_MS,
      cooldownMs: COOLDOWN_MS,
      ...bounds,
    },
  };
}

/** `a` runs; `s` and `u` stand by in their group, and `other` is off as well and in none. */
async function standingBy(
  policy: Parameters<typeof World.create>[1] = scale(),
  mode: Parameters<typeof World.create>[2] = 'enforce',
  scaleOut?: ScaleOut,
): Promise<World> {
  const all = ['a', 's', 'u', 'other'].map((name) => guest(name, { bootMemoryKib: 1024 * 1024 }));
  const world = await World.create(all, policy, mode, scaleOut && { scaleOut });
  for (const name of ['s', 'u', 'other']) world.libvirt.stop(name);
  await world.pass(1000);
  return world;
}

const started = (world: World): number => world.libvirt.calls.get('createDomain') ?? 0;
const runs = (world: World, name: string): boolean => world.libvirt.find(name)?.state === 'running';

t.test('a stand-by guest is started and the queued request granted', async (t) => {
  const world = await standingBy();
  const first = await world.during(world.allocate(FILLS));
  t.match(first, { state: 'ACTIVE', guestName: 'a' });
  const second = await world.during(world.allocate(FILLS));
  t.match(second, { state: 'QUEUED', guestName: 's', queue: { position: 1, expectedWaitMs: BOOT_MS } });
  t.match(second.reason, /^scaled: guest s of group web is to start first/);
  await world.pass(5000);
  t.ok(runs(world, 's'));
  t.match(world.engine.getLease(second.id), {
    state: 'QUEUED',
    reason: /guest s: it was started, and boots/,
  });
  await world.pass(BOOT_MS);
  t.match(world.engine.getLease(second.id), { state: 'ACTIVE', guestName: 's' });
  t.match(
    world.engine.explain(second.id).map(({ action, rule }) => `${action} ${rule}`),
    ['admit scaled', 'scale start', 'admit grant', 'actuate ACTIVE'],
  );
  t.equal(started(world), 1);
  t.notOk(runs(world, 'u') || runs(world, 'other'));
  t.match((await world.engine.status()).scale, {
    started: 1,
    groups: [{ name: 'web', guests: { ready: 2, coming: 0, 'stand-by': 1, away: 0 }, wanted: 2 }],
  });
  await assertWithinCapacity(t, world, 'with the guest that was started');
});

t.test('what is no stand-by is never started', async (t) => {
  const world = await standingBy();
  for (const name of ['other', 's'])
    await t.rejects(world.allocate({ guest: name, cpu: 2000 }), { code: 'GUEST_NOT_RUNNING' }, name);
  await world.pass(5000);
  t.equal(started(world), 0, 'nor one that is asked for by its own name');
  await t.rejects(world.allocate({ guest: 'db', cpu: 2000 }), { code: 'GUEST_NOT_FOUND' });
});

t.test('who would not wait is refused, and asked back when a guest could have started', async (t) => {
  const world = await standingBy();
  await world.during(world.allocate(FILLS));
  await t.rejects(world.allocate({ ...FILLS, noQueue: true }), {
    code: 'CAPACITY_EXHAUSTED',
    message: /guest s of group web is to start first/,
    detail: { retryAfterMs: BOOT_MS },
  });
  const validated = await world.allocate({ ...FILLS, validateOnly: true });
  t.equal(validated.state, 'QUEUED');
  await world.pass(5000);
  t.equal(started(world), 0, 'and nothing is started for either');
});

t.test('a lease goes to whoever of its group is free first', async (t) => {
  const world = await standingBy();
  const first = await world.during(world.allocate(FILLS));
  const second = await world.during(world.allocate(FILLS));
  await world.pass(5000);
  await world.during(world.release(first.id));
  await world.pass(3000);
  t.match(world.engine.getLease(second.id), { state: 'ACTIVE', guestName: 'a' });
  t.strictSame((await world.engine.getGuest('s')).leases, []);
  t.strictSame((await world.engine.getGuest('a')).leases, [second.id]);
});

t.test('a start that is refused is said, and tried again after the cooldown', async (t) => {
  const world = await standingBy(scale({ guests: ['a', 's'] }));
  await world.during(world.allocate(FILLS));
  world.libvirt.failNext('createDomain', LIBVIRT_ERROR.operationFailed, 'no such disk');
  const lease = await world.during(world.allocate(FILLS));
  await world.pass(5000);
  t.match(world.engine.getLease(lease.id), {
    state: 'QUEUED',
    reason: /could not be started: .*no such disk/,
  });
  t.equal(started(world), 1);
  await world.pass(COOLDOWN_MS - 10_000);
  t.equal(started(world), 1, 'not before');
  await world.pass(8000 + BOOT_MS);
  t.match(world.engine.getLease(lease.id), { state: 'ACTIVE', guestName: 's' });
  t.match((await world.engine.status()).scale, { started: 1, startsFailed: 1 });
});

t.test('no more are on their way up at once than may be', async (t) => {
  const small = { ...FILLS, cpu: 1500, mem: 700 };
  const world = await standingBy(scale({}, { startingMax: 1 }));
  // 700 of 1,024 MiB: one fills its guest.
  for (let i = 0; i < 3; i += 1) await world.during(world.allocate(small));
  await world.pass(BOOT_MS - 5000);
  t.equal(started(world), 1);
  await world.pass(8000);
  t.equal(started(world), 2);
  await world.pass(BOOT_MS);
  t.strictSame(
    ['a', 's', 'u'].map((name) => world.engine.listLeases({ guest: name, states: ['ACTIVE'] }).length),
    [1, 1, 1],
  );
});

t.test(
  'a guest takes room as it starts, in its turn, and what lacks the host is asked for outside',
  async (t) => {
    const asked: ScaleRequest[] = [];
    const scaleOut: ScaleOut = {
      ask: async (request) => {
        asked.push(request);
        return { accepted: true, text: 'another host is on its way' };
      },
    };
    const world = await standingBy(scale({ guests: ['a', 's'] }), 'enforce', scaleOut);
    // 6,000 less 3,500 of a and 2,000 of `other`: 500 are left, and s begins with 1,000.
    await world.during(world.libvirt.createDomain(await world.libvirt.lookupByName('other')));
    await world.pass(2000);
    await world.during(world.allocate({ ...FILLS, guest: 'other', cpu: 2000 }));
    await world.during(world.allocate({ ...FILLS, cpu: 3500 }));
    const lease = await world.during(world.allocate({ ...FILLS, cpu: 1600 }));
    t.equal(lease.guestName, 's');
    await world.pass(3000);
    t.equal(started(world), 1, "other's own start alone");
    t.match(asked, [{ short: 'host', guest: 's', tenant: 'tenant', leaseId: lease.id, host: /./ }]);
    t.match(world.engine.getLease(lease.id).reason, /another host is on its way$/);
    t.match(world.engine.explain(lease.id).at(-1), { action: 'scale', rule: 'host' });
    const newcomer = await world.during(world.allocate({ guest: 'other', cpu: 1200, mem: 260 }));
    t.equal(newcomer.state, 'QUEUED', 'nobody overtakes it');
    world.libvirt.stop('other');
    await world.pass(BOOT_MS + 3000);
    t.match(world.engine.getLease(lease.id), { state: 'ACTIVE', guestName: 's' });
    t.equal(asked.length, 1, 'about the same once a cooldown');
    await assertWithinCapacity(t, world, 'with all of them');
  },
);

t.test(
  'a ceiling that is too low is proposed for the next boot, by who is asked and in the reason',
  async (t) => {
    const asked: ScaleRequest[] = [];
    const scaleOut: ScaleOut = {
      ask: async (request) => {
        asked.push(request);
        return { accepted: false, text: 'nobody may resize a' };
      },
    };
    const world = await standingBy(scale(), 'enforce', scaleOut);
    const lease = await world.during(world.allocate({ guest: 'a', cpu: 5000, mem: 512 }));
    t.match(lease.reason, /ceiling is short of cpu: 5 cores and 512 MiB at its next boot would hold it/);
    await world.pass(1000);
    t.match(asked, [{ short: 'ceiling', guest: 'a' }]);
    t.match(world.engine.getLease(lease.id).reason, /nobody may resize a$/);
    t.match((await world.engine.status()).scale, { asked: 1, declined: 1 });
  },
);

t.test('what was started goes when it idles, and nothing else does', async (t) => {
  const world = await standingBy(scale({ idleStopMs: 30_000 }));
  const first = await world.during(world.allocate(FILLS));
  const second = await world.during(world.allocate(FILLS));
  await world.pass(BOOT_MS + 5000);
  for (const { id } of [first, second]) await world.during(world.release(id));
  await world.pass(25_000);
  t.ok(runs(world, 's'), 'not yet');
  await world.pass(8000);
  t.notOk(runs(world, 's'));
  await world.pass(60_000);
  t.ok(runs(world, 'a'), 'it was not ours to start');
  t.equal(world.libvirt.calls.get('destroyDomain') ?? 0, 0);
  const again = await world.during(world.allocate(FILLS));
  t.equal(again.guestName, 'a');
});

t.test('a guest that does not listen, or is at work again, stays', async (t) => {
  const deaf = guest('s', { ignoresShutdown: true });
  const world = await World.create([guest('a'), deaf], scale({ guests: ['a', 's'], idleStopMs: 10_000 }));
  world.libvirt.stop('s');
  await world.pass(1000);
  const first = await world.during(world.allocate(FILLS));
  const second = await world.during(world.allocate(FILLS));
  await world.pass(BOOT_MS + 5000);
  await world.during(world.release(second.id));
  await world.pass(65_000);
  t.ok(runs(world, 's'));
  const asked = world.libvirt.calls.get('shutdownDomain') ?? 0;
  t.ok(asked >= 2 && asked <= 3, `asked ${asked} times in three cooldowns`);
  const third = await world.during(world.allocate(FILLS));
  await world.pass(COOLDOWN_MS);
  t.match(world.engine.getLease(third.id), { state: 'ACTIVE', guestName: 's' });
  await world.pass(40_000);
  t.equal(world.libvirt.calls.get('shutdownDomain'), asked, 'one at work is not asked');
  t.equal(world.engine.getLease(first.id).state, 'ACTIVE');
});

t.test(
  'whatever commit the service dies in, the request is served, and what was started is still ours',
  async (t) => {
    const idleStopMs = 10_000;
    for (const how of ['kill', 'power'] as const) {
      for (const cutAt of [1, 2]) {
        const name = `${how} in commit ${cutAt}`;
        const world = await standingBy(scale({ guests: ['a', 's'], idleStopMs }));
        const first = await world.during(world.allocate(FILLS));
        await world.pass(1500);
        const request = { ...FILLS, requestId: `scaled-${how}-${cutAt}` };
        let commits = 0;
        world.ledger.flushDelay = async () => {
          commits += 1;
          if (commits >= cutAt) await new Promise(() => {});
        };
        world.allocate(request).catch(() => {});
        await world.pass(3000);
        await world.restart(how);
        await world.pass(5000);
        const lease = await world.during(world.allocate(request));
        await world.pass(COOLDOWN_MS + BOOT_MS);
        t.match(world.engine.getLease(lease.id), { state: 'ACTIVE', guestName: 's' }, name);
        await assertWithinCapacity(t, world, name);
        for (const { id } of [first, lease]) await world.during(world.release(id));
        await world.pass(idleStopMs + COOLDOWN_MS);
        t.notOk(runs(world, 's'), `${name}: shut down again`);
      }
    }
  },
);

t.test('shadow and advise start nothing, stop nothing and ask nobody', async (t) => {
  for (const mode of ['shadow', 'advise'] as const) {
    const scaleOut: ScaleOut = { ask: async () => t.fail('asked') as never };
    const world = await standingBy(scale({ spare: 2, idleStopMs: 1000 }), mode, scaleOut);
    for (let i = 0; i < 3; i += 1) t.equal((await world.during(world.allocate(FILLS))).guestName, 'a', mode);
    await t.rejects(
      world.allocate({ guest: 'a', cpu: 50_000, mem: 90_000 }).then(() => Promise.reject(new Error('held'))),
    );
    world.libvirt.stop('a');
    await world.pass(60_000);
    await t.rejects(world.allocate(FILLS), { code: 'GUEST_NOT_RUNNING' });
    for (const call of ['createDomain', 'shutdownDomain'] as const)
      t.equal(world.libvirt.calls.get(call), undefined);
  }
  const shy = { tenants: { named: new Map([['shy', { ...TENANT, shadow: true }]]), fallback: TENANT } };
  const world = await standingBy({ ...scale(), ...shy });
  for (let i = 0; i < 3; i += 1) await world.during(world.allocate({ ...FILLS, tenant: 'shy' }));
  await world.pass(10_000);
  t.equal(started(world), 0, 'nor is it for a tenant in shadow');
});

t.test('spare guests are kept running beside those at work', async (t) => {
  const world = await standingBy(scale({ guests: ['a', 's', 'u'], spare: 1 }));
  await world.pass(5000);
  t.strictSame([runs(world, 's'), runs(world, 'u')], [false, false], 'a is the spare one');
  const first = await world.during(world.allocate({ ...FILLS, cpu: 1500 }));
  await world.pass(BOOT_MS + 5000);
  t.strictSame([runs(world, 's'), runs(world, 'u')], [true, false]);
  t.equal(first.guestName, 'a');
  await world.pass(2 * COOLDOWN_MS);
  t.ok(runs(world, 's'), 'without a time for it nobody is shut down');
});
