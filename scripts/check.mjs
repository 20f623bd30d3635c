#!/usr/bin/env node
/** Everything that can be told without running the product: types, lint and format, the contract, generated files. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT, run, say } from './steps.mjs';

const bin = (name) => join(ROOT, 'node_modules', '.bin', name);

/** The contract's code generated anew must be the code committed. */
function generatedUnchanged() {
  const fresh = mkdtempSync(join(tmpdir(), 'foreshade-proto-'));
  try {
    const status = run([bin('buf'), 'generate', '--output', fresh], { cwd: join(ROOT, 'proto') });
    if (status !== 0) return status;
    return spawnSync('diff', ['-r', join(fresh, 'gen'), join(ROOT, 'proto/gen')], { stdio: ['ignore', 2, 2] })
      .status;
  } finally {
    rmSync(fresh, { recursive: true });
  }
}

const CHECKS = {
  types: () => run([bin('tsc'), '--noEmit', '-p', ROOT]),
  'lint and format': () => run([bin('biome'), 'ci', '--error-on-warnings', ROOT], { cwd: ROOT }),
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
