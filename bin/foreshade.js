#!/usr/bin/env node
// Starts the built CLI. Everything else is in orchestrator/cli.
import { existsSync } from 'node:fs';

const program = new URL('../dist/orchestrator/cli/program.js', import.meta.url);
if (!existsSync(program)) {
  process.stderr.write('foreshade is not built yet; run: npm run setup\n');
  process.exit(1);
}

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM']) {
  // The first signal ends the command in order; a second one, at once.
  process.once(name, () => interrupt.abort());
}
// A reader that has seen enough (head) is no failure.
process.stdout.on('error', (error) => process.exit(error.code === 'EPIPE' ? 0 : 1));

const { runCli } = await import(program.href);
process.exitCode = await runCli(process.argv.slice(2), {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  errIsTerminal: process.stderr.isTTY === true,
  env: process.env,
  signal: interrupt.signal,
  onSignal: (name, listener) => process.on(name, listener),
});
