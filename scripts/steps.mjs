import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's folder. */
export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** Everything the scripts tell goes to stderr: stdout belongs to what they run. */
export function say(line) {
  process.stderr.write(`foreshade: ${line}\n`);
}

/** Announce a step, do it, and say how long it took. */
export function step(title, work) {
  say(`${title} ...`);
  const begun = Date.now();
  const result = work();
  const tell = (value) => {
    say(`${title.split(':')[0]}: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
    return value;
  };
  return result instanceof Promise ? result.then(tell) : tell(result);
}

/** Run a command with its output on stderr. @returns its exit status */
export function run([command, ...args], options = {}) {
  const { status, error } = spawnSync(command, args, {
    stdio: ['ignore', process.stderr.fd, process.stderr.fd],
    ...options,
  });
  if (error) throw new Error(`${command} could not be started: ${error.message}`);
  return status;
}
