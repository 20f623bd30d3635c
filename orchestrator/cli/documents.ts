import type { Anomaly, Guest, Scaling, Status } from '../../proto/gen/foreshade/v1/admin.ts';
import type { Decision, Lease } from '../../proto/gen/foreshade/v1/allocation.ts';
import type { Forecast, ParamValue, ResourceProfile } from '../../proto/gen/foreshade/v1/resources.ts';
import { AXIS_OF, LEASE_STATE_OF, MODE_OF, PRIORITY_OF, TRACK_OF } from '../service/enums.ts';
import { sentenceOf } from './explanation.ts';

/** JSON documents of `--json`: the contract's names, enums as their words, absent values absent. */

export const leaseState = (lease: Lease): string => LEASE_STATE_OF.get(lease.state ?? 0) ?? 'UNKNOWN';
export const priorityName = (lease: Lease): string => PRIORITY_OF.get(lease.priority ?? 0) ?? 'unknown';
export const modeName = (mode: number | undefined): string => MODE_OF.get(mode ?? 0) ?? 'unknown';

export function leaseDocument(lease: Lease) {
  return {
    lease_id: lease.id,
    request_id: lease.requestId,
    tenant: lease.tenant,
    workload: lease.workload,
    guest: lease.guest,
    guest_name: lease.guestName,
    params: Object.fromEntries(
      Object.entries(lease.params).map(([name, value]) => [name, paramDocument(value)]),
    ),
    priority: priorityName(lease),
    state: leaseState(lease),
    reason: lease.reason,
    requested_at_ms: lease.requestedAtMs,
    start_ms: lease.startMs,
    latest_start_ms: lease.latestStartMs,
    ttl_ms: lease.ttlMs,
    expires_at_ms: lease.expiresAtMs,
    predicted: lease.predicted && {
      fields: lease.predicted.fields,
      duration_s: lease.predicted.durationS,
      reason: lease.predicted.reason,
      runs: lease.predicted.runs,
    },
    requested: profileDocument(lease.requested),
    granted: profileDocument(lease.granted),
    in_place_at_ms: lease.inPlaceAtMs,
    answered_at_ms: lease.answeredAtMs,
    guest_seen: lease.guestSeen && {
      vcpus_online: lease.guestSeen.vcpusOnline,
      mem_total_bytes: lease.guestSeen.memTotalBytes,
    },
    before: profileDocument(lease.before),
    used: profileDocument(lease.used),
    adjustments: lease.adjustments.map(({ atMs, resource, from, to, residual, reason }) => ({
      at_ms: atMs,
      resource,
      from,
      to,
      residual,
      reason,
    })),
    work_started_at_ms: lease.workStartedAtMs,
    work_finished_at_ms: lease.workFinishedAtMs,
    released_at_ms: lease.releasedAtMs,
    queue: lease.queue && { position: lease.queue.position, expected_wait_ms: lease.queue.expectedWaitMs },
    executed_instructions: lease.executedInstructions,
    executed_by_class: lease.executedInstructions === undefined ? undefined : lease.executedByClass,
  };
}

/** A parameter as one key by its kind: `{"number": 3}`, `{"size_bytes": 67108864}`. */
export function paramDocument({ kind }: ParamValue): Record<string, string | number> {
  switch (kind?.$case) {
    case 'number':
      return { number: kind.number };
    case 'category':
      return { category: kind.category };
    case 'text':
      return { text: kind.text };
    case 'sizeBytes':
      return { size_bytes: kind.sizeBytes };
    case 'timeMs':
      return { time_ms: kind.timeMs };
    case undefined:
      return {};
  }
}

export function profileDocument(profile: ResourceProfile | undefined) {
  return (
    profile && {
      cpu_millicores: profile.cpuMillicores,
      vcpu_count: profile.vcpuCount,
      memory_bytes: profile.memoryBytes,
      disk_read_bytes_per_s: profile.diskReadBytesPerS,
      disk_write_bytes_per_s: profile.diskWriteBytesPerS,
      net_rx_bytes_per_s: profile.netRxBytesPerS,
      net_tx_bytes_per_s: profile.netTxBytesPerS,
      instructions_per_s: profile.instructionsPerS,
    }
  );
}

export function guestDocument(guest: Guest) {
  return {
    id: guest.id,
    name: guest.name,
    state: guest.state,
    entitlement: profileDocument(guest.entitlement),
    ceiling: profileDocument(guest.ceiling),
    capabilities: guest.capabilities,
    vcpus_plugged: guest.vcpusPlugged,
    adoption: guest.adoption && {
      mode: modeName(guest.adoption.mode),
      adopted_at_ms: guest.adoption.adoptedAtMs,
      baseline: profileDocument(guest.adoption.baseline),
      relinquished: guest.adoption.relinquished,
      sampling: guest.adoption.sampling && {
        full_period_ms: guest.adoption.sampling.fullPeriodMs,
        fast_period_ms: guest.adoption.sampling.fastPeriodMs,
        instruction_step: guest.adoption.sampling.instructionStep,
      },
      lead_times_ms: guest.adoption.leadTimesMs,
    },
    usage: profileDocument(guest.usage),
    usage_at_ms: guest.usageAtMs,
    leases: guest.leases,
  };
}

export function statusDocument(status: Status) {
  return {
    host: status.host,
    version: status.version,
    mode: modeName(status.mode),
    hypervisor_available: status.hypervisorAvailable,
    draining: status.draining,
    host_total: profileDocument(status.hostTotal),
    capacity: profileDocument(status.capacity),
    committed: profileDocument(status.committed),
    guests: status.guests,
    adopted: status.adopted,
    leases: status.leases,
    tenants: status.tenants.map((tenant) => ({
      name: tenant.name,
      listed: tenant.listed,
      weight: tenant.weight,
      shadow: tenant.shadow,
      quota: profileDocument(tenant.quota),
      guaranteed: profileDocument(tenant.guaranteed),
      held: profileDocument(tenant.held),
      share: tenant.share,
      leases: tenant.leases,
      queued: tenant.queued,
    })),
    scaling: status.scaling && scalingDocument(status.scaling),
    record: status.record && {
      state: status.record.state,
      reason: status.record.reason || undefined,
      rows_accepted: status.record.rowsAccepted,
      rows_written: status.record.rowsWritten,
      rows_dropped: status.record.rowsDropped,
      queue_bytes: status.record.queueBytes,
    },
  };
}

function scalingDocument({ groups, started, startsFailed, stopped, asked, declined }: Scaling) {
  return {
    groups: groups.map(({ name, ready, coming, standBy, away, wanted }) => ({
      name,
      ready,
      coming,
      stand_by: standBy,
      away,
      wanted,
    })),
    started,
    starts_failed: startsFailed,
    stopped,
    asked,
    declined,
  };
}

export function forecastDocument(forecast: Forecast, requested: ResourceProfile | undefined) {
  return {
    guest: forecast.guest,
    axis: AXIS_OF.get(forecast.axis ?? 0),
    track: TRACK_OF.get(forecast.track ?? 0),
    origin_ms: forecast.originMs,
    knots: forecast.knots,
    levels: forecast.levels,
    fields: Object.fromEntries(forecast.fields.map(({ field, peak, values }) => [field, { peak, values }])),
    duration: forecast.duration,
    reason: forecast.reason,
    runs: forecast.runs,
    requested: profileDocument(requested),
  };
}

export function decisionDocument(decision: Decision) {
  return {
    at_ms: decision.atMs,
    lease_id: decision.leaseId,
    guest: decision.guest,
    action: decision.action,
    rule: decision.rule,
    inputs: decision.inputs,
    outcome: decision.outcome,
    sentence: sentenceOf(decision),
  };
}

export function anomalyDocument(anomaly: Anomaly) {
  return {
    kind: anomaly.kind,
    guest: anomaly.guest,
    guest_name: anomaly.guestName,
    lease_id: anomaly.leaseId || undefined,
    severity: anomaly.severity,
    reason: anomaly.reason,
    evidence: anomaly.evidence,
    start_ms: anomaly.startMs,
    cleared_at_ms: anomaly.clearedAtMs,
  };
}
