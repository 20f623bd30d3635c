import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const OUT = join('dist', 'assembly');
const PAGE_KIB = 64;
/**
 * The modules: what each is made from, and its memory, which is fixed. One is one state: a forecaster of requests, the
 * series of guests, a training.
 */
const MODULES = {
  foreshade: { entry: 'assembly/index.ts', memoryMiB: 40 },
  anomaly: { entry: 'assembly/anomaly/index.ts', memoryMiB: 16 },
  lstm: { entry: 'assembly/lstm/index.ts', memoryMiB: 16 },
  training: { entry: 'assembly/training/index.ts', memoryMiB: 16 },
  effect: { entry: 'assembly/effect/index.ts', memoryMiB: 1 },
  series: { entry: 'assembly/series/index.ts', memoryMiB: 16 },
};
const TARGETS = { debug: '.debug.wasm', release: '.wasm' };

function modifiedMs(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** Time of the newest file a build depends on, ms since epoch. */
function newestSourceMs() {
  const folder = join(ROOT, 'assembly');
  const sources = readdirSync(folder, { recursive: true }).map((name) => join(folder, name));
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
  for (const [name, { entry, memoryMiB }] of Object.entries(MODULES)) {
    const pages = String((memoryMiB * 1024) / PAGE_KIB);
    for (const [target, suffix] of Object.entries(TARGETS)) {
      const file = join(OUT, name + suffix);
      if (modifiedMs(join(ROOT, file)) > newest) continue;
      const { error, stderr } = await asc.main([
        ...[entry, '--config', 'asconfig.json', '--target', target, '--baseDir', ROOT],
        ...['--outFile', file, '--initialMemory', pages, '--maximumMemory', pages],
      ]);
      if (error) throw new Error(`asc could not build ${file}: ${error.message}\n${stderr.toString()}`);
      built.push(name + suffix);
    }
  }
  return built;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const built = await buildKernels();
  console.error(built.length > 0 ? `built ${built.join(', ')}` : 'kernels are up to date');
}
