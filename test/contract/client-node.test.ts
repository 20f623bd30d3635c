// Goal: the Node client keeps a lease as long as it is held and no longer, repeats what may be repeated and nothing else.
// Method: the client against a real server over an engine double, which counts what reaches it and fails when told to.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { ForeshadeClient } from '../../integrations/client-node/client.ts';
import { ClientError, UNREACHABLE } from '../../integrations/client-node/client-error.ts';
import { type Keeping, LeaseLost } from '../../integrations/client-node/held-lease.ts';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import { LeaseState } from '../../proto/gen/foreshade/v1/allocation.ts';
import { EngineDouble, leaseOf } from './engine-double.ts';
import { type Fixture, startFixture } from './service-fixture.ts';

/** The shortest time to live: a renewal each 667 ms. */
const REQUEST = { guest: 'alpha', workload: 'encode', ttlMs: 2000 };

async function startedIn(t: {
  teardown(fn: () => unknown): void;
}): Promise<Fixture & { readonly client: ForeshadeClient; count(method: string): number }> {
  const fixture = await startFixture();
  const client = new ForeshadeClient(fixture.config.service.socket);
  t.teardown(async () => {
    client.close();
    await fixture.close();
  });
  const count = (name: string) => fixture.engine.calls.filter(({ method }) => method === name).length;
  return { ...fixture, client, count };
}

async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !holds(); i += 1) await sleep(10);
}

t.test('a lease is renewed while it is held, and released once', async (t) => {
  const f = await startedIn(t);
  {
    await using held = await f.client.hold(REQUEST);
    t.match(held.lease.requestId, /^[0-9a-f-]{36}$/, 'a request has an id, so that it may be repeated');
    t.equal((await held.inPlace()).state, LeaseState.LEASE_STATE_ACTIVE);
    await until(() => f.count('renew') >= 2);
    t.ok(f.count('renew') >= 2);
    await held.renew({ memoryBytes: 512 * 1024 * 1024 });
    t.match(f.engine.calls.findLast(({ method }) => method === 'renew')?.args[2], { memoryBytes: 2 ** 29 });
  }
  t.equal(f.count('release'), 1, 'at the end of its block');
  const renewals = f.count('renew');
  await sleep(800);
  t.equal(f.count('renew'), renewals, 'and renewed no more');

  const held = await f.client.hold(REQUEST);
  const [first, second] = await Promise.all([held.release({ workFailed: true }), held.release()]);
  await held[Symbol.asyncDispose]();
  t.equal(first, second);
  t.equal(f.count('release'), 2, 'a second release is the first');
  t.match(f.engine.calls.findLast(({ method }) => method === 'release')?.args[1], { succeeded: false });
});

t.test('UNAVAILABLE is repeated, nothing else is', async (t) => {
  const f = await startedIn(t);
  const { client } = f;
  f.engine.leases.set('l1', leaseOf({ requestId: 'l1', ttlMs: 60_000, params: {} } as never, { id: 'l1' }));
  const get = () => client.ask(client.allocation, client.allocation.getLease, { leaseId: 'l1' });
  f.engine.getLease = (leaseId) => {
    f.engine.fail =
      f.count('getLease') < 2 ? new AllocatorError('HYPERVISOR_UNAVAILABLE', 'told to') : undefined;
    return EngineDouble.prototype.getLease.call(f.engine, leaseId);
  };
  t.equal((await get()).id, 'l1');
  t.equal(f.count('getLease'), 3);
  f.engine.getLease = EngineDouble.prototype.getLease;
  for (const code of [
    'LEASE_NOT_FOUND',
    'CAPACITY_EXHAUSTED',
    'STATE_CONFLICT',
    'DEADLINE_EXCEEDED',
  ] as const) {
    const before = f.count('getLease');
    f.engine.fail = new AllocatorError(code, 'told to');
    const error = await get().catch((error: unknown) => error);
    t.ok(error instanceof ClientError && error.reason === code, code);
    t.equal(f.count('getLease'), before + 1, `${code} is not repeated`);
  }
  f.engine.fail = undefined;
  const nobody = new ForeshadeClient(`${f.config.service.socket}.none`);
  t.teardown(() => nobody.close());
  const error = await nobody
    .ask(nobody.admin, nobody.admin.getStatus, {}, { timeoutMs: 500 })
    .catch((error: unknown) => error);
  t.ok(error instanceof ClientError && [UNREACHABLE, 'DEADLINE_EXCEEDED'].includes(error.reason));
});

t.test('a lease at risk is told, and kept when the service answers again', async (t) => {
  const f = await startedIn(t);
  const told: Keeping[] = [];
  const held = await f.client.hold(
    { ...REQUEST, ttlMs: 3000 },
    { onKeeping: (keeping) => told.push(keeping) },
  );
  t.teardown(() => held.release());
  f.engine.fail = new AllocatorError('STATE_CONFLICT', 'told to');
  await until(() => told.length === 1);
  f.engine.fail = undefined;
  await until(() => told.length === 2);
  t.strictSame(told, ['at-risk', 'kept']);
  t.notOk(held.lost.aborted);
});

t.test('a lease that has ended is lost at once, and not released', async (t) => {
  const f = await startedIn(t);
  const told: Keeping[] = [];
  const held = await f.client.hold(REQUEST, { onKeeping: (keeping) => told.push(keeping) });
  f.engine.fail = new AllocatorError('LEASE_ENDED', 'the guest stopped');
  await until(() => held.lost.aborted);
  t.strictSame(told, ['lost']);
  t.ok(held.lost.reason instanceof LeaseLost);
  t.match(held.lost.reason.message, /is lost: the guest stopped/);
  f.engine.fail = undefined;
  await held[Symbol.asyncDispose]();
  t.equal(f.count('release'), 0);
});

t.test('who waits for room is told when it is there, when it never will be, and when to stop', async (t) => {
  const f = await startedIn(t);
  const { engine, client } = f;
  engine.allocate = async (request) => {
    const lease = leaseOf(request, { state: 'QUEUED' });
    engine.leases.set(lease.id, lease);
    return lease;
  };
  const ends: readonly ('ACTIVE' | 'REJECTED')[] = ['ACTIVE', 'REJECTED'];
  for (const end of ends) {
    let watches = 0;
    engine.watchLease = (leaseId) =>
      (async function* () {
        const lease = engine.getLease(leaseId);
        yield lease;
        watches += 1;
        // The first stream is cut, as by a restart.
        if (watches === 1) throw new AllocatorError('DRAINING', 'told to');
        yield { ...lease, state: 'PREPARING' as const };
        yield { ...lease, state: end, reason: 'its latest start has passed' };
      })();
    const held = await client.hold(REQUEST);
    const inPlace = await held.inPlace().catch((error: unknown) => error);
    if (end === 'ACTIVE') t.match(inPlace, { state: LeaseState.LEASE_STATE_ACTIVE });
    else t.ok(inPlace instanceof LeaseLost && /latest start/.test(inPlace.message), String(inPlace));
    await held.release();
  }
  engine.watchLease = (leaseId, { signal }) =>
    (async function* () {
      yield engine.getLease(leaseId);
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
    })();
  const held = await client.hold(REQUEST);
  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error('no more patience')), 50);
  await t.rejects(held.inPlace(stop.signal), { message: 'no more patience' });
  await t.rejects(held.inPlace(stop.signal), { message: 'no more patience' }, 'nor any from the start');
  await held.release();
});
