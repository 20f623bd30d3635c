import { randomUUID } from 'node:crypto';
import { Command, Option } from 'commander';
import type { ParamValue } from '../../proto/gen/foreshade/v1/resources.ts';
import { PRIORITIES, type Priority } from '../core/request.ts';
import { WIRE_PRIORITY } from '../service/enums.ts';
import { leaseDocument } from './documents.ts';
import { type Io, printAnswer } from './io.ts';
import { leaseText } from './lease-text.ts';
import { addClientOptions, type ClientOptions, withClient } from './options.ts';
import { collectParam } from './params.ts';
import { parseDurationMs, parseTimeMs } from './quantities.ts';

/** What `addAllocationOptions` reads. */
export interface AllocationOptions {
  readonly workload: string;
  readonly param?: Readonly<Record<string, ParamValue>>;
  readonly priority: Priority;
  readonly tenant?: string;
  readonly ttl?: number;
  readonly start?: number;
  readonly latestStart?: number;
  readonly duration?: number;
  readonly queue: boolean;
  readonly requestId?: string;
}

/** What is asked of a guest, shared by `allocate` and `forecast`. */
export function addWorkOptions(command: Command): Command {
  return addRequestOptions(command.argument('<guest>', 'UUID or name'));
}

/** What a request is like, whichever guest it is for. */
export function addRequestOptions(command: Command): Command {
  return command
    .option(
      '--param <name=value>',
      'a parameter of the work; repeatable. Typed: name:size=64MiB, name:text=…, name:time=…, name:category=…',
      collectParam,
    )
    .addOption(
      new Option('--priority <priority>', 'how sure the allocation is to be')
        .choices(PRIORITIES)
        .default('normal'),
    )
    .option('--tenant <name>', 'who asks')
    .option('--duration <duration>', 'your own estimate of the run time', parseDurationMs);
}

/** What is asked for, shared by `allocate` and `run`. */
export function addAllocationOptions(command: Command): Command {
  return addWorkOptions(command)
    .requiredOption('--workload <name>', 'what kind of work: requests of one workload learn from each other')
    .option(
      '--ttl <duration>',
      "time to live after the start; renew to keep it (default: the service's, 60s)",
      parseDurationMs,
    )
    .option('--start <time>', 'when the work starts: ISO 8601, or +30s from now (default: now)', (text) =>
      parseTimeMs(text, Date.now()),
    )
    .option(
      '--latest-start <time>',
      'give up when it still waits for room then: ISO 8601, or +5m from now',
      (text) => parseTimeMs(text, Date.now()),
    )
    .option('--no-queue', 'fail when there is no room now')
    .option('--request-id <id>', 'key for a safe repeat (default: a new one)');
}

/** `foreshade allocate`: put resources in place before work starts. */
export function allocateCommand(io: Io): Command {
  const command = addAllocationOptions(
    new Command('allocate').description('Put resources in place on a guest before its work starts'),
  ).option('--validate-only', 'do everything but change anything');
  return addClientOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  $ foreshade allocate web-1 --workload encode --param input_mib=64 --param level=9 --param mode=fast
  $ foreshade allocate db-1 --workload query --param rows=2e6 --priority high --ttl 5m
  $ foreshade allocate db-1 --workload backup --start 2026-01-31T18:00:00Z --param dump:size=12GiB
  $ foreshade allocate web-1 --workload encode --param input_mib=64 --validate-only --json`,
    )
    .action(
      async (guest: string, options: AllocationOptions & ClientOptions & { validateOnly?: boolean }) => {
        const request = { ...allocationRequest(guest, options), validateOnly: options.validateOnly ?? false };
        const lease = await withClient(io, options, (client) =>
          client.ask(client.allocation, client.allocation.allocate, request, {
            timeoutMs: options.timeout,
            signal: io.signal,
          }),
        );
        printAnswer(io, options.json, { document: leaseDocument(lease), text: leaseText(lease) });
      },
    );
}

export function allocationRequest(guest: string, options: AllocationOptions) {
  return {
    requestId: options.requestId ?? randomUUID(),
    tenant: options.tenant,
    workload: options.workload,
    guest,
    params: { ...options.param },
    priority: WIRE_PRIORITY[options.priority],
    startMs: options.start,
    latestStartMs: options.latestStart,
    durationMs: options.duration,
    ttlMs: options.ttl,
    noQueue: !options.queue,
  };
}
