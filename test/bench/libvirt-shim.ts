import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const SOURCE = join(ROOT, 'test/bench/libvirt-shim.c');
const ADDON = join(ROOT, 'dist/libvirt-adapter/native/foreshade_libvirt.node');

/** Why nothing can call the addon here, or undefined when it can. */
export function addonUnavailableReason(): string | undefined {
  return existsSync(ADDON)
    ? undefined
    : 'the libvirt addon is not built: node libvirt-adapter/native/build.mjs';
}

/** The compiled shim. `remove` deletes it; what has loaded it goes on. */
export interface Shim {
  readonly path: string;
  remove(): void;
}

/** Compile the shim into a folder of its own, or say why that cannot be. */
export function buildShim(): Shim | string {
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-shim-'));
  const path = join(folder, 'libvirt-shim.so');
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const parameters = ['-O2', '-Wall', '-Wextra', '-shared', '-fPIC', SOURCE, '-o', path];
  const compiler = spawnSync('gcc', parameters, { encoding: 'utf8' });
  if (compiler.error === undefined && compiler.status === 0) return { path, remove };
  remove();
  return `the libvirt shim does not compile here: ${compiler.error?.message ?? compiler.stderr}`;
}
