import { Command } from 'commander';
import { DEFAULT_CONFIG_PATH, defaultConfigText, loadConfig } from '../config.ts';
import { snakeCase } from '../core/shadow.ts';
import { type Io, printAnswer } from './io.ts';

/** `foreshade config check|print|default`: no service is needed. */
export function configCommand(io: Io): Command {
  const check = new Command('check')
    .description('Read a configuration and report everything that is wrong with it')
    .argument('[file]', `TOML file (default: ${DEFAULT_CONFIG_PATH})`)
    .option('--json', 'print exactly one JSON document on stdout')
    .action((file: string | undefined, options: { json?: boolean }) => {
      loadConfig(file);
      const origin = file ?? DEFAULT_CONFIG_PATH;
      printAnswer(io, options.json, {
        document: { file: origin, problems: [] },
        text: `${origin}: no problems.`,
      });
    });
  const print = new Command('print')
    .description('Print the whole configuration as the service would use it, as JSON')
    .argument('[file]', `TOML file (default: ${DEFAULT_CONFIG_PATH})`)
    .option('--json', 'the same: it is always one JSON document')
    .action((file: string | undefined) => {
      io.out(`${JSON.stringify(snakeKeys(loadConfig(file)), null, 2)}\n`);
    });
  const defaults = new Command('default')
    .description('Print a configuration file with every key at its default, explained')
    .action(() => io.out(defaultConfigText()));
  const command = new Command('config').description('Check and print the configuration').addHelpText(
    'after',
    `
Examples:
  $ foreshade config default > /etc/foreshade/foreshade.toml
  $ foreshade config check ./foreshade.toml`,
  );
  for (const child of [check, print, defaults]) command.addCommand(child);
  return command;
}

function snakeKeys(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, child]) => [snakeCase(key), snakeKeys(child)]));
}
