import { execFile } from 'node:child_process';

/** Output kept of one command, bytes. The longest is an unpacked kernel: 60 to 80 MB. */
const MAX_BUFFER_BYTES = 256 * 1024 * 1024;

/** Plain messages, and the sbin folders, which a root shell's path does not always hold. */
export const COMMAND_ENV = {
  ...process.env,
  LC_ALL: 'C',
  PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`,
};

/** A command that could not start, timed out or exited non-zero; `stderr` is its own explanation. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly stderr: string;

  constructor(command: string, reason: string, stderr: string) {
    super(`${command}: ${stderr.trim() || reason}`);
    this.stderr = stderr;
  }
}

/**
 * Run a program without a shell and give its standard output.
 * @param timeoutMs after which it is killed; 120,000 (a package download) when absent
 * @throws {CommandError}
 */
export async function runCommand(
  file: string,
  args: readonly string[],
  options: { cwd?: string; timeoutMs?: number; input?: string } = {},
): Promise<string> {
  return (await runCommandBinary(file, args, options)).toString('utf8');
}

/** As {@link runCommand}, for programs that write bytes. */
export function runCommandBinary(
  file: string,
  args: readonly string[],
  options: { cwd?: string; timeoutMs?: number; input?: string | Uint8Array } = {},
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      file,
      [...args],
      {
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
        encoding: 'buffer',
        env: COMMAND_ENV,
        maxBuffer: MAX_BUFFER_BYTES,
        timeout: options.timeoutMs ?? 120_000,
      },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new CommandError([file, ...args].join(' '), error.message, stderr.toString('utf8')));
      },
    );
    child.stdin?.on('error', () => undefined); // a program that ends without reading its input explains itself
    child.stdin?.end(options.input);
  });
}
