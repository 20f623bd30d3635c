import type { AdjustPolicy } from '../core/adjust.ts';
import type { CapacityPolicy } from '../core/admit.ts';
import type { AnomalyAction, AnomalyKind } from '../core/anomaly.ts';
import type { Mode } from '../core/guest.ts';
import type { NeedsPolicy } from '../core/needs.ts';
import type { Actuated } from '../core/ports.ts';
import type { ScalePolicy } from '../core/scale.ts';
import type { TenantsPolicy } from '../core/tenant.ts';

/** Everything the operator decides about the engine. */
export interface EnginePolicy {
  /** Mode of guests adopted without one. */
  readonly mode: Mode;
  readonly capacity: CapacityPolicy;
  readonly needs: NeedsPolicy;
  readonly adjust: Readonly<Record<Actuated, AdjustPolicy>>;
  readonly tenants: TenantsPolicy;
  readonly anomaly: Readonly<Record<AnomalyKind, AnomalyAction>>;
  /** Absent: no groups, and nobody is asked for room. */
  readonly scale?: ScalePolicy;
  /** vCPU delay beyond which a neighbour that bursts is brought back, as a fraction of time. */
  readonly delayLimitFraction: number;
  /** Time after which a lease that waits counts as one priority higher, ms. */
  readonly queueAgeingMs: number;
  readonly tickMs: number;
  /** Leases that may wait at once. */
  readonly queueMax: number;
  /** Longest an actuator may take before what it reached so far is taken as the result. */
  readonly actuationTimeoutMs: number;
}
