import { connect, type Socket } from 'node:net';
import { deferred } from './deferred.ts';

/** A workload's parameters, as the runner's protocol spells them. */
export type WorkloadParams = Readonly<Record<string, number | string>>;

/** How a run departs from its parameters once `at_fraction` of its work is done. Factors are 1 to 4. */
export interface Departure {
  readonly at_fraction: number;
  readonly memory_factor: number;
  /** On the work that is left, and on the threads, rounded up. */
  readonly cpu_factor: number;
}

export interface RunRequest {
  readonly workload: string;
  readonly params: WorkloadParams;
  /** Integer in [0, 2^53): decides the run's noise; the same seed gives the same run. */
  readonly seed: number;
  readonly depart?: Departure;
}

/** A run's start, on the host's clock. */
export interface RunStarted {
  readonly startedAtMs: number;
  /** Half the round trip of the offset's measurement: the start lies within this of `startedAtMs`. */
  readonly clockErrorMs: number;
}

/** How a run ended. Times are ms since the epoch on the host's clock. */
export interface RunOutcome extends RunStarted {
  readonly finishedAtMs: number;
  /** `killed`: by a signal, such as the guest's OOM killer's; `failed`: a disk or network call did. */
  readonly status: 'done' | 'killed' | 'failed';
  readonly signal: number;
  /** What failed, or "". */
  readonly error: string;
  /** CPU time of the run inside the guest: the guest's claim. */
  readonly cpuMs: number;
  readonly maxRssKib: number;
}

/** Guest clock minus host clock; the true value lies within `errorMs`. */
export interface ClockOffset {
  readonly offsetMs: number;
  readonly errorMs: number;
}

export interface RunOptions {
  /** Called once the work has started; its throw rejects the run. */
  readonly onStarted?: (started: RunStarted) => void;
  /** Cancels the run, which then ends as killed by SIGTERM. */
  readonly signal?: AbortSignal;
  /** After which the run is given up; 120,000 when absent. */
  readonly timeoutMs?: number;
}

/** A refusal by the runner, with the rule that was broken, or a runner that does not answer. */
export class RunnerError extends Error {
  override readonly name = 'RunnerError';
}

/** A guest under a tight quota answers in tens of ms; one that boots may take seconds. */
const PING_TIMEOUT_MS = 5_000;
const RUN_TIMEOUT_MS = 120_000;
/** Rounds of one clock measurement; the shortest round trip of 8 is near the floor, and 8 take about 10 ms. */
const CLOCK_ROUNDS = 8;
/** Bytes of one line; the runner's longest event is 512. */
const LINE_BYTES_MAX = 4096;

interface RunnerEvent {
  readonly event: string;
  readonly id?: string;
  readonly seq?: number;
  readonly t?: number;
  readonly reason?: string;
  readonly status?: RunOutcome['status'];
  readonly signal?: number;
  readonly error?: string;
  readonly cpu_ms?: number;
  readonly max_rss_kib?: number;
  readonly used_kib?: number;
}

interface Waiter {
  readonly take: (event: RunnerEvent, arrivedAtMs: number) => void;
  readonly fail: (error: Error) => void;
}

/** Wall clock with sub-millisecond steps. */
function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

/**
 * Speaks to the workload runner inside a guest through its virtio-serial channel. The channel takes one client at a
 * time: a second one waits unanswered until the first has closed.
 */
export class RunnerClient {
  readonly #path: string;
  readonly #guest: string;
  readonly #waiters = new Map<string, Waiter>();
  #socket: Promise<Socket> | undefined;
  #rest = '';
  #sequence = 0;
  readonly #idPrefix = `${process.pid.toString(36)}-${Math.floor(nowMs()).toString(36)}`;

  constructor(guest: string, path: string) {
    this.#guest = guest;
    this.#path = path;
  }

  /**
   * Measure the guest's clock against ours.
   * @param rounds of which the one with the shortest round trip counts
   * @throws {RunnerError} when the runner does not answer
   */
  async clockOffset(rounds: number = CLOCK_ROUNDS): Promise<ClockOffset> {
    let best: ClockOffset = { offsetMs: Number.NaN, errorMs: Number.POSITIVE_INFINITY };
    for (let round = 0; round < rounds; ++round) {
      const measured = await this.#ping();
      if (measured.errorMs < best.errorMs) best = measured;
    }
    return best;
  }

  /** True when the runner answers within `timeoutMs`. */
  async isReady(timeoutMs: number): Promise<boolean> {
    return this.#ping(timeoutMs).then(
      () => true,
      () => false,
    );
  }

  /**
   * Memory the guest cannot give back, its total less what it calls available, bytes: its claim.
   * @throws {RunnerError} when the runner does not answer, or cannot tell
   */
  async memoryUsed(): Promise<number> {
    const seq = ++this.#sequence;
    const usedKib = await this.#expect<number>(
      `memory:${seq}`,
      PING_TIMEOUT_MS,
      { cmd: 'memory', seq },
      (event, _, done) => done(event.used_kib ?? -1),
    );
    if (usedKib < 0) throw new RunnerError(`${this.#guest}: its runner cannot read its memory`);
    return usedKib * 1024;
  }

  /**
   * Run a workload to its end.
   * @throws {RunnerError} when the runner refuses the request, or goes away
   */
  async run(request: RunRequest, options: RunOptions = {}): Promise<RunOutcome> {
    options.signal?.throwIfAborted();
    const id = `${this.#idPrefix}-${++this.#sequence}`;
    const cancel = () => void this.#send({ cmd: 'cancel', id }).catch(() => undefined);
    options.signal?.addEventListener('abort', cancel, { once: true });
    try {
      return await this.#follow(id, { cmd: 'run', id, ...request }, options);
    } finally {
      options.signal?.removeEventListener('abort', cancel);
    }
  }

  /** Give the channel back. A run that is going on goes on unseen. */
  async close(): Promise<void> {
    const socket = await this.#socket?.catch(() => undefined);
    this.#socket = undefined;
    socket?.destroy();
  }

  async #follow(id: string, command: object, options: RunOptions): Promise<RunOutcome> {
    const timeoutMs = options.timeoutMs ?? RUN_TIMEOUT_MS;
    let started: Promise<RunStarted> | undefined;
    const finished = await this.#expect<{ event: RunnerEvent; arrivedAtMs: number }>(
      `run:${id}`,
      timeoutMs,
      command,
      (event, arrivedAtMs, done, fail) => {
        if (event.event === 'rejected')
          fail(new RunnerError(`${this.#guest}: ${event.reason ?? 'rejected'}`));
        else if (event.event === 'started') {
          started = this.#toHostClock(event.t, arrivedAtMs).then(({ atMs, errorMs }) => {
            const found = { startedAtMs: atMs, clockErrorMs: errorMs };
            options.onStarted?.(found);
            return found;
          });
          started.catch(fail);
        } else if (event.event === 'finished') done({ event, arrivedAtMs });
      },
    );
    const start = await (started ??
      this.#toHostClock(finished.event.t, finished.arrivedAtMs).then(toStarted));
    const end = await this.#toHostClock(finished.event.t, finished.arrivedAtMs);
    return {
      ...start,
      clockErrorMs: Math.max(start.clockErrorMs, end.errorMs),
      finishedAtMs: Math.max(end.atMs, start.startedAtMs),
      status: finished.event.status ?? 'failed',
      signal: finished.event.signal ?? 0,
      error: finished.event.error ?? '',
      cpuMs: finished.event.cpu_ms ?? Number.NaN,
      maxRssKib: finished.event.max_rss_kib ?? Number.NaN,
    };
  }

  /**
   * A guest time on our clock. Measured anew each time, because a guest's clock under TCG drifts by up to a per cent;
   * an event cannot lie after its arrival.
   */
  async #toHostClock(
    guestMs: number | undefined,
    arrivedAtMs: number,
  ): Promise<{ atMs: number; errorMs: number }> {
    const { offsetMs, errorMs } = await this.clockOffset();
    return { atMs: Math.min((guestMs ?? Number.NaN) - offsetMs, arrivedAtMs), errorMs };
  }

  async #ping(timeoutMs: number = PING_TIMEOUT_MS): Promise<ClockOffset> {
    const seq = ++this.#sequence;
    let sentAtMs = nowMs();
    return this.#expect<ClockOffset>(
      `ping:${seq}`,
      timeoutMs,
      { cmd: 'ping', seq },
      (event, arrivedAtMs, done) => {
        const roundTripMs = arrivedAtMs - sentAtMs;
        done({
          offsetMs: (event.t ?? Number.NaN) - (sentAtMs + roundTripMs / 2),
          errorMs: roundTripMs / 2,
        });
      },
      () => {
        sentAtMs = nowMs();
      },
    );
  }

  /** Send a command and let `take` judge the events of `key` until it calls done or fail. */
  async #expect<T>(
    key: string,
    timeoutMs: number,
    command: object,
    take: (
      event: RunnerEvent,
      arrivedAtMs: number,
      done: (value: T) => void,
      fail: (error: Error) => void,
    ) => void,
    beforeSend: () => void = () => undefined,
  ): Promise<T> {
    const { promise, resolve, reject } = deferred<T>();
    const timer = setTimeout(() => {
      reject(new RunnerError(`${this.#guest}: no answer from its runner in ${timeoutMs} ms`));
    }, timeoutMs);
    this.#waiters.set(key, { take: (event, at) => take(event, at, resolve, reject), fail: reject });
    try {
      await Promise.race([this.#send(command, beforeSend), promise.then(() => undefined)]);
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(key);
    }
  }

  async #send(command: object, beforeSend: () => void = () => undefined): Promise<void> {
    this.#socket ??= this.#connect();
    const socket = await this.#socket;
    beforeSend();
    socket.write(`${JSON.stringify(command)}\n`);
  }

  #connect(): Promise<Socket> {
    const { promise, resolve, reject } = deferred<Socket>();
    const socket = connect(this.#path);
    this.#rest = '';
    socket.setEncoding('utf8');
    socket.once('connect', () => {
      socket.write('\n'); // ends what an earlier client may have left half-said
      resolve(socket);
    });
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', (error) => reject(new RunnerError(`${this.#guest}: ${error.message}`)));
    socket.on('close', () => {
      this.#socket = undefined;
      const gone = new RunnerError(`${this.#guest}: its runner's channel was closed`);
      reject(gone);
      for (const waiter of this.#waiters.values()) waiter.fail(gone);
    });
    return promise;
  }

  #receive(text: string): void {
    const arrivedAtMs = nowMs();
    const lines = (this.#rest + text).split('\n');
    this.#rest = (lines.pop() ?? '').slice(-LINE_BYTES_MAX);
    for (const line of lines) {
      const event = parseEvent(line);
      if (event === undefined) continue; // the rest of a line that was written to an earlier client
      this.#waiters.get(waiterOf(event))?.take(event, arrivedAtMs);
    }
  }
}

function waiterOf({ event, seq, id }: RunnerEvent): string {
  if (event === 'pong') return `ping:${seq}`;
  return event === 'memory' ? `memory:${seq}` : `run:${id}`;
}

function toStarted(at: { atMs: number; errorMs: number }): RunStarted {
  return { startedAtMs: at.atMs, clockErrorMs: at.errorMs };
}

function parseEvent(line: string): RunnerEvent | undefined {
  try {
    const event: unknown = JSON.parse(line);
    return typeof event === 'object' && event !== null && 'event' in event
      ? (event as RunnerEvent)
      : undefined;
  } catch {
    return undefined;
  }
}
