import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { extname, join } from 'node:path';
import { ShadowError, type ShadowErrorCode } from '../core/shadow.ts';
import { WORKER_NICENESS } from './priority.ts';
import type { Answers, Ask, FromWorker, WorkerOptions } from './worker-messages.ts';

/** Memory of a worker beside its database: Node, a result under way, the log being read. */
const OWN_BYTES = 384 * 1024 * 1024;
/**
 * A worker that is done and holds so much beside its database is ended: native allocators give little back, and after a
 * dozen heavy questions a light one would be refused for what the others left.
 */
const KEPT_BYTES_MAX = OWN_BYTES / 2;
/** How often a busy worker's memory is looked at. */
const WATCH_EVERY_MS = 200;
/** What it may still have to say is kept, should it end. */
const STDERR_CHARS_MAX = 2_000;
/** How long a worker may take to stop what it does before it is ended. */
const STOP_WITHIN_MS = 2_000;
const PAGE_BYTES = 4096;
/** Requests that wait for the one under way. */
const WAITING_MAX = 32;

interface Call {
  readonly id: number;
  readonly pieces: ((piece: Uint8Array) => void) | undefined;
  resolve(answer: Answers[Ask['kind']]): void;
  reject(error: Error): void;
}

/** A worker process: started when first asked, watched while it works, started anew after it ended. */
export class WorkerClient {
  readonly #options: WorkerOptions;
  #process: ChildProcess | undefined;
  #calls = new Map<number, Call>();
  #nextId = 0;
  #watch: NodeJS.Timeout | undefined;
  #stderr = '';
  #killedFor: ShadowError | undefined;
  #closed = false;

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  /** @throws {ShadowError} as the worker says; QUERY_LOST when it ended, QUERY_TOO_LARGE when it took too much memory */
  async ask<K extends Ask['kind']>(
    ask: Extract<Ask, { kind: K }>,
    signal?: AbortSignal,
  ): Promise<Answers[K]> {
    return (await this.#call(ask, undefined, signal).answer) as Answers[K];
  }

  /** Pieces of a query's result; the worker computes no further ahead than one piece. */
  async *query(sql: string, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    let arrived: Uint8Array | undefined;
    let wake = (): void => {};
    const { id, answer } = this.#call(
      { kind: 'query', sql },
      (piece) => {
        arrived = piece;
        wake();
      },
      signal,
    );
    let ended = false;
    const end = answer.then(
      () => {
        ended = true;
        wake();
      },
      () => wake(),
    );
    try {
      for (;;) {
        if (arrived === undefined && !ended) {
          await Promise.race([
            answer,
            new Promise<void>((resolve) => {
              wake = resolve;
            }),
          ]);
        }
        if (arrived === undefined) break;
        const piece: Uint8Array = arrived;
        arrived = undefined;
        yield piece;
        this.#send({ id, more: true });
      }
      const { last } = (await answer) as Answers['query'];
      yield last;
    } finally {
      if (this.#calls.has(id)) this.#stop(id);
      await end;
    }
  }

  #call(
    ask: Ask,
    pieces: Call['pieces'],
    signal?: AbortSignal,
  ): { id: number; answer: Promise<Answers[Ask['kind']]> } {
    signal?.throwIfAborted();
    if (this.#closed) throw new ShadowError('STORE_UNAVAILABLE', 'The store is closed');
    if (this.#calls.size >= WAITING_MAX) {
      throw new ShadowError(
        'STORE_UNAVAILABLE',
        `${WAITING_MAX} requests wait for the store already; repeat later`,
      );
    }
    const id = this.#nextId;
    this.#nextId += 1;
    const answer = new Promise<Answers[Ask['kind']]>((resolve, reject) => {
      this.#calls.set(id, { id, pieces, resolve, reject });
    });
    answer.catch(() => {}); // it may fail before anybody waits
    const child = this.#start();
    child.send({ id, ask }, () => {}); // a worker that is gone rejects its calls when it exits
    const stop = (): void => this.#stop(id);
    signal?.addEventListener('abort', stop, { once: true });
    const settled = answer
      .catch((cause) => {
        signal?.throwIfAborted();
        throw cause;
      })
      .finally(() => signal?.removeEventListener('abort', stop));
    settled.catch(() => {});
    return { id, answer: settled };
  }

  #send(message: object): void {
    if (this.#process?.connected) this.#process.send(message, () => {});
  }

  #stop(id: number): void {
    this.#send({ id, stop: true });
    setTimeout(() => {
      // Requests run in turn: only the first can be what holds the others up.
      const [first] = this.#calls.keys();
      if (first === id)
        this.#kill('QUERY_LOST', 'A query that was given up did not stop; its process was ended');
    }, STOP_WITHIN_MS).unref();
  }

  #start(): ChildProcess {
    if (this.#process !== undefined) return this.#process;
    const program = join(import.meta.dirname, `worker${extname(import.meta.filename)}`);
    const child = fork(program, [JSON.stringify(this.#options)], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      // The parent's own flags (a debugger's port, a test's loader) are not the worker's.
      execArgv: ['--max-old-space-size=256'],
    });
    // It loads for some hundred milliseconds before it sees to its own threads.
    if (child.pid !== undefined) setPriority(child.pid, WORKER_NICENESS);
    this.#process = child;
    this.#stderr = '';
    this.#killedFor = undefined;
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-STDERR_CHARS_MAX);
    });
    child.on('message', (message: FromWorker) => this.#take(message));
    child.on('error', () => {}); // 'exit' follows
    child.on('exit', (code, signal) => this.#ended(child, code, signal));
    this.#watch = setInterval(() => this.#checkMemory(), WATCH_EVERY_MS);
    this.#watch.unref();
    return child;
  }

  #take(message: FromWorker): void {
    const call = this.#calls.get(message.id);
    if (call === undefined) return;
    if ('piece' in message) {
      call.pieces?.(message.piece);
      return;
    }
    this.#calls.delete(message.id);
    if ('answer' in message) call.resolve(message.answer);
    else call.reject(new ShadowError(message.failure.code, message.failure.message));
    if (this.#calls.size === 0) this.#retireIfLarge();
  }

  #retireIfLarge(): void {
    const child = this.#process;
    const most = this.#options.limits.memoryBytes + KEPT_BYTES_MAX;
    if (child?.pid === undefined || residentBytes(child.pid) <= most) return;
    clearInterval(this.#watch);
    this.#process = undefined;
    void endWorker(child);
  }

  #ended(child: ChildProcess, code: number | null, signal: NodeJS.Signals | null): void {
    if (this.#process !== child) return;
    clearInterval(this.#watch);
    this.#process = undefined;
    const how = `(${signal ?? `exit ${code}`}); the store is intact ${this.#stderr}`.trim();
    const error =
      this.#killedFor ?? new ShadowError('QUERY_LOST', `The process that worked on it ended ${how}`);
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.reject(error);
  }

  /** The database keeps its own limit; what native code takes beside it only the system sees. */
  #checkMemory(): void {
    const pid = this.#process?.pid;
    if (pid === undefined) return;
    const most = this.#options.limits.memoryBytes + OWN_BYTES;
    const bytes = residentBytes(pid);
    if (bytes > most)
      this.#kill('QUERY_TOO_LARGE', `The query took ${bytes} bytes of memory; it may have ${most}`);
  }

  #kill(code: ShadowErrorCode, message: string): void {
    this.#killedFor = new ShadowError(code, message);
    this.#process?.kill('SIGKILL');
  }

  /** Process id of the worker, while there is one. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const child = this.#process;
    if (child === undefined) return;
    await endWorker(child);
  }
}

/** A worker ends when nobody is connected to it, or is ended. */
async function endWorker(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
  await ended;
  clearTimeout(timer);
}

function residentBytes(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE_BYTES;
  } catch {
    return 0;
  }
}
