/** A policy at one setting. */
export interface FrontierPoint {
  readonly violation: number;
  readonly slack: number;
}

/** The points of a policy that no other of its points beats in both, by rising violation. */
export function paretoPoints(points: readonly FrontierPoint[]): FrontierPoint[] {
  const sorted = [...points].sort((a, b) => a.violation - b.violation || a.slack - b.slack);
  const kept: FrontierPoint[] = [];
  for (const point of sorted) {
    const last = kept.at(-1);
    if (last === undefined || point.slack < last.slack) kept.push(point);
  }
  return kept;
}

/**
 * Slack at which a policy keeps a violation: between its points linear in log10 of the violation. Beyond its last point it
 * has that point's; from a point without violation nothing can be drawn, so up to the next point its slack holds.
 * @returns NaN where the policy violates more at every setting
 */
export function slackAt(points: readonly FrontierPoint[], violation: number): number {
  let below: FrontierPoint | undefined;
  for (const point of paretoPoints(points)) {
    if (point.violation > violation) {
      if (below === undefined || below.violation === 0) break;
      const from = Math.log10(below.violation);
      const share = (Math.log10(violation) - from) / (Math.log10(point.violation) - from);
      return below.slack + (point.slack - below.slack) * share;
    }
    below = point;
  }
  return below?.slack ?? Number.NaN;
}

/** The least slack of several policies at a violation. @returns NaN where all violate more at every setting */
export function bestSlackAt(policies: readonly (readonly FrontierPoint[])[], violation: number): number {
  let best = Number.NaN;
  for (const points of policies) {
    const slack = slackAt(points, violation);
    if (!(slack >= best)) best = Number.isNaN(slack) ? best : slack;
  }
  return best;
}
