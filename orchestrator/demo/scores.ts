import type { RequestRecord } from './request.ts';
import type { Burst } from './rivals.ts';

/** Seconds to finish a burst, by way of allocating; a burst that was killed counts as twice the fixed median. */
export interface Comparison {
  readonly fixed: number;
  readonly reactive: number;
  readonly foreshade: number;
  readonly failures: Readonly<Record<Rival, number>>;
  readonly runs: Readonly<Record<Rival, readonly number[]>>;
}
export type Rival = 'fixed' | 'reactive' | 'foreshade';

/** One promise of the demonstration beside what came of it. */
export interface Bar {
  readonly name: string;
  readonly value: number;
  /** `<= 1.5`, `[1, 1.5]`, and so on. */
  readonly bar: string;
  readonly met: boolean;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (sorted.length === 0) return Number.NaN;
  const upper = sorted[Math.floor(middle)] as number;
  return Number.isInteger(middle) ? (upper + (sorted[middle - 1] as number)) / 2 : upper;
}

export function compare(bursts: Readonly<Record<Rival, readonly Burst[]>>): Comparison {
  const fixed = median(bursts.fixed.filter(({ isDone }) => isDone).map(({ seconds }) => seconds));
  const secondsOf = (rival: Rival): number[] =>
    bursts[rival].map(({ seconds, isDone }) => (isDone ? seconds : 2 * fixed));
  const failuresOf = (rival: Rival): number => bursts[rival].filter(({ isDone }) => !isDone).length;
  const runs = {
    fixed: secondsOf('fixed'),
    reactive: secondsOf('reactive'),
    foreshade: secondsOf('foreshade'),
  };
  return {
    fixed: median(runs.fixed),
    reactive: median(runs.reactive),
    foreshade: median(runs.foreshade),
    failures: {
      fixed: failuresOf('fixed'),
      reactive: failuresOf('reactive'),
      foreshade: failuresOf('foreshade'),
    },
    runs,
  };
}

type Sized = 'cpu' | 'memory';

/** granted / used of one resource. */
export function fit(record: RequestRecord, resource: Sized): number {
  return (record.granted[resource] ?? Number.NaN) / (record.used[resource] ?? Number.NaN);
}

/** |predicted median - used| / used. */
export function forecastError(record: RequestRecord, resource: Sized): number {
  const used = record.used[resource] ?? Number.NaN;
  return Math.abs((record.predicted[resource]?.q50 ?? Number.NaN) - used) / used;
}

/** Mean over CPU and memory of the median forecast errors. */
function errorOf(records: readonly RequestRecord[]): number {
  const of = (resource: Sized): number => median(records.map((record) => forecastError(record, resource)));
  return (of('cpu') + of('memory')) / 2;
}

const FIRST_RUNS = 5;

/** What the demonstration promises, measured. */
export function barsOf(
  history: readonly RequestRecord[],
  requests: readonly RequestRecord[],
  comparison: Comparison,
): Bar[] {
  const bars: Bar[] = [];
  const add = (name: string, value: number, bar: string, met: boolean): void => {
    bars.push({ name, value, bar, met });
  };
  const early = requests.filter((record) => record.in_place_at < record.workload_started_at).length;
  add('in place before the work starts, share', early / requests.length, '= 1', early === requests.length);
  const toPlace = median(requests.map((record) => record.in_place_at - record.requested_at)) / 1000;
  add('request to in place, median s', toPlace, '<= 1.5', toPlace <= 1.5);
  for (const resource of ['cpu', 'memory'] as const) {
    const ratio = median(requests.map((record) => fit(record, resource)));
    add(`granted / used, ${resource}, median`, ratio, '[1, 1.5]', ratio >= 1 && ratio <= 1.5);
    const covered = requests.filter((record) => fit(record, resource) >= 1).length / requests.length;
    add(`granted >= used, ${resource}, share`, covered, '>= 0.9', covered >= 0.9);
  }
  const first = errorOf(history.slice(0, FIRST_RUNS));
  const last = errorOf(requests.filter(({ departs }) => departs === undefined));
  add('forecast error against the first five runs', last / first, '<= 0.5', last <= first / 2);
  const restored = [...history, ...requests].filter((record) => record.baseline_restored).length;
  add(
    'back at the baseline after release, share',
    restored / (history.length + requests.length),
    '= 1',
    restored === history.length + requests.length,
  );
  const toFixed = comparison.foreshade / comparison.fixed;
  add('burst time against fixed', toFixed, '<= 0.7', toFixed <= 0.7);
  const toReactive = comparison.foreshade / comparison.reactive;
  add('burst time against reactive', toReactive, '<= 0.85', toReactive <= 0.85);
  return bars;
}
