import { randomUUID } from 'node:crypto';
import { statSync } from 'node:fs';
import { copyFile, rename, rm } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import type { StoreStats, TierStats } from '../core/shadow.ts';
import type { DatabaseLimits } from './database.ts';
import { filesOf, LOG_FOLDER, WORK_FOLDER } from './layout.ts';
import { listSegments, segmentName } from './log-segments.ts';
import { readManifest, TIERS } from './manifest.ts';
import { WorkerClient } from './worker-client.ts';

/** What a worker may use unless told otherwise: half the cores, and memory a host can spare. */
export const WORKER_LIMITS: DatabaseLimits = {
  threads: Math.max(1, Math.floor(cpus().length / 2)),
  memoryBytes: 512 * 1024 * 1024,
  spillBytes: 2 * 1024 * 1024 * 1024,
};

/** Reads a store, whoever writes it. Takes no lock. */
export class ShadowReader {
  readonly #directory: string;
  readonly #worker: WorkerClient;
  #active = 0;

  constructor(directory: string, limits: DatabaseLimits = WORKER_LIMITS) {
    this.#directory = directory;
    this.#worker = new WorkerClient({ directory, limits });
  }

  /** True while a query may still open files of an earlier manifest. */
  get isBusy(): boolean {
    return this.#active > 0;
  }

  /** Process id of the worker, while there is one. */
  get workerPid(): number | undefined {
    return this.#worker.pid;
  }

  /** See `ShadowStore.query`. */
  async *query(sql: string, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    this.#active += 1;
    try {
      yield* this.#worker.query(sql, signal);
    } finally {
      this.#active -= 1;
    }
  }

  /** Write a query's result to a file. @throws {ShadowError} as a query does */
  async export(sql: string, format: 'parquet' | 'csv', path: string, signal?: AbortSignal): Promise<number> {
    const work = join(this.#directory, WORK_FOLDER, `export-${randomUUID()}`);
    this.#active += 1;
    try {
      const { rows } = await this.#worker.ask({ kind: 'export', sql, format, path: work }, signal);
      await rename(work, path).catch(() => copyFile(work, path)); // another file system
      return rows;
    } finally {
      this.#active -= 1;
      await rm(work, { force: true });
    }
  }

  async stats(): Promise<StoreStats> {
    const { rows, damage, orphans } = await this.#worker.ask({ kind: 'count-log' });
    const manifest = readManifest(this.#directory);
    const log = join(this.#directory, LOG_FOLDER);
    const segments = listSegments(log).filter((segment) => segment > manifest.sealedSegment);
    const sizes = segments.map(
      (segment) => statSync(join(log, segmentName(segment)), { throwIfNoEntry: false })?.size ?? 0,
    );
    return {
      schema: manifest.schema,
      tiers: TIERS.map((tier) => tierStats(tier, filesOf(manifest.files, tier))),
      log: { segments: segments.length, bytes: sizes.reduce((sum, size) => sum + size, 0), rows },
      damage: [...manifest.damage, ...damage],
      lostRows: manifest.lostRows + orphans,
      imports: manifest.imports,
    };
  }

  close(): Promise<void> {
    return this.#worker.close();
  }
}

function tierStats(tier: string, files: ReturnType<typeof filesOf>): TierStats {
  const sum = (of: (file: (typeof files)[number]) => number): number =>
    files.reduce((total, file) => total + of(file), 0);
  return {
    tier,
    files: files.length,
    rows: sum(({ rows }) => rows),
    bytes: sum(({ bytes }) => bytes),
    ...(files.length > 0 && {
      fromMs: Math.min(...files.map(({ fromMs }) => fromMs)),
      toMs: Math.max(...files.map(({ toMs }) => toMs)),
    }),
  };
}
