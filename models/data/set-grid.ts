import { AllocatorError } from '../../orchestrator/core/errors.ts';
import { gridByInstructions, gridBySeconds, type SeriesGrid } from './grid.ts';
import type { SeriesRows, SeriesSet, SetFacts } from './series-set.ts';

/** What is asked of a set. */
export interface GridQuestion {
  readonly metrics: readonly string[];
  readonly axis: 'seconds' | 'instructions';
  /** Seconds or instructions a step; absent: the set's own, of seconds. */
  readonly resample?: number;
}

/** How the rows of a set become even series. */
export interface Gridder {
  /** What is read: the metrics, and on the axis of instructions their count behind them. */
  readonly columns: readonly string[];
  grid(rows: SeriesRows): SeriesGrid;
}

/** @throws {AllocatorError} INVALID_REQUEST when the set lacks what was asked for */
export function gridder(
  set: Pick<SeriesSet, 'facts' | 'metrics'>,
  { metrics, axis, resample }: GridQuestion,
): Gridder {
  const unknown = metrics.filter((name) => !set.metrics.includes(name));
  if (unknown.length > 0) {
    throw new AllocatorError(
      'INVALID_REQUEST',
      `${set.facts.name} has no metric ${unknown.join(', ')}; it has ${set.metrics.join(', ')}`,
    );
  }
  if (axis === 'instructions') return instructionGridder(set, metrics, resample as number);
  const { stepS, grid } = set.facts;
  const step = resample ?? stepS;
  if (step === undefined)
    throw new AllocatorError('INVALID_REQUEST', 'dataset.json has no step_seconds: give --resample');
  if (stepS !== undefined && step < stepS)
    throw new AllocatorError(
      'INVALID_REQUEST',
      `--resample ${step} is below the set's own step of ${stepS} s`,
    );
  const even = grid && { startS: grid.startS, steps: Math.ceil((grid.steps * (stepS ?? step)) / step) };
  return { columns: metrics, grid: (rows) => gridBySeconds(rows, step, even) };
}

function instructionGridder(
  { facts, metrics: all }: Pick<SeriesSet, 'facts' | 'metrics'>,
  metrics: readonly string[],
  step: number,
): Gridder {
  const { name, perRow } = instructionColumn(facts, all);
  return {
    columns: [...metrics, name].filter((column, i, names) => names.indexOf(column) === i),
    grid: ({ columns, ...rows }) => {
      const at = metrics.includes(name) ? metrics.indexOf(name) : metrics.length;
      const executed = (columns[at] ?? []).map((value) => value * perRow);
      return gridByInstructions({ ...rows, columns: columns.slice(0, metrics.length) }, executed, step);
    },
  };
}

/** The column that counts instructions, and what one of its units is. @throws {AllocatorError} INVALID_REQUEST when there is none */
export function instructionColumn(
  { profile, stepS, name }: SetFacts,
  metrics: readonly string[],
): { name: string; perRow: number } {
  const rate = metrics.find((metric) => profile[metric] === 'instructions_per_s');
  if (rate !== undefined && stepS !== undefined) return { name: rate, perRow: stepS };
  if (metrics.includes('instructions')) return { name: 'instructions', perRow: 1 };
  throw new AllocatorError(
    'INVALID_REQUEST',
    `${name} counts no instructions: it has neither a metric "instructions" nor one that profile maps to instructions_per_s`,
  );
}
