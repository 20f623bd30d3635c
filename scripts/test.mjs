#!/usr/bin/env node
/**
 * Runs the tests: `node scripts/test.mjs [KIND ...]`, all kinds without an argument. Kinds that start real guests run alone,
 * one file after another, since the machine's cores are what they measure with.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, say } from './steps.mjs';

/** Kinds in order, and how many files of each may run at once. */
const KINDS = { tidy: 2, unit: 2, kernels: 2, contract: 2, simulation: 2, fuzz: 2, e2e: 1 };
/** Longest a file may take; a guest that does not boot must not hold a suite for ever. */
const TIMEOUT_S = 300;

function testFiles(kind) {
  const folder = join(ROOT, 'dist', 'test', kind);
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => join('dist', 'test', kind, name))
    .sort();
}

const asked = process.argv.slice(2);
const unknown = asked.filter((kind) => !(kind in KINDS));
if (unknown.length > 0) {
  say(`no such kind of test: ${unknown.join(', ')}; there are ${Object.keys(KINDS).join(', ')}`);
  process.exit(2);
}

let passed = 0;
const failed = [];
const begun = Date.now();
for (const [kind, jobs] of Object.entries(KINDS)) {
  if (asked.length > 0 && !asked.includes(kind)) continue;
  const files = testFiles(kind);
  if (files.length === 0) continue;
  say(`${kind}: ${files.length} files`);
  const args = [
    'run',
    '--disable-coverage',
    '--allow-incomplete-coverage',
    `--jobs=${jobs}`,
    `--timeout=${TIMEOUT_S}`,
    '--reporter=terse',
    ...files,
  ];
  const { status } = spawnSync(process.execPath, [join(ROOT, 'node_modules/tap/dist/esm/run.mjs'), ...args], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  if (status === 0) passed += files.length;
  else failed.push(kind);
}
say(`${((Date.now() - begun) / 1000).toFixed(0)} s in all`);
console.log(`test files: ${passed} passed, ${failed.length} failed`);
if (failed.length > 0) {
  say(`kinds with failures: ${failed.join(', ')}`);
  process.exit(1);
}
