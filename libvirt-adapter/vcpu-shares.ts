import type { GuestSample } from '../orchestrator/core/sample.ts';
import type { HostReading } from './host-readings.ts';

/** Shares of the period that each vCPU thread present in both readings ran and waited; undefined when there is none. */
export function vcpuShares(
  before: HostReading | undefined,
  after: HostReading | undefined,
  periodMs: number,
): GuestSample['vcpus'] {
  if (before === undefined || after === undefined || !(periodMs > 0)) return undefined;
  const periodNs = periodMs * 1e6;
  const shares = after.vcpus.flatMap((vcpu, i) => {
    const earlier = before.vcpus[i];
    if (vcpu === undefined || earlier === undefined) return [];
    const runNs = vcpu.runNs - earlier.runNs;
    const delayNs = vcpu.delayNs - earlier.delayNs;
    return runNs < 0 || delayNs < 0
      ? []
      : [{ runFraction: runNs / periodNs, delayFraction: delayNs / periodNs }];
  });
  return shares.length === 0 ? undefined : shares;
}
