import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { versionsIn } from './model-file.ts';
import { refuse } from './refusal.ts';

/** Names the version that serves, as a decimal number; absent until the first promotion. */
const CURRENT = 'current';

/**
 * The version that is meant when none is named: what `current` says, else the newest.
 * @param folder the model's folder
 * @returns undefined when the model has no version
 * @throws {AllocatorError} INVALID_REQUEST when `current` names none that is there: to serve another would be a guess
 */
export async function servedVersion(folder: string): Promise<number | undefined> {
  const versions = await versionsIn(folder);
  const current = await promotedVersion(folder);
  if (current === undefined) return versions.at(-1);
  if (!versions.includes(current))
    refuse(`the file current of model ${basename(folder)} names version ${current}, which is not there`);
  return current;
}

/** What `current` says; undefined before the first promotion. @throws {AllocatorError} INVALID_REQUEST when it is no version */
export async function promotedVersion(folder: string): Promise<number | undefined> {
  const text = await readFile(join(folder, CURRENT), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const line = text.trim();
  if (!/^[1-9]\d{0,8}$/.test(line))
    refuse(`the file current of model ${basename(folder)} must hold one version`);
  return Number(line);
}

/** Let a version serve from now on: a reader sees the one before or this one, nothing between. */
export async function serveVersion(folder: string, version: number): Promise<void> {
  const draft = join(folder, `.${CURRENT}-${process.pid}`);
  try {
    await writeFile(draft, `${version}\n`, { flush: true });
    await rename(draft, join(folder, CURRENT));
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}
