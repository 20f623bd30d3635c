import type { Anomaly } from '../../orchestrator/core/anomaly.ts';
import type {
  AllocationEngine,
  CallContext,
  Decision,
  GuestStatus,
  HostStatus,
  WorkReport,
} from '../../orchestrator/core/engine.ts';
import { FIELDS, type Forecast, type ForecastScale, LEVELS } from '../../orchestrator/core/forecast.ts';
import type { Mode } from '../../orchestrator/core/guest.ts';
import type { Lease } from '../../orchestrator/core/lease.ts';
import type { Need } from '../../orchestrator/core/needs.ts';
import type { Entitlement } from '../../orchestrator/core/profile.ts';
import type { GuestDemand, Newcomer } from '../../orchestrator/core/rank-hosts.ts';
import type { AllocationRequest } from '../../orchestrator/core/request.ts';
import type { GuestSample, Sampling } from '../../orchestrator/core/sample.ts';

export const GUEST_ID = '6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001';
const MIB = 1024 * 1024;
const REQUESTED: Entitlement = { cpuMillicores: 1500, vcpuCount: 2, memoryBytes: 256 * MIB };

/** A lease as the double's allocate answers it. */
export function leaseOf(request: AllocationRequest, changes: Partial<Lease> = {}): Lease {
  return {
    id: `lease-${request.requestId}`,
    requestId: request.requestId,
    tenant: request.tenant,
    workload: request.workload,
    guest: GUEST_ID,
    guestName: 'alpha',
    params: request.params,
    priority: request.priority,
    state: 'ACTIVE',
    reason: 'everything requested is in place',
    requestedAtMs: 1_700_000_000_000,
    startMs: request.startMs ?? 1_700_000_000_100,
    ttlMs: request.ttlMs,
    expiresAtMs: 1_700_000_000_100 + request.ttlMs,
    predicted: {
      fields: { cpuMillicores: { q05: 800, q50: 1000, q95: 1400 } },
      durationS: { q05: 1, q50: 2, q95: 3 },
      reason: 'parameters of 14 runs',
      runs: 14,
    },
    requested: REQUESTED,
    granted: REQUESTED,
    inPlaceAtMs: 1_700_000_000_050,
    guestSeen: { vcpusOnline: 2, memTotalBytes: 250 * MIB },
    answeredAtMs: 1_700_000_000_060,
    before: { cpuMillicores: 12.5, memoryBytes: 100 * MIB + 0.25 },
    used: {},
    adjustments: [
      {
        atMs: 1_700_000_001_000,
        resource: 'cpu',
        from: 1500,
        to: 1800,
        residual: 400,
        reason: 'above the forecast',
      },
    ],
    ...changes,
  };
}

export function sampleAt(atMs: number): GuestSample {
  return {
    guest: GUEST_ID,
    atMs,
    periodMs: 1000,
    cadence: 'full',
    usage: { cpuMillicores: 500 },
    flags: ['gap'],
  };
}

/**
 * An engine without a host: fixed answers, every call recorded. `fail` makes every method throw it; a method can be
 * replaced by assignment.
 */
export class EngineDouble implements AllocationEngine {
  readonly calls: { readonly method: string; readonly args: readonly unknown[] }[] = [];
  readonly leases = new Map<string, Lease>();
  fail: unknown;
  hypervisorAvailable = true;
  drained = false;

  #record(method: string, ...args: unknown[]): void {
    this.calls.push({ method, args });
    if (this.fail !== undefined) throw this.fail;
  }

  allocate = async (request: AllocationRequest, context: CallContext): Promise<Lease> => {
    this.#record('allocate', request, context);
    const lease = leaseOf(request);
    this.leases.set(lease.id, lease);
    return lease;
  };

  async renew(leaseId: string, ttlMs: number, need?: Need): Promise<Lease> {
    this.#record('renew', leaseId, ttlMs, need);
    return { ...this.#lease(leaseId), ttlMs };
  }

  release = async (leaseId: string, report: WorkReport, context: CallContext): Promise<Lease> => {
    this.#record('release', leaseId, report, context);
    return { ...this.#lease(leaseId), state: 'RELEASED', releasedAtMs: 1_700_000_009_000 };
  };

  getLease(leaseId: string): Lease {
    this.#record('getLease', leaseId);
    return this.#lease(leaseId);
  }

  listLeases(filter: object): Lease[] {
    this.#record('listLeases', filter);
    return [...this.leases.values()].reverse();
  }

  foresee(newcomer: Newcomer): GuestDemand {
    this.#record('foresee', newcomer);
    const { ceiling } = newcomer;
    const peak = { cpuMillicores: ceiling.cpuMillicores / 2, memoryBytes: ceiling.memoryBytes / 2 };
    return { mean: peak, peak, ceiling, reason: 'half of what it may use', runs: 14 };
  }

  watchLease: AllocationEngine['watchLease'] = (leaseId, context) => {
    this.#record('watchLease', leaseId, context);
    const lease = this.#lease(leaseId);
    return (async function* () {
      yield lease;
      yield { ...lease, state: 'RELEASED' as const };
    })();
  };

  async forecast(
    request: AllocationRequest,
    scale: ForecastScale,
  ): Promise<{ forecast: Forecast; requested: Entitlement }> {
    this.#record('forecast', request, scale);
    const knots = [1, 2];
    const values = new Float64Array(FIELDS * knots.length * LEVELS).fill(Number.NaN);
    const peak = new Float64Array(FIELDS * LEVELS).fill(Number.NaN);
    for (let i = 0; i < LEVELS; i += 1) peak[i] = 100 * (i + 1);
    values.fill(7, 0, knots.length * LEVELS);
    const duration = new Float64Array(LEVELS).map((_, i) => i + 1);
    const forecast: Forecast = {
      guest: GUEST_ID,
      ...scale,
      originMs: 1_700_000_000_000,
      knots,
      values,
      peak,
      duration,
      reason: 'parameters of 14 runs',
      runs: 14,
    };
    return { forecast, requested: REQUESTED };
  }

  explain(leaseId: string): readonly Decision[] {
    this.#record('explain', leaseId);
    return [
      {
        atMs: 1_700_000_000_000,
        leaseId,
        guest: GUEST_ID,
        action: 'admit',
        rule: 'room-for-quantile',
        inputs: { freeCpuMillicores: 3000, tenant: 'acme' },
        outcome: 'granted',
      },
    ];
  }

  async status(): Promise<HostStatus> {
    this.#record('status');
    return {
      host: { name: 'host-a', cpuMillicores: 4000, memoryBytes: 8192 * MIB },
      capacity: { cpuMillicores: 10_500, memoryBytes: 7168 * MIB },
      committed: { cpuMillicores: 2500, memoryBytes: 512 * MIB },
      mode: 'enforce',
      hypervisorAvailable: this.hypervisorAvailable,
      draining: this.drained,
      guests: 2,
      adopted: 1,
      tenants: [],
      anomaliesRaised: { miner: 2 },
      scale: { groups: [], started: 0, startsFailed: 0, stopped: 0, asked: 0, declined: 0 },
      leases: { ACTIVE: this.leases.size },
    };
  }

  async listGuests(): Promise<GuestStatus[]> {
    this.#record('listGuests');
    return [this.#guest('enforce')];
  }

  async getGuest(guest: string): Promise<GuestStatus> {
    this.#record('getGuest', guest);
    return this.#guest('enforce');
  }

  async adopt(guest: string, mode: Mode): Promise<GuestStatus> {
    this.#record('adopt', guest, mode);
    return this.#guest(mode);
  }

  async disown(guest: string, context: CallContext): Promise<GuestStatus> {
    this.#record('disown', guest, context);
    return this.#guest(undefined);
  }

  async restore(guest: string, context: CallContext): Promise<GuestStatus> {
    this.#record('restore', guest, context);
    return this.#guest('enforce');
  }

  async setMode(guest: string, mode: Mode): Promise<GuestStatus> {
    this.#record('setMode', guest, mode);
    return this.#guest(mode);
  }

  async setSampling(guest: string, sampling: Partial<Sampling>): Promise<GuestStatus> {
    this.#record('setSampling', guest, sampling);
    return this.#guest('enforce');
  }

  listAnomalies(guest?: string): readonly Anomaly[] {
    this.#record('listAnomalies', guest);
    return [
      {
        kind: 'miner',
        guest: GUEST_ID,
        guestName: 'alpha',
        severity: 'critical',
        reason: 'steady, nearly full CPU',
        evidence: { cpuMillicores: 990.5 },
        // A sample is of the middle of a call, which falls between milliseconds.
        startMs: 1_700_000_000_000.5,
      },
    ];
  }

  watchGuest: AllocationEngine['watchGuest'] = (guest, track, context) => {
    this.#record('watchGuest', guest, track, context);
    return (async function* () {
      for (let i = 0; !context.signal.aborted; i += 1) {
        yield sampleAt(1_700_000_000_000 + i * 1000);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    })();
  };

  async drain(): Promise<void> {
    this.#record('drain');
    this.drained = true;
  }

  #lease(leaseId: string): Lease {
    const lease = this.leases.get(leaseId);
    if (!lease) throw new Error(`the double has no lease ${leaseId}`);
    return lease;
  }

  #guest(mode: Mode | undefined): GuestStatus {
    return {
      facts: {
        id: GUEST_ID,
        name: 'alpha',
        state: 'running',
        entitlement: REQUESTED,
        ceiling: { cpuMillicores: 4000, vcpuCount: 4, memoryBytes: 1024 * MIB },
        capabilities: {
          cpuQuota: true,
          vcpuPlug: true,
          vcpuUnplug: false,
          agent: true,
          balloon: true,
          virtioMem: false,
          diskLimits: true,
          netLimits: false,
        },
        vcpusPlugged: 2,
        cpuLimited: true,
      },
      ...(mode && {
        adopted: {
          id: GUEST_ID,
          name: 'alpha',
          mode,
          adoptedAtMs: 1_699_999_999_000,
          baseline: { entitlement: REQUESTED, cpuLimited: false },
          relinquished: ['net'],
        },
        // Measured by a clock that counts parts of milliseconds.
        leadTimesMs: { memory: 811.6 },
      }),
      lastSample: sampleAt(1_700_000_000_500),
      leases: [...this.leases.keys()],
    };
  }
}
