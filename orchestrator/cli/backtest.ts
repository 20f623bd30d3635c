import { resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Command } from 'commander';
import { type BacktestRow, RequestBacktest } from '../../models/backtest/request-backtest.ts';
import { readRequestSet } from '../../models/data/request-set.ts';
import { SCORED_LEVELS } from '../../models/evaluate/scores.ts';
import { ParametricForecaster } from '../forecast/parametric-forecaster.ts';
import { guestsCommand } from './backtest-guests.ts';
import { packingCommand } from './backtest-packing.ts';
import { type Io, printAnswer } from './io.ts';
import { Progress } from './progress.ts';
import { table } from './table.ts';

interface BacktestOptions {
  readonly data: string;
  readonly json?: boolean;
}

/** Requests between two looks at Ctrl-C. */
const REQUESTS_AT_ONCE = 50;

/** `foreshade backtest`: what the allocations would have cost, had it allocated to recorded work. */
export function backtestCommand(io: Io): Command {
  return new Command('backtest')
    .description('Play recorded work through the forecaster and other rules: what each would have wasted')
    .addCommand(requestsCommand(io))
    .addCommand(guestsCommand(io))
    .addCommand(packingCommand(io));
}

function requestsCommand(io: Io): Command {
  return new Command('requests')
    .description('Requests in their order: each is predicted before it is seen, and learned after')
    .requiredOption('--data <folder>', 'the set: dataset.json and requests.csv.gz or requests.csv')
    .option('--json', 'print exactly one JSON document on stdout')
    .addHelpText(
      'after',
      `
Examples:
  $ foreshade backtest requests --data sets/workflows
  $ foreshade backtest requests --data sets/workflows --json`,
    )
    .action(async (options: BacktestOptions) => backtestRequests(io, options));
}

async function backtestRequests(io: Io, options: BacktestOptions): Promise<void> {
  const began = performance.now();
  if (io.errIsTerminal) io.err(`reading ${options.data}\n`);
  const set = readRequestSet(resolve(options.data));
  const backtest = new RequestBacktest(set, await ParametricForecaster.create());
  const progress = new Progress(io);
  const count = set.requests.length;
  for (const [done, request] of set.requests.entries()) {
    if (done % REQUESTS_AT_ONCE === 0) {
      await setImmediate();
      io.signal.throwIfAborted();
    }
    backtest.play(request);
    progress.tell((done + 1) / count, `${done + 1} of ${count} requests`);
  }
  progress.end();
  const rows = backtest.finish();
  const seconds = (performance.now() - began) / 1000;
  printAnswer(io, options.json, {
    document: {
      dataset: set.name,
      requests: count,
      rows: rows.map(rowDocument),
      seconds: Number(seconds.toFixed(3)),
    },
    text: `${rowsText(rows)}\n\n${set.name}: ${count.toLocaleString('en-US')} requests, ${seconds.toFixed(1)} s`,
  });
}

/** Scores that a row does not have, or that there is nothing to be divided by, are null. */
function rowDocument({ policy, resource, allocation, quantiles }: BacktestRow) {
  return {
    policy,
    resource,
    wastage_gib_h: numberOrNull(allocation?.wastageGibH),
    failures_per_1000: numberOrNull(allocation?.failuresPer1000),
    median_over: numberOrNull(allocation?.medianOver),
    CRPS: numberOrNull(quantiles?.crps),
    scored: quantiles?.scored ?? null,
    coverage:
      quantiles === undefined
        ? null
        : Object.fromEntries(
            SCORED_LEVELS.map((level, l) => [String(level), numberOrNull(quantiles.coverage[l])]),
          ),
  };
}

function numberOrNull(value: number | undefined): number | null {
  return value === undefined || !Number.isFinite(value) ? null : value;
}

function rowsText(rows: readonly BacktestRow[]): string {
  const cell = (value: number | null): string =>
    value === null ? '-' : String(Number(value.toPrecision(4)));
  return table(
    ['RESOURCE', 'POLICY', 'WASTED GiB h', 'LOST PER 1000', 'GIVEN / USED', 'CRPS', 'BELOW q0.9'],
    rows.map((row) => {
      const document = rowDocument(row);
      return [
        document.resource,
        document.policy,
        cell(document.wastage_gib_h),
        cell(document.failures_per_1000),
        cell(document.median_over),
        cell(document.CRPS),
        cell(document.coverage?.['0.9'] ?? null),
      ];
    }),
    { right: [2, 3, 4, 5, 6] },
  );
}
