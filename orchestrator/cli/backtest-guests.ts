import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import type { AllocationScore } from '../../models/backtest/guests/allocation-sheet.ts';
import { OWN_LEVELS } from '../../models/backtest/guests/chance-edges.ts';
import { type GuestRow, gapClosed, shownCells } from '../../models/backtest/guests/guest-rows.ts';
import {
  ACTUATORS,
  DAY_BINS,
  GUEST_RESOURCES,
  WARM_UP_BINS,
} from '../../models/backtest/guests/guest-series.ts';
import { ORACLE, PEERS } from '../../models/backtest/guests/peers.ts';
import type { ForecastFleet } from '../../models/backtest/guests/play-ours.ts';
import { playPeer } from '../../models/backtest/guests/play-peer.ts';
import { guestsReport } from '../../models/report/guests-report.ts';
import { SeriesKernels } from '../wasm/series.ts';
import { forecastGuests, runInWorkers } from './backtest-guest-forecasts.ts';
import type { PlayJob } from './backtest-guest-play-worker.ts';
import { type GuestSet, readGuestSet } from './backtest-guest-set.ts';
import { type Io, printAnswer } from './io.ts';
import { DEFAULT_MODEL, loadModel } from './model-folder.ts';
import { Progress } from './progress.ts';
import { parseCount } from './quantities.ts';
import { table } from './table.ts';
import { checkPlace, writeWhole } from './whole-file.ts';

interface GuestsOptions {
  readonly fit: string;
  readonly data: string;
  readonly guests?: readonly string[];
  readonly lead: number;
  readonly targets: readonly number[];
  readonly model: string;
  readonly models?: string;
  readonly report?: string;
  readonly json?: boolean;
}

const TARGETS = [0.05, 0.01, 0.001];
/** From here on our policy plays, so that its prices have settled when it is scored. */
const FROM_BIN = WARM_UP_BINS - DAY_BINS;

/** `foreshade backtest guests`: what policies would have given to recorded guests, and what that would have cost. */
export function guestsCommand(io: Io): Command {
  return new Command('guests')
    .description('Recorded guests, bin by bin: what each policy would have allocated, and fallen short')
    .requiredOption('--fit <folder>', 'the set that our parameters are fixed on')
    .requiredOption('--data <folder>', 'the set that all are judged on')
    .option(
      '--guests <ids>',
      'only these guests of both sets, by commas, or @FILE with one a line',
      parseGuests,
    )
    .option('--lead <bins>', 'bins from a decision to its effect', parseCount, 1)
    .option('--targets <fractions>', 'violations to keep, by commas', parseTargets, TARGETS)
    .option('--model <name>', 'the model that forecasts: NAME or NAME@VERSION', DEFAULT_MODEL)
    .option('--models <folder>', "where trained models are kept (default: the user's data folder)")
    .option('--report <file>', 'write what was found as one HTML file')
    .option('--json', 'print exactly one JSON document on stdout')
    .addHelpText(
      'after',
      `
Examples:
  $ foreshade backtest guests --fit sets/september --data sets/august
  $ foreshade backtest guests --fit sets/september --data sets/august --guests 1,6,9 --targets 0.01 --json
  $ foreshade backtest guests --fit sets/september --data sets/august --report guests.html`,
    )
    .action(async (options: GuestsOptions) => backtestGuests(io, options));
}

function parseGuests(text: string): string[] {
  const names = text.startsWith('@') ? namesIn(text.slice(1)) : text.split(',').map((name) => name.trim());
  if (names.length === 0 || names.includes('') || new Set(names).size < names.length)
    throw new InvalidArgumentError('It is a list of different guests.');
  return names;
}

function namesIn(file: string): string[] {
  try {
    return readFileSync(file, 'utf8')
      .split(/\r?\n/)
      .map((line) => line.trim())
      .filter((line) => line !== '');
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
  }
}

function parseTargets(text: string): number[] {
  const targets = text.split(',').map(Number);
  if (!targets.every((target) => target > 0 && target < 1))
    throw new InvalidArgumentError('It is a list of fractions between 0 and 1, by commas.');
  return targets;
}

async function backtestGuests(io: Io, options: GuestsOptions): Promise<void> {
  const began = performance.now();
  const { lead, guests, targets, report } = options;
  if (report !== undefined) checkPlace(report);
  if (io.errIsTerminal) io.err(`reading ${options.data}\n`);
  const set = await readGuestSet(resolve(options.data), guests);
  if (io.errIsTerminal) io.err(`reading ${options.fit}\n`);
  const fit = await readGuestSet(resolve(options.fit), guests);
  const peers = await playPeers(io, set, lead);
  const rows = [...(await playOurs(io, fit, set, options)), ...peers];
  const seconds = (performance.now() - began) / 1000;
  if (report !== undefined) {
    const story = { dataset: set.name, fit: fit.name, guests: set.guests.length, lead, targets, rows };
    const page = guestsReport({ ...story, madeAt: new Date().toISOString() });
    io.err(`report: ${await writeWhole(report, page)}\n`);
  }
  printAnswer(io, options.json, {
    document: {
      dataset: set.name,
      guests: set.guests.length,
      lead,
      rows: rows.map((row) => rowDocument(row, rows, lead)),
      seconds: Number(seconds.toFixed(3)),
    },
    text: `${rowsText(rows, targets)}\n\n${set.name}: ${set.guests.length} guests, lead ${lead}, ${seconds.toFixed(1)} s`,
  });
}

async function playPeers(io: Io, set: GuestSet, lead: number): Promise<GuestRow[]> {
  const peers = [...PEERS, ORACLE];
  const progress = new Progress(io);
  const rows: GuestRow[] = [];
  for (const [r, resource] of GUEST_RESOURCES.entries()) {
    for (const [p, peer] of peers.entries()) {
      await setImmediate();
      io.signal.throwIfAborted();
      for (const { parameter, score } of playPeer(peer, set.fleets[resource], ACTUATORS[resource], lead))
        rows.push({ policy: peer.policy, resource, target: null, parameter, score });
      const done = (r * peers.length + p + 1) / (GUEST_RESOURCES.length * peers.length);
      progress.tell(done, `${resource}: ${peer.policy}`);
    }
  }
  progress.end();
  return rows;
}

async function playOurs(
  io: Io,
  fit: GuestSet,
  set: GuestSet,
  { lead, targets, model, models }: GuestsOptions,
): Promise<GuestRow[]> {
  const { weights } = await loadModel(io, await SeriesKernels.load(), model, models);
  const plan = { weights, from: FROM_BIN, lead, levels: OWN_LEVELS };
  const progress = new Progress(io);
  const fleetsOf = async (month: GuestSet): Promise<ForecastFleet[]> => {
    const count = month.guests.length;
    const forecasts = await forecastGuests(month, plan, io.signal, (done) =>
      progress.tell(done / count, `${month.name}: forecast ${done} of ${count} guests`),
    );
    progress.end();
    return GUEST_RESOURCES.map((resource, r) => ({
      fleets: month.fleets,
      resource,
      lead,
      from: FROM_BIN,
      forecasts: forecasts.map((own) => own[r] as Float32Array),
    }));
  };
  const known = await fleetsOf(fit);
  const judged = await fleetsOf(set);
  const jobs = known.map((own, r) => ({ fit: own, judged: judged[r] as ForecastFleet, targets }));
  const script = new URL('./backtest-guest-play-worker.js', import.meta.url);
  const scores = await runInWorkers<PlayJob, AllocationScore[]>(script, jobs, io.signal, (done) =>
    progress.tell(done / jobs.length, `foreshade: ${done} of ${jobs.length} resources`),
  );
  progress.end();
  return jobs.flatMap(({ fit: { resource } }, r) =>
    targets.map((target, i) => ({
      policy: 'foreshade',
      resource,
      target,
      parameter: 'prices of the fleet',
      score: scores[r]?.[i] as AllocationScore,
    })),
  );
}

function rowDocument(row: GuestRow, rows: readonly GuestRow[], lead: number) {
  const { policy, resource, target, parameter, score } = row;
  const gap = target === null ? undefined : gapClosed(row, rows);
  return {
    policy,
    resource,
    lead,
    target,
    violation: score.violation,
    volume: score.volume,
    slack_v: score.slack,
    p95vm: score.p95Violation,
    churn: score.churn,
    parameter,
    ...(gap && {
      best_peer_slack_v: numberOrNull(gap.best),
      oracle_slack_v: numberOrNull(gap.least),
      gap_closed: numberOrNull(gap.share),
    }),
  };
}

function numberOrNull(value: number | undefined): number | null {
  return value === undefined || !Number.isFinite(value) ? null : value;
}

function rowsText(rows: readonly GuestRow[], targets: readonly number[]): string {
  return table(
    [
      'RESOURCE',
      'POLICY',
      'TARGET',
      'VIOLATION',
      'VOLUME',
      'SLACK',
      'P95 VM',
      'CHURN',
      'GAP CLOSED',
      'PARAMETER',
    ],
    shownCells(rows, targets),
    { right: [2, 3, 4, 5, 6, 7, 8] },
  );
}
