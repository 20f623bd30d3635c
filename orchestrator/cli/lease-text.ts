import type { Lease } from '../../proto/gen/foreshade/v1/allocation.ts';
import { leaseState, priorityName } from './documents.ts';
import { paramText } from './params.ts';
import { FIELD_TEXT, sizesText } from './profile-text.ts';
import { localTime, seconds } from './quantities.ts';
import { facts, table } from './table.ts';

/** One lease, everything a person asks about it. */
export function leaseText(lease: Lease): string {
  const params = Object.entries(lease.params).map(([name, value]) => `${name}=${paramText(value)}`);
  const lines = facts([
    ['lease', lease.id],
    ['state', `${leaseState(lease)}: ${lease.reason}`],
    ['guest', `${lease.guestName} (${lease.guest})`],
    [
      'workload',
      `${lease.workload}${lease.tenant ? ` of ${lease.tenant}` : ''}, priority ${priorityName(lease)}`,
    ],
    ['params', params.join(' ') || 'none'],
    ['queue', lease.queue && `place ${lease.queue.position}, about ${seconds(lease.queue.expectedWaitMs)}`],
    ['requested', sizesText(lease.requested)],
    ['granted', sizesText(lease.granted)],
    ['seen in guest', lease.guestSeen && `${lease.guestSeen.vcpusOnline} vCPU online`],
    ['in place', lease.inPlaceAtMs === undefined ? undefined : inPlaceText(lease)],
    ['starts', localTime(lease.startMs)],
    ['expires', lease.releasedAtMs === undefined ? localTime(lease.expiresAtMs) : undefined],
    ['released', lease.releasedAtMs === undefined ? undefined : localTime(lease.releasedAtMs)],
    ['executed', executedText(lease)],
    ['forecast', lease.predicted?.reason],
    ['request id', lease.requestId],
  ]);
  return [lines, predictedText(lease), adjustmentsText(lease)].filter((part) => part !== '').join('\n\n');
}

export function leaseTable(leases: readonly Lease[]): string {
  if (leases.length === 0) return 'No leases.';
  const rows = leases.map((lease) => [
    lease.id ?? '',
    leaseState(lease),
    lease.guestName ?? '',
    lease.workload ?? '',
    sizesText(lease.granted ?? lease.requested),
    localTime(lease.expiresAtMs),
  ]);
  return table(['LEASE', 'STATE', 'GUEST', 'WORKLOAD', 'HOLDS', 'EXPIRES'], rows);
}

/** One change of a watched lease. */
export function leaseLine(lease: Lease, nowMs: number): string {
  return `${localTime(nowMs)}  ${leaseState(lease).padEnd(9)}  ${sizesText(lease.granted)}  ${lease.reason}`;
}

function inPlaceText({ inPlaceAtMs = 0, requestedAtMs = 0 }: Lease): string {
  return `${localTime(inPlaceAtMs)} (${seconds(inPlaceAtMs - requestedAtMs)} after the request)`;
}

function executedText({ executedInstructions, executedByClass }: Lease): string | undefined {
  if (executedInstructions === undefined) return undefined;
  const total = `${(executedInstructions / 1e6).toLocaleString('en-US', { maximumFractionDigits: 1 })} million instructions`;
  const shares = Object.entries(executedByClass)
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => `${name} ${Math.round((100 * count) / Math.max(1, executedInstructions))} %`);
  return shares.length === 0 ? total : `${total}: ${shares.join(', ')}`;
}

function predictedText({ predicted }: Lease): string {
  const rows = Object.entries(predicted?.fields ?? {}).map(([field, interval]) => {
    const { label, show } = FIELD_TEXT[field] ?? { label: field, show: String };
    return [label, show(interval.q05 ?? 0), show(interval.q50 ?? 0), show(interval.q95 ?? 0)];
  });
  const duration = predicted?.durationS;
  if (duration) {
    const show = (value = 0): string => seconds(value * 1000);
    rows.push(['run time', show(duration.q05), show(duration.q50), show(duration.q95)]);
  }
  return rows.length === 0 ? '' : table(['PREDICTED', '5 %', '50 %', '95 %'], rows, { right: [1, 2, 3] });
}

function adjustmentsText({ adjustments }: Lease): string {
  if (adjustments.length === 0) return '';
  const rows = adjustments.map(({ atMs, resource = '', from = 0, to = 0, reason = '' }) => {
    const show =
      { cpu: FIELD_TEXT.cpu_millicores, memory: FIELD_TEXT.memory_bytes }[resource] ??
      FIELD_TEXT.net_rx_bytes_per_s;
    return [localTime(atMs), resource, show?.show(from) ?? '', show?.show(to) ?? '', reason];
  });
  return table(['ADJUSTED', 'RESOURCE', 'FROM', 'TO', 'WHY'], rows, { right: [2, 3] });
}
