import t from 'tap';
import { call, startFixture } from './service-fixture.ts';

t.test('smoke', async (t) => {
  const f = await startFixture();
  t.teardown(() => f.close());
  const lease = await call(f.allocation, f.allocation.allocate, {
    guest: 'alpha',
    workload: 'encode',
    params: {},
    requestId: 'r1',
  });
  t.equal(lease.id, 'lease-r1');
  t.match(await call(f.admin, f.admin.getStatus, {}), { host: 'host-a' });
});
