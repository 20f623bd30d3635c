import { existsSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { AllocatorError } from '../core/errors.ts';

/** Refuse, before long work, a file that could not be written after it. @throws {AllocatorError} INVALID_REQUEST */
export function checkPlace(path: string): void {
  const folder = dirname(resolve(path));
  if (!existsSync(folder)) throw new AllocatorError('INVALID_REQUEST', `there is no folder ${folder}`);
}

/**
 * Write a file whole or not at all: it takes its place by a rename.
 * @returns its full path
 * @throws {AllocatorError} INVALID_REQUEST when it cannot be written
 */
export async function writeWhole(path: string, content: string | Uint8Array): Promise<string> {
  const place = resolve(path);
  const draft = `${place}.${process.pid}`;
  try {
    await writeFile(draft, content);
    await rename(draft, place);
    return place;
  } catch (cause) {
    await rm(draft, { force: true });
    throw unusable(`${place} cannot be written`, cause);
  }
}

/** What the system says of a file. */
export function unusable(message: string, cause: unknown): AllocatorError {
  const reason = cause instanceof Error ? `: ${cause.message}` : '';
  return new AllocatorError('INVALID_REQUEST', `${message}${reason}`, {}, { cause });
}
