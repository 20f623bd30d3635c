#!/usr/bin/env node
/** Everything that can be told without running the product: types, lint and format, the contract, generated files. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT, run, say } from './steps.mjs';

const BIN = join(ROOT, 'node_modules', '.bin');
const bin = (name) => join(BIN, name);

/** The contract's code generated anew must be the code committed. */
function generatedUnchanged() {
  const fresh = mkdtempSync(join(tmpdir(), 'foreshade-proto-'));
  try {
    // buf looks its plugin up in the PATH.
    const options = { cwd: join(ROOT, 'proto'), env: { ...process.env, PATH: `${BIN}:${process.env.PATH}` } };
    const status =
      run([bin('buf'), 'generate', '--output', fresh], options) ||
      run([bin('buf'), 'build', '-o', join(fresh, 'gen/foreshade.binpb')], options);
    if (status !== 0) return status;
    return spawnSync('diff', ['-r', join(fresh, 'gen'), join(ROOT, 'proto/gen')], { stdio: ['ignore', 2, 2] })
      .status;
  } finally {
    rmSync(fresh, { recursive: true });
  }
}

const CHECKS = {
  types: () => run([bin('tsc'), '--noEmit', '--incremental', 'false', '-p', ROOT]),
  'lint and format': () =>
    run([bin('biome'), 'ci', '--error-on-warnings', '--colors=off', ROOT], { cwd: ROOT }),
  contract: () => run([bin('buf'), 'lint'], { cwd: join(ROOT, 'proto') }),
  'generated files': generatedUnchanged,
};

const failed = Object.entries(CHECKS).filter(([name, check]) => {
  say(`checking ${name}`);
  return check() !== 0;
});
if (failed.length > 0) {
  say(`not in order: ${failed.map(([name]) => name).join(', ')}`);
  process.exit(1);
}
say('all in order');
