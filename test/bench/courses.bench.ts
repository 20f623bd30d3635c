// Share of one core that the courses of 1,000 guests with all seven fields take at one sample a second: in their first 17
// minutes, when more is reviewed, and later. Then one guest with its memory full: ms of a sample of five minutes (7 bins of the
// long track, 112 of the short one, a fit at times) and of a forecast. Prints one JSON document, with a calibration loop.
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
/** Seconds before it is measured: the memory of 240 bins is full; and past 1,024 bins, from where on a quarter is reviewed. */
const SECONDS_BEFORE = { young: 270, grown: 1040 };
/** Guests that grow so old, for a thousand would take minutes; their share is multiplied. */
const GROWN_GUESTS = 100;
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

/** CPU ms that work takes: other processes do not count. */
function cpuMs(work: () => void): number {
  const from = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(from);
  return (user + system) / 1000;
}
const median = (times: number[]): number => times.sort((a, b) => a - b)[times.length >> 1] as number;

/** Share of a core that so many guests take after so many seconds; making the samples is not counted. */
function coreFractionOf(guests: number, secondsBefore: number): number {
  const courses = new GuestCourses(kernels);
  const times = Array.from({ length: secondsBefore + SECONDS }, (_, second) => {
    const samples = Array.from({ length: guests }, (_, guest) => sampleOf(guest, second * 1000, 1000));
    return cpuMs(() => {
      for (const sample of samples) courses.observe(sample);
    });
  });
  return median(times.slice(secondsBefore)) / 1000;
}
const coreFraction = {
  young: coreFractionOf(GUESTS, SECONDS_BEFORE.young),
  grown: (coreFractionOf(GROWN_GUESTS, SECONDS_BEFORE.grown) * GUESTS) / GROWN_GUESTS,
};
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
