import { PROFILE_FIELDS } from '../core/profile.ts';
import type { GuestSample } from '../core/sample.ts';

const MEMORY = PROFILE_FIELDS.indexOf('memoryBytes');

/** What a sample tells of each field, into f64[FIELDS]; NaN where it tells nothing. */
export function readingsOf({ flags, usage }: GuestSample, out: Float64Array): void {
  // Over a reset or a pause rates describe nothing; stale balloon statistics describe the past.
  const noRates = flags.includes('counter-reset') || flags.includes('paused');
  const noMemory = flags.includes('memory-stale');
  for (const [f, field] of PROFILE_FIELDS.entries()) {
    const value = usage[field] ?? Number.NaN;
    const isRead = !(f === MEMORY ? noMemory : noRates);
    out[f] = isRead && value >= 0 && Math.fround(value) < Number.POSITIVE_INFINITY ? value : Number.NaN;
  }
}
