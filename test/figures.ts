import { appendFileSync } from 'node:fs';

/** One measured value beside the limit it was held against. */
export interface Figure {
  /** Name of the bar, kebab-case, the same in every run. */
  readonly bar: string;
  readonly value: number;
  /** The limit in words, with its unit. */
  readonly limit: string;
  readonly met: boolean;
}

/** Append a figure to the file that FORESHADE_FIGURES names, one JSON document a line; without it nothing is written. */
export function recordFigure(figure: Figure): void {
  const file = process.env.FORESHADE_FIGURES;
  if (file !== undefined && file !== '') appendFileSync(file, `${JSON.stringify(figure)}\n`);
}
