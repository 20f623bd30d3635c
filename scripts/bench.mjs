#!/usr/bin/env node
/**
 * Runs every bench, one after another, and prints a table of their figures: `node scripts/bench.mjs [NAME ...] [--json]`.
 * With --json stdout is one JSON document. A bench prints one JSON document, and appends its bars to the file that
 * FORESHADE_FIGURES names.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT, say } from './steps.mjs';

const FOLDER = join(ROOT, 'dist', 'test', 'bench');
/** Longest a bench may take. */
const TIMEOUT_MS = 15 * 60_000;

const args = process.argv.slice(2);
const asJson = args.includes('--json');
const asked = args.filter((arg) => arg !== '--json');
const known = existsSync(FOLDER)
  ? readdirSync(FOLDER)
      .filter((name) => name.endsWith('.bench.js'))
      .map((name) => name.replace('.bench.js', ''))
      .sort()
  : [];
const unknown = asked.filter((name) => !known.includes(name));
if (known.length === 0 || unknown.length > 0) {
  say(
    known.length === 0
      ? 'no bench is built; run: npm run build'
      : `no such bench: ${unknown.join(', ')}; there are ${known.join(', ')}`,
  );
  process.exit(2);
}

/** Run one bench; its stderr passes through, its stdout is kept. */
function runBench(name, figures) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [join(FOLDER, `${name}.bench.js`)], {
      cwd: ROOT,
      env: { ...process.env, FORESHADE_FIGURES: figures },
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: TIMEOUT_MS,
    });
    const chunks = [];
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.on('close', (code) => resolve({ exit: code ?? 1, stdout: Buffer.concat(chunks).toString() }));
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Numbers of a document by their path; of a list, the last entry is told. */
function numbersOf(value, path = '') {
  if (typeof value === 'number') return [[path, value]];
  if (Array.isArray(value))
    return value.length === 0 ? [] : numbersOf(value.at(-1), `${path}[${value.length - 1}]`);
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    numbersOf(inner, path === '' ? key : `${path}.${key}`),
  );
}

function rowsOf({ name, bars, document }) {
  const told = bars.map(({ bar, value, limit, met }) => [
    name,
    bar,
    value,
    `${met ? 'met' : 'MISSED'}: ${limit}`,
  ]);
  return [
    ...told,
    ...numbersOf(document).map(([path, value]) => [name, path, Number(value.toPrecision(5)), '']),
  ];
}

function printTable(rows) {
  const lines = [['bench', 'figure', 'value', 'bar'], ...rows].map((row) => row.map(String));
  const widths = [0, 1, 2].map((column) => Math.max(...lines.map((line) => line[column].length)));
  for (const line of lines) {
    console.log(
      line
        .map((cell, i) => (i === 2 ? cell.padStart(widths[i]) : cell.padEnd(widths[i] ?? 0)))
        .join('  ')
        .trimEnd(),
    );
  }
}

const folder = mkdtempSync(join(tmpdir(), 'foreshade-bench-'));
const results = [];
for (const name of known.filter((name) => asked.length === 0 || asked.includes(name))) {
  say(`measuring ${name}`);
  const began = Date.now();
  const figures = join(folder, `${name}.jsonl`);
  const { exit, stdout } = await runBench(name, figures);
  const bars = existsSync(figures)
    ? readFileSync(figures, 'utf8').split('\n').filter(Boolean).map(parsed)
    : [];
  const document = parsed(stdout) ?? null;
  if (exit !== 0) say(`${name} failed with exit code ${exit}`);
  results.push({ name, seconds: Math.round((Date.now() - began) / 1000), exit, bars, document });
}
rmSync(folder, { recursive: true, force: true });
if (asJson) {
  const machine = { node: process.version, cpu: cpus()[0]?.model, cores: cpus().length };
  console.log(JSON.stringify({ at: new Date().toISOString(), ...machine, results }, null, 2));
} else printTable(results.flatMap(rowsOf));
if (results.some(({ exit, bars }) => exit !== 0 || bars.some(({ met }) => met === false))) process.exit(1);
