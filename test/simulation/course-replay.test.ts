// Goal: guests' own courses change nothing about what is decided, and a replay with them gives the same log each time, however
// their work is put off. Method: one recorded stretch with requests, played with and without them.
import t from 'tap';
import { readModel } from '../../models/files/model-file.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import type { ShadowPoint } from '../../orchestrator/core/shadow.ts';
import { CourseForecaster } from '../../orchestrator/forecast/course-forecaster.ts';
import { GuestCourses } from '../../orchestrator/forecast/guest-courses.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { packagePath } from '../../orchestrator/package-path.ts';
import { EffectKernels } from '../../orchestrator/wasm/effect.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { randomFrom } from '../random.ts';
import { play } from '../unit/replay-fixture.ts';
import { NOON_MS, newStore } from '../unit/store-fixture.ts';

const SEED = 3;
const STEP_MS = 10_000;
const STEPS = 360;
const GRANTED = { cpuMillicores: 4000, vcpuCount: 4, memoryBytes: 4096 * MIB };
t.comment(`seed ${SEED}`);

/** An hour of one guest; every fifth minute a request of a minute. */
function points(): ShadowPoint[] {
  const random = randomFrom(SEED);
  return Array.from({ length: STEPS }, (_, step) => {
    const works = step % 30 >= 24;
    return {
      atMs: NOON_MS + (step + 1) * STEP_MS,
      host: 'h1',
      axis: 'seconds' as const,
      periodMs: STEP_MS,
      granted: GRANTED,
      guest: 'worker',
      flags: [],
      ...(works && { tenant: 'acme', requestId: `r${Math.floor(step / 30)}`, workload: 'encode' }),
      profile: { cpuMillicores: (works ? 1500 : 50) + 20 * random(), memoryBytes: (works ? 600 : 100) * MIB },
    };
  });
}

async function withCourses(defer?: (work: () => void) => void): Promise<CourseForecaster> {
  const kernels = await SeriesKernels.load();
  const { inputs, hidden, groups, groupRow, knotSteps } = kernels;
  const parts = { inputs, hidden, groups, groupRow, knots: knotSteps };
  kernels.adopt((await readModel(packagePath('models/weights/default/1'), parts)).weights);
  return new CourseForecaster(
    await ParametricForecaster.create(),
    new GuestCourses(kernels, defer),
    await EffectKernels.load(),
  );
}

t.test('decisions with courses are those without, and the log is the same each time', async (t) => {
  const store = newStore(t);
  for (const point of points()) store.record(point);
  await store.flush();
  const without = await play(store);
  const first = await play(store, {}, { forecaster: await withCourses() });
  const again = await play(store, {}, { forecaster: await withCourses((work) => setImmediate(work)) });
  t.equal(again.text, first.text, 'to the letter, forecasts of guests and all');
  const decisions = ({ records }: typeof without) => records.filter(({ record }) => record === 'decision');
  t.ok(decisions(without).length > 0);
  t.strictSame(decisions(first), decisions(without));
  t.match(first.text, /its own course: \d+ bins of 1 s/);
});
