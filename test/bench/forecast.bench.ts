// Time of one forecast, one reading and one lesson with a full workload, beside a calibration loop of the same run.
// Prints one JSON document; times in microseconds, best of five interleaved rounds. `tail` is p99.9 over p50, of forecasts and
// of a calibration loop that takes as long, one after the other.
import type { Outcome } from '../../orchestrator/core/forecast.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { randomFrom } from '../random.ts';
import { hiddenWorkload, outcomeOf, requestOf, sampleOf } from '../unit/hidden-workload.ts';

const ROUNDS = 5;
const CALLS = { forecast: 2000, forecastColdStart: 2000, observe: 2000, learn: 40, calibration: 200 };
type Work = keyof typeof CALLS;

const CALIBRATION_STEPS = 100_000;
/** Pairs of a forecast and a loop: the slowest twenty of either are beyond p99.9. */
const TAIL_CALLS = 20_000;

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

/** A run in which every field was read, so that every output has a model. */
function fullOutcome(i: number): Outcome {
  const outcome = outcomeOf('g', 'full', params[i % params.length] ?? {}, random);
  const rate = (outcome.peak.memoryBytes as number) * (0.5 + random());
  const rates = { diskReadBytesPerS: rate, diskWriteBytesPerS: rate / 2, netRxBytesPerS: rate / 9 };
  const peak = { ...outcome.peak, ...rates, netTxBytesPerS: rate / 30, instructionsPerS: rate * 7 };
  return { ...outcome, peak };
}

const createdFrom = performance.now();
const forecaster = await ParametricForecaster.create();
const createMs = performance.now() - createdFrom;
const random = randomFrom(1);
const params = Array.from({ length: 512 }, () => hiddenWorkload.draw(random));
for (let i = 0; i < 128; i += 1) {
  forecaster.observe(sampleOf('g', i, random));
  forecaster.learn(fullOutcome(i));
}

const works: Record<Work, (i: number) => unknown> = {
  forecast: (i) => forecaster.forecast(requestOf('g', 'full', params[i % params.length] ?? {})),
  forecastColdStart: (i) => forecaster.forecast(requestOf('g', 'never', params[i % params.length] ?? {})),
  observe: (i) => forecaster.observe(sampleOf('g', i, random)),
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
const { forecast, calibration } = best as Record<Work, { p50: number }>;
const steps = Math.round((CALIBRATION_STEPS * forecast.p50) / calibration.p50);
const pairs = { forecast: new Float64Array(TAIL_CALLS), calibration: new Float64Array(TAIL_CALLS) };
for (let i = 0; i < TAIL_CALLS; i += 1) {
  pairs.forecast[i] = timeUs(works.forecast, i);
  pairs.calibration[i] = timeUs(() => calibrate(steps), i);
}
const tail = { forecast: tailOf(pairs.forecast), calibration: tailOf(pairs.calibration) };
process.stdout.write(`${JSON.stringify({ bench: 'forecast', unit: 'us', createMs, ...best, tail })}\n`);
