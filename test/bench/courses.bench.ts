// Share of one core that the courses of 1,000 guests with all seven fields take at one sample a second, while their series are
// young and later; then one guest with its memory full: ms of a sample of five minutes (7 bins of the long track, 112 of the
// short one, a fit at times) and of a forecast. Prints one JSON document, with a calibration loop of the same run.
import { readModel } from '../../models/files/model-file.ts';
import type { Track } from '../../orchestrator/core/forecast.ts';
import { PROFILE_FIELDS } from '../../orchestrator/core/profile.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';
import { GuestCourses } from '../../orchestrator/forecast/guest-courses.ts';
import { packagePath } from '../../orchestrator/package-path.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { recordFigure } from '../figures.ts';
import { randomFrom } from '../random.ts';

const GUESTS = 1000;
/** Seconds before the clock is looked at: the JIT's tiers, and the reviews that are closer while a series is young. */
const SECONDS_BEFORE = { young: 60, grown: 1040 };
const SECONDS = 10;
/** Bins of the long track: four weeks, so that its memory is full, and those that are timed after them. */
const LONG_BINS = { before: 8064, timed: 512 };
/** Most of one core. */
const CORE_FRACTION_MAX = 0.15;
const CALIBRATION_STEPS = 10_000_000;

const random = randomFrom(1);
const kernels = await SeriesKernels.load();
const { inputs, hidden, groups, groupRow, knotSteps } = kernels;
const parts = { inputs, hidden, groups, groupRow, knots: knotSteps };
kernels.adopt((await readModel(packagePath('models/weights/default/1'), parts)).weights);

function sampleOf(guest: number, atMs: number, periodMs: number): GuestSample {
  const usage = Object.fromEntries(PROFILE_FIELDS.map((field) => [field, 100 + 100 * random()]));
  return { guest: `g${guest}`, atMs, periodMs, cadence: 'full', usage, flags: [] };
}

function timeMs(work: () => void): number {
  const from = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - from) / 1e6;
}

const courses = new GuestCourses(kernels);
let second = 0;
/** ms of each of the next seconds, making the samples not counted. */
function play(seconds: number): number[] {
  return Array.from({ length: seconds }, () => {
    second += 1;
    const samples = Array.from({ length: GUESTS }, (_, guest) => sampleOf(guest, second * 1000, 1000));
    return timeMs(() => {
      for (const sample of samples) courses.observe(sample);
    });
  });
}
const median = (times: number[]): number => times.sort((a, b) => a - b)[times.length >> 1] as number;
const shortOf = (before: number): number => {
  play(before - second);
  return median(play(SECONDS)) / 1000;
};
const coreFraction = { young: shortOf(SECONDS_BEFORE.young), grown: shortOf(SECONDS_BEFORE.grown) };

const worst = Math.max(coreFraction.young, coreFraction.grown);
recordFigure({
  bar: 'courses-core-fraction',
  value: Number(worst.toPrecision(3)),
  limit: `<= ${CORE_FRACTION_MAX} of a core, 1,000 guests x 7 fields each second`,
  met: worst <= CORE_FRACTION_MAX,
});

const one = new GuestCourses(kernels);
const takeBin = (bin: number): void => one.observe(sampleOf(0, bin * 300_000, 300_000));
const lastBin = LONG_BINS.before + LONG_BINS.timed;
for (let bin = 1; bin <= LONG_BINS.before; bin += 1) takeBin(bin);
const longMs = timeMs(() => {
  for (let bin = LONG_BINS.before + 1; bin <= lastBin; bin += 1) takeBin(bin);
});
const forecastMs = Object.fromEntries(
  (['short', 'long'] as Track[]).map((track) => [
    track,
    median(Array.from({ length: 200 }, () => timeMs(() => one.forecast('g0', track, lastBin * 300_000)))),
  ]),
);
const calibrationMs = timeMs(() => {
  let x = 0;
  for (let i = 1; i <= CALIBRATION_STEPS; i += 1) x += Math.sqrt(i) / (x + 1);
  return x;
});
process.stdout.write(
  `${JSON.stringify({ bench: 'courses', guests: GUESTS, coreFraction, fiveMinutesMs: longMs / LONG_BINS.timed, forecastMs, calibrationMs })}\n`,
);
