// Goal: capacity that is kept standing by forecast serves a daily peak with at most half the late grants of the reactive rule, at
// no more mean capacity. Method: the engine's own rule and the forecaster of production over days of one group, minute by minute;
// guests that start, work and idle are counted here. The reactive rule has the smallest spare that takes as much capacity.
import t from 'tap';
import { readModel } from '../../models/files/model-file.ts';
import type { GuestGroup } from '../../orchestrator/core/scale.ts';
import type { GuestGroups } from '../../orchestrator/engine/guest-groups.ts';
import { StandingCapacity } from '../../orchestrator/engine/standing-capacity.ts';
import { CourseForecaster } from '../../orchestrator/forecast/course-forecaster.ts';
import { GuestCourses } from '../../orchestrator/forecast/guest-courses.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { packagePath } from '../../orchestrator/package-path.ts';
import { EffectKernels } from '../../orchestrator/wasm/effect.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { randomFrom } from '../random.ts';

const SEED = 11;
const MINUTE_MS = 60_000;
const DAY = 24 * 60;
/** A week to learn from, and three days to judge on. */
const [LEARNT_DAYS, DAYS] = [7, 10];
const GUESTS = 24;
const BOOT = 5;
const COOLDOWN = 10;
const IDLE_STOP = 10;
t.comment(`seed ${SEED}`);

async function courseForecaster(): Promise<CourseForecaster> {
  const kernels = await SeriesKernels.load();
  const { inputs, hidden, groups, groupRow, knotSteps } = kernels;
  const parts = { inputs, hidden, groups, groupRow, knots: knotSteps };
  kernels.adopt((await readModel(packagePath('models/weights/default/1'), parts)).weights);
  return new CourseForecaster(
    await ParametricForecaster.create(),
    new GuestCourses(kernels),
    await EffectKernels.load(),
  );
}

/** Guests' worth of work each minute: two at night, eighteen by day, up within half an hour from nine; one more at times. */
function demand(): number[] {
  const random = randomFrom(SEED);
  return Array.from({ length: DAYS * DAY }, (_, minute) => {
    const hour = (minute % DAY) / 60;
    const share = Math.max(0, Math.min(1, (hour - 9) / 0.5, (17 - hour) / 0.5));
    return Math.round(2 + 16 * share + (random() < 0.05 ? 1 : 0));
  });
}

/** @returns grants that waited for a start, and mean guests that ran or started, over the days that are judged */
async function play(group: GuestGroup): Promise<{ late: number; mean: number }> {
  let nowMs = 0;
  let atWork = 0;
  const members = Array.from({ length: GUESTS }, (_, i) => ({
    i,
    facts: { ceiling: { cpuMillicores: 1000 } },
  }));
  const groups = {
    members: () => members,
    isAtWork: ({ i }: { i: number }) => i < atWork,
  } as unknown as GuestGroups;
  const standing = new StandingCapacity({
    clock: { nowMs: () => nowMs } as never,
    forecaster: await courseForecaster(),
    groups,
    policy: {
      tickMs: MINUTE_MS,
      scale: {
        groups: new Map(),
        startingMax: GUESTS,
        bootMs: BOOT * MINUTE_MS,
        cooldownMs: COOLDOWN * MINUTE_MS,
      },
    },
  });
  let ready = 2;
  let coming: number[] = [];
  let idleSince = 0;
  let [late, total] = [0, 0];
  for (const [minute, needed] of demand().entries()) {
    nowMs = minute * MINUTE_MS;
    const judged = minute >= LEARNT_DAYS * DAY;
    ready += coming.filter((at) => at <= minute).length;
    coming = coming.filter((at) => at > minute);
    if (judged) late += Math.max(0, needed - Math.max(ready, atWork));
    atWork = needed;
    standing.note(group);
    const wanted = standing.wanted(group);
    while (ready + coming.length < wanted) coming.push(minute + BOOT);
    if (ready <= wanted) idleSince = minute;
    if (minute - idleSince >= IDLE_STOP) ready = Math.max(wanted, atWork);
    if (judged) total += ready + coming.length;
  }
  return { late, mean: total / ((DAYS - LEARNT_DAYS) * DAY) };
}

t.test('a daily peak that is foreseen has half the late grants', async (t) => {
  const group: GuestGroup = { name: 'web', guests: [], spare: 0 };
  const foreseen = await play({ ...group, level: 0.9 });
  let reactive = await play(group);
  for (let spare = 1; reactive.mean < foreseen.mean; spare += 1) reactive = await play({ ...group, spare });
  t.comment(JSON.stringify({ foreseen, reactive }));
  t.ok(reactive.late > 20, 'the peak is late without a forecast');
  t.ok(
    foreseen.late <= reactive.late / 2,
    `${foreseen.late} late grants, ${reactive.late} of the reactive rule`,
  );
});
