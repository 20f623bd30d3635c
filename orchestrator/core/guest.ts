import type { Entitlement } from './profile.ts';
import type { Sampling } from './sample.ts';

/** A guest's UUID, lower case: it survives a rename and a restart. */
export type GuestId = string;

export type GuestState = 'running' | 'paused' | 'shut-off' | 'crashed';

/** `shadow` records and forecasts, `advise` answers with a recommendation, `enforce` acts. */
export const MODES = ['shadow', 'advise', 'enforce'] as const;
export type Mode = (typeof MODES)[number];

/** What can be moved on a guest. A capability that is not known to work is false. */
export interface GuestCapabilities {
  readonly cpuQuota: boolean;
  readonly vcpuPlug: boolean;
  /** Known to survive: TCG guests of QEMU 7.2 crash when a vCPU is plugged after an unplug. */
  readonly vcpuUnplug: boolean;
  readonly agent: boolean;
  readonly balloon: boolean;
  readonly virtioMem: boolean;
  readonly diskLimits: boolean;
  readonly netLimits: boolean;
}

/** One guest as the hypervisor describes it. Sizes that come from the guest itself are claims. */
export interface GuestFacts {
  readonly id: GuestId;
  readonly name: string;
  readonly state: GuestState;
  /** What it may use now. */
  readonly entitlement: Entitlement;
  /** The most it can be given without a reboot. Disk and net absent: no bound known. */
  readonly ceiling: Entitlement;
  readonly capabilities: GuestCapabilities;
  /** vCPUs plugged, online in the guest or not. */
  readonly vcpusPlugged: number;
  /** True when a quota is in force; false when `entitlement.cpuMillicores` is just its vCPUs. */
  readonly cpuLimited: boolean;
}

/** What Foreshade keeps of an adopted guest. */
export interface AdoptedGuest {
  readonly id: GuestId;
  readonly name: string;
  readonly mode: Mode;
  readonly adoptedAtMs: number;
  /** Its sizes when adopted; what a release restores. */
  readonly baseline: Baseline;
  /** What we last asked for, while it differs from the baseline. */
  readonly intended?: Entitlement;
  /** Where the granularity of its samples differs from the host's. */
  readonly sampling?: Partial<Sampling>;
  /** Resources somebody else has changed: recorded, and no longer touched until adopted anew. */
  readonly relinquished: readonly ('cpu' | 'memory' | 'disk' | 'net')[];
}

export interface Baseline {
  readonly entitlement: Entitlement;
  /** False when the guest had no CPU quota: release takes ours off again where topology allows it. */
  readonly cpuLimited: boolean;
}

/** What the host has to give. */
export interface HostFacts {
  readonly name: string;
  readonly cpuMillicores: number;
  readonly memoryBytes: number;
}
