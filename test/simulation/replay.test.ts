// Goal: what is played back decides as it did live. Method: an engine in shadow mode over the fake hypervisor, in manual
// time, records into a real store; the store is played back, and what the forecaster was asked and taught is compared.
import t from 'tap';
import type { Outcome } from '../../orchestrator/core/forecast.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';
import { play } from '../unit/replay-fixture.ts';
import { newStore } from '../unit/store-fixture.ts';
import { guest, LiteralForecaster, POLICY, World } from './world.ts';

const REQUESTS = 5;
const RUN_MS = 12_000;

/** Samples that a forecaster is shown from now on. */
function samplesOf(forecaster: LiteralForecaster): GuestSample[] {
  const samples: GuestSample[] = [];
  Object.defineProperty(forecaster, 'observe', { value: (sample: GuestSample) => samples.push(sample) });
  return samples;
}

t.test('the requests of a live engine in shadow mode, again', async (t) => {
  const store = newStore(t);
  let busy = 0;
  const worker = guest('a', {
    demand: () => ({
      cpuMillicores: busy === 0 ? 10 : 100 + busy * 100,
      memoryKib: 100 * 1024 + busy * 8 * 1024,
    }),
  });
  const world = await World.create([worker, guest('b')], {}, 'shadow', { shadow: store });
  const seen = samplesOf(world.process.forecaster);
  await world.pass(15_000);
  const live = [];
  for (let n = 1; n <= REQUESTS; n += 1) {
    live.push(await world.during(world.allocate({ requestId: `r${n}`, cpu: 300 * n, mem: 100 * n })));
    busy = n;
    await world.pass(RUN_MS);
    await world.during(world.release(live.at(-1)?.id ?? ''));
    busy = 0;
    await world.pass(15_000);
  }
  await store.flush();

  const forecaster = new LiteralForecaster();
  const seenAgain = samplesOf(forecaster);
  const { records, result } = await play(store, {}, { forecaster, policy: { ...POLICY, mode: 'shadow' } });
  t.match(result, { requests: REQUESTS, refused: 0, complaints: 0 });
  const recorded = ({
    guest,
    atMs,
    periodMs,
    cadence,
    usage,
    vcpus,
    instructionsAt,
    classes,
    flags,
  }: GuestSample) => ({
    guest,
    atMs,
    periodMs,
    cadence,
    usage,
    delayFraction: vcpus?.reduce((sum, { delayFraction }) => sum + delayFraction, 0),
    instructionsAt,
    classes,
    flags,
  });
  const inOrder = (samples: readonly GuestSample[]) =>
    samples
      .filter(({ atMs }) => atMs >= (seen[0]?.atMs ?? 0))
      .map(recorded)
      .map((sample) => ({ sample, key: `${sample.atMs} ${sample.guest} ${sample.cadence}` }))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
  t.ok(seen.some(({ cadence }) => cadence === 'fast') && seen.some(({ vcpus }) => vcpus !== undefined));
  t.strictSame(inOrder(seenAgain), inOrder(seen), 'the same samples');
  const leases = records.filter(({ record }) => record === 'lease');
  t.strictSame(
    leases.map(({ at_ms, request_id, reason, requested }) => ({ at_ms, request_id, reason, requested })),
    live.map(({ requestedAtMs, requestId, requested }, i) => ({
      at_ms: requestedAtMs,
      request_id: requestId,
      reason: leases[i]?.reason,
      requested: {
        cpu_millicores: requested.cpuMillicores,
        memory_bytes: requested.memoryBytes,
        vcpu_count: requested.vcpuCount,
      },
    })),
    'the same is asked for at the same time',
  );
  t.ok(new Set(leases.map(({ requested }) => JSON.stringify(requested))).size > 2, 'and not always the same');
  const lived = world.process.forecaster.outcomes;
  t.equal(forecaster.outcomes.length, lived.length);
  const known = ({ tenant, workload, params, startedAtMs, before, peak, censored, completed }: Outcome) => ({
    tenant,
    workload,
    params,
    startedAtMs,
    before,
    peak,
    censored,
    completed,
  });
  t.strictSame(forecaster.outcomes.map(known), lived.map(known), 'and the same is learned');
  forecaster.outcomes.forEach(({ finishedAtMs }, i) => {
    const lateMs = (lived[i]?.finishedAtMs ?? 0) - finishedAtMs;
    t.ok(lateMs >= 0 && lateMs <= 1000, `the end is known to a sample: ${lateMs} ms`);
  });
  t.ok((lived[0]?.peak.memoryBytes ?? 0) > 100 * MIB);
});
