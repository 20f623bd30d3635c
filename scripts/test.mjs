#!/usr/bin/env node
/**
 * Runs the tests: `node scripts/test.mjs [KIND ...]`, all kinds without an argument. Each file is a program that prints TAP; what
 * passed is one line, what failed is shown whole. Kinds that start real guests run one file after another, since the
 * machine's cores are what they measure with.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, say } from './steps.mjs';

/** Kinds in order, and how many files of each run at once. */
const KINDS = { tidy: 2, unit: 2, kernels: 2, contract: 2, simulation: 2, fuzz: 2, e2e: 1 };
/** Longest a file may take: a guest that does not boot must not hold the suite for ever. */
const TIMEOUT_MS = 300_000;

function filesOf(kind) {
  const folder = join(ROOT, 'dist', 'test', kind);
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith('.test.js'))
    .sort()
    .map((name) => `${kind}/${name.slice(0, -'.test.js'.length)}`);
}

/** Run one file. @returns its exit code, its TAP, all it printed and how long it took */
function runFile(file) {
  const began = Date.now();
  return new Promise((resolve) => {
    const path = join('dist', 'test', `${file}.test.js`);
    // tap's own limit per file is half a minute; ours bounds the file from outside.
    const env = { ...process.env, TAP_TIMEOUT: String(TIMEOUT_MS / 1000) };
    const child = spawn(process.execPath, [path], {
      cwd: ROOT,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    const chunks = [];
    const tapChunks = [];
    child.stdout.on('data', (chunk) => {
      tapChunks.push(chunk);
      chunks.push(chunk);
    });
    child.stderr.on('data', (chunk) => chunks.push(chunk));
    child.on('close', (code, signal) => {
      const output = Buffer.concat(chunks).toString();
      const tap = Buffer.concat(tapChunks).toString();
      resolve({ file, code: code ?? `killed by ${signal}`, tap, output, ms: Date.now() - began });
    });
  });
}

/** Assertions of a TAP stream by outcome, at every depth but the subtests' own summary lines. */
function countsOf(tap) {
  const summary = /^# \{ total: (\d+)(.*)\}$/m.exec(tap);
  const of = (name) => Number(new RegExp(`${name}: (\\d+)`).exec(summary?.[2] ?? '')?.[1] ?? 0);
  return { pass: of('pass'), fail: of('fail'), skip: of('skip') };
}

/** Why a file that was skipped as a whole was skipped. */
function skipReason(tap) {
  return /^1\.\.0 # (?:skip )?(.*)$/im.exec(tap)?.[1];
}

function report({ file, code, tap, output, ms }, totals) {
  const counts = countsOf(tap);
  const seconds = `${(ms / 1000).toFixed(1)} s`.padStart(8);
  const reason = skipReason(tap);
  totals.pass += counts.pass;
  totals.fail += counts.fail;
  totals.skip += counts.skip;
  if (code === 0 && reason !== undefined) {
    totals.skip += 1;
    console.log(`  skipped  ${file}: ${reason}`);
  } else if (code === 0 && counts.pass + counts.skip > 0) {
    const skipped = counts.skip > 0 ? `, ${counts.skip} skipped` : '';
    console.log(`  ok ${seconds}  ${file}: ${counts.pass} assertions${skipped}`);
  } else {
    if (counts.fail === 0) totals.fail += 1;
    console.log(`  NOT OK ${seconds}  ${file}: exit ${code}\n${output}`);
  }
}

async function runKind(kind, totals) {
  const waiting = filesOf(kind);
  const worker = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift())
      report(await runFile(file), totals);
  };
  console.log(kind);
  await Promise.all(Array.from({ length: KINDS[kind] }, worker));
}

const asked = process.argv.slice(2);
const unknown = asked.filter((kind) => !(kind in KINDS));
if (unknown.length > 0) {
  say(`no such kind of test: ${unknown.join(', ')}; there are ${Object.keys(KINDS).join(', ')}`);
  process.exit(2);
}
const began = Date.now();
const totals = { pass: 0, fail: 0, skip: 0 };
for (const kind of Object.keys(KINDS)) {
  if ((asked.length === 0 || asked.includes(kind)) && filesOf(kind).length > 0) await runKind(kind, totals);
}
console.log(`took ${((Date.now() - began) / 1000).toFixed(0)} s`);
console.log(`${totals.pass} passed, ${totals.fail} failed, ${totals.skip} skipped`);
if (totals.fail > 0 || totals.pass === 0) process.exit(1);
