import { Argument, Command, Option } from 'commander';
import type { ForeshadeClient } from '../../integrations/client-node/client.ts';
import type { Guest, Sampling } from '../../proto/gen/foreshade/v1/admin.ts';
import { MODES, type Mode } from '../core/guest.ts';
import { WIRE_MODE } from '../service/enums.ts';
import { guestDocument, modeName } from './documents.ts';
import { guestWatchCommand } from './guest-watch.ts';
import { type Io, printAnswer } from './io.ts';
import { addClientOptions, type ClientOptions, withClient } from './options.ts';
import { sizesText } from './profile-text.ts';
import { localTime, parseDurationMs, seconds } from './quantities.ts';
import { facts, table } from './table.ts';

interface SamplingOptions {
  readonly full?: number;
  readonly fast?: number;
  readonly instructions?: number;
}

type Ask = (client: ForeshadeClient, wait: { timeoutMs: number; signal: AbortSignal }) => Promise<Guest>;

/** `foreshade guest list|show|watch|adopt|release|restore|mode|sampling`. */
export function guestCommand(io: Io): Command {
  const answerOne = async (options: ClientOptions, ask: Ask): Promise<void> => {
    const wait = { timeoutMs: options.timeout, signal: io.signal };
    const guest = await withClient(io, options, (client) => ask(client, wait));
    printAnswer(io, options.json, { document: guestDocument(guest), text: guestText(guest) });
  };
  const sub = (name: string, description: string): Command =>
    addClientOptions(new Command(name).description(description));
  const guestArgument = new Argument('<guest>', 'UUID or name');

  const list = sub('list', 'List the guests of this host').action(async (options: ClientOptions) => {
    const { guests } = await withClient(io, options, (client) =>
      client.ask(
        client.admin,
        client.admin.listGuests,
        {},
        { timeoutMs: options.timeout, signal: io.signal },
      ),
    );
    printAnswer(io, options.json, {
      document: { guests: guests.map(guestDocument) },
      text: guestTable(guests),
    });
  });

  const show = sub('show', 'Show one guest: sizes, abilities, baseline and leases')
    .addArgument(guestArgument)
    .action((guest: string, options: ClientOptions) =>
      answerOne(options, (client, wait) => client.ask(client.admin, client.admin.getGuest, { guest }, wait)),
    );

  const adopt = sub('adopt', 'Record the sizes of a guest as its baseline and manage it from now on')
    .addArgument(guestArgument)
    .addOption(new Option('--mode <mode>', "what may be done (default: the host's)").choices(MODES))
    .action((guest: string, options: ClientOptions & { mode?: Mode }) => {
      const mode = options.mode && WIRE_MODE[options.mode];
      return answerOne(options, (client, wait) =>
        client.ask(client.admin, client.admin.adoptGuest, { guest, mode }, wait),
      );
    });

  const release = sub('release', "End a guest's leases, put its baseline back and stop managing it")
    .addArgument(guestArgument)
    .action((guest: string, options: ClientOptions) =>
      answerOne(options, (client, wait) =>
        client.ask(client.admin, client.admin.releaseGuest, { guest }, wait),
      ),
    );

  const restore = sub('restore', 'Put the baseline back; the guest stays adopted')
    .addArgument(guestArgument)
    .action((guest: string, options: ClientOptions) =>
      answerOne(options, (client, wait) =>
        client.ask(client.admin, client.admin.restoreGuest, { guest }, wait),
      ),
    );

  const mode = sub('mode', 'Set what may be done to a guest')
    .addArgument(guestArgument)
    .addArgument(new Argument('<mode>', 'shadow: record; advise: recommend; enforce: act').choices(MODES))
    .action((guest: string, mode: Mode, options: ClientOptions) =>
      answerOne(options, (client, wait) =>
        client.ask(client.admin, client.admin.setGuestMode, { guest, mode: WIRE_MODE[mode] }, wait),
      ),
    );

  const sampling = sub(
    'sampling',
    'Set how finely a guest is sampled; what is left out is as the host has it',
  )
    .addArgument(guestArgument)
    .option('--full <duration>', 'between complete samples: 200ms to 10m', parseDurationMs)
    .option(
      '--fast <duration>',
      "between the host's own readings under a lease: 50ms to 60s",
      parseDurationMs,
    )
    .option('--instructions <count>', 'executed instructions between samples on that axis; 0: none', Number)
    .action((guest: string, options: ClientOptions & SamplingOptions) => {
      const { full: fullPeriodMs, fast: fastPeriodMs, instructions: instructionStep } = options;
      const sampling = { fullPeriodMs, fastPeriodMs, instructionStep };
      return answerOne(options, (client, wait) =>
        client.ask(client.admin, client.admin.setGuestSampling, { guest, sampling }, wait),
      );
    });

  const command = new Command('guest').description('See and manage guests').addHelpText(
    'after',
    `
Examples:
  $ foreshade guest list
  $ foreshade guest adopt web-1 --mode advise
  $ foreshade guest watch web-1
  $ foreshade guest mode web-1 enforce
  $ foreshade guest sampling web-1 --full 5s --instructions 1e6
  $ foreshade guest release web-1`,
  );
  for (const child of [list, show, guestWatchCommand(io), adopt, release, restore, mode, sampling])
    command.addCommand(child);
  return command;
}

function guestTable(guests: readonly Guest[]): string {
  if (guests.length === 0) return 'No guests on this host.';
  const rows = guests.map((guest) => [
    guest.name ?? '',
    guest.state ?? '',
    guest.adoption ? modeName(guest.adoption.mode) : 'not adopted',
    sizesText(guest.entitlement),
    sizesText(guest.usage),
    String(guest.leases.length),
  ]);
  return table(['NAME', 'STATE', 'MODE', 'ENTITLED TO', 'USES', 'LEASES'], rows);
}

function guestText(guest: Guest): string {
  const { adoption } = guest;
  return facts([
    ['guest', `${guest.name} (${guest.id})`],
    ['state', guest.state],
    ['mode', adoption ? modeName(adoption.mode) : 'not adopted'],
    ['entitled to', sizesText(guest.entitlement)],
    ['ceiling', sizesText(guest.ceiling)],
    ['uses', guest.usage && `${sizesText(guest.usage)} at ${localTime(guest.usageAtMs)}`],
    ['baseline', adoption && `${sizesText(adoption.baseline)}, since ${localTime(adoption.adoptedAtMs)}`],
    [
      'relinquished',
      adoption?.relinquished.length
        ? `${adoption.relinquished.join(', ')} (changed by somebody else)`
        : undefined,
    ],
    ['sampling', samplingText(adoption?.sampling)],
    ['lead times', leadTimesText(adoption?.leadTimesMs)],
    ['can', guest.capabilities.join(', ') || 'nothing'],
    ['leases', guest.leases.join(', ') || 'none'],
  ]);
}

function leadTimesText(leadTimesMs: Readonly<Record<string, number>> = {}): string | undefined {
  const parts = Object.entries(leadTimesMs).map(([resource, ms]) => `${resource} ${seconds(ms)}`);
  return parts.join(', ') || undefined;
}

function samplingText(sampling: Sampling | undefined): string | undefined {
  if (sampling === undefined) return undefined;
  const { fullPeriodMs, fastPeriodMs, instructionStep } = sampling;
  const parts = [
    fullPeriodMs === undefined ? undefined : `complete each ${seconds(fullPeriodMs)}`,
    fastPeriodMs === undefined ? undefined : `fast each ${seconds(fastPeriodMs)}`,
    instructionStep ? `each ${instructionStep.toLocaleString('en-US')} instructions` : undefined,
  ].filter((part) => part !== undefined);
  return parts.join(', ') || "the host's";
}
