// Goal: the shadow holds what was seen of each managed guest, under which request, and what the guest was allowed then.
// Method: the engine over the fake hypervisor in manual time, a real store in a folder of its own; rows read back by a question.
import t from 'tap';
import { newStore, rowsOf } from '../unit/store-fixture.ts';
import { guest, World } from './world.ts';

t.test('each sample stands beside its request and what was granted', async (t) => {
  const store = newStore(t);
  const busy = guest('a', {
    instructionsPerNs: 0.5,
    demand: () => ({ cpuMillicores: 3000, memoryKib: 100 * 1024 }),
  });
  const world = await World.create([busy, guest('b')], {}, 'enforce', { shadow: store });
  await world.pass(5_000);
  const lease = await world.during(world.allocate({ requestId: 'r1', cpu: 2000, mem: 512 }));
  await world.pass(5_000);
  await world.during(world.release(lease.id));
  await world.pass(5_000);
  await store.flush();
  const rows = (await rowsOf(
    store.query(`SELECT guest, request_id, tenant, workload, axis, period_ms, cpu_millicores, granted_cpu_millicores,
      granted_memory_bytes, flags FROM shadow ORDER BY guest, time`),
  )) as {
    guest: string;
    request_id: string | null;
    cpu_millicores: number;
    granted_cpu_millicores: number;
  }[];
  const ofA = rows.filter((row) => row.guest === lease.guest);
  t.ok(ofA.length > 40, `${ofA.length} samples of a: fast ones while its lease was in force`);
  t.ok(rows.length - ofA.length >= 15, 'and full ones of b');
  const under = ofA.filter(({ request_id }) => request_id === 'r1');
  t.ok(under.length >= 40 && under.length < ofA.length, 'under the request while it was in place, no longer');
  t.ok(
    under.every(({ granted_cpu_millicores }) => granted_cpu_millicores >= 2000),
    'with what was granted then',
  );
  t.match(under[0], { tenant: 'tenant', workload: 'work', axis: 'seconds' });
  const cut = ofA.filter((row) => String((row as { flags?: unknown }).flags).includes('censored'));
  t.ok(cut.length > 0, 'a use at the limit is marked: the demand was at least that');
  t.ok(
    cut.every((row) => row.cpu_millicores >= 0.97 * row.granted_cpu_millicores),
    'and only such a use',
  );
  const atLimit = ofA.filter((row) => row.cpu_millicores >= 0.97 * row.granted_cpu_millicores);
  t.equal(atLimit.length, cut.length, 'and every one');
  const idle = rows.filter((row) => row.guest !== lease.guest);
  t.notOk(idle.some((row) => String((row as { flags?: unknown }).flags).includes('censored')));
});

t.test('the production input of a request is recorded once, whatever becomes of it', async (t) => {
  const store = newStore(t);
  const world = await World.create([guest('a')], {}, 'enforce', { shadow: store });
  await world.during(world.allocate({ requestId: 'r1', cpu: 2000, mem: 512 }));
  const again = { requestId: 'r2', cpu: 5500, mem: 512 };
  await world.during(world.allocate(again));
  await world.during(world.allocate(again));
  await world.during(world.allocate({ requestId: 'r3', validateOnly: true }));
  await store.flush();
  const rows = await rowsOf(
    store.query('SELECT request_id, name, kind, number FROM inputs ORDER BY request_id, name'),
  );
  t.match(rows, [
    { request_id: 'r1', name: 'cpu', kind: 'number', number: 2000 },
    { request_id: 'r1', name: 'mem', number: 512 },
    { request_id: 'r1', name: 's', number: 20 },
    { request_id: 'r2', name: 'cpu', number: 5500 },
    { request_id: 'r2', name: 'mem', number: 512 },
    { request_id: 'r2', name: 's', number: 20 },
  ]);
  t.equal(rows.length, 6, 'a repeat and a question leave no second one');
});
