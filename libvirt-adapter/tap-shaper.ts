import type { DeviceLimits } from '../orchestrator/core/device-limits.ts';
import type { GuestId } from '../orchestrator/core/guest.ts';

/** Limits guests' taps where libvirt does not. Rates are as the guest sees them: what it receives is `netRx`. */
export interface TapShaper {
  /**
   * The limits that we put on a tap, as they are in force; none where we put none.
   * @throws {AllocatorError} NOT_SUPPORTED where somebody else shapes the tap; GUEST_NOT_RUNNING when it is gone
   */
  get(guest: GuestId, tap: string): Promise<DeviceLimits>;
  /**
   * Replace our limits on a tap by these; none takes everything of ours off. Both directions, or neither.
   * @throws {AllocatorError} as `get`, and ACTUATION_REFUSED when the kernel said no
   */
  set(guest: GuestId, tap: string, limits: DeviceLimits): Promise<void>;
}
