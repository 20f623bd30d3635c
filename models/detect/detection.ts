import { ShadowError } from '../../orchestrator/core/shadow.ts';
import { fileOf, type SeriesRows, SeriesSet, type SetPart } from '../data/series-set.ts';
import { Durations } from '../evaluate/durations.ts';
import type { DetectorSource } from './detector.ts';
import { type EventsFound, findEvents, type LabelledPoints } from './events.ts';
import { areaUnderPrecisionRecall } from './precision-recall.ts';
import { THREE_SIGMA } from './three-sigma.ts';

/** The budget of findEvents: false alarm episodes a machine and day. */
export const FALSE_EPISODES_PER_DAY = 1;
const DAY_S = 86_400;

/** Rows of one series with their scores. */
export interface ScoredSeries {
  readonly series: string;
  readonly times: readonly number[];
  /** In [0, 1]; NaN: nothing was read. */
  readonly scores: Float64Array;
}

/** How well a detector did on labelled points. */
export interface DetectorScore extends EventsFound {
  readonly areaUnderPr: number;
}

/** What labels say of the detector, and of three sigma on the same points. */
export interface LabelledScore {
  readonly detector: DetectorScore;
  readonly threeSigma: DetectorScore;
  readonly labelled: number;
  readonly machineDays: number;
}

export interface Detection {
  readonly series: number;
  readonly rows: number;
  /** Series too short to be warmed up, left out. */
  readonly tooShort: number;
  /** One row of one series, all its metrics. */
  readonly step: Durations;
  /** Absent: the set has no test part with labels. */
  readonly labelled?: LabelledScore;
}

export interface DetectionPlan {
  readonly folder: string;
  readonly source: DetectorSource;
  /** Rows that warm a detector up where there is no test part. */
  readonly warmUpRows: number;
  /** Takes each series when it is scored, by name. */
  readonly take: (scored: ScoredSeries, done: number, count: number) => void;
}

/** The two stretches of a series: what is learned, and what is scored after it. */
interface Stretches {
  readonly history: SeriesRows;
  readonly judged: SeriesRows;
}

/**
 * Score every series of a set: the train part is learned, the test part scored row by row; without a test part, what
 * follows the warm-up. One series is held at a time, and its labels and scores to the end.
 * @throws {ShadowError} SET_REFUSED
 */
export async function detect(plan: DetectionPlan): Promise<Detection> {
  const { folder, source, warmUpRows, take } = plan;
  const hasTest = fileOf(folder, 'test') !== undefined;
  const hasLabels = hasTest && fileOf(folder, 'labels') !== undefined;
  const parts: SeriesSet[] = [];
  const open = async (name: SetPart) => {
    const part = await SeriesSet.open(folder, name);
    parts.push(part);
    return part;
  };
  try {
    const train = await open('series');
    const metrics = checkedMetrics(train, source);
    const judge = hasTest ? await open('test') : train;
    checkSame(metrics, judge.metrics);
    const labels = hasLabels ? await labelsOf(await open('labels')) : undefined;
    const sheet = labels && new Sheet(checkedStep(train));
    const { count, stretches } = hasTest
      ? await pairs(train, judge, metrics, source)
      : await halves(train, metrics, warmUpRows, source);
    const step = new Durations();
    let [series, rows, tooShort, done] = [0, 0, 0, 0];
    for await (const stretch of stretches) {
      done += 1;
      if (stretch === undefined) {
        tooShort += 1;
        continue;
      }
      const { series: name, times } = stretch.judged;
      const scores = scoreStretch(stretch, source, step);
      sheet?.add(times, scores, scoreStretch(stretch, THREE_SIGMA), matching(name, times, labels?.get(name)));
      take({ series: name, times, scores }, done, count);
      series += 1;
      rows += times.length;
    }
    if (series === 0)
      throw new ShadowError('SET_REFUSED', `no series is longer than the warm-up of ${warmUpRows} rows`);
    return { series, rows, tooShort, step, ...(sheet && { labelled: sheet.total() }) };
  } finally {
    for (const part of parts) part.close();
  }
}

function checkedMetrics({ metrics }: SeriesSet, { metricsMax }: DetectorSource): readonly string[] {
  if (metrics.length > 0 && metrics.length <= metricsMax) return metrics;
  throw new ShadowError(
    'SET_REFUSED',
    `the set has ${metrics.length} metrics; 1 to ${metricsMax} can be scored`,
  );
}

function checkSame(train: readonly string[], test: readonly string[]): void {
  const missing = train.filter((name) => !test.includes(name));
  if (missing.length > 0)
    throw new ShadowError('SET_REFUSED', `the test part has no metric ${missing.join(', ')}`);
}

function checkedStep({ facts }: SeriesSet): number {
  if (facts.stepS !== undefined) return facts.stepS;
  throw new ShadowError(
    'SET_REFUSED',
    'dataset.json has no step_seconds, and labelled sets are scored by the day',
  );
}

/** Train and test of each series of the test part; both come in order of their names. */
async function pairs(train: SeriesSet, test: SeriesSet, metrics: readonly string[], source: DetectorSource) {
  const [trains, tests] = [await train.read(metrics), await test.read(metrics)];
  return { count: tests.count, stretches: paired(trains.series, tests.series, source) };
}

async function* paired(
  trains: AsyncGenerator<SeriesRows>,
  tests: AsyncGenerator<SeriesRows>,
  source: DetectorSource,
): AsyncGenerator<Stretches> {
  for await (const judged of tests) {
    let history: SeriesRows | undefined;
    while (history?.series !== judged.series) {
      const { value, done } = await trains.next();
      if (done) throw new ShadowError('SET_REFUSED', `${judged.series} has a test part and no train part`);
      history = value;
    }
    yield { history: checkedHistory(history, source), judged };
  }
}

function checkedHistory(history: SeriesRows, { historyRowsMin }: DetectorSource): SeriesRows {
  if (history.times.length < historyRowsMin)
    throw new ShadowError(
      'SET_REFUSED',
      `the train part of ${history.series} has ${history.times.length} rows, ${historyRowsMin} at least are needed`,
    );
  const settled = history.columns.some((column) =>
    column.slice(Math.ceil(column.length / 4)).some((value) => !Number.isNaN(value)),
  );
  if (!settled)
    throw new ShadowError('SET_REFUSED', `the train part of ${history.series} has no readings to learn from`);
  return history;
}

async function halves(part: SeriesSet, metrics: readonly string[], warmUp: number, source: DetectorSource) {
  const { count, series } = await part.read(metrics);
  return { count, stretches: halved(series, warmUp, source) };
}

async function* halved(
  series: AsyncGenerator<SeriesRows>,
  warmUp: number,
  source: DetectorSource,
): AsyncGenerator<Stretches | undefined> {
  const cut = (rows: SeriesRows, from: number, to?: number): SeriesRows => ({
    series: rows.series,
    times: rows.times.slice(from, to),
    columns: rows.columns.map((column) => column.slice(from, to)),
  });
  for await (const rows of series) {
    if (rows.times.length <= warmUp) yield undefined;
    else yield { history: checkedHistory(cut(rows, 0, warmUp), source), judged: cut(rows, warmUp) };
  }
}

function scoreStretch(
  { history, judged }: Stretches,
  source: DetectorSource,
  step?: Durations,
): Float64Array {
  const detector = source.open(history.columns.length);
  try {
    detector.learn(history.times.map((_, i) => rowOf(history, i)));
    return Float64Array.from(judged.times, (_, i) => {
      const row = rowOf(judged, i);
      const began = performance.now();
      const score = detector.score(row);
      step?.add((performance.now() - began) * 1000);
      return score;
    });
  } finally {
    detector.close();
  }
}

function rowOf({ columns }: SeriesRows, i: number): Float64Array {
  return Float64Array.from(columns, (column) => column[i] as number);
}

/** Labels by series: rows with their times. */
async function labelsOf(part: SeriesSet): Promise<ReadonlyMap<string, SeriesRows>> {
  if (!part.metrics.includes('label'))
    throw new ShadowError('SET_REFUSED', 'the labels have no column label');
  const found = new Map<string, SeriesRows>();
  for await (const rows of (await part.read(['label'])).series) found.set(rows.series, rows);
  return found;
}

function matching(series: string, times: readonly number[], labels: SeriesRows | undefined): Uint8Array {
  const values = labels?.columns[0] ?? [];
  const isSame = labels?.times.length === times.length && labels.times.every((time, i) => time === times[i]);
  if (!isSame)
    throw new ShadowError('SET_REFUSED', `the labels of ${series} are not of the rows of its test part`);
  const bad = values.find((value) => value !== 0 && value !== 1);
  if (bad !== undefined)
    throw new ShadowError('SET_REFUSED', `a label of ${series} is ${bad}: labels are 0 and 1`);
  return Uint8Array.from(values);
}

/** Scores beside their labels, of all series. */
class Sheet {
  readonly #stepS: number;
  readonly #ours: Float64Array[] = [];
  readonly #theirs: Float64Array[] = [];
  readonly #labels: Uint8Array[] = [];
  readonly #steps: Float64Array[] = [];

  constructor(stepS: number) {
    this.#stepS = stepS;
  }

  add(times: readonly number[], ours: Float64Array, theirs: Float64Array, labels: Uint8Array): void {
    this.#ours.push(ours);
    this.#theirs.push(theirs);
    this.#labels.push(labels);
    this.#steps.push(Float64Array.from(times, (time) => time / this.#stepS));
  }

  total(): LabelledScore {
    const labels = Uint8Array.from(this.#labels.flatMap((part) => [...part]));
    const starts: number[] = [];
    let start = 0;
    for (const { length } of this.#labels) {
      starts.push(start);
      start += length;
    }
    const machineDays = (labels.length * this.#stepS) / DAY_S;
    const steps = joined(this.#steps);
    const judge = (parts: readonly Float64Array[]): DetectorScore => {
      const scores = joined(parts);
      const points: LabelledPoints = { scores, labels, steps, starts };
      return {
        areaUnderPr: areaUnderPrecisionRecall(scores, labels),
        ...findEvents(points, FALSE_EPISODES_PER_DAY * machineDays),
      };
    };
    return {
      detector: judge(this.#ours),
      threeSigma: judge(this.#theirs),
      labelled: labels.reduce((sum, label) => sum + label, 0),
      machineDays,
    };
  }
}

function joined(parts: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
