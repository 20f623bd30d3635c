/**
 * Area under the precision-recall curve, point by point: sum over falling thresholds of precision x gain in recall. Points
 * of one score pass the threshold together.
 * @param scores one threshold is for all of them; NaN: not scored, below every threshold
 * @param labels 1: anomalous, 0: not
 * @returns NaN without a labelled point
 */
export function areaUnderPrecisionRecall(scores: Float64Array, labels: Uint8Array): number {
  const order = fallingOrder(scores);
  const positives = labels.reduce((sum, label) => sum + label, 0);
  let [area, found, foundBefore] = [0, 0, 0];
  for (const [place, i] of order.entries()) {
    found += labels[i] as number;
    const next = order[place + 1];
    if (next !== undefined && Object.is(keyOf(scores, next), keyOf(scores, i))) continue;
    area += (found / (place + 1)) * ((found - foundBefore) / positives);
    foundBefore = found;
  }
  return positives === 0 ? Number.NaN : area;
}

/** Indices from the largest score to the smallest; those without a score are last. */
export function fallingOrder(scores: Float64Array): Uint32Array {
  return Uint32Array.from(scores, (_, i) => i).sort((a, b) => keyOf(scores, b) - keyOf(scores, a) || a - b);
}

/** What is compared: scores are in [0, 1], and a missing one is below them. */
export function keyOf(scores: Float64Array, i: number): number {
  const score = scores[i] as number;
  return Number.isNaN(score) ? -1 : score;
}
