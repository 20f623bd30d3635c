// Time of the forecasts of a request, of one reading and of one lesson, with a full workload and all seven fields read, beside a
// calibration loop of the same run. `need` is what a plan rests on and the part of every other; `overLife` puts it on the guest's own
// course, which was foreseen since its last bin; `overLifeAnew` foresees that too; `besideOne` does so beside one that runs.
// Prints one JSON document; times in microseconds, best of five interleaved rounds. `tail` is p99.9 over p50, of forecasts and
// of a compiled loop that takes as long, one after the other in this process.
import { readModel } from '../../models/files/model-file.ts';
import type { ForecastQuery, Outcome } from '../../orchestrator/core/forecast.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';
import { CourseForecaster } from '../../orchestrator/forecast/course-forecaster.ts';
import { GuestCourses } from '../../orchestrator/forecast/guest-courses.ts';
import {
  ParametricForecaster,
  type RequestQuery,
} from '../../orchestrator/forecast/parametric-forecaster.ts';
import { packagePath } from '../../orchestrator/package-path.ts';
import { EffectKernels } from '../../orchestrator/wasm/effect.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { recordFigure } from '../figures.ts';
import { randomFrom } from '../random.ts';
import { hiddenWorkload, outcomeOf, requestOf, sampleOf } from '../unit/hidden-workload.ts';
import { loadNativeLoop } from './native-loop.ts';

const ROUNDS = 5;
const CALLS = {
  forecast: 2000,
  forecastColdStart: 2000,
  need: 2000,
  overLife: 2000,
  overLifeAnew: 200,
  besideOne: 2000,
  observe: 2000,
  learn: 40,
  calibration: 200,
};
type Work = keyof typeof CALLS;

const CALIBRATION_STEPS = 100_000;
/** Pairs of a forecast and a loop: the slowest twenty of either are beyond p99.9. */
const TAIL_CALLS = 20_000;
const INFER_US_MAX = 20;
const TAIL_RATIO_MAX = 1.5;
/** Seconds that the guest is read before, so that its memory of 256 is full. */
const SECONDS_BEFORE = 300;
/** Its work lasts so many times as long as the hidden workload's, so that seconds tell the phases of its life. */
const SLOWER = 8;

/** A fixed piece of arithmetic, so that figures from other machines and other moments can be compared. */
function calibrate(steps: number): number {
  let x = 0;
  for (let i = 1; i <= steps; i += 1) x += Math.sqrt(i) / (x + 1);
  return x;
}

function timeUs(work: (i: number) => unknown, i: number): number {
  const from = process.hrtime.bigint();
  work(i);
  return Number(process.hrtime.bigint() - from) / 1000;
}

function timesUs(calls: number, work: (i: number) => unknown): number[] {
  return Array.from({ length: calls }, (_, i) => timeUs(work, i)).sort((a, b) => a - b);
}

/** p99.9 over p50. */
function tailOf(times: Float64Array): number {
  const sorted = times.sort();
  return (sorted[Math.floor(sorted.length * 0.999)] as number) / (sorted[sorted.length >> 1] as number);
}

/** A reading of every field. */
function fullSample(i: number): GuestSample {
  const sample = sampleOf('g', i, random);
  const rate = 1e6 * random();
  const rates = { diskReadBytesPerS: rate, diskWriteBytesPerS: rate / 2, netRxBytesPerS: rate / 9 };
  const usage = { ...sample.usage, ...rates, netTxBytesPerS: rate / 30, instructionsPerS: rate * 1000 };
  return { ...sample, atMs: i * 1000, periodMs: 1000, usage };
}

/** A run in which every field was read, so that every output has a model. */
function fullOutcome(i: number): Outcome {
  const outcome = outcomeOf('g', 'full', params[i % params.length] ?? {}, random);
  const rate = (outcome.peak.memoryBytes as number) * (0.5 + random());
  const rates = { diskReadBytesPerS: rate, diskWriteBytesPerS: rate / 2, netRxBytesPerS: rate / 9 };
  const peak = { ...outcome.peak, ...rates, netTxBytesPerS: rate / 30, instructionsPerS: rate * 7 };
  const finishedAtMs = SECONDS_BEFORE * 1000;
  const startedAtMs = finishedAtMs - SLOWER * (outcome.finishedAtMs - outcome.startedAtMs);
  return { ...outcome, startedAtMs, finishedAtMs, peak };
}

const createdFrom = performance.now();
const requests = await ParametricForecaster.create();
const createMs = performance.now() - createdFrom;
const kernels = await SeriesKernels.load();
const { inputs, hidden, groups, groupRow, knotSteps } = kernels;
const parts = { inputs, hidden, groups, groupRow, knots: knotSteps };
const { weights } = await readModel(packagePath('models/weights/default/1'), parts);
kernels.adopt(weights);
const courses = new GuestCourses(kernels);
const forecaster = new CourseForecaster(requests, courses, await EffectKernels.load());
const random = randomFrom(1);
const params = Array.from({ length: 512 }, () => hiddenWorkload.draw(random));
for (let i = 1; i <= SECONDS_BEFORE; i += 1) forecaster.observe(fullSample(i));
for (let i = 0; i < 128; i += 1) forecaster.learn(fullOutcome(i));

const originMs = SECONDS_BEFORE * 1000;
function request(i: number, name = 'full'): RequestQuery {
  const asked = params[i % params.length] ?? {};
  const workload = { tenant: 'lab', name, params: asked };
  return { ...requestOf('g', name, asked), originMs, workload };
}
/** Beside one of the same work that runs for two seconds. */
function besideOne(i: number): ForecastQuery {
  const { workload } = request(i + 1);
  const before = { cpuMillicores: 20, memoryBytes: 6e7 };
  return { ...request(i), running: [{ workload, startedAtMs: originMs - 2000, before }] };
}

const works: Record<Work, (i: number) => unknown> = {
  forecast: (i) => forecaster.forecast(request(i)),
  forecastColdStart: (i) => forecaster.forecast(request(i, 'never')),
  need: (i) => requests.need(request(i)),
  overLife: (i) => forecaster.forecast({ ...request(i), running: [] }),
  overLifeAnew: (i) => {
    courses.adopt(weights);
    return forecaster.forecast({ ...request(i), running: [] });
  },
  besideOne: (i) => forecaster.forecast(besideOne(i)),
  observe: (i) => requests.observe(sampleOf('h', i, random)),
  learn: (i) => forecaster.learn(fullOutcome(i)),
  calibration: () => calibrate(CALIBRATION_STEPS),
};
const best: Partial<Record<Work, { p50: number; p99: number }>> = {};
for (let round = 0; round < ROUNDS; round += 1) {
  for (const name of Object.keys(works) as Work[]) {
    const times = timesUs(CALLS[name], works[name]);
    const p50 = times[Math.floor(times.length / 2)] as number;
    const p99 = times[Math.floor(times.length * 0.99)] as number;
    const held = best[name] ?? { p50, p99 };
    best[name] = { p50: Math.min(held.p50, p50), p99: Math.min(held.p99, p99) };
  }
}
const { overLife } = best as Record<Work, { p50: number }>;
recordFigure({
  bar: 'request-infer-us',
  value: Number(overLife.p50.toPrecision(3)),
  limit: `<= ${INFER_US_MAX} us, over its life on the guest's course, 7 fields, 13 knots, 12 levels`,
  met: overLife.p50 <= INFER_US_MAX,
});

/** Tails of forecasts and of a compiled loop that takes as long, call by call. */
function tails(loop: (steps: number) => number): Record<'forecast' | 'loop' | 'ratio', number> {
  const probeUs = timesUs(CALLS.calibration, () => loop(CALIBRATION_STEPS));
  const steps = Math.round((CALIBRATION_STEPS * overLife.p50) / (probeUs[CALLS.calibration >> 1] as number));
  const forecasts = new Float64Array(TAIL_CALLS);
  const loops = new Float64Array(TAIL_CALLS);
  for (let i = 0; i < TAIL_CALLS; i += 1) {
    forecasts[i] = timeUs(works.overLife, i);
    loops[i] = timeUs(() => loop(steps), i);
  }
  const tail = { forecast: tailOf(forecasts), loop: tailOf(loops) };
  return { ...tail, ratio: tail.forecast / tail.loop };
}

const loop = loadNativeLoop();
const tail = typeof loop === 'string' ? loop : tails(loop);
if (typeof tail !== 'string')
  recordFigure({
    bar: 'request-infer-tail',
    value: Number(tail.ratio.toPrecision(3)),
    limit: `<= ${TAIL_RATIO_MAX} x p99.9/p50 of a compiled loop`,
    met: tail.ratio <= TAIL_RATIO_MAX,
  });
process.stdout.write(`${JSON.stringify({ bench: 'forecast', unit: 'us', createMs, ...best, tail })}\n`);
