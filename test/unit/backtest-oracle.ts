import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

interface Row {
  readonly workload: string;
  readonly used: number;
  readonly requested: number;
  readonly input: number;
  readonly seconds: number;
}

export interface OracleScores {
  readonly wastage_gib_h: number;
  readonly failures_per_1000: number;
  readonly median_over: number;
}
export type OraclePolicy = 'requested' | 'workload-p95' | 'witt' | 'oracle';

/**
 * What reference policies waste and lose, by the definitions and nothing else: each allocation is worked anew from all the
 * rows before it, in memory of its own, and no code is shared with what is tested. Reads `requests.csv.gz`.
 */
export class BacktestOracle {
  readonly #rows: Row[];
  readonly #cells: Map<string, string>[];

  constructor(folder: string) {
    const text = gunzipSync(readFileSync(join(folder, 'requests.csv.gz'))).toString();
    const [header = '', ...lines] = text.trimEnd().split('\n');
    const names = header.split(',');
    this.#cells = lines.map(
      (line) => new Map(line.split(',').map((cell, i) => [names[i] as string, cell] as const)),
    );
    this.#rows = this.#cells.map((cells) => ({
      workload: cells.get('workload') as string,
      used: Number(cells.get('used_memory_bytes') ?? cells.get('used_peak_rss_bytes')),
      requested: Number(cells.get('requested_memory_bytes') ?? Number.NaN),
      input: Number(cells.get('p_input_bytes') ?? cells.get('p_in_bytes')),
      seconds: Number(cells.get('runtime_s')),
    }));
  }

  scores(policy: OraclePolicy): OracleScores {
    let wasted = 0;
    let lost = 0;
    const overs: number[] = [];
    const pasts = new Map<string, Row[]>();
    let largest = 0;
    for (const row of this.#rows) {
      const past = pasts.get(row.workload) ?? [];
      const cold = Number.isNaN(row.requested) ? largest || GIB : row.requested;
      const first =
        policy === 'oracle' ? row.used : Math.max(4 * MIB, this.#allocate(policy, past, row, cold));
      if (row.used > 0) overs.push(first / row.used);
      let held = first;
      while (held < row.used) {
        wasted += (held / GIB) * (row.seconds / 3600);
        lost += 1;
        held *= 2;
      }
      wasted += ((held - row.used) / GIB) * (row.seconds / 3600);
      largest = Math.max(largest, row.used);
      past.push(row);
      pasts.set(row.workload, past);
    }
    overs.sort((a, b) => a - b);
    const middle = overs.length / 2;
    const median = Number.isInteger(middle)
      ? ((overs[middle - 1] as number) + (overs[middle] as number)) / 2
      : (overs[Math.floor(middle)] as number);
    return {
      wastage_gib_h: wasted,
      failures_per_1000: (1000 * lost) / this.#rows.length,
      median_over: median,
    };
  }

  /** Mean over 0.1 ... 0.9 of the past runs' own quantiles' loss: CRPS of `workload-quantiles`. */
  crps(column: string): number {
    const [own, every] = [new Map<string, number[]>(), [] as number[]];
    let total = 0;
    let loss = 0;
    for (const cells of this.#cells) {
      const workload = cells.get('workload') as string;
      const text = cells.get(column);
      const past = own.get(workload) ?? [];
      own.set(workload, past);
      if (text === undefined || text === '') continue;
      const y = Number(text);
      const known = past.length > 0 ? past : every;
      if (known.length > 0) {
        total += y;
        for (let tenth = 1; tenth <= 9; tenth += 1) {
          const r = y - quantile(known, tenth / 10);
          loss += 2 * (r >= 0 ? (tenth / 10) * r : (tenth / 10 - 1) * r);
        }
      }
      past.push(y);
      every.push(y);
      for (const list of [past, every]) {
        // Put the newest where it belongs.
        for (let i = list.length - 1; i > 0 && (list[i - 1] as number) > (list[i] as number); i -= 1)
          [list[i - 1], list[i]] = [list[i] as number, list[i - 1] as number];
      }
    }
    return loss / 9 / total;
  }

  #allocate(policy: OraclePolicy, past: readonly Row[], row: Row, cold: number): number {
    if (policy === 'requested') return row.requested;
    if (past.length === 0) return cold;
    const used = past.map((run) => run.used);
    if (policy === 'workload-p95')
      return quantile(
        used.sort((a, b) => a - b),
        0.95,
      );
    const n = past.length;
    const [x, y] = [past.map((run) => run.input), used];
    const [mx, my] = [x.reduce((a, b) => a + b) / n, y.reduce((a, b) => a + b) / n];
    const sxx = x.reduce((s, v) => s + (v - mx) ** 2, 0);
    const sxy = x.reduce((s, v, i) => s + (v - mx) * ((y[i] as number) - my), 0);
    const slope = sxx === 0 ? 0 : sxy / sxx;
    const under = Math.max(0, ...x.map((v, i) => (y[i] as number) - my - slope * (v - mx)));
    return my + slope * (row.input - mx) + under;
  }
}

function quantile(sorted: readonly number[], level: number): number {
  const at = level * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return (sorted[below] as number) * (1 - at + below) + (sorted[above] as number) * (at - below);
}
