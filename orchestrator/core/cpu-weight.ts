import { AllocatorError } from './errors.ts';

/** Weights that both cgroup hierarchies take: 10 to 1,024 shares of 1,024, and 1 to 10,000 of 100. */
export const CPU_WEIGHT_MIN = 0.01;
export const CPU_WEIGHT_MAX = 100;

/**
 * CPU shares of a weight.
 * @param unweighted shares of a guest whom nobody gave any: a weight of 1
 * @throws {AllocatorError} INVALID_REQUEST
 */
export function cpuSharesOf(weight: number, unweighted: number): number {
  if (weight >= CPU_WEIGHT_MIN && weight <= CPU_WEIGHT_MAX) return Math.round(weight * unweighted);
  throw new AllocatorError(
    'INVALID_REQUEST',
    `a CPU weight must be in [${CPU_WEIGHT_MIN}, ${CPU_WEIGHT_MAX}], not ${weight}`,
    { weight },
  );
}
