#!/usr/bin/env node
/**
 * Runs every long bar, from one list, and writes one JSON file of figures: `node scripts/prove.mjs [NAME ...] [--out FILE]`.
 * A proof prints its one document on stdout, or appends lines of figures to the file that FORESHADE_FIGURES names, or both.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ROOT, say } from './steps.mjs';

const node = (...args) => [process.execPath, ...args];
const compiled = (name) => join('dist', 'test', `${name}.js`);

/**
 * The list. `document`: stdout is one JSON document, kept whole; `bars`: the document's own key that holds its bars.
 * `expectUnmet`: the proof is that some bar is missed.
 */
const PROOFS = [
  { name: 'demo', command: node('bin/foreshade.js', 'demo', '--json'), document: true, bars: 'bars' },
  {
    name: 'demo-ablated',
    command: node('bin/foreshade.js', 'demo', '--json', '--ablate'),
    document: true,
    bars: 'bars',
    expectUnmet: true,
  },
  {
    name: 'service-killed-50-times',
    command: node(compiled('e2e/service-crash.test')),
    env: { FORESHADE_KILLS: '50' },
  },
  {
    name: 'daemon-stopped-20-times',
    command: node(compiled('e2e/native-daemon.test')),
    env: { FORESHADE_DAEMON_STOPS: '20' },
  },
  {
    name: 'ledger-power-lost-300-times',
    command: node(compiled('contract/ledger.test')),
    env: { FORESHADE_POWER_LOSSES: '300' },
  },
  {
    name: 'simulated-crashes-500',
    command: node(compiled('simulation/crash.test')),
    env: { FORESHADE_SEEDS: '500' },
  },
  {
    name: 'simulated-faults-300',
    command: node(compiled('simulation/faults.test')),
    env: { FORESHADE_SEEDS: '300' },
  },
  {
    name: 'simulated-seeds-10000',
    command: node(compiled('simulation/simulator.test')),
    env: { FORESHADE_SEEDS: '10000' },
  },
  {
    name: 'simulated-fleet-50',
    command: node(compiled('simulation/simulator.test')),
    env: { FORESHADE_SEEDS: '1', FORESHADE_FLEETS: '50' },
  },
  {
    name: 'calibration',
    command: node(compiled('unit/calibration.test')),
    env: { FORESHADE_GUESTS: '1' },
  },
  {
    name: 'icount-60-s',
    command: node(compiled('e2e/icount.test')),
    env: { FORESHADE_ICOUNT_SECONDS: '60' },
  },
  {
    name: 'lab-instructions',
    command: node(compiled('e2e/lab-record.test')),
    env: { FORESHADE_CUTS: '24300' },
  },
  {
    name: 'lab-encode',
    command: node(compiled('e2e/lab-encode.test')),
    env: { FORESHADE_ENCODES: '30' },
  },
  {
    name: 'store-killed-200-times',
    command: node(compiled('simulation/store-crash.test')),
    env: { FORESHADE_KILLS: '200' },
  },
  {
    name: 'store-log-cut-everywhere',
    command: node(compiled('fuzz/store-truncation.test')),
    env: { FORESHADE_DAMAGES: '3000' },
  },
  {
    name: 'store-power-lost-1000-times',
    command: node(compiled('fuzz/store-power-loss.test')),
    env: { FORESHADE_POWER_LOSSES: '1000' },
  },
  {
    name: 'kernels-on-node-22-and-24',
    command: node(compiled('kernels/node-versions.test')),
    env: { FORESHADE_NODES: '22,24' },
  },
  {
    name: 'packing-small-hosts',
    command: node(compiled('unit/backtest-packing.test')),
    env: { FORESHADE_PACKING: '1' },
  },
  { name: 'replay-day-twice', command: node(compiled('simulation/replay-day.test')) },
  { name: 'allocate-cost', command: node(compiled('bench/allocate.bench')), document: true },
  {
    name: 'allocate-disturbed',
    command: node(compiled('bench/allocate-disturbed.bench')),
    document: true,
  },
  { name: 'libvirt-hook-cost', command: node(compiled('bench/libvirt-hook.bench')), document: true },
  {
    name: 'libvirt-hook-20-starts',
    command: node(compiled('e2e/libvirt-hook.test')),
    env: { FORESHADE_STARTS: '20' },
  },
  { name: 'engine-cost', command: node(compiled('bench/engine.bench')), document: true },
  { name: 'stats-cost', command: node(compiled('bench/native-stats.bench')), document: true },
  {
    name: 'telemetry-cost',
    command: node(compiled('bench/telemetry.bench')),
    env: { FORESHADE_BENCH_SECONDS: '600' },
    document: true,
  },
  { name: 'forecast-cost', command: node(compiled('bench/forecast.bench')), document: true },
  { name: 'lstm-cost', command: node(compiled('bench/lstm.bench')), document: true },
  { name: 'icount-cost', command: node(compiled('bench/icount.bench')), document: true },
  {
    name: 'store-cost',
    command: node(compiled('bench/store.bench')),
    env: { FORESHADE_SAMPLES: '50' },
    document: true,
  },
];
/** Longest any proof may take. */
const TIMEOUT_MS = 45 * 60_000;

const args = process.argv.slice(2);
const outAt = args.indexOf('--out');
const out = outAt < 0 ? 'prove.json' : args.splice(outAt, 2)[1];
const unknown = args.filter((name) => !PROOFS.some((proof) => proof.name === name));
if (unknown.length > 0) {
  say(`no such proof: ${unknown.join(', ')}; there are ${PROOFS.map(({ name }) => name).join(', ')}`);
  process.exit(2);
}

/** Run one proof; its stderr passes through, its stdout is kept. */
function runProof({ command: [program, ...rest], env = {} }, figures) {
  return new Promise((resolve) => {
    const child = spawn(program, rest, {
      cwd: ROOT,
      env: { ...process.env, ...env, FORESHADE_FIGURES: figures, TAP_TIMEOUT: '0' },
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: TIMEOUT_MS,
    });
    const chunks = [];
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.on('close', (code) => resolve({ exit: code ?? 1, stdout: Buffer.concat(chunks).toString() }));
  });
}

function readFigures(path) {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

/** The last of stdout that parses: a bench may tell its story before its document. */
function documentIn(stdout) {
  const text = stdout.trim();
  try {
    return JSON.parse(text);
  } catch {
    const last = text.split('\n').at(-1) ?? '';
    try {
      return JSON.parse(last);
    } catch {
      return undefined;
    }
  }
}

const folder = mkdtempSync(join(tmpdir(), 'foreshade-prove-'));
const results = [];
for (const proof of PROOFS.filter(({ name }) => args.length === 0 || args.includes(name))) {
  say(`proving ${proof.name}`);
  const began = Date.now();
  const figures = join(folder, `${proof.name}.jsonl`);
  const { exit, stdout } = await runProof(proof, figures);
  const document = proof.document ? documentIn(stdout) : undefined;
  const bars = [...readFigures(figures), ...(document?.[proof.bars] ?? [])];
  const unmet = bars.filter(({ met }) => met === false).length;
  // A test that was skipped has shown nothing.
  const skipped = /# SKIP (.*)/.exec(proof.document ? '' : stdout)?.[1];
  const passed =
    exit === 0 &&
    (skipped === undefined || bars.length > 0) &&
    (proof.expectUnmet ? unmet > 0 : unmet === 0) &&
    (!proof.document || document !== undefined);
  results.push({
    name: proof.name,
    command: [
      ...Object.entries(proof.env ?? {}).map(([key, value]) => `${key}=${value}`),
      'node',
      ...proof.command.slice(1),
    ].join(' '),
    seconds: Math.round((Date.now() - began) / 1000),
    exit,
    passed,
    bars,
    ...(document === undefined ? {} : { document }),
    ...(skipped === undefined ? {} : { skipped }),
    ...(exit === 0 ? {} : { output: stdout.slice(-4000) }),
  });
  const how = passed ? 'passed' : skipped === undefined ? 'NOT passed' : `skipped (${skipped})`;
  say(`${proof.name}: ${how} in ${results.at(-1).seconds} s`);
  for (const { name, bar, value, limit, met } of bars) {
    say(`  ${met === false ? 'missed' : 'met   '} ${name ?? bar}: ${value} (${limit ?? bar})`);
  }
  // After each, so that a long run that is cut still leaves its figures.
  const report = {
    at: new Date().toISOString(),
    node: process.version,
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    results,
  };
  writeFileSync(resolve(ROOT, out), `${JSON.stringify(report, null, 2)}\n`);
}
rmSync(folder, { recursive: true, force: true });
const failed = results.filter(({ passed }) => !passed);
say(`${results.length - failed.length} of ${results.length} proofs passed; figures in ${out}`);
if (failed.length > 0) process.exit(1);
