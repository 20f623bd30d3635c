#!/usr/bin/env node
/**
 * Tests of the Nova package: its parts with Nova stubbed; then Debian's Nova, with API, conductor, scheduler, Placement and
 * fake computes, and Debian's Watcher, each against the real service over a hypervisor in memory. Installs Debian's packages;
 * where they cannot be had it says so, and skips what needs them.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { installPackages, missingPackages } from './debian-packages.mjs';
import { ROOT, say } from './steps.mjs';

/** Debian's own: its modules are not in reach of another one that may come first in the PATH. */
const PYTHON = '/usr/bin/python3';
const PACKAGE = join(ROOT, 'integrations', 'nova');
const NOVA_PACKAGES = [
  'python3-nova',
  'python3-placement',
  'python3-wsgi-intercept',
  'python3-oslotest',
  'python3-testtools',
  'python3-setuptools',
];
const WATCHER_PACKAGES = ['python3-watcher', 'python3-testtools', 'python3-setuptools'];
/** Longest one module of tests may take. */
const TIMEOUT_MS = 600_000;
/** Nova says this for every call it makes; a thousand times it hides the rest. */
const NOISE = /WARNING \[oslo_messaging|DeprecationWarning|^ +val = callable/;

/** Run Python in the package's folder. @returns its exit code and all it printed */
function python(args, env) {
  return new Promise((resolve) => {
    const child = spawn(PYTHON, args, {
      cwd: PACKAGE,
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    const chunks = [];
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => resolve({ code: error.message, output: '' }));
    child.on('close', (code, signal) => {
      const lines = Buffer.concat(chunks).toString().split('\n');
      resolve({
        code: code ?? `killed by ${signal}`,
        output: lines.filter((line) => !NOISE.test(line)).join('\n'),
      });
    });
  });
}

/** Tests that ran, failed or were skipped, as unittest and testtools tell. */
function countsOf(output) {
  const ran = Number(/^Ran (\d+) test/m.exec(output)?.[1] ?? 0);
  const of = (name) =>
    Number(new RegExp(`^(?:OK|FAILED) \\(.*\\b${name}=(\\d+)`, 'm').exec(output)?.[1] ?? 0);
  const failed = of('failures') + of('errors');
  return { failed, skipped: of('skipped'), passed: ran - failed - of('skipped') };
}

const totals = { passed: 0, failed: 0, skipped: 0 };

async function runModule(name, args, env = {}) {
  const begun = Date.now();
  const { code, output } = await python(args, env);
  const counts = countsOf(output);
  const isWhole = code === 0 && counts.failed === 0 && counts.passed + counts.skipped > 0;
  if (!isWhole && counts.failed === 0) counts.failed = 1;
  for (const outcome of Object.keys(totals)) totals[outcome] += counts[outcome];
  const seconds = ((Date.now() - begun) / 1000).toFixed(1);
  if (isWhole) {
    console.log(`  ok ${seconds.padStart(6)} s  ${name}: ${counts.passed} tests`);
    for (const line of output.split('\n').filter((line) => / ms\b/.test(line))) console.log(`      ${line}`);
  } else {
    console.log(`  NOT OK ${seconds.padStart(6)} s  ${name}: exit ${code}\n${output}`);
  }
}

function skip(name, why) {
  totals.skipped += 1;
  console.log(`  skipped  ${name}: ${why}`);
}

/** Why tests over these packages cannot run; undefined: they can. */
function lack(names) {
  const missing = missingPackages(names);
  if (missing === undefined) return 'this is not a Debian system';
  return missing.length > 0 ? `Debian's ${missing.join(', ')} could not be had` : undefined;
}

/** Nova's API needs its paste configuration, which is in a package that would set up services. @returns its path */
function pasteConfig(folder) {
  const options = { cwd: folder, encoding: 'utf8' };
  spawnSync('apt-get', ['-q', 'download', 'nova-common'], options);
  const deb = readdirSync(folder).find((name) => name.endsWith('.deb'));
  if (deb !== undefined) spawnSync('dpkg-deb', ['-x', deb, 'nova-common'], options);
  const places = ['usr/share/nova-common', 'etc/nova'].map((place) => join(folder, 'nova-common', place));
  return [...places, '/etc/nova']
    .map((place) => join(place, 'api-paste.ini'))
    .find((path) => existsSync(path));
}

function versionOf(name) {
  return spawnSync('dpkg-query', ['-W', '-f', `${name} \${Version}`, name], { encoding: 'utf8' }).stdout;
}

async function runFunctional(folder) {
  // Entry points are found by metadata beside the modules, as an installation would put it.
  const eggs = ['-c', 'import setuptools; setuptools.setup()', '-q', 'egg_info', '--egg-base', folder];
  const env = {
    PYTHONPATH: `${folder}:${PACKAGE}`,
    FORESHADE_NODE: process.execPath,
    FORESHADE_FAKE_SERVICE: join(ROOT, 'dist', 'test', 'contract', 'fake-service.js'),
  };
  const withoutNova = lack(NOVA_PACKAGES);
  const withoutWatcher = lack(WATCHER_PACKAGES);
  if (withoutNova === undefined || withoutWatcher === undefined) {
    const { code, output } = await python(eggs, {});
    if (code !== 0) throw new Error(`the package's metadata could not be made: ${output}`);
  }
  const paste = withoutNova === undefined ? pasteConfig(folder) : undefined;
  if (withoutNova !== undefined) skip('scheduling by Nova', withoutNova);
  else if (paste === undefined) skip('scheduling by Nova', "Debian's nova-common could not be had");
  else {
    say(`proving with ${versionOf('python3-nova')}`);
    await runModule('scheduling by Nova', ['-m', 'testtools.run', 'tests.functional.test_scheduling'], {
      ...env,
      FORESHADE_API_PASTE: paste,
    });
  }
  if (withoutWatcher !== undefined) skip('scoring for Watcher', withoutWatcher);
  else {
    say(`proving with ${versionOf('python3-watcher')}`);
    await runModule('scoring for Watcher', ['-m', 'testtools.run', 'tests.functional.test_watcher'], env);
  }
}

const begun = Date.now();
installPackages([...new Set([...NOVA_PACKAGES, ...WATCHER_PACKAGES])]);
console.log('nova');
if (!existsSync(PYTHON)) skip('everything', `there is no ${PYTHON}`);
else {
  await runModule('parts, with Nova stubbed', ['-m', 'unittest', 'discover', '-s', 'tests/unit', '-t', '.']);
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-nova-'));
  try {
    await runFunctional(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
console.log(`took ${((Date.now() - begun) / 1000).toFixed(0)} s`);
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
if (totals.failed > 0) process.exit(1);
