import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder)
      throw new Error('the lab must run from inside its package: no package.json above it');
    folder = parent;
  }
  return folder;
}

const root = packageRoot();

/** C sources of what runs in the guest, next to it, and in QEMU. They are compiled when the lab is first used. */
export const LAB_SOURCES = join(root, 'libvirt-adapter/lab');
const icountFile = (name: string) => join(root, 'libvirt-adapter/icount', name);
export const ICOUNT_SOURCES = ['icount.c', 'insn-class.c'].map(icountFile);
export const ICOUNT_HEADERS = ['icount-file.h', 'insn-class.h', 'qemu-plugin-api.h'].map(icountFile);

/** Built once and kept: kernel, initramfs, plugin. */
export const DEFAULT_CACHE_DIR = join(root, 'dist/lab');

/** State of the lab that the CLI starts. In /run, so that a reboot of the host leaves nothing stale. */
export const DEFAULT_STATE_DIR = '/run/foreshade-lab';
