/** Time short that a guest at its target is forgiven at once, ms: an emergency's own samples must not fill the whole share. */
const FORGIVEN_MS = 10_000;

/**
 * Share of the time in which a field fell short, weighted towards the present, after `elapsedMs` more. It looks back the
 * longer the rarer falling short is to be: over a fixed time, one moment would already be more than a rare target.
 * @param share  before, in [0, 1]
 * @param target share that is allowed, in (0, 1)
 * @returns in [0, 1], so it cannot wind up
 */
export function shortShareAfter(share: number, isShort: boolean, elapsedMs: number, target: number): number {
  const weight = 1 - Math.exp((-elapsedMs * target) / FORGIVEN_MS);
  return share + weight * ((isShort ? 1 : 0) - share);
}
