import type { Io } from '../orchestrator/cli/io.ts';
import { runCli } from '../orchestrator/cli/program.ts';

/** What one command line gave. */
export interface CliRun {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Run a command line in this process with captured streams. @param more what of its surroundings matters */
export async function runCaptured(args: readonly string[], more: Partial<Io> = {}): Promise<CliRun> {
  const text = { out: '', err: '' };
  const io: Io = {
    env: {},
    signal: new AbortController().signal,
    ...more,
    out: (part) => {
      text.out += part;
    },
    err: (part) => {
      text.err += part;
      more.err?.(part);
    },
  };
  return { code: await runCli(args, io), ...text };
}
