import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import type { Io } from './io.ts';

interface Flags {
  readonly json?: boolean;
  readonly ablate?: boolean;
  readonly stateDir?: string;
}

/** `foreshade demo`: the whole way of a request on real guests, and two other ways of allocating beside it. */
export function demoCommand(io: Io): Command {
  return new Command('demo')
    .description(
      'Boot a lab of tiny real guests and show the whole way of a request; ends by itself within six minutes',
    )
    .option('--json', 'print one JSON document')
    .option('--ablate', 'forecast a constant instead: shows what the forecast is worth')
    .option(
      '--state-dir <folder>',
      'keep the lab and the logs here (default: a temporary folder, removed at the end)',
    )
    .action(async (flags: Flags) => {
      const { runDemo } = await import('../demo/demo.ts');
      const { logFileIn } = await import('../demo/stage.ts');
      const stateDir = flags.stateDir ?? mkdtempSync(join(tmpdir(), 'foreshade-demo-'));
      try {
        const tell = (text: string): void => (flags.json ? io.err : io.out)(`${text}\n`);
        const report = await runDemo({ stateDir, ablate: flags.ablate ?? false, tell });
        tell(
          flags.stateDir === undefined
            ? 'The lab and its logs are gone; --state-dir keeps them.'
            : `The service's log: ${logFileIn(stateDir)}`,
        );
        if (flags.json) io.out(`${JSON.stringify(report)}\n`);
      } finally {
        if (flags.stateDir === undefined) rmSync(stateDir, { recursive: true, force: true });
      }
    });
}
