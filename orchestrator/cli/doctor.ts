import { Command } from 'commander';
import { type Check, runChecks } from './checks.ts';
import { type Io, printAnswer, Unsuccessful } from './io.ts';
import { SOCKET_VARIABLE } from './options.ts';

/** `foreshade doctor`: what this host lacks, and what to do about it. */
export function doctorCommand(io: Io): Command {
  return new Command('doctor')
    .description('Check what Foreshade needs on this host, and say what to do; changes nothing')
    .option('--config <file>', 'TOML file to check with')
    .option('--socket <path>', "the service's unix socket")
    .option('--json', 'print exactly one JSON document on stdout')
    .action(async (options: { config?: string; socket?: string; json?: boolean }) => {
      const checks = await runChecks({
        configFile: options.config,
        socket: options.socket ?? io.env[SOCKET_VARIABLE],
        path: io.env.PATH ?? '',
      });
      printAnswer(io, options.json, { document: { checks }, text: checksText(checks) });
      if (checks.some(({ level }) => level === 'fail'))
        throw new Unsuccessful('Something that is needed is missing.');
    });
}

function checksText(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks
    .map(({ name, level, found, advice }) => {
      const line = `${level.padEnd(4)}  ${name.padEnd(width)}  ${found}`;
      return advice === undefined ? line : `${line}\n${' '.repeat(width + 8)}${advice}`;
    })
    .join('\n');
}
