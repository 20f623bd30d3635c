#!/usr/bin/env node
/**
 * Installs what Foreshade needs and builds it: Debian packages, npm packages, kernels, the libvirt addon, TypeScript. Works
 * before node_modules exists, shows each step, and does nothing twice. Where it may not install it says what is missing.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LAB_PACKAGES } from '../libvirt-adapter/lab/packages.mjs';
import { ROOT, run, say, step } from './steps.mjs';

const NODE_OLDEST = [20, 11];
/** Without these nothing can be built; the others only make the real-guest parts skip. */
const BUILD_PACKAGES = ['g++', 'libc6-dev', 'libvirt-dev'];

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > NODE_OLDEST[0] || (major === NODE_OLDEST[0] && minor >= NODE_OLDEST[1])) return;
  throw new Error(`Node ${NODE_OLDEST.join('.')} or later is needed; this is ${process.versions.node}`);
}

/** Packages of the list that dpkg does not know as installed. */
function missingPackages() {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's own fields
  const query = spawnSync('dpkg-query', ['-W', '-f', '${Package} ${db:Status-Status}\n', ...LAB_PACKAGES], {
    encoding: 'utf8',
  });
  if (query.error) return undefined;
  const installed = new Set(
    query.stdout
      .split('\n')
      .filter((line) => line.endsWith(' installed'))
      .map((line) => line.split(' ')[0]),
  );
  return LAB_PACKAGES.filter((name) => !installed.has(name));
}

/** The words that make a command root's: none as root, sudo where it asks for no password, undefined otherwise. */
function asRoot() {
  if (process.getuid?.() === 0) return [];
  return spawnSync('sudo', ['-n', 'true']).status === 0 ? ['sudo', '-n'] : undefined;
}

function installPackages() {
  const missing = missingPackages();
  if (missing === undefined) {
    say('this is not a Debian system: packages are left to you; tests on real guests will skip');
    return;
  }
  if (missing.length === 0) return;
  const root = asRoot();
  if (root === undefined) {
    say(`neither root nor password-less sudo: please install ${missing.join(' ')}`);
    return;
  }
  const env = ['env', 'DEBIAN_FRONTEND=noninteractive'];
  const apt = [...root, ...env, 'apt-get', '-q', '-y', '-o', 'Dpkg::Use-Pty=0'];
  const failed = step(`installing ${missing.length} Debian packages: ${missing.join(' ')}`, () => {
    if (run([...apt, 'update']) !== 0) say('apt-get update failed; trying with the lists at hand');
    // Debian 12 starts no service for these; 13 starts the system's libvirtd, which ends when nobody has asked it for two
    // minutes. The lab has a daemon of its own and asks the system's nothing.
    return run([...apt, 'install', '--no-install-recommends', ...missing]) !== 0;
  });
  if (failed) {
    const still = missingPackages() ?? [];
    say(`could not install: ${still.join(' ')}`);
    if (still.some((name) => BUILD_PACKAGES.includes(name)))
      say('the libvirt bindings cannot be built without them');
  }
}

/** Hash of what decides the content of node_modules. */
function lockHash() {
  const lock = readFileSync(join(ROOT, 'package-lock.json'));
  return createHash('sha256').update(lock).update(process.versions.modules).digest('hex');
}

function installModules() {
  const stamp = join(ROOT, 'node_modules', '.foreshade-lock');
  const hash = lockHash();
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return;
  // Not `npm ci`: it refuses a lock file that leaves out other platforms' binaries. This follows the lock and changes nothing in it.
  // The level is said, since a quiet `npm run -s` would hide what went wrong.
  const npm = ['npm', 'install', '--no-save', '--no-audit', '--no-fund', '--loglevel=warn'];
  const status = step('installing npm packages', () => run(npm, { cwd: ROOT }));
  if (status !== 0) throw new Error('npm install failed; its output above says why');
  mkdirSync(join(ROOT, 'node_modules'), { recursive: true });
  writeFileSync(stamp, hash);
}

try {
  checkNode();
  installPackages();
  installModules();
  const { build } = await import('./build.mjs');
  await build();
} catch (error) {
  say(error.message);
  process.exit(1);
}
