import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

/** What a disk says that takes nothing now, and may later: it is full, its quota is, or it may only be read. */
const UNWRITABLE: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EACCES', 'EPERM']);

/** True for the failure of a disk on which there is no room. */
export function isFull(cause: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes((cause as NodeJS.ErrnoException).code ?? '');
}

/** True for the failure of a disk that takes nothing and may still be read. */
export function isUnwritable(cause: unknown): boolean {
  return UNWRITABLE.has((cause as NodeJS.ErrnoException).code ?? '');
}

/**
 * Make a file's content durable, or the names in a folder: a new, renamed or removed file survives a power loss only once its
 * folder was synced.
 */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** `syncPath`, for the opening of a store, which waits. */
export function syncPathNow(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Replace a file by a new content, whole or not at all, and durable when this resolves. */
export async function publishText(path: string, text: string): Promise<void> {
  const fresh = `${path}.new`;
  const file = await open(fresh, 'w', 0o640);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(fresh, path);
  await syncPath(dirname(path));
}

/** A folder that survives a power loss, its parents included as far as they were made. */
export async function makeFolder(directory: string): Promise<void> {
  if (existsSync(directory)) return;
  const parent = dirname(directory);
  await makeFolder(parent);
  mkdirSync(directory, { recursive: true, mode: 0o750 });
  await syncPath(parent);
}

/** A file's text, or undefined when there is none. */
export function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
}
