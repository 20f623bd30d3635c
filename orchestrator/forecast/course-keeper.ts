import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GuestId } from '../core/guest.ts';
import type { GuestCourses } from './guest-courses.ts';

/** A guest's course is written after so many new bins of five minutes: an hour. What a crash loses of it is a gap. */
const BINS_BETWEEN = 12;
/** How often one guest's course may be written: a thousand guests of 240 KiB are so spread over a quarter of an hour. */
const WRITE_EVERY_MS = 1000;
const SUFFIX = '.course';

/** What is told of files that cannot be used. */
export interface KeeperListener {
  /** The guest begins cold. */
  readonly onDamaged: (path: string, cause: unknown) => void;
  readonly onUnwritten: (path: string, cause: unknown) => void;
}

/** Keeps the long tracks of all guests in a folder, a file each, so that a restart does not lose weeks. */
export class CourseKeeper {
  readonly #folder: string;
  readonly #courses: GuestCourses;
  readonly #listener: KeeperListener;
  /** Bins that each guest's file holds. */
  readonly #written = new Map<GuestId, number>();
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;

  private constructor(folder: string, courses: GuestCourses, listener: KeeperListener) {
    this.#folder = folder;
    this.#courses = courses;
    this.#listener = listener;
  }

  /** Let courses go on from a folder's files, as far as they can be read, and keep them there until `stop`. */
  static async start(folder: string, courses: GuestCourses, listener: KeeperListener): Promise<CourseKeeper> {
    const keeper = new CourseKeeper(folder, courses, listener);
    await mkdir(folder, { recursive: true, mode: 0o750 });
    await keeper.#resume();
    keeper.#timer = setInterval(() => keeper.#writeNext(), WRITE_EVERY_MS).unref();
    return keeper;
  }

  /** Write what has changed, and end. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
    await this.#dropForgotten();
    for (const guest of this.#courses.guests()) if (this.#gained(guest) > 0) await this.#write(guest);
  }

  async #resume(): Promise<void> {
    const found: { path: string; atMs: number }[] = [];
    for (const name of await readdir(this.#folder)) {
      const path = join(this.#folder, name);
      if (name.endsWith(SUFFIX)) found.push({ path, atMs: (await stat(path)).mtimeMs });
      else await rm(path, { force: true, recursive: true }); // what a crash left of a write
    }
    // Oldest first: it is the first that gives way.
    for (const { path } of found.sort((a, b) => a.atMs - b.atMs)) {
      try {
        const guest = this.#courses.resume(await readFile(path));
        this.#written.set(guest, this.#courses.bins(guest, 'long'));
      } catch (cause) {
        this.#listener.onDamaged(path, cause);
        await rm(path, { force: true });
      }
    }
  }

  /** Begin to write the course that waited longest, if one is due and none is being written. */
  #writeNext(): void {
    if (this.#writing !== undefined) return;
    const due = this.#courses.guests().find((guest) => this.#gained(guest) >= BINS_BETWEEN);
    const work = async (): Promise<void> => {
      await this.#dropForgotten();
      if (due !== undefined) await this.#write(due);
    };
    this.#writing = work().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Bins that the file of a guest lacks. */
  #gained(guest: GuestId): number {
    return this.#courses.bins(guest, 'long') - (this.#written.get(guest) ?? 0);
  }

  /** By a rename, so that a file is whole; a power loss may take it, which the checksum tells. */
  async #write(guest: GuestId): Promise<void> {
    const path = this.#pathOf(guest);
    try {
      const bins = this.#courses.bins(guest, 'long');
      const record = this.#courses.record(guest);
      if (record === undefined) return;
      // Also when it fails: the next attempt is after as many bins again.
      this.#written.set(guest, bins);
      await writeFile(`${path}.draft`, record, { mode: 0o640 });
      await rename(`${path}.draft`, path);
    } catch (cause) {
      this.#listener.onUnwritten(path, cause);
      await rm(`${path}.draft`, { force: true }).catch(() => {});
    }
  }

  /** A guest that was forgotten leaves nothing, nor does one that began anew. */
  async #dropForgotten(): Promise<void> {
    for (const guest of this.#written.keys()) {
      if (this.#gained(guest) >= 0) continue;
      this.#written.delete(guest);
      const path = this.#pathOf(guest);
      await rm(path, { force: true }).catch((cause) => this.#listener.onUnwritten(path, cause));
    }
  }

  #pathOf(guest: GuestId): string {
    return join(this.#folder, `${encodeURIComponent(guest)}${SUFFIX}`);
  }
}
