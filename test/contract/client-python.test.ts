// Goal: the Python client keeps a lease while its work runs, gives it back with how that went, and says when it is lost.
// Method: its own tests, in Debian's Python with code generated for it from the contract, against the real service over a
// hypervisor in memory.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { PYTHON, PYTHON_CLIENT, pythonClientEnv, pythonClientUnavailableReason } from '../python-client.ts';
import { FAKE_SERVICE } from './fake-service.ts';

const unavailable = pythonClientUnavailableReason();
if (unavailable !== undefined) {
  t.plan(0, `no Python client here: ${unavailable}`);
  process.exit(0);
}
t.setTimeout(120_000);

t.test('the Python client', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-python-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const child = spawn(PYTHON, ['-m', 'unittest', 'discover', '-s', 'tests'], {
    cwd: PYTHON_CLIENT,
    env: {
      ...pythonClientEnv(folder),
      FORESHADE_NODE: process.execPath,
      FORESHADE_FAKE_SERVICE: FAKE_SERVICE,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => chunks.push(chunk));
  const [code] = await once(child, 'close');
  const output = Buffer.concat(chunks).toString();
  t.equal(code, 0, output);
  t.match(output, /^Ran [1-9]\d* tests/m);
});
