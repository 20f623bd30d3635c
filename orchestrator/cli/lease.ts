import { Command, Option } from 'commander';
import type { Lease } from '../../proto/gen/foreshade/v1/allocation.ts';
import { LEASE_STATES, type LeaseState } from '../core/lease.ts';
import { WIRE_LEASE_STATE } from '../service/enums.ts';
import { decisionDocument, leaseDocument } from './documents.ts';
import { explanation } from './explanation.ts';
import { type Io, printAnswer } from './io.ts';
import { leaseLine, leaseTable, leaseText } from './lease-text.ts';
import { addClientOptions, type ClientOptions, withClient } from './options.ts';
import { parseBytes, parseCount, parseDurationMs, parseTimeMs } from './quantities.ts';

/** Leases asked for at once when listing all: the service's largest page. */
const PAGE_SIZE = 1000;

/** `foreshade lease list|show|renew|release|watch|explain`. */
export function leaseCommand(io: Io): Command {
  const command = new Command('lease').description('See, renew and give back leases').addHelpText(
    'after',
    `
Examples:
  $ foreshade lease list --state ACTIVE --state DEGRADED
  $ foreshade lease renew LEASE --ttl 5m
  $ foreshade lease renew LEASE --memory 2GiB
  $ foreshade lease release LEASE
  $ foreshade lease explain LEASE`,
  );
  for (const child of [list, show, renew, release, watch, explain]) command.addCommand(child(io));
  return command;
}

function sub(name: string, description: string): Command {
  return addClientOptions(new Command(name).description(description));
}

function printLease(io: Io, options: ClientOptions, lease: Lease): void {
  printAnswer(io, options.json, { document: leaseDocument(lease), text: leaseText(lease) });
}

interface ListOptions extends ClientOptions {
  readonly guest?: string;
  readonly tenant?: string;
  readonly state?: readonly LeaseState[];
}

function list(io: Io): Command {
  return sub('list', 'List leases, newest first')
    .option('--guest <guest>', 'only of this guest (UUID or name)')
    .option('--tenant <name>', 'only of this tenant')
    .addOption(new Option('--state <states...>', 'only in these states').choices(LEASE_STATES))
    .action(async (options: ListOptions) => {
      const states = (options.state ?? []).map((state) => WIRE_LEASE_STATE[state]);
      const leases: Lease[] = [];
      await withClient(io, options, async (client) => {
        let pageToken = '';
        do {
          const page = await client.ask(
            client.allocation,
            client.allocation.listLeases,
            { guest: options.guest, tenant: options.tenant, states, pageSize: PAGE_SIZE, pageToken },
            { timeoutMs: options.timeout, signal: io.signal },
          );
          leases.push(...page.leases);
          pageToken = page.nextPageToken ?? '';
        } while (pageToken !== '');
      });
      printAnswer(io, options.json, {
        document: { leases: leases.map(leaseDocument) },
        text: leaseTable(leases),
      });
    });
}

function show(io: Io): Command {
  return sub('show', 'Show one lease')
    .argument('<lease>', 'id of the lease')
    .action(async (leaseId: string, options: ClientOptions) => {
      const lease = await withClient(io, options, (client) =>
        client.ask(
          client.allocation,
          client.allocation.getLease,
          { leaseId },
          {
            timeoutMs: options.timeout,
            signal: io.signal,
          },
        ),
      );
      printLease(io, options, lease);
    });
}

interface RenewOptions {
  readonly ttl?: number;
  readonly cpu?: number;
  readonly memory?: number;
}

function renew(io: Io): Command {
  return sub(
    'renew',
    "Move a lease's expiry to now and its time to live, and enlarge it where its work needs more",
  )
    .argument('<lease>', 'id of the lease')
    .option('--ttl <duration>', "time to live (default: the lease's own)", parseDurationMs)
    .option('--cpu <millicores>', 'what the work needs in all, if more than the lease has', parseCount)
    .option('--memory <size>', 'the same of memory: 512MiB, 1.5GiB', parseBytes)
    .action(async (leaseId: string, options: ClientOptions & RenewOptions) => {
      const { cpu: cpuMillicores, memory: memoryBytes } = options;
      const asks = cpuMillicores !== undefined || memoryBytes !== undefined;
      const lease = await withClient(io, options, (client) =>
        client.ask(
          client.allocation,
          client.allocation.renewLease,
          { leaseId, ttlMs: options.ttl, need: asks ? { cpuMillicores, memoryBytes } : undefined },
          {
            timeoutMs: options.timeout,
            signal: io.signal,
          },
        ),
      );
      printLease(io, options, lease);
    });
}

interface ReleaseOptions extends ClientOptions {
  readonly started?: number;
  readonly finished?: number;
  readonly failed?: boolean;
}

function release(io: Io): Command {
  const time = (text: string): number => parseTimeMs(text, Date.now());
  return sub('release', 'Give a lease back; what it used is learned from')
    .argument('<lease>', 'id of the lease')
    .option('--started <time>', 'when the work really started', time)
    .option('--finished <time>', 'when it really ended (default: now)', time)
    .option('--failed', 'the work failed: its run time teaches nothing')
    .action(async (leaseId: string, options: ReleaseOptions) => {
      const request = {
        leaseId,
        workStartedAtMs: options.started,
        workFinishedAtMs: options.finished,
        workFailed: options.failed ?? false,
      };
      const lease = await withClient(io, options, (client) =>
        client.ask(client.allocation, client.allocation.releaseLease, request, {
          timeoutMs: options.timeout,
          signal: io.signal,
        }),
      );
      printLease(io, options, lease);
    });
}

function watch(io: Io): Command {
  return sub('watch', 'Follow a lease until it has ended; Ctrl-C stops')
    .argument('<lease>', 'id of the lease')
    .action(async (leaseId: string, options: ClientOptions) => {
      const changes: unknown[] = [];
      await withClient(io, options, async (client) => {
        const { allocation } = client;
        for await (const lease of client.follow(allocation, allocation.watchLease, { leaseId }, io.signal)) {
          changes.push(leaseDocument(lease));
          const line = `${leaseLine(lease, Date.now())}\n`;
          if (options.json) io.err(line);
          else io.out(line);
        }
      });
      if (options.json) io.out(`${JSON.stringify({ lease_id: leaseId, changes }, null, 2)}\n`);
    });
}

function explain(io: Io): Command {
  return sub('explain', 'Tell every decision about a lease, oldest first')
    .argument('<lease>', 'id of the lease')
    .action(async (leaseId: string, options: ClientOptions) => {
      const { decisions } = await withClient(io, options, (client) =>
        client.ask(
          client.allocation,
          client.allocation.explainDecision,
          { leaseId },
          {
            timeoutMs: options.timeout,
            signal: io.signal,
          },
        ),
      );
      printAnswer(io, options.json, {
        document: { decisions: decisions.map(decisionDocument) },
        text: explanation(decisions),
      });
    });
}
