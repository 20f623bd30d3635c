// Goal: a configuration that is read again changes what can be changed under way, and says what waits for the next start.
// Method: pairs of files, a waiting lease that another policy has room for, and the service over a fake libvirt.
import t from 'tap';
import { changesOf } from '../../orchestrator/config/reload.ts';
import { parseConfig } from '../../orchestrator/config.ts';
import { guest, POLICY, World } from '../simulation/world.ts';

const config = (text: string) => parseConfig(text, 'test.toml');

for (const { text, live, atRestart } of [
  { text: '', live: [], atRestart: [] },
  { text: '[engine]\nqueue_max = 7', live: ['engine.queue_max'], atRestart: [] },
  { text: '[engine]\ntick_ms = 2000', live: [], atRestart: ['engine.tick_ms'] },
  { text: '[host.overcommit]\ncpu = 2.0', live: ['host.overcommit.cpu'], atRestart: [] },
  {
    text: 'state_dir = "/elsewhere"\n[host]\nmode = "advise"\nname = "h2"',
    live: ['host.mode'],
    atRestart: ['state_dir', 'host.name'],
  },
]) {
  t.test(`${JSON.stringify(text)} against the defaults`, async (t) => {
    const found = changesOf(config(''), config(text));
    t.strictSame(
      [[...found.live].sort(), [...found.atRestart].sort()],
      [[...live].sort(), [...atRestart].sort()],
    );
    const back = changesOf(config(text), config(''));
    t.strictSame([...back.live].sort(), [...live].sort(), 'a key that is gone has changed as well');
  });
}

t.test('a policy that has room serves what waits; a narrower one takes nothing back', async (t) => {
  const { reserved, overcommit } = POLICY.capacity;
  const narrow = { ...POLICY, capacity: { overcommit, reserved: { ...reserved, cpuMillicores: 4000 } } };
  const world = await World.create([guest('a'), guest('b'), guest('c')], narrow);
  const first = await world.during(world.allocate({ guest: 'a', cpu: 2000, ttlMs: 600_000 }));
  const waiting = await world.allocate({ guest: 'b', cpu: 2500, ttlMs: 600_000 });
  t.equal(waiting.state, 'QUEUED');
  world.engine.adoptPolicy(POLICY);
  await world.pass(3000);
  t.equal(world.engine.getLease(waiting.id).state, 'ACTIVE');
  world.engine.adoptPolicy(narrow);
  await world.pass(3000);
  t.match(
    [first, waiting].map(({ id }) => world.engine.getLease(id)),
    [
      { state: 'ACTIVE', granted: { cpuMillicores: 2000 } },
      { state: 'ACTIVE', granted: { cpuMillicores: 2500 } },
    ],
  );
  const third = await world.allocate({ guest: 'c', cpu: 1500 });
  t.equal(third.state, 'QUEUED', 'nothing more is promised');
});
