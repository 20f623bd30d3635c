import { performance } from 'node:perf_hooks';
import { BURST, BURST_ROUNDS, BURST_SEED, HISTORY, type PlannedRun, UNSEEN } from './plan.ts';
import { type RequestRecord, runRequest } from './request.ts';
import { type Burst, Fixed, Reactive } from './rivals.ts';
import { type Bar, barsOf, type Comparison, compare } from './scores.ts';
import { GUESTS, type Stage, setStage } from './stage.ts';
import { barsText, comparisonText, historyLine, timeline } from './text.ts';

/** What the demonstration gives to programs. */
export interface DemoReport {
  readonly forecaster: 'parametric' | 'constant';
  readonly history: readonly RequestRecord[];
  readonly requests: readonly RequestRecord[];
  readonly comparison: Comparison;
  readonly bars: readonly Bar[];
  readonly seconds: number;
}

export interface DemoOptions {
  readonly stateDir: string;
  /** Forecast a constant instead: what then still works does not work because of a forecast. */
  readonly ablate: boolean;
  /** Progress and the story, for a person. */
  readonly tell: (text: string) => void;
}

/** Boot a lab, learn from a history of requests, serve unseen ones, and race two other ways of allocating. */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  const { tell, ablate } = options;
  const began = performance.now();
  tell('Three tiny guests boot under a libvirt of their own. Foreshade manages the first.\n');
  const stage = await setStage({
    guests: Object.keys(GUESTS).length,
    stateDir: options.stateDir,
    ablate,
    onProgress: (line) => tell(`  ${line}`),
  });
  try {
    tell(
      '\nHistory: requests with different parameters. Nothing is known at first, so much is given; each run teaches.\n',
    );
    const history = await runAll(stage, HISTORY, (record, i) => tell(historyLine(i + 1, record)));
    tell('\nNow parameters that were never seen. Times are seconds since the request.\n');
    const requests = await runAll(stage, UNSEEN, (record, i) => tell(`${timeline(i + 1, record)}\n`));
    tell('The same bursts, three ways side by side.\n');
    const comparison = await race(stage, [...history, ...requests], tell);
    tell(`\n${comparisonText(comparison)}\n`);
    const bars = barsOf(history, requests, comparison);
    const seconds = (performance.now() - began) / 1000;
    tell(`${barsText(bars)}\n\n${seconds.toFixed(0)} s in all.`);
    return { forecaster: ablate ? 'constant' : 'parametric', history, requests, comparison, bars, seconds };
  } finally {
    await stage.close();
  }
}

async function runAll(
  { client, lab }: Stage,
  runs: readonly PlannedRun[],
  onDone: (record: RequestRecord, index: number) => void,
): Promise<RequestRecord[]> {
  const records: RequestRecord[] = [];
  for (const planned of runs) {
    const record = await runRequest(client, lab.guest(GUESTS.foreshade), planned);
    onDone(record, records.length);
    records.push(record);
  }
  return records;
}

const MIB = 1024 * 1024;

async function race(
  stage: Stage,
  seen: readonly RequestRecord[],
  tell: (text: string) => void,
): Promise<Comparison> {
  const { lab, libvirt, client } = stage;
  const planned = (round: number): PlannedRun => ({ params: BURST, seed: BURST_SEED + round });
  const largestMib = Math.max(...seen.map(({ used }) => used.memory ?? 0)) / MIB;
  const fixed = await Fixed.find(libvirt, lab.guest(GUESTS.fixed), largestMib * 0.9, planned(0));
  const baselineMib = lab.guest(GUESTS.reactive).state.baselineMib;
  const reactive = await Reactive.start(libvirt, lab.guest(GUESTS.reactive), baselineMib);
  tell(
    `  fixed takes 1 vCPU and ${fixed.memoryMib} MiB; reactive and foreshade start from ${baselineMib} MiB`,
  );
  const bursts: Record<'fixed' | 'reactive' | 'foreshade', Burst[]> = {
    fixed: [],
    reactive: [],
    foreshade: [],
  };
  for (let round = 0; round < BURST_ROUNDS; round += 1) {
    bursts.fixed.push(await fixed.burst(planned(round)));
    bursts.reactive.push(await reactive.burst(planned(round)));
    const record = await runRequest(client, lab.guest(GUESTS.foreshade), planned(round));
    bursts.foreshade.push({
      seconds: (record.workload_finished_at - record.requested_at) / 1000,
      isDone: record.workload_status === 'done',
    });
    const of = (all: readonly Burst[]): string =>
      all.at(-1)?.isDone ? `${all.at(-1)?.seconds.toFixed(2)} s` : 'killed';
    tell(
      `  round ${round + 1}: fixed ${of(bursts.fixed)}, reactive ${of(bursts.reactive)}, foreshade ${of(bursts.foreshade)}`,
    );
  }
  return compare(bursts);
}
