import { existsSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type RetentionPolicy, ShadowError } from '../core/shadow.ts';
import type { DatabaseLimits } from './database.ts';
import { isFull } from './files.ts';
import { LOG_FOLDER } from './layout.ts';
import { listSegments, segmentName } from './log-segments.ts';
import { type Manifest, publishManifest, readManifest, type SealedFile } from './manifest.ts';
import { freeBytes, giveSpareRoom, keepSpareRoom } from './spare-room.ts';
import { expired, mergesDue, rollUpsDue, withoutDue } from './upkeep.ts';
import { WorkerClient } from './worker-client.ts';

/** Bytes of log that are sealed at once: what the worker has to hold in memory. */
const SEAL_BYTES_MAX = 64 * 1024 * 1024;

export interface MaintenanceOptions {
  readonly directory: string;
  readonly limits: DatabaseLimits;
  readonly retention: RetentionPolicy;
  /** With less than this free, files are not merged or rolled up. */
  readonly freeBytesMin: number;
  /** Make sure that the folder is ours. @throws whatever the disk says when it takes nothing */
  readonly take: () => void;
  /** Do some work while no rows are written. */
  readonly hold: (work: () => Promise<void>) => Promise<void>;
  /** Close the segment being written, on `isWhole` only with all that waits. @returns the last closed one */
  readonly roll: (isWhole: boolean) => Promise<number>;
  /** False while a query may still open files that are no longer listed. */
  readonly mayRemove: () => boolean;
}

/** Everything that changes the manifest, one after the other. */
export class Maintenance {
  readonly #options: MaintenanceOptions;
  readonly #directory: string;
  readonly #worker: WorkerClient;
  #turn: Promise<unknown> = Promise.resolve();
  /** No longer listed, and still there. */
  #unlisted: string[] = [];
  #closed = false;

  constructor(options: MaintenanceOptions) {
    this.#options = options;
    this.#directory = options.directory;
    this.#worker = new WorkerClient({ directory: options.directory, limits: options.limits, yields: true });
  }

  /**
   * Seal, merge, roll up, drop what is too old; finish an erasure that was cut off. What is too old is dropped also when the
   * rest fails, and the rest is then tried once more: on a full disk that is what makes room.
   */
  maintain(nowMs = Date.now()): Promise<void> {
    return this.#exclusively(async () => {
      try {
        await this.#tidy(nowMs);
      } catch (cause) {
        if (!(await this.#makeRoom(nowMs))) throw cause;
        await this.#tidy(nowMs);
      }
      // Without it the next full disk may have to be emptied by hand; that is no reason to fail now.
      await keepSpareRoom(this.#directory).catch(() => {});
    });
  }

  async #tidy(nowMs: number): Promise<void> {
    this.#options.take();
    await this.#seal();
    for (const tenant of readManifest(this.#directory).erasing) await this.#eraseTenant(tenant);
    // Sealing and dropping make room; what follows needs some first.
    const hasRoom = (await freeBytes(this.#directory)) > this.#options.freeBytesMin;
    for (const files of hasRoom ? mergesDue(readManifest(this.#directory), nowMs) : []) {
      const tier = files[0]?.tier ?? 'raw';
      const made = await this.#worker.ask({ kind: 'merge', tier, files });
      await this.#replace(files, made.files);
    }
    for (const { tier, points, old } of hasRoom ? rollUpsDue(readManifest(this.#directory), nowMs) : []) {
      const made = await this.#worker.ask({ kind: 'roll-up', tier, files: points });
      const rows = points.reduce((sum, file) => sum + file.rows, 0);
      await this.#replace(
        old,
        made.files.map((file) => ({ ...file, points: rows })),
      );
    }
    await this.#replace(expired(readManifest(this.#directory), this.#options.retention, nowMs), []);
    await this.#removeUnlisted();
  }

  /**
   * Drop what is too old on a disk that may be full; points that still have to be rolled up only when nothing else can go.
   * Even the list of what stays needs some room: it comes from what was kept for that.
   * @returns true when anything was dropped
   */
  async #makeRoom(nowMs: number): Promise<boolean> {
    const manifest = readManifest(this.#directory);
    const old = expired(manifest, this.#options.retention, nowMs);
    const rolledUp = withoutDue(old, rollUpsDue(manifest, nowMs));
    const gone = rolledUp.length > 0 ? rolledUp : old;
    if (gone.length === 0) return false;
    await this.#options.hold(async () => {
      const drop = async (): Promise<void> => {
        this.#options.take();
        await this.#replace(gone, []);
      };
      try {
        await drop();
      } catch (cause) {
        if (!isFull(cause) || !giveSpareRoom(this.#directory)) throw cause;
        await drop();
      }
      await this.#removeUnlisted();
    });
    return true;
  }

  importSet(set: string): Promise<number> {
    return this.#exclusively(async () => {
      const folder = resolve(set);
      // A worker of its own: only it may read the set's folder.
      const worker = new WorkerClient({
        directory: this.#directory,
        limits: this.#options.limits,
        alsoBelow: [folder],
        yields: true,
      });
      try {
        const { files, name, rows } = await worker.ask({ kind: 'load-set', set: folder });
        const manifest = readManifest(this.#directory);
        if (manifest.imports.includes(name)) {
          this.#unlisted.push(...files.map(({ path }) => path));
          throw new ShadowError('SET_REFUSED', `${name} was imported before`);
        }
        await publishManifest(this.#directory, {
          ...manifest,
          files: [...manifest.files, ...files],
          imports: [...manifest.imports, name],
        });
        return rows;
      } finally {
        await worker.close();
      }
    });
  }

  erase(tenant: string): Promise<void> {
    return this.#exclusively(async () => {
      const manifest = readManifest(this.#directory);
      const erasing = [...new Set([...manifest.erasing, tenant])];
      await publishManifest(this.#directory, { ...manifest, erasing });
      // A row of the tenant that waits for the disk would come after all was erased.
      await this.#seal(true);
      await this.#eraseTenant(tenant);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#worker.close();
    await this.#turn.catch(() => {});
    await this.#remove(this.#unlisted.splice(0));
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(() => {
      if (this.#closed) throw new ShadowError('STORE_UNAVAILABLE', 'The store is closed');
      return work();
    });
    this.#turn = done.catch(() => {});
    return done;
  }

  async #seal(isWhole = false): Promise<void> {
    const last = await this.#options.roll(isWhole);
    for (let next = this.#sealable(last); next !== undefined; next = this.#sealable(last)) {
      const { through } = next;
      const { files, sealedSequence, damage, orphans } = await this.#worker.ask({ kind: 'seal', ...next });
      const manifest = readManifest(this.#directory);
      await publishManifest(this.#directory, {
        ...manifest,
        sealedSegment: through,
        sealedSequence,
        files: [...manifest.files, ...files],
        damage: [...manifest.damage, ...damage],
        lostRows: manifest.lostRows + orphans,
      });
      for (const segment of this.#segments().filter((segment) => segment <= through)) {
        await rm(join(this.#directory, LOG_FOLDER, segmentName(segment)), { force: true });
      }
    }
  }

  #segments(): number[] {
    return listSegments(join(this.#directory, LOG_FOLDER));
  }

  /** The last of the closed segments that are sealed next, and whether none is left behind it; undefined when there is none. */
  #sealable(last: number): { through: number; hasTime: boolean } | undefined {
    const { sealedSegment } = readManifest(this.#directory);
    let bytes = 0;
    let through: number | undefined;
    for (const segment of this.#segments()) {
      if (segment <= sealedSegment || segment > last) continue;
      bytes += statSync(join(this.#directory, LOG_FOLDER, segmentName(segment))).size;
      if (through !== undefined && bytes > SEAL_BYTES_MAX) return { through, hasTime: false };
      through = segment;
    }
    return through === undefined ? undefined : { through, hasTime: true };
  }

  /** Every file that holds the tenant is written anew without it; the old ones are removed at once, whoever reads them. */
  async #eraseTenant(tenant: string): Promise<void> {
    for (const file of readManifest(this.#directory).files) {
      const { files, held } = await this.#worker.ask({ kind: 'erase', file, tenant });
      if (held)
        await this.#replace(
          [file],
          files.map((made) => ({ ...made, ...pointsOf(file, made) })),
        );
    }
    const manifest: Manifest = readManifest(this.#directory);
    await this.#remove(this.#unlisted.splice(0));
    await publishManifest(this.#directory, {
      ...manifest,
      erasing: manifest.erasing.filter((name) => name !== tenant),
    });
  }

  /** List `made` in place of `old`. */
  async #replace(old: readonly SealedFile[], made: readonly SealedFile[]): Promise<void> {
    if (old.length === 0 && made.length === 0) return;
    const gone = new Set(old.map(({ path }) => path));
    const manifest = readManifest(this.#directory);
    const files = [...manifest.files.filter(({ path }) => !gone.has(path)), ...made];
    await publishManifest(this.#directory, { ...manifest, files });
    this.#unlisted.push(...gone);
  }

  async #removeUnlisted(): Promise<void> {
    if (this.#options.mayRemove()) await this.#remove(this.#unlisted.splice(0));
  }

  async #remove(paths: readonly string[]): Promise<void> {
    for (const path of paths) {
      const absolute = join(this.#directory, path);
      if (existsSync(absolute)) await rm(absolute, { force: true });
    }
  }
}

/** What is left of a tier was made of as many points as before, so that it is not made anew. */
function pointsOf(old: SealedFile, made: SealedFile): { points?: number } {
  if (old.points === undefined) return {};
  return { points: Math.round((old.points * made.rows) / Math.max(1, old.rows)) };
}
