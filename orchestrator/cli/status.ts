import { Command } from 'commander';
import type {
  GuestGroup,
  RecordStatus,
  Scaling,
  Status,
  Tenant,
} from '../../proto/gen/foreshade/v1/admin.ts';
import type { ResourceProfile } from '../../proto/gen/foreshade/v1/resources.ts';
import { modeName, statusDocument } from './documents.ts';
import { type Io, printAnswer } from './io.ts';
import { addClientOptions, type ClientOptions, withClient } from './options.ts';
import { cores, size } from './quantities.ts';
import { facts, table } from './table.ts';

/** `foreshade status`: the host in one look. */
export function statusCommand(io: Io): Command {
  const command = new Command('status').description('Show the host: mode, room, guests and leases');
  return addClientOptions(command).action(async (options: ClientOptions) => {
    const status = await withClient(io, options, (client) =>
      client.ask(client.admin, client.admin.getStatus, {}, { timeoutMs: options.timeout, signal: io.signal }),
    );
    printAnswer(io, options.json, { document: statusDocument(status), text: statusText(status) });
  });
}

function statusText(status: Status): string {
  const leases = Object.entries(status.leases).filter(([, count]) => count > 0);
  const host = facts([
    ['host', `${status.host} (Foreshade ${status.version})`],
    ['mode', modeName(status.mode)],
    ['hypervisor', status.hypervisorAvailable ? 'available' : 'NOT AVAILABLE'],
    ['draining', status.draining ? 'yes: no new work is taken' : undefined],
    ['total', room(status.hostTotal)],
    ['capacity', room(status.capacity)],
    ['committed', room(status.committed)],
    ['guests', `${status.guests ?? 0}, ${status.adopted ?? 0} adopted`],
    ['record', recordText(status.record)],
    ['scaling', scalingText(status.scaling)],
    ['leases', leases.length === 0 ? 'none' : leases.map(([state, count]) => `${count} ${state}`).join(', ')],
  ]);
  const groups = status.scaling?.groups ?? [];
  const tables = [
    ...(status.tenants.length === 0 ? [] : [tenantsTable(status.tenants)]),
    ...(groups.length === 0 ? [] : [groupsTable(groups)]),
  ];
  return [host, ...tables].join('\n\n');
}

/** Absent when nothing was ever done or asked. */
function scalingText(scaling: Scaling | undefined): string | undefined {
  if (scaling === undefined) return undefined;
  const { started = 0, startsFailed = 0, stopped = 0, asked = 0, declined = 0 } = scaling;
  const said = [
    [started, 'guests started'],
    [startsFailed, 'starts FAILED'],
    [stopped, 'stopped'],
    [asked, 'calls for room'],
    [declined, 'of them declined'],
  ] as const;
  const parts = said.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  return parts.length === 0 ? undefined : `${parts.join(', ')} since the start`;
}

function groupsTable(groups: readonly GuestGroup[]): string {
  const rows = groups.map(({ name = '', wanted = 0, ready = 0, coming = 0, standBy = 0, away = 0 }) => [
    name,
    ...[wanted, ready, coming, standBy, away].map(String),
  ]);
  return table(['group', 'wanted', 'ready', 'coming', 'stand by', 'away'], rows, { right: [1, 2, 3, 4, 5] });
}

function tenantsTable(tenants: readonly Tenant[]): string {
  const rows = tenants.map((tenant) => [
    tenant.name || '(none)',
    String(tenant.weight),
    ((tenant.share ?? 0) * 100).toFixed(1),
    room(tenant.held),
    room(tenant.guaranteed),
    room(tenant.quota),
    `${tenant.leases ?? 0}`,
    `${tenant.queued ?? 0}`,
  ]);
  const head = ['tenant', 'weight', 'share %', 'held', 'guaranteed', 'quota', 'leases', 'queued'];
  return table(head, rows, { right: [1, 2, 6, 7] });
}

/** One word while all is well; otherwise why it is not, and what was lost. */
function recordText(record: RecordStatus | undefined): string | undefined {
  if (record === undefined) return undefined;
  const { state = '', reason = '', rowsWritten = 0, rowsDropped = 0, queueBytes = 0 } = record;
  const rows = `${rowsWritten.toLocaleString('en-US')} samples written since the start`;
  const waiting = state === 'writing' ? undefined : `${size(queueBytes)} wait`;
  const dropped = rowsDropped > 0 ? `${rowsDropped.toLocaleString('en-US')} DROPPED` : undefined;
  const why = reason === '' ? state : `${state.toUpperCase()} (${reason})`;
  return [why, rows, waiting, dropped].filter((part) => part !== undefined).join(', ');
}

function room(profile: ResourceProfile | undefined): string {
  return `${cores(profile?.cpuMillicores)}, ${size(profile?.memoryBytes)}`;
}
