import { existsSync, readdirSync } from 'node:fs';
import { copyFile, link, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ShadowError } from '../core/shadow.ts';
import { makeFolder, publishText, syncPath } from './files.ts';
import { KEY_FILE, LOG_FOLDER, MANIFEST_FILE } from './layout.ts';
import { listSegments, segmentName } from './log-segments.ts';
import { readManifest } from './manifest.ts';

/** Times the store may be sealed or merged under one backup. */
const TRIES_MAX = 10;

/**
 * Copy a store that may be written meanwhile into a new folder. Sealed files never change, so where the file system allows
 * they are linked; the log is copied as far as it goes. What the writer changed under the copy makes it start over.
 * @throws {ShadowError} STORE_UNAVAILABLE
 */
export async function backupStore(directory: string, target: string): Promise<void> {
  if (existsSync(target) && readdirSync(target).length > 0) {
    throw new ShadowError('STORE_UNAVAILABLE', `${target} is not empty: a backup goes to a new folder`);
  }
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    if (await copyOnce(directory, target)) return;
    await rm(join(target, LOG_FOLDER), { recursive: true, force: true });
  }
  throw new ShadowError('STORE_UNAVAILABLE', `${directory} changed ${TRIES_MAX} times while it was copied`);
}

/** @returns false when the writer sealed, merged or dropped something meanwhile */
async function copyOnce(directory: string, target: string): Promise<boolean> {
  const manifest = readManifest(directory);
  const isSame = (): boolean => readManifest(directory).generation === manifest.generation;
  try {
    for (const { path } of manifest.files) await linkOrCopy(join(directory, path), join(target, path));
    await makeFolder(join(target, LOG_FOLDER));
    for (const segment of listSegments(join(directory, LOG_FOLDER))) {
      if (segment <= manifest.sealedSegment) continue;
      const path = join(LOG_FOLDER, segmentName(segment));
      await copyDurably(join(directory, path), join(target, path));
    }
    const key = join(directory, KEY_FILE);
    if (existsSync(key)) await copyDurably(key, join(target, KEY_FILE));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT' && !isSame()) return false;
    throw cause;
  }
  if (!isSame()) return false;
  await syncPath(join(target, LOG_FOLDER));
  await publishText(join(target, MANIFEST_FILE), `${JSON.stringify(manifest)}\n`);
  return true;
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  if (existsSync(to)) return;
  await makeFolder(dirname(to));
  try {
    await link(from, to);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') throw cause;
    await copyDurably(from, to); // another file system, or one without links
  }
  await syncPath(dirname(to));
}

/** With the mode it has: nobody may read more of the copy. */
async function copyDurably(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  await syncPath(to);
}
