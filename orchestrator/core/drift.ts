import { type Finding, isJudged, outsideOf } from './anomaly.ts';
import type { Outcome } from './forecast.ts';
import type { Lease } from './lease.ts';

/** Share of runs beyond one side of a calibrated q05 to q95, and of a workload that has drifted. */
const [CALIBRATED, DRIFTED] = [0.05, 0.4];
const [STEP_OUTSIDE, STEP_INSIDE] = [
  Math.log(DRIFTED / CALIBRATED),
  Math.log((1 - DRIFTED) / (1 - CALIBRATED)),
];
/**
 * Five runs in a row, or six of eleven. Calibrated forecasts of three fields, two sides each, reach it by chance in seven of a
 * thousand workloads within 200 runs.
 */
const RAISED_AT = 10;

/** How one field of a workload has missed its forecast on one side. */
interface Rise {
  /** Log-likelihood ratio of drifted to calibrated since it began; in (0, RAISED_AT]. */
  readonly sum: number;
  readonly startMs: number;
  readonly runs: number;
  readonly outside: number;
}

/** How well the forecast of one workload holds, over all guests and parameters. */
export interface Drift {
  /** By field and side; absent: calibrated. */
  readonly rises: ReadonlyMap<string, Rise>;
  /** Absent: nothing has reached what raises an alarm with this run. */
  readonly alarm?: Finding & { readonly startMs: number };
}

/**
 * Whether a workload's runs leave their forecasts' 90 % interval more often than they should, with one run more. Pure.
 * An alarm that was raised is over when no rise is left: at most 22 calibrated runs after it.
 * @param before absent: no run was judged yet
 * Source: Page, "Continuous inspection schemes", Biometrika 41 (1954): the cumulative sum, here of Bernoulli outcomes.
 */
export function driftAfter(before: Drift | undefined, lease: Lease, outcome: Outcome): Drift | undefined {
  if (!isJudged(lease, outcome)) return before;
  const outside = new Map(outsideOf(lease, outcome).map((side) => [side.of, side]));
  const rises = new Map<string, Rise>();
  let alarm: Drift['alarm'];
  for (const of of new Set([...(before?.rises.keys() ?? []), ...outside.keys()])) {
    const side = outside.get(of);
    const known = before?.rises.get(of) ?? { sum: 0, startMs: outcome.startedAtMs, runs: 0, outside: 0 };
    const sum = known.sum + (side === undefined ? STEP_INSIDE : STEP_OUTSIDE);
    if (sum <= 0) continue;
    const rise = { ...known, sum: Math.min(sum, RAISED_AT), runs: known.runs + 1 };
    if (side !== undefined) rise.outside += 1;
    rises.set(of, rise);
    if (sum < RAISED_AT || side === undefined || alarm !== undefined) continue;
    const reason = `${rise.outside} of the last ${rise.runs} runs of workload ${outcome.workload} had ${of} the forecast's interval`;
    const evidence = { ...side.evidence, outside: rise.outside, runs: rise.runs };
    alarm = { severity: 'info', reason, evidence, startMs: rise.startMs };
  }
  return { rises, ...(alarm === undefined ? {} : { alarm }) };
}
