import { SeriesModel } from '../../orchestrator/forecast/series-model.ts';
import type { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { Random } from './random.ts';

/** Bins of a stretch, and how many of its first ones only settle the recurrent state. */
export const STRETCH_BINS = 96;
const SETTLING_BINS = 32;
/** Bins of a series before its first stretch. */
const PAST_BINS = 16;
/** Knots that are tried for an outcome that was read. */
const TRIES = 6;

/** One metric of one series, and what is to be cut out of it. */
export interface StretchJob {
  /** f64[bins]; NaN: nothing was read. */
  readonly values: Float64Array;
  /** Bins of a season; 0: none. */
  readonly season: number;
  readonly stretches: number;
  /** What the set's losses of this series are multiplied by. */
  readonly weight: number;
  readonly seed: number;
}

/** Numbers of a bin in a stretch: what the recurrent part sees, then a lesson as assembly/training has it. */
export function binNumbers({ inputs, groups }: Pick<SeriesKernels, 'inputs' | 'groups'>): number {
  return inputs + 2 + groups + (groups * (groups + 1)) / 2;
}

/**
 * Play a series into the kernels, as if live, and keep stretches of what they saw, each bin with a lesson: how the experts
 * would have scored at one knot. No lesson's forecast has seen its outcome.
 * @returns f32[stretches, STRETCH_BINS, binNumbers]; fewer stretches when the series is too short for any
 */
export function cutStretches(kernels: SeriesKernels, job: StretchJob): Float32Array {
  const { values } = job;
  const random = new Random(job.seed);
  const first = values.findIndex((value) => !Number.isNaN(value));
  const low = first + PAST_BINS;
  const room = values.length - 1 - STRETCH_BINS - low;
  if (first < 0 || room < 1) return new Float32Array(0);
  const starts = Array.from({ length: job.stretches }, () => low + random.below(room)).sort((a, b) => a - b);
  const width = binNumbers(kernels);
  const out = new Float32Array(starts.length * STRETCH_BINS * width);
  const model = new SeriesModel(kernels, { metrics: ['value'], season: Math.max(job.season, 1) });
  const end = (starts.at(-1) as number) + STRETCH_BINS;
  for (let bin = first; bin < end; bin += 1) {
    model.refresh({ values: values.subarray(bin, bin + 1) });
    model.rest();
    for (const [i, start] of starts.entries()) {
      const place = bin - start;
      if (place < 0 || place >= STRETCH_BINS) continue;
      const at = (i * STRETCH_BINS + place) * width;
      out.set(kernels.features, at);
      if (place >= SETTLING_BINS)
        writeLesson(kernels, job, bin, random, out.subarray(at + kernels.inputs, at + width));
    }
  }
  return out;
}

function writeLesson(
  kernels: SeriesKernels,
  { values, weight }: StretchJob,
  bin: number,
  random: Random,
  lesson: Float32Array,
): void {
  const { call, knotSteps, groups, groupRow, matrix, valid } = kernels;
  for (let tried = 0; tried < TRIES; tried += 1) {
    const knot = random.below(knotSteps.length);
    const step = knotSteps[knot] as number;
    const outcome = values[bin + step] ?? Number.NaN;
    if (Number.isNaN(outcome)) continue;
    call.aim(0);
    call.compare(0, step, outcome);
    lesson[0] = knot;
    lesson[1] = weight;
    lesson.set(kernels.lean(0, knot), 2);
    let at = 2 + groups;
    for (let g = 0; g < groups; g += 1) {
      for (let h = g; h < groups; h += 1) {
        const known = valid[g] !== 0 && valid[h] !== 0;
        // An expert without an answer is told by its own loss.
        lesson[at] = known ? (matrix[g * groupRow + h] as number) : g === h ? -1 : 0;
        at += 1;
      }
    }
    return;
  }
}
