#!/usr/bin/env node
/** Builds what is out of date: WASM kernels, the libvirt addon, TypeScript. */
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildKernels } from '../assembly/build.mjs';
import { buildHook } from '../integrations/libvirt-hook/build.mjs';
import { buildAddon } from '../libvirt-adapter/native/build.mjs';
import { ROOT, run, say, step } from './steps.mjs';

const SOURCES = ['orchestrator', 'integrations', 'libvirt-adapter', 'models', 'test', 'proto/gen'];

/** TypeScript files below a folder of the project, without their extension. */
function typescriptBelow(folder) {
  const path = join(ROOT, folder);
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .map((name) => join(folder, name.slice(0, -'.ts'.length)));
}

/** What was compiled from files that are gone must go too, or it would still run as a test. */
function removeOrphans(stems) {
  const wanted = new Set(stems);
  for (const folder of SOURCES) {
    const path = join(ROOT, 'dist', folder);
    if (!existsSync(path)) continue;
    for (const name of readdirSync(path, { recursive: true, encoding: 'utf8' })) {
      const stem = join(folder, name).replace(/\.js(\.map)?$/, '');
      if (/\.js(\.map)?$/.test(name) && !wanted.has(stem)) rmSync(join(ROOT, 'dist', folder, name));
    }
  }
}

function compileTypescript() {
  const stems = SOURCES.flatMap(typescriptBelow);
  removeOrphans(stems);
  const modified = (path) => statSync(join(ROOT, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  // File by file: a type check alone also renews the compiler's own record of what it has seen.
  const newest = (paths) => Math.max(...paths.map(modified));
  const oldestOutput = Math.min(...stems.map((stem) => modified(`dist/${stem}.js`)));
  const current =
    stems.every((stem) => modified(`${stem}.ts`) <= modified(`dist/${stem}.js`)) &&
    newest(['tsconfig.json', 'package-lock.json']) <= oldestOutput;
  if (current) return;
  const status = step('compiling TypeScript', () =>
    run([process.execPath, join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', ROOT]),
  );
  if (status !== 0) throw new Error('the TypeScript compiler found errors; they stand above');
}

/** Bring everything in dist/ up to date. */
export async function build() {
  mkdirSync(join(ROOT, 'dist'), { recursive: true });
  const kernels = await buildKernels();
  if (kernels.length > 0) say(`compiled ${kernels.join(', ')}`);
  try {
    await buildAddon({ log: say });
  } catch (error) {
    // Everything but real guests works without it, and says so when asked for it.
    say(`the libvirt bindings were not built: ${error.message}`);
  }
  try {
    if (buildHook()) say('compiled the libvirt hook');
  } catch (error) {
    say(`the libvirt hook was not built: ${error.message}`);
  }
  compileTypescript();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await build();
  } catch (error) {
    say(error.message);
    process.exit(1);
  }
}
