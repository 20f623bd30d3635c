import { type CallOptions, LIBVIRT_ERROR, type LibvirtError, type TypedParameters } from '../libvirt.ts';
import {
  isRawFailure,
  type LibraryPaths,
  libvirtError,
  ownError,
  type RawDomains,
  type RawLane,
  type RawMessage,
  startRawLane,
} from './native.ts';

/** Calls that may wait on one lane: one for each guest of a large host. A longer queue only ages. */
export const LANE_QUEUE_MAX = 1_024;

/** Longest time-out, ms: the largest delay that setTimeout takes, 24.8 days. */
export const TIMEOUT_MS_MAX = 2 ** 31 - 1;

/** First wait before a lost connection is opened again, ms; doubled after each failure up to the longest. */
export const RECONNECT_MS_FIRST = 50;
/** Longest wait, ms: sampling must go on within 2 s of the return of the daemon, which is slow to answer at first. */
export const RECONNECT_MS_MAX = 500;

/** How long close() waits for a call in flight, ms, before it leaves the thread to itself. */
export const CLOSE_GRACE_MS = 2_000;

/** How a lane connects. */
export interface LaneOptions {
  readonly name: string;
  readonly uri: string;
  readonly library: LibraryPaths;
  /** Seconds between keepalive probes, 0 for none, and how many may stay unanswered. */
  readonly keepaliveIntervalS: number;
  readonly keepaliveCount: number;
  /** Time-out of a call that names none, time in the queue included, ms. */
  readonly timeoutMs: number;
  /** Called with each domain event. A lane without it subscribes to none. */
  readonly onEvent?: (kind: string, domain: RawDomains, fields: TypedParameters) => void;
  /** Called when the connection is lost, and when it is back. */
  readonly onState: (reason: string | undefined) => void;
}

interface Entry {
  readonly call: string;
  readonly parameters: readonly unknown[];
  /** Takes the addon's answer, also after the caller has given up. */
  readonly answer: (raw: unknown) => void;
  readonly reject: (error: LibvirtError) => void;
}

/**
 * A FIFO in front of one native thread and its connection, one call in flight. A call that times out is given up, yet
 * its lane stays occupied until libvirt comes back. A lost connection is opened again until that succeeds; calls made
 * meanwhile are refused at once.
 */
export class Lane {
  readonly #options: LaneOptions;
  readonly #raw: RawLane;
  readonly #queue: Entry[] = [];
  #inFlight: Entry | undefined;
  #state: 'opening' | 'open' | 'lost' | 'closed' = 'opening';
  #reason = 'the connection is not open yet';
  #generation = 0;
  #generationLost = 0;
  #reconnectMs = RECONNECT_MS_FIRST;
  #reconnectTimer: NodeJS.Timeout | undefined;

  /** Starts the thread; `open` connects. @throws {LibvirtError} LIBVIRT_ERROR.library */
  constructor(options: LaneOptions) {
    this.#options = options;
    this.#raw = startRawLane(options.library, (...message) => this.#receive(message));
  }

  /** Why there is no connection at the moment; undefined when there is one. */
  get lostReason(): string | undefined {
    return this.#state === 'open' ? undefined : this.#reason;
  }

  /** Calls waiting and in flight. */
  get load(): number {
    return this.#queue.length + (this.#inFlight === undefined ? 0 : 1);
  }

  /** The first connection. A failure is final: whoever asked decides whether to try again. */
  async open(): Promise<void> {
    try {
      await this.#connect();
    } catch (failure) {
      throw this.#errorOf(failure, 'virConnectOpen');
    }
  }

  /**
   * Queue a call. Rejects with LibvirtError.
   *
   * @param decode of the addon's answer; sees every answer in order, also one that comes after the time-out
   */
  run<T>(
    call: string,
    parameters: readonly unknown[],
    decode: (raw: never) => T,
    options: CallOptions = {},
  ): Promise<T> {
    const { signal, timeoutMs = this.#options.timeoutMs } = options;
    const refusal = this.#refusal(call, timeoutMs, signal);
    if (refusal !== undefined) return Promise.reject(refusal);

    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      const entry: Entry = {
        call,
        parameters,
        answer: (raw) => {
          done();
          resolve(decode(raw as never));
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      const onAbort = (): void => {
        if (this.#withdraw(entry)) entry.reject(ownError('cancelled', call, 'aborted before it started'));
      };
      const timer = setTimeout(() => {
        const notStarted = this.#withdraw(entry);
        const where = notStarted ? 'it waited for the lane and has not started' : 'it may still take effect';
        entry.reject(ownError('timeout', call, `no answer within ${timeoutMs} ms; ${where}`, notStarted));
      }, timeoutMs);
      signal?.addEventListener('abort', onAbort);
      this.#queue.push(entry);
      this.#startNext();
    });
  }

  /** Refuse what waits, let a call in flight finish for a moment, and end the thread. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#reason = 'the connection was closed';
    clearTimeout(this.#reconnectTimer);
    this.#refuseQueue();

    let timer: NodeJS.Timeout | undefined;
    const grace = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_GRACE_MS);
    });
    await Promise.race([this.#raw.close(), grace]);
    clearTimeout(timer);
    this.#inFlight?.reject(ownError('disconnected', this.#inFlight.call, this.#reason, false));
    this.#raw.letGo();
  }

  #refusal(call: string, timeoutMs: number, signal: AbortSignal | undefined): LibvirtError | undefined {
    if (!(timeoutMs > 0 && timeoutMs <= TIMEOUT_MS_MAX)) {
      return ownError(
        'invalidArg',
        call,
        `timeoutMs must be above 0 and at most ${TIMEOUT_MS_MAX}, not ${timeoutMs}`,
      );
    }
    if (signal?.aborted) return ownError('cancelled', call, 'aborted before it started');
    if (this.#state !== 'open') return ownError('disconnected', call, this.#reason);
    if (this.#queue.length >= LANE_QUEUE_MAX) {
      return ownError(
        'laneFull',
        call,
        `${LANE_QUEUE_MAX} calls wait on the ${this.#options.name} lane already`,
      );
    }
    return undefined;
  }

  /** Take an entry out of the queue. False when it has started or ended. */
  #withdraw(entry: Entry): boolean {
    const index = this.#queue.indexOf(entry);
    if (index >= 0) this.#queue.splice(index, 1);
    return index >= 0;
  }

  #refuseQueue(): void {
    for (const entry of this.#queue.splice(0)) {
      entry.reject(ownError('disconnected', entry.call, this.#reason));
    }
  }

  #startNext(): void {
    if (this.#state !== 'open' || this.#inFlight !== undefined) return;
    const entry = this.#queue.shift();
    if (entry === undefined) return;
    this.#inFlight = entry;
    void this.#perform(entry);
  }

  async #perform(entry: Entry): Promise<void> {
    try {
      entry.answer(await this.#raw.call(entry.call, entry.parameters));
    } catch (failure) {
      if (isRawFailure(failure) && failure.connectionLost) {
        // libvirt has no code of its own for this: it calls it an internal, a system or an RPC error.
        const notStarted = failure.code === LIBVIRT_ERROR.disconnected;
        const lost = { ...failure, code: LIBVIRT_ERROR.disconnected };
        entry.reject(libvirtError(lost, entry.call, notStarted));
        this.#lose(failure.message);
      } else {
        entry.reject(this.#errorOf(failure, entry.call));
      }
    }
    this.#inFlight = undefined;
    this.#startNext();
  }

  /** The addon refuses a parameter before anything is called, with a TypeError whose text begins with the call. */
  #errorOf(failure: unknown, call: string): LibvirtError {
    if (isRawFailure(failure)) return libvirtError(failure, call);
    const message = failure instanceof Error ? failure.message : String(failure);
    return ownError('invalidArg', call, message.replace(`${call}: `, ''));
  }

  #receive(message: RawMessage): void {
    if (message[0] === 'event') {
      this.#options.onEvent?.(message[1], message[2], message[3]);
      return;
    }
    const [, generation, reason] = message;
    // Told before `open` has answered, it is remembered: the connection was lost as soon as it was made.
    this.#generationLost = Math.max(this.#generationLost, generation);
    if (generation === 0 || generation === this.#generation) this.#lose(reason);
  }

  #lose(reason: string): void {
    if (this.#state !== 'open') return;
    this.#state = 'lost';
    this.#reason = reason;
    this.#refuseQueue();
    this.#reconnectMs = RECONNECT_MS_FIRST;
    this.#reconnectLater();
    this.#options.onState(reason);
  }

  #reconnectLater(): void {
    this.#reconnectTimer = setTimeout(() => void this.#reconnect(), this.#reconnectMs);
    this.#reconnectMs = Math.min(this.#reconnectMs * 2, RECONNECT_MS_MAX);
  }

  async #reconnect(): Promise<void> {
    try {
      await this.#connect();
    } catch (failure) {
      if (this.#state === 'closed') return;
      this.#reason = this.#errorOf(failure, 'virConnectOpen').message;
      this.#reconnectLater();
      return;
    }
    if (this.#state === 'open') this.#options.onState(undefined);
  }

  async #connect(): Promise<void> {
    const { uri, keepaliveIntervalS, keepaliveCount, onEvent } = this.#options;
    const generation = await this.#raw.open([uri, keepaliveIntervalS, keepaliveCount, onEvent !== undefined]);
    if (this.#state === 'closed') return;
    this.#generation = generation;
    this.#state = 'open';
    if (this.#generationLost === generation) this.#lose('the connection was lost as soon as it was made');
  }
}
