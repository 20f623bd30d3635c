import type { AdjustPolicy } from '../core/adjust.ts';
import type { CapacityPolicy } from '../core/admit.ts';
import type { Mode } from '../core/guest.ts';
import type { NeedsPolicy } from '../core/needs.ts';
import type { Actuated } from '../core/ports.ts';

/** Everything the operator decides about the engine. */
export interface EnginePolicy {
  /** Mode of guests adopted without one. */
  readonly mode: Mode;
  readonly capacity: CapacityPolicy;
  readonly needs: NeedsPolicy;
  readonly adjust: Readonly<Record<Actuated, AdjustPolicy>>;
  readonly tickMs: number;
  /** Leases that may wait at once. */
  readonly queueMax: number;
  /** Longest an actuator may take before what it reached so far is taken as the result. */
  readonly actuationTimeoutMs: number;
}
