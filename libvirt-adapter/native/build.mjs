/**
 * Compiles the addon with the system's g++: no node-gyp, no Python, no downloads. Needs libvirt's headers; libvirt
 * itself is found at run time. Run as a program or through `buildAddon`.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE_DIR = dirname(fileURLToPath(import.meta.url));
const OUTPUT_DIR = join(SOURCE_DIR, '..', '..', 'dist', 'libvirt-adapter', 'native');
const OUTPUT = join(OUTPUT_DIR, 'foreshade_libvirt.node');

/** Node-API 8: Node 12.22 and every later version load the same binary. */
const DEFINES = [
  '-DNAPI_VERSION=8',
  '-DNODE_ADDON_API_CPP_EXCEPTIONS',
  '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS', // a worker that is being terminated cannot be thrown at
  '-DNODE_GYP_MODULE_NAME=foreshade_libvirt',
];
const FLAGS = ['-std=c++20', '-O2', '-fPIC', '-fvisibility=hidden', '-Wall', '-Wextra', '-pthread'];

/** Never unloaded, as Node does when a worker ends: threads inside a hung call would come back to nothing. */
const LINK_FLAGS = ['-Wl,-z,nodelete'];

/**
 * Bring the addon up to date.
 *
 * @param {{ log?: (line: string) => void }} options
 * @returns {Promise<{ path: string, built: boolean }>} where it is, and whether anything was compiled
 * @throws {Error} that names the missing tool or package, or carries the compiler's output
 */
export async function buildAddon({ log = () => {} } = {}) {
  const names = readdirSync(SOURCE_DIR).sort();
  const headers = names.filter((name) => name.endsWith('.h')).map((name) => join(SOURCE_DIR, name));
  const sources = names.filter((name) => name.endsWith('.cc')).map((name) => join(SOURCE_DIR, name));
  const self = fileURLToPath(import.meta.url);
  if (isNewer(OUTPUT, [self, ...headers, ...sources])) return { path: OUTPUT, built: false };

  const includes = includeDirs();
  requireToolchain();
  const objectDir = join(OUTPUT_DIR, 'objects');
  mkdirSync(objectDir, { recursive: true });
  const units = sources.map((source) => ({
    source,
    object: join(objectDir, `${source.slice(SOURCE_DIR.length + 1, -'.cc'.length)}.o`),
  }));
  const waiting = units.filter((unit) => !isNewer(unit.object, [self, unit.source, ...headers]));
  log(`compiling ${waiting.length} of ${units.length} files of the libvirt addon`);
  await Promise.all(
    Array.from({ length: availableParallelism() }, async () => {
      for (let unit = waiting.pop(); unit !== undefined; unit = waiting.pop()) {
        await compile([...FLAGS, ...DEFINES, ...includes, '-c', unit.source, '-o', unit.object], log);
      }
    }),
  );
  // Linked beside and renamed: a process that has the old one mapped keeps it.
  const fresh = `${OUTPUT}.${process.pid}`;
  await compile(
    ['-shared', '-pthread', ...LINK_FLAGS, ...units.map((unit) => unit.object), '-ldl', '-o', fresh],
    log,
  );
  renameSync(fresh, OUTPUT);
  return { path: OUTPUT, built: true };
}

function isNewer(output, inputs) {
  if (!existsSync(output)) return false;
  const built = statSync(output).mtimeMs;
  return inputs.every((input) => statSync(input).mtimeMs <= built);
}

function includeDirs() {
  const require = createRequire(import.meta.url);
  try {
    const api = require('node-api-headers').include_dir;
    const cpp = require('node-addon-api').include_dir;
    return ['-isystem', api, '-isystem', cpp];
  } catch (cause) {
    throw new Error('the npm packages node-api-headers and node-addon-api are missing: run npm install', {
      cause,
    });
  }
}

function requireToolchain() {
  const compiler = spawnSync('g++', ['-std=c++20', '-fsyntax-only', '-x', 'c++', '-'], {
    input: '#include <libvirt/libvirt-qemu.h>\n',
    encoding: 'utf8',
  });
  if (compiler.error) throw new Error('g++ is missing: install it (Debian: apt-get install g++)');
  if (compiler.status !== 0) {
    throw new Error(
      `libvirt's headers are missing: install them (Debian: apt-get install libvirt-dev)\n${compiler.stderr}`,
    );
  }
}

function compile(parameters, log) {
  return new Promise((resolve, reject) => {
    const child = spawn('g++', parameters, { stdio: ['ignore', 'ignore', 'pipe'] });
    let output = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
    child.on('error', reject);
    child.on('close', (status) => {
      if (status === 0) {
        if (output !== '') log(output.trimEnd());
        resolve();
      } else reject(new Error(`g++ ${parameters.join(' ')} failed:\n${output}`));
    });
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const { path, built } = await buildAddon({ log: (line) => process.stderr.write(`${line}\n`) });
    process.stderr.write(`${path} ${built ? 'built' : 'is up to date'}\n`);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
  }
}
