import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const OUT = join('dist', 'assembly');
const TARGETS = { debug: 'foreshade.debug.wasm', release: 'foreshade.wasm' };

function modifiedMs(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** Time of the newest file a build depends on, ms since epoch. */
function newestSourceMs() {
  const sources = readdirSync(join(ROOT, 'assembly')).map((name) => join(ROOT, 'assembly', name));
  return Math.max(...[...sources, join(ROOT, 'asconfig.json')].map(modifiedMs));
}

/**
 * Compile the kernels, debug and release, into dist/assembly; a target newer than every source is left alone.
 * @returns names of the files that were built
 * @throws {Error} with the compiler's own words
 */
export async function buildKernels() {
  mkdirSync(join(ROOT, OUT), { recursive: true });
  const newest = newestSourceMs();
  const built = [];
  for (const [target, file] of Object.entries(TARGETS)) {
    if (modifiedMs(join(ROOT, OUT, file)) > newest) continue;
    const { error, stderr } = await asc.main([
      ...['--config', 'asconfig.json', '--target', target, '--baseDir', ROOT],
    ]);
    if (error) throw new Error(`asc could not build ${file}: ${error.message}\n${stderr.toString()}`);
    built.push(file);
  }
  return built;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const built = await buildKernels();
  console.error(built.length > 0 ? `built ${built.join(', ')}` : 'kernels are up to date');
}
