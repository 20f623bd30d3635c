import { MEMORY_RESERVE_BYTES } from '../core/needs.ts';
import type { Entitlement, ProfileField } from '../core/profile.ts';
import type { GuestSample } from '../core/sample.ts';

/** A usage at or above this share of the entitlement may have been cut off by it. */
const CENSORED_FRACTION = 0.97;
/** With more of its runnable time spent waiting for a host CPU, a guest used what it got and not what it wanted. */
const HOST_DELAY_FRACTION = 0.1;

/** Whether a sample's usage of a field says "at least": it stood at what the guest held, or the host kept it waiting. */
export function isCutOff(sample: GuestSample, field: ProfileField, held: Entitlement): boolean {
  const usage = sample.usage[field];
  if (usage === undefined) return false;
  const limit = field === 'instructionsPerS' ? undefined : held[field];
  if (limit !== undefined && usage >= limit * CENSORED_FRACTION) return true;
  if (field === 'memoryBytes' && usage >= held[field] - MEMORY_RESERVE_BYTES) return true;
  return field === 'cpuMillicores' && isDelayed(sample);
}

/** Whether the host kept the guest's vCPUs waiting; false when it is not known. */
export function isDelayed(sample: GuestSample): boolean {
  return hostDelayFraction(sample) > HOST_DELAY_FRACTION;
}

/** Share of the time the guest's vCPUs were runnable in which the host did not run them; 0 when it is not known. */
function hostDelayFraction({ vcpus = [] }: GuestSample): number {
  let run = 0;
  let delay = 0;
  for (const { runFraction, delayFraction } of vcpus) {
    run += runFraction;
    delay += delayFraction;
  }
  return run + delay > 0 ? delay / (run + delay) : 0;
}
