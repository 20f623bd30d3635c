#!/usr/bin/env node
/**
 * Installs what Foreshade needs and builds it: Debian packages, npm packages, kernels, the libvirt addon, TypeScript. Works
 * before node_modules exists, shows each step, and does nothing twice. Where it may not install it says what is missing.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LAB_PACKAGES } from '../libvirt-adapter/lab/packages.mjs';
import { installPackages } from './debian-packages.mjs';
import { ROOT, run, say, step } from './steps.mjs';

const NODE_OLDEST = [20, 11];
/** What the tests of clients call by: without them those tests skip. */
const CLIENT_PACKAGES = [
  'curl',
  'protobuf-compiler',
  'protobuf-compiler-grpc',
  'python3-grpcio',
  'python3-protobuf',
];
/** Without these nothing can be built; the others only make the real-guest parts skip. */
const BUILD_PACKAGES = ['g++', 'libc6-dev', 'libvirt-dev'];

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > NODE_OLDEST[0] || (major === NODE_OLDEST[0] && minor >= NODE_OLDEST[1])) return;
  throw new Error(`Node ${NODE_OLDEST.join('.')} or later is needed; this is ${process.versions.node}`);
}

// Debian 12 starts no service for these; 13 starts the system's libvirtd, which ends when nobody has asked it for two minutes.
// The lab has a daemon of its own and asks the system's nothing.
function installDebianPackages() {
  const still = installPackages([...LAB_PACKAGES, ...CLIENT_PACKAGES]);
  if (still === undefined)
    say('this is not a Debian system: packages are left to you; tests on real guests will skip');
  else if (still.some((name) => BUILD_PACKAGES.includes(name)))
    say('the libvirt bindings cannot be built without them');
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
  installDebianPackages();
  installModules();
  const { build } = await import('./build.mjs');
  await build();
} catch (error) {
  say(error.message);
  process.exit(1);
}
