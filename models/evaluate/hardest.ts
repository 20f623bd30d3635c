import { sum } from './bootstrap.ts';
import type { SeriesScore } from './scores.ts';

/** Series that are told apart at most. */
const HARDEST = 10;

/** One series, by what it adds to the CRPS of the set. */
export interface HardSeries {
  readonly series: string;
  readonly scored: number;
  /** Of the numerator of the set's CRPS. */
  readonly share: number;
  /** Its own; NaN when it is zero throughout. */
  readonly crps: number;
}

/** The series that carry most of the CRPS, and what is left without them. A few of a set may decide its score. */
export interface Hardest {
  /** Hardest first; at most HARDEST. */
  readonly series: readonly HardSeries[];
  readonly share: number;
  /** NaN without any other. */
  readonly crpsOfRest: number;
}

export function hardestOf(all: readonly SeriesScore[]): Hardest {
  const rows = all.map((one) => ({ one, loss: sum(one.losses), size: sum(one.sizes) }));
  const total = rows.reduce((loss, row) => loss + row.loss, 0);
  rows.sort((a, b) => b.loss - a.loss);
  const series = rows.slice(0, HARDEST).map(({ one, loss, size }) => ({
    series: one.series,
    scored: one.scored,
    share: loss / total,
    crps: ratio(loss, size),
  }));
  const rest = rows.slice(HARDEST);
  return {
    series,
    share: series.reduce((share, row) => share + row.share, 0),
    crpsOfRest: ratio(
      rest.reduce((loss, row) => loss + row.loss, 0),
      rest.reduce((size, row) => size + row.size, 0),
    ),
  };
}

function ratio(a: number, b: number): number {
  const value = a / b;
  return Number.isFinite(value) ? value : Number.NaN;
}
