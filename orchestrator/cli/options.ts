import { type Command, Option } from 'commander';
import { ForeshadeClient, TIMEOUT_MS_DEFAULT } from '../../integrations/client-node/client.ts';
import { loadConfig } from '../config.ts';
import type { Io } from './io.ts';
import { parseDurationMs } from './quantities.ts';

/** Socket of the service when `--socket` is absent; before the configuration's. */
export const SOCKET_VARIABLE = 'FORESHADE_SOCKET';

/** How the service is reached. */
export interface ServiceOptions {
  readonly socket?: string;
  readonly timeout: number;
}

/** Options of every command that tells the service's answer. */
export interface ClientOptions extends ServiceOptions {
  readonly json?: boolean;
}

export function addServiceOptions(command: Command): Command {
  return command
    .option(
      '--socket <path>',
      `the service's unix socket (default: $${SOCKET_VARIABLE}, then the configuration's)`,
    )
    .addOption(
      new Option('--timeout <duration>', 'longest wait for the answer')
        .argParser(parseDurationMs)
        .default(TIMEOUT_MS_DEFAULT, '30s'),
    );
}

export function addClientOptions(command: Command): Command {
  return addServiceOptions(command).option('--json', 'print exactly one JSON document on stdout');
}

/** `--track`. @param of what it decides */
export function trackOption(of: string): Option {
  return new Option('--track <track>', `${of}: by seconds for minutes, or by five minutes for days`)
    .choices(['short', 'long'])
    .default('short');
}

/** Run with a client on the chosen socket, and close it whatever happens. */
export async function withClient<T>(
  io: Io,
  options: ServiceOptions,
  run: (client: ForeshadeClient) => Promise<T>,
): Promise<T> {
  const client = new ForeshadeClient(socketOf(io, options.socket));
  try {
    return await run(client);
  } finally {
    client.close();
  }
}

/** @throws {ConfigError} when it must be read from a configuration that is wrong */
export function socketOf(io: Io, option: string | undefined): string {
  return option ?? io.env[SOCKET_VARIABLE] ?? loadConfig(undefined).service.socket;
}
