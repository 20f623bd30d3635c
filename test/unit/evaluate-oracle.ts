import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

/** What the oracle is asked for; `resampleS` as `--resample`. */
export interface OracleQuestion {
  readonly metrics: readonly string[];
  readonly horizon: number;
  readonly windows: number;
  readonly season: number;
  readonly resampleS?: number;
}

export interface OracleAnswer {
  readonly scored: number;
  readonly MAE: number;
  readonly ND: number;
  readonly MASE: number;
  readonly MASE_median: number;
  readonly CRPS: number;
  readonly coverage: readonly number[];
}

type Bins = (number | undefined)[];
type Rule = (past: Bins, season: number, step: number) => number | undefined;

/** The point forecasts, each told from the whole past anew. */
export const ORACLE_RULES: Readonly<Record<'seasonal-naive' | 'last-value', Rule>> = {
  'seasonal-naive': (past, season, step) =>
    newest(past, past.length - season + (step % season)) ?? newest(past, past.length - 1),
  'last-value': (past) => newest(past, past.length - 1),
};

function newest(past: Bins, from: number): number | undefined {
  for (let i = from; i >= 0; i -= 1) if (past[i] !== undefined) return past[i];
  return undefined;
}

/**
 * Scores of a set's reference forecasts, by the definitions and nothing else: no state is carried from one window to the
 * next, and no code is shared with what is tested. Reads `series.csv.gz`.
 */
export class Oracle {
  readonly #facts: { step_seconds: number; start?: number; steps?: number };
  readonly #header: readonly string[];
  /** Numbers of each row, its time first; NaN where the cell is empty. */
  readonly #rows = new Map<string, number[][]>();

  constructor(folder: string) {
    this.#facts = JSON.parse(readFileSync(join(folder, 'dataset.json'), 'utf8'));
    const [header = '', ...lines] = gunzipSync(readFileSync(join(folder, 'series.csv.gz')))
      .toString()
      .trimEnd()
      .split('\n');
    this.#header = header.split(',');
    for (const line of lines) {
      const [name = '', ...cells] = line.split(',');
      const row = cells.map((cell) => (cell === '' ? Number.NaN : Number(cell)));
      const rows = this.#rows.get(name);
      if (rows) rows.push(row);
      else this.#rows.set(name, [row]);
    }
  }

  answer(rule: Rule, question: OracleQuestion): OracleAnswer {
    const { horizon, windows, season } = question;
    const errors: { y: number; f: number; e: number }[] = [];
    const cells: number[] = [];
    for (const rows of this.#rows.values()) {
      for (const metric of question.metrics) {
        const all = this.#bins(rows, this.#header.indexOf(metric) - 1, question.resampleS);
        if (all.length <= windows * horizon) continue;
        for (let w = windows; w > 0; w -= 1) {
          const past = all.slice(0, all.length - w * horizon);
          if (past.every((y) => y === undefined)) continue;
          const actual = all.slice(past.length, past.length + horizon);
          const window = actual.flatMap((y, step) =>
            y === undefined ? [] : [pointOf(y, rule(past, season, step) as number)],
          );
          for (const point of window) errors.push(point);
          cells.push(mean(window.map(({ e }) => Math.abs(e))) / mean(differences(past, season)));
        }
      }
    }
    const finite = cells.filter((cell) => Number.isFinite(cell)).sort((a, b) => a - b);
    const total = sum(errors.map(({ y }) => Math.abs(y)));
    const levels = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((tenth) => tenth / 10);
    const losses = levels.map((tau) => sum(errors.map(({ e }) => (e >= 0 ? tau * e : (tau - 1) * e))));
    const middle = [finite[(finite.length - 1) >> 1], finite[finite.length >> 1]] as [number, number];
    // Forecasts are of single precision, so values that it cannot tell apart are equal.
    const below = errors.map(({ y, f }) => Math.sign(Math.fround(f) - Math.fround(y)) / 2 + 0.5);
    const share = sum(below) / errors.length;
    return {
      scored: errors.length,
      MAE: mean(errors.map(({ e }) => Math.abs(e))),
      ND: sum(errors.map(({ e }) => Math.abs(e))) / total,
      MASE: mean(finite),
      MASE_median: mean(middle),
      CRPS: mean(losses.map((loss) => (2 * loss) / total)),
      coverage: levels.map(() => share),
    };
  }

  #bins(rows: readonly number[][], column: number, resampleS: number | undefined): Bins {
    const { step_seconds: own, start, steps } = this.#facts;
    const step = resampleS ?? own;
    const times = rows.map(([time]) => time as number);
    const first = start ?? Math.min(...times);
    const count =
      steps === undefined
        ? Math.floor((Math.max(...times) - first) / step) + 1
        : Math.ceil((steps * own) / step);
    const samples: number[][] = Array.from({ length: count }, () => []);
    for (const row of rows) {
      const [time, value] = [row[0] as number, row[column] as number];
      if (!Number.isNaN(value)) samples[Math.floor((time - first) / step)]?.push(value);
    }
    return samples.map((bin) => (bin.length === 0 ? undefined : mean(bin)));
  }
}

function pointOf(y: number, f: number): { y: number; f: number; e: number } {
  return { y, f, e: y - f };
}

function differences(past: Bins, season: number): number[] {
  const found: number[] = [];
  for (let t = season; t < past.length; t += 1) {
    const [before, y] = [past[t - season], past[t]];
    if (y !== undefined && before !== undefined) found.push(Math.abs(y - before));
  }
  return found;
}

function sum(values: readonly number[]): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function mean(values: readonly number[]): number {
  return sum(values) / values.length;
}
