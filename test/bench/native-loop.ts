import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('../../../test/bench/native-loop.c', import.meta.url));

/** A loop of so many dependent square roots. */
export type Loop = (steps: number) => number;

/** Compile the loop and load it into this process. @returns why it cannot be had here, when it cannot */
export function loadNativeLoop(): Loop | string {
  const require = createRequire(import.meta.url);
  const headers: string = require('node-api-headers').include_dir;
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-loop-'));
  try {
    const file = join(folder, 'loop.node');
    const flags = ['-O2', '-shared', '-fPIC', '-I', headers, SOURCE, '-lm', '-o', file];
    const compiler = spawnSync('gcc', flags, { encoding: 'utf8' });
    if (compiler.error !== undefined || compiler.status !== 0)
      return `the native loop does not compile here: ${compiler.error?.message ?? compiler.stderr}`;
    return (require(file) as { spin: Loop }).spin;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
