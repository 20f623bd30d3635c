import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { AllocatorError } from '../core/errors.ts';
import { type LogDamage, ShadowError } from '../core/shadow.ts';
import { StateLock } from '../state-lock.ts';
import { isUnwritable } from './files.ts';
import { heldInputKey, keepInputKey, newInputKey } from './input-rules.ts';
import { LOG_FOLDER, SEALED_FOLDER, WORK_FOLDER } from './layout.ts';
import { cutTorn, type LogEnd, listSegments, readEnd, segmentName } from './log-segments.ts';
import type { LogStart } from './log-writer.ts';
import { readManifest } from './manifest.ts';

/**
 * The right to write in a store's folder. Nothing in the folder is changed before its lock is held, and nothing is added
 * before what a crash left was put in order; on a disk that takes nothing that is tried again until it does.
 */
export class WriteAccess {
  readonly #directory: string;
  readonly #needsKey: boolean;
  #lock: StateLock | undefined;
  /** How the log ended when it was read under the lock: since then it is nobody's but ours. */
  #end: LogEnd | undefined;
  #start: LogStart | undefined;
  #inputKey: string | undefined;
  /** What stood torn or bad at the end of the log when it was opened. */
  readonly damage: readonly LogDamage[];

  /**
   * See that the store can be read, and lock it if its disk lets us.
   * @param needsKey there are inputs to hash
   * @throws {ShadowError} STORE_IN_USE, STORE_TOO_NEW, STORE_UNAVAILABLE; whatever the system says of a folder that cannot be listed
   */
  constructor(directory: string, needsKey: boolean) {
    this.#directory = directory;
    this.#needsKey = needsKey;
    // All that is refused is refused before anything is changed.
    if (existsSync(directory)) readdirSync(directory);
    readManifest(directory);
    try {
      this.#lock = lockOf(directory);
    } catch (cause) {
      if (!isUnwritable(cause)) throw cause;
      refuseSecondWriter(directory);
    }
    try {
      const end = endOf(directory);
      this.damage = end.damage;
      if (this.#lock !== undefined) this.#end = end;
    } catch (cause) {
      this.release();
      throw cause;
    }
  }

  /** The key under which inputs are hashed: in the folder before any of them is. Empty when none are. */
  get inputKey(): string {
    if (!this.#needsKey) return '';
    this.#inputKey ??= heldInputKey(this.#directory) ?? newInputKey();
    return this.#inputKey;
  }

  /**
   * Lock the folder and put in order what a crash left; once that was done the call costs nothing.
   * @returns where the log goes on
   * @throws {ShadowError} STORE_IN_USE, STORE_TOO_NEW; whatever the disk says when it takes nothing
   */
  take(): LogStart {
    if (this.#start !== undefined) return this.#start;
    this.#lock ??= lockOf(this.#directory);
    this.#end ??= endOf(this.#directory);
    const { sealedSegment, sealedSequence } = readManifest(this.#directory);
    removeStrays(this.#directory);
    cutTorn(join(this.#directory, LOG_FOLDER), this.#end);
    if (this.#needsKey) this.#inputKey = keepInputKey(this.#directory, this.inputKey);
    this.#start = {
      nextSegment: Math.max(sealedSegment, this.#end.segment) + 1,
      nextSequence: Math.max(sealedSequence, this.#end.sequence) + 1,
    };
    return this.#start;
  }

  release(): void {
    this.#lock?.release();
  }
}

function lockOf(directory: string): StateLock {
  try {
    return StateLock.take(directory);
  } catch (cause) {
    if (cause instanceof AllocatorError) throw new ShadowError('STORE_IN_USE', cause.message, { cause });
    throw cause;
  }
}

function endOf(directory: string): LogEnd {
  return readEnd(join(directory, LOG_FOLDER), readManifest(directory).sealedSegment);
}

/** A lock that could not be taken for want of room may be another's all the same. */
function refuseSecondWriter(directory: string): void {
  const pid = StateLock.holder(directory);
  if (pid === undefined) return;
  throw new ShadowError('STORE_IN_USE', `${directory} is in use by process ${pid}: a store has one writer`);
}

/** What a cut-off seal, merge or query left: no reader knows it. */
function removeStrays(directory: string): void {
  const { files, sealedSegment } = readManifest(directory);
  rmSync(join(directory, WORK_FOLDER), { recursive: true, force: true });
  mkdirSync(join(directory, WORK_FOLDER), { mode: 0o750 });
  for (const segment of listSegments(join(directory, LOG_FOLDER))) {
    if (segment <= sealedSegment) rmSync(join(directory, LOG_FOLDER, segmentName(segment)));
  }
  const known = new Set(files.map(({ path }) => path));
  const sealed = join(directory, SEALED_FOLDER);
  if (!existsSync(sealed)) return;
  for (const entry of readdirSync(sealed, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name).slice(directory.length + 1);
    if (entry.isFile() && !known.has(path)) rmSync(join(directory, path));
  }
}
