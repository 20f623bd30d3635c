import { Command, Option } from 'commander';
import type {
  HostReport,
  KnownHost,
  RankedHost,
  RankHostsResponse,
} from '../../proto/gen/foreshade/v1/placement.ts';
import { HostVerdict } from '../../proto/gen/foreshade/v1/placement.ts';
import type { ParamValue, ResourceProfile } from '../../proto/gen/foreshade/v1/resources.ts';
import { tailOf } from '../core/joint-tail.ts';
import { PLACEMENT_GOALS, type PlacementGoal } from '../core/rank-hosts.ts';
import type { Priority } from '../core/request.ts';
import { WIRE_GOAL, WIRE_PRIORITY } from '../service/enums.ts';
import { addRequestOptions } from './allocate.ts';
import { knownHostDocument, rankingDocument } from './host-documents.ts';
import { type Io, printAnswer } from './io.ts';
import { addClientOptions, type ClientOptions, withClient } from './options.ts';
import { cores, parseBytes, parseCores, seconds, size } from './quantities.ts';
import { facts, table } from './table.ts';

interface RankOptions extends ClientOptions {
  readonly cpu: number;
  readonly memory: number;
  readonly workload?: string;
  readonly param?: Readonly<Record<string, ParamValue>>;
  readonly priority: Priority;
  readonly tenant?: string;
  readonly duration?: number;
  readonly goal: PlacementGoal;
}

/** `foreshade host`: the hosts that report, and which of them a new guest should go to. */
export function hostCommand(io: Io): Command {
  return new Command('host')
    .description('See the hosts that report, and rank them for a new guest')
    .addCommand(listCommand(io))
    .addCommand(rankCommand(io));
}

function listCommand(io: Io): Command {
  const command = new Command('list').description('List the hosts that have reported of late');
  return addClientOptions(command).action(async (options: ClientOptions) => {
    const { hosts } = await withClient(io, options, (client) =>
      client.ask(
        client.placement,
        client.placement.listHosts,
        {},
        { timeoutMs: options.timeout, signal: io.signal },
      ),
    );
    const nowMs = Date.now();
    printAnswer(io, options.json, {
      document: { hosts: hosts.map(knownHostDocument) },
      text: hosts.length === 0 ? 'no host has reported' : hostTable(hosts, nowMs),
    });
  });
}

function rankCommand(io: Io): Command {
  const command = addRequestOptions(
    new Command('rank')
      .description('Rank hosts for a guest that is to be placed; changes nothing')
      .argument('[hosts...]', 'candidates by name (absent: every host that reports)'),
  )
    .requiredOption('--cpu <cores>', 'the most the guest may use: 4, 1.5', parseCores)
    .requiredOption('--memory <size>', 'the most the guest may use: 8GiB', parseBytes)
    .option('--workload <name>', 'what kind of work it is for (absent: it counts with all it may use)')
    .addOption(
      new Option('--goal <goal>', 'prefer the host with the most left, or the fullest that holds it')
        .choices(PLACEMENT_GOALS)
        .default('spread'),
    );
  return addClientOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  $ foreshade host rank --cpu 4 --memory 8GiB
  $ foreshade host rank --cpu 4 --memory 8GiB --workload encode --param input_mib=64 --tenant acme node-1 node-2`,
    )
    .action(async (hosts: string[], options: RankOptions) => {
      const request = {
        hosts,
        tenant: options.tenant,
        workload: options.workload,
        params: { ...options.param },
        priority: WIRE_PRIORITY[options.priority],
        durationMs: options.duration,
        ceiling: ceilingOf(options),
        tenantGuests: {},
        guests: {},
        goal: WIRE_GOAL[options.goal],
      };
      const answer = await withClient(io, options, (client) =>
        client.ask(client.placement, client.placement.rankHosts, request, {
          timeoutMs: options.timeout,
          signal: io.signal,
        }),
      );
      printAnswer(io, options.json, { document: rankingDocument(answer), text: rankingText(answer) });
    });
}

function ceilingOf({ cpu, memory }: RankOptions): ResourceProfile {
  return {
    cpuMillicores: cpu,
    memoryBytes: memory,
    vcpuCount: undefined,
    diskReadBytesPerS: undefined,
    diskWriteBytesPerS: undefined,
    netRxBytesPerS: undefined,
    netTxBytesPerS: undefined,
    instructionsPerS: undefined,
  };
}

function hostTable(hosts: readonly KnownHost[], nowMs: number): string {
  const rows = hosts.map(({ report, reportedAtMs = nowMs, silent }) => [
    report?.host ?? '',
    silent ? 'SILENT' : report?.draining ? 'draining' : 'reports',
    seconds(Math.max(0, nowMs - reportedAtMs)),
    String(report?.guests ?? 0),
    `${cores(tailIn(report, 'cpu'))} of ${cores(report?.physical?.cpuMillicores)}`,
    `${size(tailIn(report, 'memory'))} of ${size(report?.physical?.memoryBytes)}`,
    `${cores(report?.committed?.cpuMillicores)}, ${size(report?.committed?.memoryBytes)}`,
  ]);
  const head = ['HOST', 'STATE', 'SINCE', 'GUESTS', 'CPU MAY REACH', 'MEMORY MAY REACH', 'PROMISED'];
  return table(head, rows, { right: [2, 3] });
}

function tailIn(report: HostReport | undefined, resource: 'cpu' | 'memory'): number {
  const { mean = 0, rise = 0, riseSquares = 0, size = 0, widest = 0 } = report?.[resource] ?? {};
  return tailOf({ mean, rise, riseSquares, size, widest });
}

function rankingText({ hosts, demand }: RankHostsResponse): string {
  const head = facts([
    ['expected', `${cores(demand?.mean?.cpuMillicores)}, ${size(demand?.mean?.memoryBytes)}`],
    ['promised', `${cores(demand?.peak?.cpuMillicores)}, ${size(demand?.peak?.memoryBytes)}`],
    ['from', demand?.reason],
  ]);
  if (hosts.length === 0) return `${head}\n\nno host reports`;
  const rows = hosts.map((host) => [
    host.host ?? '',
    isVeto(host) ? 'VETO' : (host.score ?? 0).toFixed(3),
    host.reasons.join('; '),
  ]);
  return `${head}\n\n${table(['HOST', 'SCORE', 'WHY'], rows, { right: [1] })}`;
}

function isVeto({ verdict }: RankedHost): boolean {
  return verdict === HostVerdict.HOST_VERDICT_VETO;
}
