import { existsSync, readdirSync } from 'node:fs';
import { copyFile, link, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ShadowError } from '../core/shadow.ts';
import { makeFolder, publishText, syncFile, syncFolder } from './files.ts';
import { LOG_FOLDER } from './layout.ts';
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
      await copyFile(join(directory, path), join(target, path));
      await syncFile(join(target, path));
    }
    const key = join(directory, 'input-key');
    if (existsSync(key)) await publishText(join(target, 'input-key'), await readFile(key, 'utf8'));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT' && !isSame()) return false;
    throw cause;
  }
  if (!isSame()) return false;
  await syncFolder(join(target, LOG_FOLDER));
  await publishText(join(target, 'manifest.json'), `${JSON.stringify(manifest)}\n`);
  return true;
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  if (existsSync(to)) return;
  await makeFolder(dirname(to));
  try {
    await link(from, to);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') throw cause;
    await copyFile(from, to); // another file system, or one without links
    await syncFile(to);
  }
  await syncFolder(dirname(to));
}
