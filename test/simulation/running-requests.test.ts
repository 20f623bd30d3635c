// Goal: a lease is planned over the guest by itself, and a forecast is told what runs. Method: the real engine on the fake
// hypervisor, a guest that becomes busy under its first lease, and the queries that reach the forecaster.
import t from 'tap';
import type { ForecastQuery } from '../../orchestrator/core/forecast.ts';
import { guest, requestOf, World } from './world.ts';

t.test('what a running lease uses is asked for once', async (t) => {
  const world = await World.create([guest('a')]);
  const { forecaster } = world.process;
  const asked: ForecastQuery[] = [];
  const answer = forecaster.forecast.bind(forecaster);
  forecaster.forecast = (query) => {
    asked.push(query);
    return answer(query);
  };
  world.libvirt.setDemand('a', () => ({ cpuMillicores: 100, memoryKib: 100 * 1024 }));
  await world.pass(12_000);
  const first = await world.during(world.allocate({ cpu: 1500, mem: 512 }));
  t.equal(asked.at(-1)?.running, undefined, 'a plan is of the request by itself');
  world.libvirt.setDemand('a', () => ({ cpuMillicores: 900, memoryKib: 100 * 1024 }));
  await world.pass(12_000);
  await world.during(world.allocate({ cpu: 2000, mem: 768 }));
  t.strictSame(asked.at(-1)?.before, first.before, 'of the guest before the first');
  t.ok((asked.at(-1)?.before?.cpuMillicores ?? Number.NaN) < 200);

  await world.engine.forecast(requestOf({ cpu: 1000 }), { axis: 'seconds', track: 'long' });
  const outlook = asked.at(-1);
  t.equal(outlook?.track, 'long');
  t.ok((outlook?.before?.cpuMillicores ?? Number.NaN) > 800, 'as it is now');
  t.match(outlook?.running, [
    { workload: { name: first.workload, params: first.params }, before: first.before },
    { startedAtMs: Number },
  ]);
  t.ok((outlook?.running?.[0]?.startedAtMs ?? 0) < (outlook?.running?.[1]?.startedAtMs ?? 0), 'oldest first');
});
