import type {
  Anomaly as WireAnomaly,
  Guest as WireGuest,
  Scaling as WireScaling,
  Status as WireStatus,
  Tenant as WireTenant,
} from '../../proto/gen/foreshade/v1/admin.ts';
import type {
  Decision as WireDecision,
  Interval as WireInterval,
  Lease as WireLease,
  PredictedNeed as WirePredictedNeed,
} from '../../proto/gen/foreshade/v1/allocation.ts';
import type {
  FieldForecast,
  Forecast as WireForecast,
  ParamValue as WireParam,
  ResourceProfile as WireProfile,
} from '../../proto/gen/foreshade/v1/resources.ts';
import type { Sample as WireSample } from '../../proto/gen/foreshade/v1/shadow.ts';
import type { Anomaly } from '../core/anomaly.ts';
import type { Decision, GuestStatus, HostStatus, TenantStatus, WatchedSample } from '../core/engine.ts';
import { FIELDS, type Forecast, LEVELS, QUANTILE_LEVELS } from '../core/forecast.ts';
import type { GuestCapabilities } from '../core/guest.ts';
import type { Lease, PredictedNeed } from '../core/lease.ts';
import {
  type Entitlement,
  PROFILE_FIELDS,
  type ProfileField,
  type ResourceProfile,
} from '../core/profile.ts';
import type { Params, ParamValue } from '../core/request.ts';
import type { Room } from '../core/room.ts';
import type { ScaleStatus } from '../core/scale.ts';
import type { WritingStatus } from '../core/shadow.ts';
import { WIRE_AXIS, WIRE_LEASE_STATE, WIRE_MODE, WIRE_PRIORITY, WIRE_TRACK } from './enums.ts';

/** Names of the profile's fields in the contract. */
export const WIRE_FIELD: Readonly<Record<ProfileField, string>> = {
  cpuMillicores: 'cpu_millicores',
  memoryBytes: 'memory_bytes',
  diskReadBytesPerS: 'disk_read_bytes_per_s',
  diskWriteBytesPerS: 'disk_write_bytes_per_s',
  netRxBytesPerS: 'net_rx_bytes_per_s',
  netTxBytesPerS: 'net_tx_bytes_per_s',
  instructionsPerS: 'instructions_per_s',
};

const CAPABILITY_NAME: Readonly<Record<keyof GuestCapabilities, string>> = {
  cpuQuota: 'cpu-quota',
  vcpuPlug: 'vcpu-plug',
  vcpuUnplug: 'vcpu-unplug',
  agent: 'agent',
  balloon: 'balloon',
  virtioMem: 'virtio-mem',
  diskLimits: 'disk-limits',
  netLimits: 'net-limits',
};

/** int64 fields hold whole numbers; the encoder throws on anything else. */
const whole = (value: number | undefined): number | undefined =>
  value === undefined || !Number.isFinite(value) ? undefined : Math.round(value);

/** A number that was read; NaN is absent. */
const known = (value: number | undefined): number | undefined =>
  value === undefined || Number.isNaN(value) ? undefined : value;

export function wireLease(lease: Lease): WireLease {
  return {
    id: lease.id,
    requestId: lease.requestId,
    tenant: lease.tenant,
    workload: lease.workload,
    guest: lease.guest,
    guestName: lease.guestName,
    params: wireParams(lease.params),
    priority: WIRE_PRIORITY[lease.priority],
    state: WIRE_LEASE_STATE[lease.state],
    reason: lease.reason,
    requestedAtMs: whole(lease.requestedAtMs),
    startMs: whole(lease.startMs),
    ttlMs: whole(lease.ttlMs),
    expiresAtMs: whole(lease.expiresAtMs),
    latestStartMs: whole(lease.latestStartMs),
    predicted: wirePredicted(lease.predicted),
    requested: wireEntitlement(lease.requested),
    granted: lease.granted && wireEntitlement(lease.granted),
    inPlaceAtMs: whole(lease.inPlaceAtMs),
    answeredAtMs: whole(lease.answeredAtMs),
    guestSeen: lease.guestSeen && {
      vcpusOnline: whole(lease.guestSeen.vcpusOnline),
      memTotalBytes: whole(lease.guestSeen.memTotalBytes),
    },
    before: wireProfile(lease.before),
    used: wireProfile(lease.used),
    adjustments: lease.adjustments.map((adjustment) => ({ ...adjustment, atMs: whole(adjustment.atMs) })),
    workStartedAtMs: whole(lease.workStartedAtMs),
    workFinishedAtMs: whole(lease.workFinishedAtMs),
    releasedAtMs: whole(lease.releasedAtMs),
    queue: lease.queue && {
      position: whole(lease.queue.position),
      expectedWaitMs: whole(lease.queue.expectedWaitMs),
    },
    executedInstructions: whole(lease.executed?.total),
    executedByClass: lease.executed?.classes ?? {},
  };
}

export function wireProfile(profile: ResourceProfile): WireProfile {
  return {
    cpuMillicores: known(profile.cpuMillicores),
    // In the shape from the start, so that an entitlement adds it without changing the object's shape.
    vcpuCount: undefined,
    memoryBytes: whole(profile.memoryBytes),
    diskReadBytesPerS: known(profile.diskReadBytesPerS),
    diskWriteBytesPerS: known(profile.diskWriteBytesPerS),
    netRxBytesPerS: known(profile.netRxBytesPerS),
    netTxBytesPerS: known(profile.netTxBytesPerS),
    instructionsPerS: known(profile.instructionsPerS),
  };
}

export function wireEntitlement(entitlement: Entitlement): WireProfile {
  const wire = wireProfile(entitlement);
  wire.vcpuCount = whole(entitlement.vcpuCount);
  return wire;
}

export function wireForecast(forecast: Forecast): WireForecast {
  return {
    guest: forecast.guest,
    axis: WIRE_AXIS[forecast.axis],
    track: WIRE_TRACK[forecast.track],
    originMs: whole(forecast.originMs),
    knots: [...forecast.knots],
    levels: [...QUANTILE_LEVELS],
    fields: fieldForecasts(forecast),
    duration: Number.isNaN(forecast.duration[0] ?? Number.NaN) ? [] : [...forecast.duration],
    reason: forecast.reason,
    runs: whole(forecast.runs),
  };
}

/** Rows of the fields that have been read on the guest; the others are NaN throughout. */
function fieldForecasts(forecast: Forecast): FieldForecast[] {
  const rows: FieldForecast[] = [];
  const valuesPerField = forecast.knots.length * LEVELS;
  for (let i = 0; i < FIELDS; i += 1) {
    const field = PROFILE_FIELDS[i];
    const peak = forecast.peak.subarray(i * LEVELS, (i + 1) * LEVELS);
    if (field === undefined || Number.isNaN(peak[0] ?? Number.NaN)) continue;
    const values = forecast.values.subarray(i * valuesPerField, (i + 1) * valuesPerField);
    rows.push({ field: WIRE_FIELD[field], peak: [...peak], values: [...values] });
  }
  return rows;
}

export function wireDecision(decision: Decision): WireDecision {
  const inputs = Object.entries(decision.inputs).map(([name, value]) => [name, String(value)] as const);
  return { ...decision, atMs: whole(decision.atMs), inputs: Object.fromEntries(inputs) };
}

export function wireSample(sample: WatchedSample): WireSample {
  return {
    guest: sample.guest,
    atMs: whole(sample.atMs),
    periodMs: whole(sample.periodMs),
    usage: wireProfile(sample.usage),
    flags: [...sample.flags],
    cadence: sample.cadence,
    instructionsAt: whole(sample.instructionsAt),
    instructions: { ...sample.classes },
    forecast: sample.forecast && wireForecast(sample.forecast),
  };
}

export function wireGuest({ facts, adopted, leadTimesMs, lastSample, leases }: GuestStatus): WireGuest {
  const capabilities = Object.entries(CAPABILITY_NAME) as [keyof GuestCapabilities, string][];
  return {
    id: facts.id,
    name: facts.name,
    state: facts.state,
    entitlement: wireEntitlement(facts.entitlement),
    ceiling: wireEntitlement(facts.ceiling),
    capabilities: capabilities.filter(([key]) => facts.capabilities[key]).map(([, name]) => name),
    vcpusPlugged: whole(facts.vcpusPlugged),
    adoption: adopted && {
      mode: WIRE_MODE[adopted.mode],
      adoptedAtMs: whole(adopted.adoptedAtMs),
      baseline: wireEntitlement(adopted.baseline.entitlement),
      relinquished: [...adopted.relinquished],
      sampling: adopted.sampling && {
        fullPeriodMs: adopted.sampling.fullMs,
        fastPeriodMs: adopted.sampling.fastMs,
        instructionStep: adopted.sampling.instructionStep,
      },
      leadTimesMs: Object.fromEntries(
        Object.entries(leadTimesMs ?? {}).map(([resource, ms]) => [resource, Math.round(ms)]),
      ),
    },
    usage: lastSample && wireProfile(lastSample.usage),
    usageAtMs: whole(lastSample?.atMs),
    leases: [...leases],
  };
}

/** @param hostName undefined: the hypervisor's */
export function wireStatus(
  status: HostStatus,
  version: string,
  hostName: string | undefined,
  record: WritingStatus | undefined,
): WireStatus {
  return {
    host: hostName ?? status.host.name,
    version,
    mode: WIRE_MODE[status.mode],
    hypervisorAvailable: status.hypervisorAvailable,
    draining: status.draining,
    hostTotal: wireProfile(status.host),
    capacity: wireProfile(status.capacity),
    committed: wireProfile(status.committed),
    guests: whole(status.guests),
    adopted: whole(status.adopted),
    leases: { ...status.leases },
    record: record && {
      state: record.state,
      reason: record.reason ?? '',
      rowsAccepted: record.accepted,
      rowsWritten: record.acknowledged,
      rowsDropped: record.dropped,
      queueBytes: record.queuedBytes,
    },
    tenants: status.tenants.map(wireTenant),
    scaling: wireScaling(status.scale),
  };
}

function wireScaling({ groups, ...counts }: ScaleStatus): WireScaling {
  return {
    ...counts,
    groups: groups.map(({ name, wanted, guests: { ready, coming, away, 'stand-by': standBy } }) => ({
      name,
      ready,
      coming,
      standBy,
      away,
      wanted,
    })),
  };
}

function wireTenant({ quota, guaranteed, held, ...tenant }: TenantStatus): WireTenant {
  return {
    ...tenant,
    quota: wireProfile(finite(quota)),
    guaranteed: wireProfile(guaranteed),
    held: wireProfile(held),
  };
}

/** What has no cap is absent. */
function finite(room: Room): ResourceProfile {
  return Object.fromEntries(Object.entries(room).filter(([, value]) => Number.isFinite(value)));
}

function wirePredicted({ fields, durationS, reason, runs }: PredictedNeed): WirePredictedNeed {
  const named: Record<string, WireInterval> = {};
  for (const field of PROFILE_FIELDS) {
    const interval = fields[field];
    if (interval) named[WIRE_FIELD[field]] = interval;
  }
  return { fields: named, durationS, reason, runs: whole(runs) };
}

export function wireParams(params: Params): Record<string, WireParam> {
  const wire: Record<string, WireParam> = {};
  for (const name of Object.keys(params)) {
    const value = params[name];
    if (value) wire[name] = wireParam(value);
  }
  return wire;
}

/** One parameter as the contract writes it. */
export function wireParam(param: ParamValue): WireParam {
  switch (param.kind) {
    case 'number':
      return { kind: { $case: 'number', number: param.value } };
    case 'category':
      return { kind: { $case: 'category', category: param.value } };
    case 'text':
      return { kind: { $case: 'text', text: param.value } };
    case 'size':
      return { kind: { $case: 'sizeBytes', sizeBytes: Math.round(param.value) } };
    case 'time':
      return { kind: { $case: 'timeMs', timeMs: Math.round(param.value) } };
  }
}

export function wireAnomaly({
  leaseId = '',
  evidence,
  startMs,
  clearedAtMs,
  ...anomaly
}: Anomaly): WireAnomaly {
  return {
    ...anomaly,
    leaseId,
    evidence: { ...evidence },
    startMs: whole(startMs),
    clearedAtMs: whole(clearedAtMs),
  };
}
