import { Command } from 'commander';
import { pino } from 'pino';
import { DEFAULT_CONFIG_PATH, loadConfig } from '../config.ts';
import type { Io } from './io.ts';

/** Standard error: stdout is for results. */
const LOG_FD = 2;

/** `foreshade serve`: run the service until SIGTERM or Ctrl-C, then drain it; SIGHUP has it read its configuration again. */
export function serveCommand(io: Io): Command {
  return new Command('serve')
    .description(
      'Run the service until SIGTERM or Ctrl-C; guests keep what they have. SIGHUP: read the configuration again',
    )
    .option('--config <file>', `TOML file (default: ${DEFAULT_CONFIG_PATH}, or defaults without one)`)
    .addHelpText(
      'after',
      `
Examples:
  $ foreshade serve
  $ foreshade serve --config ./foreshade.toml`,
    )
    .action(async (options: { config?: string }) => {
      const config = loadConfig(options.config);
      const logger = pino({ level: config.log.level }, pino.destination({ fd: LOG_FD, sync: true }));
      const { serve } = await import('../main.ts');
      const service = await serve(config, { logger });
      io.onSignal?.('SIGHUP', () => {
        try {
          const next = loadConfig(options.config);
          const changes = service.reload(next);
          logger.level = next.log.level;
          logger.info({ ...changes }, 'the configuration was read again');
        } catch (error) {
          logger.error({ err: error }, 'the configuration stays as it was');
        }
      });
      await aborted(io.signal);
      await service.stop();
    });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
