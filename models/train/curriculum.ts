import { createHash } from 'node:crypto';
import { gridBySeconds, type SeriesGrid } from '../data/grid.ts';
import { type SeriesRows, SeriesSet } from '../data/series-set.ts';
import { gridder, instructionColumn } from '../data/set-grid.ts';
import { Random } from './random.ts';
import { STRETCH_BINS, type StretchJob } from './stretches.ts';

/** What is cut of a set at each of its spacings: so many stretches, from at most so many bins. */
const STRETCHES = 3000;
const BINS_MAX = 2_000_000;
/** A set is also learned from at this many times its spacing, from this many stretches. */
const COARSER = 12;
const COARSER_STRETCHES = 1000;
/** Shortest series that is learned from, bins. */
const BINS_MIN = 2 * STRETCH_BINS;
const DAY_S = 86_400;
/** Longest season that is tried, bins. */
const SEASON_MAX = 2016;
/** Of the series of a set, one in so many is kept back. */
const KEEP_BACK = 8;
/** Series so much smaller than the set's mean weigh as if they were this large. */
const SIZE_MIN = 0.01;

/** A job of cutting, and whose it is. */
export interface Lesson {
  readonly job: StretchJob;
  /** Index of its set at one spacing. */
  readonly set: number;
  readonly heldBack: boolean;
}

/** What was taken of a set. */
export interface SetShare {
  readonly name: string;
  readonly licence: string;
  readonly series: number;
  readonly bins: number;
  /** Spacing of its bins, s; absent: the set does not say. */
  readonly stepS?: number;
}

/** All that a training is going to learn from. */
export interface Curriculum {
  readonly lessons: readonly Lesson[];
  readonly sets: readonly SetShare[];
  /** Index of the share that each lesson's `set` is cut from. */
  readonly shareOf: readonly number[];
  /** SHA-256 over every value, hex. */
  readonly sha256: string;
}

/** What is to be read of sets. */
export interface CurriculumPlan {
  readonly untilStep?: number;
  readonly instructionStep?: number;
  readonly seed: number;
  readonly signal: AbortSignal;
}

/** Is a series kept back from training? @param place among the set's series, by name */
export function isHeldBack(place: number): boolean {
  return place % KEEP_BACK === KEEP_BACK - 1;
}

interface Course {
  readonly values: Float64Array;
  readonly series: number;
  readonly metric: number;
}

/**
 * Read sets and decide what is cut of them; the same for the same sets and seed.
 * @param untilStep only the first so many bins of each series are looked at
 * @param instructionStep bins are of so many instructions; absent: of the sets' own seconds
 * @param tell      called before each set
 * @throws {ShadowError} SET_REFUSED
 */
export async function readCurriculum(
  folders: readonly string[],
  { untilStep, instructionStep, seed, signal }: CurriculumPlan,
  tell: (folder: string) => void,
): Promise<Curriculum> {
  const random = new Random(seed);
  const hash = createHash('sha256');
  const lessons: Lesson[] = [];
  const sets: SetShare[] = [];
  const shareOf: number[] = [];
  for (const folder of folders) {
    tell(folder);
    const set = await SeriesSet.open(folder);
    try {
      const { name, licence, seasonSteps } = set.facts;
      const bySeconds = instructionStep === undefined;
      const fine = await readCourses(set, binning(set, instructionStep), untilStep, signal);
      // Work repeats by the clock if it does, and not by what it executes.
      const season = bySeconds ? (seasonSteps ?? seasonOf(set.facts.stepS ?? 0)) : 0;
      const coarse = season % COARSER === 0 ? fine.map((course) => coarser(course, COARSER)) : [];
      for (const course of fine) hash.update(new Uint8Array(course.values.buffer));
      lessons.push(...lessonsOf(fine, season, STRETCHES, shareOf.length, random));
      shareOf.push(sets.length);
      const taken = lessonsOf(coarse, season / COARSER, COARSER_STRETCHES, shareOf.length, random);
      if (taken.length > 0) shareOf.push(sets.length);
      lessons.push(...taken);
      sets.push({
        name,
        licence,
        series: new Set(fine.map(({ series }) => series)).size,
        bins: fine.reduce((sum, { values }) => sum + values.length, 0),
        ...(bySeconds && set.facts.stepS !== undefined && { stepS: set.facts.stepS }),
      });
    } finally {
      set.close();
    }
  }
  return { lessons, sets, shareOf, sha256: hash.digest('hex') };
}

/** A day, where it is a whole number of bins and not too many; else 0. */
export function seasonOf(stepS: number): number {
  const bins = DAY_S / stepS;
  return Number.isInteger(bins) && bins <= SEASON_MAX ? bins : 0;
}

/** What is read of a set, and how its rows become bins of every metric. */
interface Binning {
  readonly columns: readonly string[];
  readonly grid: (rows: SeriesRows) => SeriesGrid;
}

function binning({ facts, metrics: all }: SeriesSet, instructionStep: number | undefined): Binning {
  if (instructionStep === undefined) {
    const { stepS = 1, grid } = facts;
    return { columns: all, grid: (rows) => gridBySeconds(rows, stepS, grid) };
  }
  const { name } = instructionColumn(facts, all);
  // The count is the axis, and alike in every bin.
  const metrics = all.filter((metric) => metric !== name);
  return gridder({ facts, metrics: all }, { metrics, axis: 'instructions', resample: instructionStep });
}

async function readCourses(
  set: SeriesSet,
  { columns, grid }: Binning,
  untilStep: number | undefined,
  signal: AbortSignal,
): Promise<Course[]> {
  const { series } = await set.read(columns);
  const courses: Course[] = [];
  let index = 0;
  for await (const rows of series) {
    signal.throwIfAborted();
    for (const [metric, values] of grid(rows).values.entries()) {
      const seen = values.slice(0, untilStep);
      if (seen.length >= BINS_MIN && seen.some((value) => value !== 0 && !Number.isNaN(value)))
        courses.push({ values: seen, series: index, metric });
    }
    index += 1;
  }
  return courses;
}

/** Means of `width` bins. */
function coarser({ values, series, metric }: Course, width: number): Course {
  const means = new Float64Array(Math.floor(values.length / width));
  for (const bin of means.keys()) {
    let sum = 0;
    let count = 0;
    for (const value of values.subarray(bin * width, (bin + 1) * width)) {
      if (Number.isNaN(value)) continue;
      sum += value;
      count += 1;
    }
    means[bin] = sum / count;
  }
  return { values: means, series, metric };
}

function lessonsOf(
  all: readonly Course[],
  season: number,
  stretches: number,
  set: number,
  random: Random,
): Lesson[] {
  const courses = all.filter(({ values }) => values.length >= BINS_MIN);
  const sizes = courses.map(({ values }) => meanSize(values));
  const metricSizes = new Map<number, { sum: number; count: number }>();
  for (const [i, { metric }] of courses.entries()) {
    const of = metricSizes.get(metric) ?? { sum: 0, count: 0 };
    metricSizes.set(metric, { sum: of.sum + (sizes[i] as number), count: of.count + 1 });
  }
  const order = random.shuffle([...courses.keys()]);
  const chosen: number[] = [];
  let bins = 0;
  for (const i of order) {
    const { length } = (courses[i] as Course).values;
    if (bins + length > BINS_MAX || !((sizes[i] as number) > 0)) continue;
    bins += length;
    chosen.push(i);
  }
  chosen.sort((a, b) => a - b);
  return chosen.map((i) => {
    const { values, series, metric } = courses[i] as Course;
    const of = metricSizes.get(metric) as { sum: number; count: number };
    const typical = of.sum / of.count;
    // Between all series counting alike and all units counting alike.
    const weight = 1 / Math.sqrt(Math.max(sizes[i] as number, SIZE_MIN * typical) * typical);
    const share = Math.max(1, Math.round(stretches / chosen.length));
    const job = { values, season, stretches: share, weight, seed: random.below(2 ** 32) };
    return { job, set, heldBack: isHeldBack(series) };
  });
}

function meanSize(values: Float64Array): number {
  let sum = 0;
  let count = 0;
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    sum += Math.abs(value);
    count += 1;
  }
  return count === 0 ? 0 : sum / count;
}
