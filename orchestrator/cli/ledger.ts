import { resolve } from 'node:path';
import { Command } from 'commander';
import { DEFAULT_CONFIG_PATH, loadConfig } from '../config.ts';
import { backupLedger, type LedgerFacts, ledgerFacts, restoreLedger } from '../ledger/backup.ts';
import { ledgerFolder } from '../ledger/lmdb-file.ts';
import { StateLock } from '../state-lock.ts';
import { type Io, printAnswer } from './io.ts';
import { facts } from './table.ts';

interface LedgerOptions {
  readonly config?: string;
  readonly json?: boolean;
}

/** `foreshade ledger show|backup|restore`: on the state folder, without the service. */
export function ledgerCommand(io: Io): Command {
  const command = new Command('ledger')
    .description('See, copy and put back the leases, guests and outcomes that are on record')
    .addHelpText(
      'after',
      `
A backup is taken while the service runs. To put one back, stop the service: when it starts again, guests are brought to what
the restored leases explain, and leases whose time has passed expire.

Examples:
  $ foreshade ledger backup ./ledger-before-upgrade
  $ foreshade ledger restore ./ledger-before-upgrade`,
    );
  for (const make of [show, backup, restore]) command.addCommand(make(io));
  return command;
}

function sub(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option(
      '--config <file>',
      `the service's TOML file (default: ${DEFAULT_CONFIG_PATH}, or defaults without one)`,
    )
    .option('--json', 'print exactly one JSON document on stdout');
}

function folderOf({ config }: LedgerOptions): string {
  return ledgerFolder(loadConfig(config).stateDir);
}

function factsText(title: string, folder: string, { version, entries }: LedgerFacts): string {
  return facts([
    [title, folder],
    ['version', String(version)],
    ...Object.entries(entries).map(([kind, count]): [string, string] => [`${kind}s`, String(count)]),
  ]);
}

function show(io: Io): Command {
  return sub('show', 'How much is on record, and in which version').action(async (options: LedgerOptions) => {
    const ledger = folderOf(options);
    const held = await ledgerFacts(ledger);
    printAnswer(io, options.json, { document: { ledger, ...held }, text: factsText('ledger', ledger, held) });
  });
}

function backup(io: Io): Command {
  return sub('backup', 'Copy the ledger into a new folder; the service may go on writing')
    .argument('<folder>', 'a new or an empty folder')
    .action(async (folder: string, options: LedgerOptions) => {
      const target = resolve(folder);
      const held = await backupLedger(folderOf(options), target);
      printAnswer(io, options.json, {
        document: { backup: target, ...held },
        text: factsText('backup', target, held),
      });
    });
}

function restore(io: Io): Command {
  return sub('restore', 'Put a backup in the place of the ledger, whose service must be stopped')
    .argument('<folder>', 'what `ledger backup` made')
    .action(async (folder: string, options: LedgerOptions) => {
      const { stateDir } = loadConfig(options.config);
      const ledger = ledgerFolder(stateDir);
      const lock = StateLock.take(stateDir);
      try {
        const restored = await restoreLedger(resolve(folder), ledger, Date.now());
        const kept =
          restored.replaced === undefined ? '' : `\nWhat was there is kept in ${restored.replaced}`;
        printAnswer(io, options.json, {
          document: { ledger, ...restored },
          text: factsText('ledger', ledger, restored) + kept,
        });
      } finally {
        lock.release();
      }
    });
}
