// Goal: uneven samples become the bins they should, and a course that is paged in and out is the course that stays, to the
// bit, whenever its work is done. Method: bins worked by hand, and series of the same bins in slots of their own as oracle.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import t from 'tap';
import { readModel } from '../../models/files/model-file.ts';
import { FIELDS, LEVELS, QUANTILE_LEVELS, type Track } from '../../orchestrator/core/forecast.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';
import { CourseForecaster } from '../../orchestrator/forecast/course-forecaster.ts';
import { CourseKeeper } from '../../orchestrator/forecast/course-keeper.ts';
import { fitsDueAt } from '../../orchestrator/forecast/fit-schedule.ts';
import { Grid } from '../../orchestrator/forecast/grid.ts';
import { GuestCourses, longPhaseMs } from '../../orchestrator/forecast/guest-courses.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { packagePath } from '../../orchestrator/package-path.ts';
import { EffectKernels } from '../../orchestrator/wasm/effect.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { randomFrom } from '../random.ts';

const SEED = 5;
/** Past bin 484, where fits fall due that a day's season leaves enough origins for. */
const LONG_BINS = 504;
t.comment(`seed ${SEED}`);

async function loaded(): Promise<SeriesKernels> {
  const kernels = await SeriesKernels.load();
  const { inputs, hidden, groups, groupRow, knotSteps } = kernels;
  const parts = { inputs, hidden, groups, groupRow, knots: knotSteps };
  kernels.adopt((await readModel(packagePath('models/weights/default/1'), parts)).weights);
  return kernels;
}

function sampleOf(guest: string, atMs: number, usage: GuestSample['usage'], more: Partial<GuestSample> = {}) {
  return { guest, atMs, periodMs: 1000, cadence: 'full' as const, usage, flags: [], ...more };
}

/** Each closed bin of field 0, in order. */
function binsOf(readings: readonly (readonly [value: number, atMs: number, periodMs: number])[], season = 0) {
  const grid = new Grid({ stepMs: 1000, phaseMs: 0, runMax: 4, season });
  const bins: number[] = [];
  for (const [value, atMs, periodMs] of readings)
    grid.take(0, value, atMs, periodMs, (_, mean, count) => bins.push(...new Array(count).fill(mean)));
  t.equal(grid.bins(0), bins.length);
  return bins;
}

t.test('readings become means by time', async (t) => {
  const CASES = {
    'on the grid': [
      [
        [5, 1000, 1000],
        [7, 2000, 1000],
      ],
      [5, 7],
    ],
    'beside the grid: 0.25 of one and 0.75 of the next': [
      [
        [4, 1250, 1000],
        [8, 2250, 1000],
        [8, 3250, 1000],
      ],
      [4, 7, 8],
    ],
    'a period of many bins': [[[3, 3000, 3000]], [3, 3, 3]],
    'fast ones that overlap: only what is new of each': [
      [
        [10, 1000, 1000],
        [20, 1500, 1000],
        [40, 2000, 1000],
      ],
      [10, 30],
    ],
    'a gap repeats the last': [
      [
        [6, 1000, 1000],
        [9, 4000, 1000],
      ],
      [6, 6, 6, 9],
    ],
    'a gap within a bin: the mean of what was read': [
      [
        [6, 1250, 1250],
        [9, 2000, 250],
      ],
      [6, 7.5],
    ],
    'a long gap: the open bin, then no more than the bound': [
      [
        [6, 1000, 1000],
        [9, 90_000, 1000],
      ],
      [6, 6, 6, 6, 6, 6, 9],
    ],
    'a clock a little back: ignored': [
      [
        [6, 1000, 1000],
        [99, 500, 1000],
        [8, 2000, 1000],
      ],
      [6, 8],
    ],
    'a clock set back for good: begun there': [
      [
        [6, 60_000, 1000],
        [8, 10_000, 1000],
        [9, 11_000, 1000],
      ],
      [6, 8, 9],
    ],
  } as const;
  for (const [name, [readings, bins]] of Object.entries(CASES)) t.strictSame(binsOf(readings), bins, name);
  const whole = binsOf(
    [
      [6, 1000, 1000],
      [9, 13_000, 1000],
    ],
    3,
  );
  t.strictSame(whole, [6, 6, 6, 9], 'eleven missing bins less three seasons of three: two');
});

t.test('what is not read, or not sound, is skipped by field', async (t) => {
  const courses = new GuestCourses(await loaded());
  for (let i = 1; i <= 20; i += 1) {
    courses.observe(
      sampleOf('g', i * 1000, { cpuMillicores: i, memoryBytes: Number.NaN, netRxBytesPerS: -1 }),
    );
    courses.observe(
      sampleOf('g', i * 1000, { diskReadBytesPerS: 1e39, netTxBytesPerS: 3 }, { flags: ['paused'] }),
    );
  }
  const found = courses.forecast('g', 'short', 20_000);
  const known = Array.from({ length: FIELDS }, (_, f) => !Number.isNaN(found?.peak[f * LEVELS]));
  t.strictSame(known, [true, false, false, false, false, false, false]);
});

/** Two guests with every field, some of them with gaps: the samples of so many seconds, in order. */
function samples(seconds: number, stepMs = 1000): GuestSample[] {
  const random = randomFrom(SEED);
  return Array.from({ length: seconds }, (_, i) => {
    const atMs = (i + 1) * stepMs + (stepMs === 1000 ? Math.floor(200 * random()) : 0);
    const usage = () => ({
      cpuMillicores: 1000 * random(),
      ...(random() < 0.8 && { memoryBytes: 1e9 * random() }),
      instructionsPerS: 1e9 + 1e8 * Math.sin(i / 10),
    });
    return ['a', 'b'].map((guest) => sampleOf(guest, atMs, usage(), { periodMs: stepMs }));
  }).flat();
}

function answers(courses: GuestCourses, atMs: number) {
  return (['short', 'long'] as Track[]).flatMap((track) =>
    ['a', 'b'].map((guest) => courses.forecast(guest, track, atMs)),
  );
}

t.test('paged in and out, a series is what it is in a slot of its own, fits and all', async (t) => {
  const [kernels, own] = [await loaded(), await loaded()];
  const courses = new GuestCourses(kernels);
  const bins = LONG_BINS;
  const random = randomFrom(SEED);
  const phase = longPhaseMs('a');
  const first = 1000;
  own.call.open(3, 288, first % 288);
  let fitting: number[] = [];
  for (let bin = 0; bin < bins; bin += 1) {
    const value = 100 * random() + (bin % 12);
    const other = 100 * random();
    // Ends a bin of the guest's own grid, and so is one.
    const atMs = (first + bin + 1) * 300_000 + phase;
    courses.observe(sampleOf('b', atMs, { cpuMillicores: other }, { periodMs: 300_000 }));
    courses.observe(sampleOf('a', atMs, { cpuMillicores: value }, { periodMs: 300_000 }));
    own.call.refresh(3, value);
    const due = fitsDueAt(bin + 1, own.fits);
    fitting.push(
      ...Array.from({ length: own.fits }, (_, i) => own.fits - 1 - i).filter((fit) => (due >> fit) & 1),
    );
    // One a full sample.
    const [fit, ...rest] = fitting;
    if (fit !== undefined) own.call.fit(3, fit);
    fitting = rest;
  }
  const found = courses.forecast('a', 'long', (first + bins) * 300_000);
  own.levels.set(QUANTILE_LEVELS);
  own.steps.set(own.knotSteps);
  own.call.aim(3);
  own.call.forecast(3, own.knotSteps.length, LEVELS);
  const expected = own.knotSteps.flatMap((_, k) =>
    Array.from(QUANTILE_LEVELS, (_, l) => Math.max(0, own.quantiles[k * own.levelsMax + l] as number)),
  );
  t.strictSame([...(found?.values.subarray(0, expected.length) ?? [])], expected);
  t.equal(found?.bins, bins);
});

t.test(
  'the same samples give the same forecasts, whenever the work is done and whatever is asked between',
  async (t) => {
    const kernels = await loaded();
    for (const [stepMs, count] of [
      [1000, 400],
      [300_000, LONG_BINS],
    ] as const) {
      const list = samples(count, stepMs);
      const atMs = count * stepMs;
      const atOnce = new GuestCourses(kernels);
      for (const sample of list) atOnce.observe(sample);
      const expected = answers(atOnce, atMs);
      t.ok(expected.some(Boolean));

      const later: (() => void)[] = [];
      const random = randomFrom(SEED);
      const deferred = new GuestCourses(kernels, (work) => later.push(work));
      for (const sample of list) {
        deferred.observe(sample);
        if (random() < 0.3) later.shift()?.();
        if (random() < 0.05) answers(deferred, sample.atMs);
      }
      t.strictSame(answers(deferred, atMs), expected);
    }
  },
);

t.test('a guest that is forgotten begins anew', async (t) => {
  const kernels = await loaded();
  const courses = new GuestCourses(kernels);
  for (const sample of samples(60)) courses.observe(sample);
  const other = courses.forecast('b', 'short', 60_000);
  courses.forget('a');
  t.equal(courses.bins('a', 'short'), 0);
  t.equal(courses.forecast('a', 'short', 60_000), undefined);
  t.strictSame(courses.forecast('b', 'short', 60_000), other);
  for (const sample of samples(60)) courses.observe({ ...sample, guest: 'c' });
  t.equal(courses.forecast('c', 'short', 60_000) === undefined, false);
});

t.test('the states of a guest with everything full stay within 256 KiB', async (t) => {
  const { call, slots } = await loaded();
  t.ok(FIELDS * (call.seriesBytes(0) + call.seriesBytes(slots)) + 2 * FIELDS * 7 * 8 <= 256 * 1024);
});

t.test('a guest without a request is forecast by its own course, and says while it is young', async (t) => {
  const courses = new GuestCourses(await loaded());
  const forecaster = new CourseForecaster(
    await ParametricForecaster.create(),
    courses,
    await EffectKernels.load(),
  );
  const ask = (track: Track, originMs: number, axis: 'seconds' | 'instructions' = 'seconds') =>
    forecaster.forecast({ guest: 'a', axis, track, originMs, ceiling: { cpuMillicores: 4000 } });
  t.match(ask('short', 0).reason, /^cold start: 0 of 8 bins of 1 s of its own course; guest never read/);
  for (const sample of samples(70)) forecaster.observe(sample);
  const short = ask('short', 70_000);
  t.equal(short.reason, 'its own course: 70 bins of 1 s');
  t.equal(short.track, 'short');
  t.ok(short.knots.length <= 16 && short.knots[0] === 1);
  t.equal(short.values.length, FIELDS * short.knots.length * LEVELS);
  for (const f of [0, 1, 6]) {
    const rows = short.knots.map((_, k) =>
      short.values.slice((f * short.knots.length + k) * LEVELS).slice(0, LEVELS),
    );
    const largest = QUANTILE_LEVELS.map((_, l) => Math.max(...rows.map((row) => row[l] as number)));
    t.strictSame([...short.peak.subarray(f * LEVELS, (f + 1) * LEVELS)], largest, 'the largest of the knots');
  }
  t.ok(Number.isNaN(short.peak[2 * LEVELS]), 'never read');
  t.match(ask('long', 70_000).reason, /^cold start: 0 of 8 bins of 5 min of its own course; /);
  t.match(ask('short', 600_000).reason, /^its own course was read too long ago; /);
  const steps = ask('short', 70_000, 'instructions');
  t.equal(steps.axis, 'instructions');
  t.ok((steps.knots[0] as number) > 5e8, 'about 1e9 instructions a second');
  const workload = { tenant: '', name: 'w', params: {} };
  const request = {
    guest: 'a',
    axis: 'seconds',
    track: 'short',
    originMs: 0,
    workload,
    ceiling: {},
  } as const;
  t.match(
    forecaster.forecast(request).reason,
    /no run of this workload/,
    'a request is not forecast by the course',
  );
  forecaster.forget('a');
  t.match(ask('short', 70_000).reason, /^cold start: 0 of 8/);
});

/** A keeper over a folder, and the paths it told of. */
async function kept(folder: string, courses: GuestCourses) {
  const told: string[] = [];
  const listener = {
    onDamaged: (path: string, cause: unknown) => void told.push(`${basename(path)}: ${String(cause)}`),
    onUnwritten: (path: string, cause: unknown) => void told.push(`${basename(path)}: ${String(cause)}`),
  };
  return { keeper: await CourseKeeper.start(folder, courses, listener), told };
}

t.test('a restart goes on where the long track ended, to the bit', async (t) => {
  const folder = t.testdir();
  const kernels = await loaded();
  const list = samples(LONG_BINS, 300_000);
  // Cut where fits are still to be made, so that they are part of what is kept.
  const cut = 2 * (LONG_BINS - 18);
  const through = new GuestCourses(kernels);
  for (const sample of list) through.observe(sample);

  const before = new GuestCourses(kernels);
  const { keeper } = await kept(folder, before);
  for (const sample of list.slice(0, cut)) before.observe(sample);
  await keeper.stop();
  t.strictSame(readdirSync(folder).sort(), ['a.course', 'b.course']);

  const after = new GuestCourses(kernels);
  const { keeper: next, told } = await kept(folder, after);
  t.equal(after.bins('a', 'long'), before.bins('a', 'long'));
  for (const sample of list.slice(cut)) after.observe(sample);
  const atMs = LONG_BINS * 300_000;
  for (const guest of ['a', 'b'])
    t.strictSame(after.forecast(guest, 'long', atMs), through.forecast(guest, 'long', atMs));
  t.strictSame(told, []);

  after.forget('a');
  await next.stop();
  t.strictSame(readdirSync(folder), ['b.course'], 'a guest that is forgotten leaves nothing');
});

t.test('a damaged file is told of and the guest begins cold; the others go on', async (t) => {
  const folder = t.testdir();
  const kernels = await loaded();
  const before = new GuestCourses(kernels);
  const { keeper } = await kept(folder, before);
  for (const guest of ['a', 'b', 'c', 'd', '../e'])
    for (let i = 1; i < 20; i += 1)
      before.observe(sampleOf(guest, i * 300_000, { cpuMillicores: i }, { periodMs: 300_000 }));
  await keeper.stop();
  const harm = (name: string, change: (bytes: Buffer) => Buffer): void =>
    writeFileSync(join(folder, name), change(readFileSync(join(folder, name))));
  harm('a.course', (bytes) => {
    bytes.writeUInt8(bytes.readUInt8(5000) ^ 4, 5000);
    return bytes;
  });
  harm('b.course', (bytes) => bytes.subarray(0, bytes.length - 1));
  harm('c.course', () => Buffer.alloc(0));
  harm('d.course', (bytes) => {
    bytes.writeUInt32LE(9, 8);
    return bytes;
  });
  writeFileSync(join(folder, 'b.course.draft'), 'half');
  const after = new GuestCourses(kernels);
  const { told } = await kept(folder, after);
  t.strictSame(told.sort(), [
    'a.course: Error: its checksum differs',
    'b.course: Error: its checksum differs',
    'c.course: Error: it is no record of a course',
    'd.course: Error: it is of version 9, and this program reads 3',
  ]);
  t.strictSame(after.guests(), ['../e']);
  t.strictSame(readdirSync(folder), ['..%2Fe.course']);
  t.equal(after.bins('a', 'long'), 0);
});

t.test('after a gap of a day the work is done in pieces, and comes out the same', async (t) => {
  const kernels = await loaded();
  const list = [...samples(12, 300_000), ...samples(1, 300_000).map((s) => ({ ...s, atMs: 280 * 300_000 }))];
  const atOnce = new GuestCourses(kernels);
  for (const sample of list) atOnce.observe(sample);
  const later: (() => void)[] = [];
  const deferred = new GuestCourses(kernels, (work) => later.push(work));
  for (const sample of list) deferred.observe(sample);
  let goes = 0;
  for (let work = later.shift(); work !== undefined; work = later.shift()) {
    work();
    goes += 1;
  }
  t.ok(goes > 4, `${goes} goes`);
  t.strictSame(answers(deferred, 280 * 300_000), answers(atOnce, 280 * 300_000));
});

t.test('other weights serve from the next forecast on', async (t) => {
  const kernels = await loaded();
  const courses = new GuestCourses(kernels);
  for (const sample of samples(60)) courses.observe(sample);
  const before = courses.forecast('a', 'short', 60_000);
  const weights = kernels.model.slice();
  courses.adopt(weights.map((weight) => -weight));
  t.strictNotSame(courses.forecast('a', 'short', 60_000), before);
  courses.adopt(weights);
  t.strictSame(courses.forecast('a', 'short', 60_000), before);
});
