import type { AllocationScore } from './allocation-sheet.ts';
import { bestSlackAt } from './frontier.ts';
import { GUEST_RESOURCES, type GuestResource } from './guest-series.ts';

/** One policy at one setting, on one resource. */
export interface GuestRow {
  readonly policy: string;
  readonly resource: GuestResource;
  /** Violation it was to keep; null: it has no such goal. */
  readonly target: number | null;
  readonly parameter: string;
  readonly score: AllocationScore;
}

/** A row beside the best other policy and the oracle. NaN where there is none. */
export interface Gap {
  /** Slack of the best other policy at the violation that the row realised. */
  readonly best: number;
  /** Slack of the oracle. */
  readonly least: number;
  /** Share of the way from the one to the other that the row goes. */
  readonly share: number;
}

/** Of each policy, in the order of the rows, its settings on one resource. */
export function byPolicy(rows: readonly GuestRow[], resource: GuestResource): Map<string, GuestRow[]> {
  const settings = new Map<string, GuestRow[]>();
  for (const row of rows)
    if (row.resource === resource) settings.set(row.policy, [...(settings.get(row.policy) ?? []), row]);
  return settings;
}

export function gapClosed({ resource, score }: GuestRow, rows: readonly GuestRow[]): Gap {
  const policies = byPolicy(rows, resource);
  const peers = [...policies.values()].filter(([row]) => row?.target === null && row.policy !== 'oracle');
  const best = bestSlackAt(
    peers.map((own) => own.map((row) => row.score)),
    score.violation,
  );
  const least = policies.get('oracle')?.[0]?.score.slack ?? Number.NaN;
  return { best, least, share: (best - score.slack) / (best - least) };
}

/** Of a policy with many settings those that lie nearest to each target without passing it. */
export function nearTargets(settings: readonly GuestRow[], targets: readonly number[]): readonly GuestRow[] {
  if (settings.length === 1 || settings[0]?.target !== null) return settings;
  const shown = new Set<GuestRow>();
  for (const target of targets) {
    const kept = settings.filter(({ score }) => score.violation <= target);
    const [least] = kept.sort((a, b) => a.score.slack - b.score.slack);
    if (least !== undefined) shown.add(least);
  }
  return [...shown];
}

/** A share in percent, finer where it is small. */
export function percentText(share: number): string {
  return Number.isFinite(share) ? `${(share * 100).toFixed(Math.abs(share) < 0.01 ? 2 : 1)} %` : '-';
}

/** What a person is shown, resource by resource: resource, policy, target, its scores, gap closed, parameter. */
export function shownCells(rows: readonly GuestRow[], targets: readonly number[]): string[][] {
  const shown = GUEST_RESOURCES.flatMap((resource) =>
    [...byPolicy(rows, resource).values()].flatMap((settings) => nearTargets(settings, targets)),
  );
  return shown.map((row) => [
    row.resource,
    row.policy,
    row.target === null ? '' : percentText(row.target),
    percentText(row.score.violation),
    percentText(row.score.volume),
    percentText(row.score.slack),
    percentText(row.score.p95Violation),
    row.score.churn.toFixed(1),
    row.target === null ? '' : percentText(gapClosed(row, rows).share),
    row.parameter,
  ]);
}
