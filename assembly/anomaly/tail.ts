// Tails: how seldom a measure was as large in the history, in decades.
import { get, KNOTS, TAIL } from './layout';

/**
 * -log10 of the share of the history that was at least `value`: from the table up to the tail's start, and beyond it by a
 * Pareto tail, P(x) = P(start) (x / start)^(-1 / index).
 * @param tail f64[KNOTS] not decreasing, the last the tail's start and > 0; then P(start) in decades, then 1 / index
 * Source: Hill, "A Simple General Approach to Inference About the Tail of a Distribution", 1975, for the index.
 */
export function decadesOf(tail: usize, value: f64): f64 {
  const base = load<f64>(tail + TAIL - 16);
  const inverse = load<f64>(tail + TAIL - 8);
  const start = get(tail, KNOTS - 1);
  if (value >= start) return base + (Math.log(value / start) * inverse) / Math.LN10;
  if (value < get(tail, 0)) return 0.0;
  let low = 0;
  let high = KNOTS - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (get(tail, middle) <= value) low = middle;
    else high = middle;
  }
  const from = get(tail, low);
  const within = (value - from) / (get(tail, high) - from);
  return (base * (<f64>low + within)) / <f64>(KNOTS - 1);
}
