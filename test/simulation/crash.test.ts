// Goal: whatever moment the service dies at, by kill -9 or by power loss, no acknowledged lease is lost, none is granted twice,
// and every adopted guest ends where its leases or its baseline put it. Method: a seeded random load on the simulated host; the
// ledger freezes at a random one of its commits, which is where the process is cut; a new process starts on what is left, clients
// retry what was not answered, and the invariants are checked.
import t from 'tap';
import { assertWithinCapacity, Clients } from './clients.ts';
import { generator, seeds } from './generator.ts';
import { guest, World } from './world.ts';

/** Seeds run by default: a different moment each. */
const SEEDS_DEFAULT = 20;
/** A quarter of a second on a quiet host. */
const SEED_MS_MAX = 5_000;
const GUESTS = ['a', 'b', 'c'];

const SEEDS = seeds(SEEDS_DEFAULT);

t.setTimeout(SEEDS.length * SEED_MS_MAX);

for (const seed of SEEDS) {
  t.test(`seed ${seed}`, async (t) => {
    const random = generator(seed);
    const world = await World.create(GUESTS.map((name) => guest(name)));
    const clients = new Clients(world, GUESTS, random);
    const how = random() < 0.5 ? 'kill' : 'power';

    // The process is cut inside its n-th commit: before the flush, so that a power loss takes that commit with it.
    const cutAt = 1 + Math.floor(random() * 25);
    let commits = 0;
    let cut = false;
    world.ledger.flushDelay = async () => {
      commits += 1;
      if (commits >= cutAt) cut = true;
      if (cut) await new Promise(() => {});
    };

    for (let step = 0; step < 30 && !cut; step += 1) {
      clients.call();
      await world.pass(250 * Math.floor(random() * 6));
    }
    const acknowledged = clients.acknowledged();
    await world.restart(how);
    await assertWithinCapacity(t, world, 'after the restart');
    await world.pass(10_000);
    clients.assertKept(t, acknowledged);

    await clients.retry();
    await world.pass(10_000);
    clients.assertKept(t, acknowledged);
    await assertWithinCapacity(t, world, 'after the retries');
    t.strictSame(await clients.unexplained(), [], 'every guest holds what its leases explain');

    await clients.releaseAll();
    await world.pass(3000);
    t.strictSame(await clients.unexplained(), [], 'every guest is back at its baseline');
  });
}
