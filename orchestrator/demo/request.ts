import { setTimeout as sleep } from 'node:timers/promises';
import type { ForeshadeClient } from '../../integrations/client-node/client.ts';
import type { LabGuest } from '../../libvirt-adapter/lab/guest.ts';
import type { RunOutcome } from '../../libvirt-adapter/lab/runner-client.ts';
import {
  type Lease,
  LeaseState,
  type Interval as WireInterval,
} from '../../proto/gen/foreshade/v1/allocation.ts';
import type { ParamValue, ResourceProfile } from '../../proto/gen/foreshade/v1/resources.ts';
import type { EncodeParams, PlannedRun } from './plan.ts';
import { CALL_TIMEOUT_MS } from './stage.ts';

/** Quantiles, in the unit of the resource. */
export interface Interval {
  readonly q05: number;
  readonly q50: number;
  readonly q95: number;
}

/** Millicores, vCPUs, bytes, bytes per second and instructions per second; what is absent was not read or not limited. */
export interface Amounts {
  readonly cpu?: number;
  readonly vcpu_count?: number;
  readonly memory?: number;
  readonly disk?: number;
  readonly net?: number;
  readonly instructions?: number;
}

/** One request from asking to learning, as the demonstration reports it. Times are ms since the epoch on the host's clock. */
export interface RequestRecord {
  readonly params: EncodeParams;
  readonly predicted: Readonly<Record<string, Interval>>;
  readonly reason: string;
  readonly requested: Amounts;
  readonly granted: Amounts;
  readonly used: Amounts;
  readonly requested_at: number;
  readonly in_place_at: number;
  readonly answered_at: number;
  readonly workload_started_at: number;
  readonly workload_finished_at: number;
  readonly released_at: number;
  readonly guest_seen: { readonly vcpus_online: number; readonly mem_total_bytes: number } | null;
  readonly adjustments: readonly {
    readonly at: number;
    readonly resource: string;
    readonly from: number;
    readonly to: number;
    readonly residual: number;
    readonly reason: string;
  }[];
  readonly state: string;
  readonly workload_status: RunOutcome['status'];
  /** Set when the run was made to leave what its parameters say. */
  readonly departs?: true;
  /** Forecast medians for the same parameters before and after the run was learned from. */
  readonly relearned?: { readonly before: Amounts; readonly after: Amounts };
  readonly baseline_restored: boolean;
}

/** How long the client of a departing run keeps its lease after the work, as one does that uploads its result. */
const LINGER_MS = 9_000;
/**
 * How long a client keeps its lease after the work, to collect its result: memory is read once a second, and a lease given
 * back at once would miss the last reading of a short run.
 */
const COLLECT_MS = 1_100;
/** What the next request finds is an idle guest, not the end of this one. */
const QUIET_MS = 500;

/** Ask, run and give back one request on the managed guest. */
export async function runRequest(
  client: ForeshadeClient,
  guest: LabGuest,
  planned: PlannedRun,
): Promise<RequestRecord> {
  const ask = { timeoutMs: CALL_TIMEOUT_MS };
  const params = toParams(planned.params);
  const request = { tenant: 'demo', workload: 'encode', guest: guest.name, params };
  const granted = await inPlace(
    client,
    await client.ask(client.allocation, client.allocation.allocate, request, ask),
  );
  const outcome = await guest.runner.run({
    workload: 'encode',
    params: planned.params,
    seed: planned.seed,
    ...(planned.departure === undefined ? {} : { depart: planned.departure }),
  });
  await sleep(planned.departure === undefined ? COLLECT_MS : LINGER_MS);
  const before = planned.departure && (await medians(client, guest.name, params));
  const released = await client.ask(
    client.allocation,
    client.allocation.releaseLease,
    {
      leaseId: granted.id,
      workStartedAtMs: Math.round(outcome.startedAtMs),
      workFinishedAtMs: Math.round(outcome.finishedAtMs),
      workFailed: outcome.status !== 'done',
    },
    ask,
  );
  const after = planned.departure && (await medians(client, guest.name, params));
  const isRestored = await backAtBaseline(client, guest.name);
  await sleep(QUIET_MS);
  return {
    ...recordOf(planned, released, outcome),
    ...(before && after ? { departs: true as const, relearned: { before, after } } : {}),
    baseline_restored: isRestored,
  };
}

/** A full host answers with a place in the queue: wait for the turn. */
async function inPlace(client: ForeshadeClient, lease: Lease): Promise<Lease> {
  if (lease.state !== LeaseState.LEASE_STATE_QUEUED && lease.state !== LeaseState.LEASE_STATE_PREPARING)
    return lease;
  const { allocation } = client;
  const signal = AbortSignal.timeout(CALL_TIMEOUT_MS);
  for await (const seen of client.follow(allocation, allocation.watchLease, { leaseId: lease.id }, signal)) {
    if (seen.inPlaceAtMs !== undefined) return seen;
  }
  throw new Error(`lease ${lease.id} was not put in place within ${CALL_TIMEOUT_MS} ms: ${lease.reason}`);
}

function recordOf(
  planned: PlannedRun,
  lease: Lease,
  outcome: RunOutcome,
): Omit<RequestRecord, 'baseline_restored'> {
  return {
    params: planned.params,
    predicted: predictedOf(lease),
    reason: lease.predicted?.reason ?? '',
    requested: amountsOf(lease.requested),
    granted: amountsOf(lease.granted),
    used: amountsOf(lease.used),
    requested_at: lease.requestedAtMs ?? Number.NaN,
    in_place_at: lease.inPlaceAtMs ?? Number.NaN,
    answered_at: lease.answeredAtMs ?? Number.NaN,
    workload_started_at: outcome.startedAtMs,
    workload_finished_at: outcome.finishedAtMs,
    released_at: lease.releasedAtMs ?? Number.NaN,
    guest_seen: lease.guestSeen
      ? {
          vcpus_online: lease.guestSeen.vcpusOnline ?? 0,
          mem_total_bytes: lease.guestSeen.memTotalBytes ?? 0,
        }
      : null,
    adjustments: lease.adjustments.map(
      ({ atMs = Number.NaN, resource = '', from = 0, to = 0, residual = 0, reason = '' }) => ({
        at: atMs,
        resource,
        from,
        to,
        residual,
        reason,
      }),
    ),
    state: lease.state === LeaseState.LEASE_STATE_RELEASED ? 'RELEASED' : `state ${lease.state}`,
    workload_status: outcome.status,
  };
}

/** Resource names by profile field; the two directions of disk and net are reported as one. */
const NAMES: Readonly<Record<string, string>> = {
  cpuMillicores: 'cpu',
  memoryBytes: 'memory',
  instructionsPerS: 'instructions',
};

function predictedOf(lease: Lease): Record<string, Interval> {
  const predicted: Record<string, Interval> = {};
  for (const [field, interval] of Object.entries(lease.predicted?.fields ?? {})) {
    const name = NAMES[camel(field)];
    if (name !== undefined) predicted[name] = intervalOf(interval);
  }
  if (lease.predicted?.durationS) predicted.duration_s = intervalOf(lease.predicted.durationS);
  return predicted;
}

function intervalOf({ q05 = Number.NaN, q50 = Number.NaN, q95 = Number.NaN }: WireInterval): Interval {
  return { q05, q50, q95 };
}

function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function amountsOf(profile: ResourceProfile | undefined): Amounts {
  if (profile === undefined) return {};
  const disk = sum(profile.diskReadBytesPerS, profile.diskWriteBytesPerS);
  const net = sum(profile.netRxBytesPerS, profile.netTxBytesPerS);
  return {
    ...(profile.cpuMillicores === undefined ? {} : { cpu: profile.cpuMillicores }),
    ...(profile.vcpuCount === undefined ? {} : { vcpu_count: profile.vcpuCount }),
    ...(profile.memoryBytes === undefined ? {} : { memory: profile.memoryBytes }),
    ...(disk === undefined ? {} : { disk }),
    ...(net === undefined ? {} : { net }),
    ...(profile.instructionsPerS === undefined ? {} : { instructions: profile.instructionsPerS }),
  };
}

function sum(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined && b === undefined ? undefined : (a ?? 0) + (b ?? 0);
}

async function medians(
  client: ForeshadeClient,
  guest: string,
  params: Record<string, ParamValue>,
): Promise<Amounts> {
  const { forecast } = await client.ask(
    client.allocation,
    client.allocation.forecast,
    { tenant: 'demo', workload: 'encode', guest, params },
    { timeoutMs: CALL_TIMEOUT_MS },
  );
  const middle = forecast?.levels.indexOf(0.5) ?? -1;
  const peak = (field: string): number =>
    forecast?.fields.find((row) => camel(row.field ?? '') === field)?.peak[middle] ?? Number.NaN;
  return { cpu: peak('cpuMillicores'), memory: peak('memoryBytes') };
}

/** Sizes within what the actuators can tell apart: the balloon stops within two MiB. */
const BASELINE_TOLERANCE_BYTES = 2 * 1024 * 1024;

async function backAtBaseline(client: ForeshadeClient, guest: string): Promise<boolean> {
  const { entitlement, adoption } = await client.ask(
    client.admin,
    client.admin.getGuest,
    { guest },
    { timeoutMs: CALL_TIMEOUT_MS },
  );
  const baseline = adoption?.baseline;
  return (
    entitlement?.cpuMillicores === baseline?.cpuMillicores &&
    entitlement?.vcpuCount === baseline?.vcpuCount &&
    Math.abs((entitlement?.memoryBytes ?? 0) - (baseline?.memoryBytes ?? 0)) <= BASELINE_TOLERANCE_BYTES
  );
}

export function toParams(params: EncodeParams): Record<string, ParamValue> {
  return {
    input_mib: { kind: { $case: 'number', number: params.input_mib } },
    level: { kind: { $case: 'number', number: params.level } },
    mode: { kind: { $case: 'category', category: params.mode } },
  };
}
