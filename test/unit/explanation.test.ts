// Goal: a decision is told in a sentence a person can act on, and one of another kind, or with inputs that a later version
// adds, is told as well. Method: what the engine really decided about a lease, and decisions made up.
import t from 'tap';
import { explanation, sentenceOf } from '../../orchestrator/cli/explanation.ts';
import type { Decision } from '../../orchestrator/core/engine.ts';
import { guest, World } from '../simulation/world.ts';

/** As the contract carries it. */
function onWire({ inputs, ...decision }: Decision) {
  return {
    ...decision,
    inputs: Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, String(value)])),
  };
}

const made = { leaseId: 'l', guest: 'g', atMs: 0 };

t.test('a lease of the engine', async (t) => {
  const world = await World.create([guest('a')]);
  const lease = await world.during(world.allocate({ cpu: 2500, mem: 1024 }));
  await world.during(world.release(lease.id));
  await world.pass(1000);
  const sentences = world.engine.explain(lease.id).map((decision) => sentenceOf(onWire(decision)));
  t.match(sentences, [
    'Asked for 2.50 cores and 1,024 MiB (forecast: read from the parameters), while 1.00 cores of the host were promised: granted, fits the host.',
    /^The guest held 2\.50 cores and 1,024 MiB 0\.\d s after the request: everything asked for is in place\.$/,
    'The lease ended as RELEASED, and its guest then held 1.00 cores and 256 MiB: released by the client.',
  ]);
});

for (const { decision, sentence } of [
  {
    decision: {
      action: 'adjust',
      rule: 'memory',
      inputs: {
        from: '1073741824',
        to: '1610612736',
        residual: '-268435456',
        reason: 'usage stands at the entitlement',
      },
      outcome: 'in force',
    },
    sentence:
      "Moved its memory from 1,024 MiB to 1,536 MiB, since usage stands at the entitlement (256 MiB below the forecast's median): in force.",
  },
  {
    decision: { action: 'admit', rule: 'grant', inputs: { freeMillicores: '3000' }, outcome: 'fits' },
    sentence: 'Admit by the rule grant: fits. Known as well: free millicores 3000.',
  },
  {
    decision: { action: 'quarantine', rule: 'miner', inputs: {}, outcome: 'capped' },
    sentence: 'Quarantine by the rule miner: capped.',
  },
]) {
  t.test(`${decision.action} by ${decision.rule}`, async (t) => {
    t.equal(sentenceOf({ ...made, ...decision }), sentence);
  });
}

t.test('a lease of which nothing is kept', async (t) => {
  t.equal(explanation([]), 'No decisions are kept for this lease.');
});
