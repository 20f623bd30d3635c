// How the outputs of a workload miss together: correlations of the normal scores of their residuals' ranks, so that only
// order counts and no marginal enters. Over the runs that taught both:
//
//   score_i = normal quantile of (rank of residual i - 1/2) / residuals
//   r = sum(score score') / sqrt(sum(score^2) sum(score'^2))
//
// and r shrinks towards 0, independence, by a prior worth PRIOR_RUNS. Residuals alike share the middle of their ranks, so an
// output that is always the same depends on nothing.
//
// Source: van der Waerden, "Order tests for the two-sample problem", 1952 (normal scores); Moeller, Lenkoski &
// Thorarinsdottir, "Multivariate probabilistic forecasting using ensemble Bayesian model averaging and copulas", 2013.
import { LINE, OUTPUTS, W_DEPENDENCE } from './layout';
import { normalQuantile } from './student';

const PRIOR_RUNS: f64 = 4.0;
/** Residuals of a logarithm this close to one another are alike. */
const ALIKE: f64 = 1e-9;

const scores = memory.data(4096); // f64[OUTPUTS, RUNS_MAX], by place; NaN: none
const order = memory.data(64); //    u8[RUNS_MAX], places by size

function element(base: usize, i: i32): f64 {
  return load<f64>(base + ((<usize>i) << 3));
}
function placeAt(rank: i32): i32 {
  return <i32>load<u8>(order + <usize>rank);
}

/**
 * Score the residuals of one output.
 * @param residuals f64[n], by place; NaN: the run did not teach it
 */
export function scoreResiduals(output: i32, n: i32, residuals: usize): void {
  const out = scores + <usize>output * LINE;
  let count = 0;
  for (let i = 0; i < n; ++i) {
    const residual = element(residuals, i);
    store<f64>(out + ((<usize>i) << 3), NaN);
    if (isNaN(residual)) continue;
    let at = count;
    for (; at > 0 && element(residuals, placeAt(at - 1)) > residual; --at) {
      store<u8>(order + <usize>at, <u8>placeAt(at - 1));
    }
    store<u8>(order + <usize>at, <u8>i);
    count += 1;
  }
  for (let from = 0; from < count; ) {
    const first = element(residuals, placeAt(from));
    let to = from + 1;
    while (to < count && element(residuals, placeAt(to)) <= first + ALIKE) to += 1;
    const score = normalQuantile((<f64>(from + to) * 0.5) / <f64>count);
    for (; from < to; ++from) store<f64>(out + ((<usize>placeAt(from)) << 3), score);
  }
}

/** Relate every two outputs, when the residuals of all are scored. */
export function relate(p: usize, n: i32): void {
  const table = p + W_DEPENDENCE;
  for (let a = 0; a < OUTPUTS; ++a) {
    store<f64>(table + ((<usize>(a * OUTPUTS + a)) << 3), 1.0);
    for (let b = 0; b < a; ++b) {
      const r = correlation(scores + <usize>a * LINE, scores + <usize>b * LINE, n);
      store<f64>(table + ((<usize>(a * OUTPUTS + b)) << 3), r);
      store<f64>(table + ((<usize>(b * OUTPUTS + a)) << 3), r);
    }
  }
}

function correlation(a: usize, b: usize, n: i32): f64 {
  let both = 0.0;
  let squaresA = 0.0;
  let squaresB = 0.0;
  let runs = 0.0;
  for (let i = 0; i < n; ++i) {
    const x = element(a, i);
    const y = element(b, i);
    if (isNaN(x) || isNaN(y)) continue;
    both += x * y;
    squaresA += x * x;
    squaresB += y * y;
    runs += 1.0;
  }
  const spread = Math.sqrt(squaresA * squaresB);
  return spread > 0.0 ? ((both / spread) * runs) / (runs + PRIOR_RUNS) : 0.0;
}
