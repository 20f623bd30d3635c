import { AllocatorError } from './errors.ts';

/** Weights that both cgroup hierarchies take: 10 to 1,024 shares of 1,024, and 1 to 10,000 of 100. */
const WEIGHT_MIN = 0.01;
const WEIGHT_MAX = 100;

/**
 * CPU shares of a weight.
 * @param unweighted shares of a guest whom nobody gave any: a weight of 1
 * @throws {AllocatorError} INVALID_REQUEST
 */
export function cpuSharesOf(weight: number, unweighted: number): number {
  if (weight >= WEIGHT_MIN && weight <= WEIGHT_MAX) return Math.round(weight * unweighted);
  throw new AllocatorError(
    'INVALID_REQUEST',
    `a CPU weight must be in [${WEIGHT_MIN}, ${WEIGHT_MAX}], not ${weight}`,
    { weight },
  );
}
