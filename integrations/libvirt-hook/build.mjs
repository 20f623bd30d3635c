/** Compiles libvirt's hook: one call of g++, nothing linked but libc, and that statically where it can be. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE_DIR = dirname(fileURLToPath(import.meta.url));
const SOURCE = join(SOURCE_DIR, 'hook.cc');
const OUTPUT_DIR = join(SOURCE_DIR, '..', '..', 'dist', 'integrations', 'libvirt-hook');
const OUTPUT = join(OUTPUT_DIR, 'foreshade-hook');

const FLAGS = ['-std=c++17', '-Os', '-s', '-Wall', '-Wextra', '-fno-exceptions', '-fno-rtti'];

/**
 * Bring the hook's program up to date.
 *
 * @returns {boolean} whether it was compiled
 * @throws {Error} with the compiler's output
 */
export function buildHook() {
  const modified = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (modified(OUTPUT) >= Math.max(modified(SOURCE), modified(fileURLToPath(import.meta.url)))) return false;
  mkdirSync(OUTPUT_DIR, { recursive: true });
  const fresh = `${OUTPUT}.${process.pid}`;
  let failure = '';
  // Without the loader's work it starts in half the time; not every distribution has libc's archive at hand.
  for (const how of [['-static'], []]) {
    const { status, error, stderr } = spawnSync('g++', [...FLAGS, ...how, SOURCE, '-o', fresh], {
      encoding: 'utf8',
    });
    if (error) throw new Error('g++ is missing: install it (Debian: apt-get install g++)');
    if (status === 0) {
      renameSync(fresh, OUTPUT);
      return true;
    }
    failure = stderr;
  }
  throw new Error(`g++ could not compile the hook:\n${failure}`);
}
