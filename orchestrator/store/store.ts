import { join } from 'node:path';
import { PROFILE_FIELDS } from '../core/profile.ts';
import { INSTRUCTION_CLASSES } from '../core/sample.ts';
import {
  CLASS_COLUMNS,
  flagBits,
  type LogDamage,
  type PointContext,
  PROFILE_COLUMNS,
  type RequestInputs,
  type RetentionPolicy,
  type ShadowContext,
  ShadowError,
  type ShadowLayout,
  type ShadowPoint,
  type ShadowStore,
  type StoreStats,
  type WritingStatus,
} from '../core/shadow.ts';
import { backupStore } from './backup.ts';
import type { DatabaseLimits } from './database.ts';
import { hashes, type InputRule, storedInputs } from './input-rules.ts';
import { LOG_FOLDER } from './layout.ts';
import { DISK, type LogDisk, LogWriter } from './log-writer.ts';
import { Maintenance } from './maintenance.ts';
import { ShadowReader, WORKER_LIMITS } from './reader.ts';
import { sparing } from './spare-room.ts';
import { WriteAccess } from './write-access.ts';

export interface StoreOptions {
  readonly directory: string;
  readonly retention?: RetentionPolicy;
  readonly inputRules?: readonly InputRule[];
  /** Of each of the two workers: the one that answers, and the one that seals and merges. */
  readonly limits?: DatabaseLimits;
  /** Between upkeeps; absent: only when `maintain` is called. */
  readonly maintainEveryMs?: number;
  readonly onState?: (status: WritingStatus) => void;
  /** An upkeep failed; the next one tries again. */
  readonly onMaintenanceError?: (error: Error) => void;
  /** What is left free of the disk, for others; absent: nothing. */
  readonly freeBytesMin?: number;
  /** Stands in for the disk, in tests. */
  readonly disk?: LogDisk;
  readonly queueBytesMax?: number;
}

/** Contexts and requests `record` remembers, so that a point's neighbour finds them; the oldest go first. */
const REMEMBERED_MAX = 10_000;

/** ShadowStore in a folder of one host's disk. */
export class DiskShadowStore implements ShadowStore {
  readonly #directory: string;
  readonly #access: WriteAccess;
  readonly #writer: LogWriter;
  readonly #maintenance: Maintenance;
  readonly #rules: readonly InputRule[];
  readonly #limits: DatabaseLimits;
  readonly #timer: NodeJS.Timeout | undefined;
  #reader: ShadowReader;
  readonly #contexts = new Map<string, ShadowContext>();
  readonly #requests = new Map<string, true>();
  readonly #points: ShadowLayout;
  readonly #values = new Float64Array(PROFILE_COLUMNS.length + CLASS_COLUMNS.length);
  /** What the opening found torn or bad at the end of the log. */
  readonly damageAtOpen: readonly LogDamage[];

  private constructor(options: StoreOptions, access: WriteAccess) {
    const { directory } = options;
    this.#directory = directory;
    this.#access = access;
    this.damageAtOpen = access.damage;
    this.#rules = options.inputRules ?? [];
    this.#limits = options.limits ?? WORKER_LIMITS;
    this.#writer = new LogWriter({
      directory: join(directory, LOG_FOLDER),
      start: () => access.take(),
      disk: sparing(options.disk ?? DISK, directory, options.freeBytesMin ?? 0),
      ...(options.queueBytesMax !== undefined && { queueBytesMax: options.queueBytesMax }),
      ...(options.onState !== undefined && { onState: options.onState }),
    });
    this.#points = this.#writer.layout([...PROFILE_COLUMNS, ...CLASS_COLUMNS]);
    this.#reader = new ShadowReader(directory, this.#limits);
    this.#maintenance = new Maintenance({
      directory,
      limits: this.#limits,
      retention: options.retention ?? {},
      freeBytesMin: options.freeBytesMin ?? 0,
      take: () => void this.#access.take(),
      hold: (work) => this.#writer.hold(work),
      roll: (isWhole) => this.#writer.roll(isWhole),
      mayRemove: () => !this.#reader.isBusy,
    });
    const { maintainEveryMs, onMaintenanceError = () => {} } = options;
    if (maintainEveryMs !== undefined) {
      this.#timer = setInterval(() => void this.maintain().catch(onMaintenanceError), maintainEveryMs);
      this.#timer.unref();
    }
  }

  /**
   * Open a store, making it when it is not there. What a crash left is put in order: an unfinished write is cut off, files
   * no manifest knows are removed. On a disk that takes nothing (full, read-only) the store opens all the same: it answers
   * questions, is `stalled`, holds rows back in its queue, and goes on by itself once the disk takes them.
   * @throws {ShadowError} STORE_IN_USE, STORE_TOO_NEW, STORE_UNAVAILABLE
   */
  static open(options: StoreOptions): DiskShadowStore {
    let access: WriteAccess | undefined;
    try {
      access = new WriteAccess(options.directory, hashes(options.inputRules ?? []));
      return new DiskShadowStore(options, access);
    } catch (cause) {
      access?.release();
      throw unavailable(options.directory, cause);
    }
  }

  get directory(): string {
    return this.#directory;
  }

  get status(): WritingStatus {
    return this.#writer.status;
  }

  context(facts: PointContext): ShadowContext {
    return this.#writer.context(facts);
  }

  layout(metrics: readonly string[]): ShadowLayout {
    return this.#writer.layout(metrics);
  }

  record(point: ShadowPoint): boolean {
    if (!Number.isFinite(point.atMs)) throw new ShadowError('POINT_REFUSED', 'A point needs a time');
    if (point.inputs !== undefined && point.requestId !== undefined) {
      const { requestId, inputs: params } = point;
      if (!this.recordInputs({ ...point, requestId, params })) {
        this.#writer.dropped();
        return false;
      }
    }
    for (const [i, field] of PROFILE_FIELDS.entries()) this.#values[i] = point.profile[field] ?? Number.NaN;
    for (const [i, name] of INSTRUCTION_CLASSES.entries())
      this.#values[PROFILE_FIELDS.length + i] = point.classes?.[name] ?? Number.NaN;
    const { periodMs = Number.NaN, instructionsAt = Number.NaN } = point;
    const flags = flagBits(point.flags);
    return this.#points.append(
      this.#contextOf(point),
      point.atMs,
      periodMs,
      instructionsAt,
      flags,
      this.#values,
    );
  }

  #contextOf({
    guest,
    host,
    axis,
    tenant,
    requestId,
    workload,
    cadence,
    granted,
  }: ShadowPoint): ShadowContext {
    const key = JSON.stringify([guest, host, axis, tenant, requestId, workload, cadence, granted]);
    const known = this.#contexts.get(key);
    if (known !== undefined) return known;
    const context = this.context({
      guest,
      host,
      axis,
      ...(tenant !== undefined && { tenant }),
      ...(requestId !== undefined && { requestId }),
      ...(workload !== undefined && { workload }),
      ...(cadence !== undefined && { cadence }),
      ...(granted !== undefined && { granted }),
    });
    remember(this.#contexts, key, context);
    return context;
  }

  recordInputs(inputs: RequestInputs): boolean {
    if (!Number.isFinite(inputs.atMs)) throw new ShadowError('POINT_REFUSED', 'A request needs a time');
    const key = JSON.stringify([inputs.tenant, inputs.guest, inputs.requestId]);
    if (this.#requests.has(key)) return true;
    const isTaken = this.#writer.recordInputs(storedInputs(inputs, this.#rules, this.#access.inputKey));
    if (isTaken) remember(this.#requests, key, true);
    return isTaken;
  }

  flush(): Promise<void> {
    return this.#writer.flush();
  }

  query(sql: string, signal?: AbortSignal): AsyncIterable<Uint8Array> {
    return this.#reader.query(sql, signal);
  }

  stats(): Promise<StoreStats> {
    return this.#reader.stats();
  }

  /** Process id of the worker that answers queries, while there is one. */
  get workerPid(): number | undefined {
    return this.#reader.workerPid;
  }

  async maintain(): Promise<void> {
    try {
      await this.#maintenance.maintain();
    } catch (cause) {
      throw unavailable(this.#directory, cause);
    }
  }

  /** @returns rows that were imported @throws {ShadowError} SET_REFUSED, STORE_UNAVAILABLE */
  async importSet(set: string): Promise<number> {
    this.#requireAccess();
    return await this.#maintenance.importSet(set);
  }

  /** What is sealed changes only in a folder that is ours. @throws {ShadowError} STORE_UNAVAILABLE */
  #requireAccess(): void {
    try {
      this.#access.take();
    } catch (cause) {
      throw unavailable(this.#directory, cause);
    }
  }

  async erase(tenant: string): Promise<void> {
    this.#requireAccess();
    await this.#maintenance.erase(tenant);
    // A worker that answered holds pages of the files that are gone.
    const old = this.#reader;
    this.#reader = new ShadowReader(this.#directory, this.#limits);
    await old.close();
  }

  async backup(directory: string): Promise<void> {
    // A disk that takes nothing may be why a backup is made.
    if (this.status.state !== 'stalled') await this.flush();
    await backupStore(this.#directory, directory);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#maintenance.close();
    await this.#writer.close();
    await this.#reader.close();
    this.#access.release();
  }
}

function unavailable(directory: string, cause: unknown): ShadowError {
  if (cause instanceof ShadowError) return cause;
  return new ShadowError('STORE_UNAVAILABLE', `${directory} cannot be used: ${(cause as Error).message}`, {
    cause,
  });
}

function remember<V>(map: Map<string, V>, key: string, value: V): void {
  const [oldest] = map.keys();
  if (map.size >= REMEMBERED_MAX && oldest !== undefined) map.delete(oldest);
  map.set(key, value);
}
