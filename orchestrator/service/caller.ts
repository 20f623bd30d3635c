import type { Deadline } from '@grpc/grpc-js';
import type { CallContext } from '../core/engine.ts';
import { AllocatorError } from '../core/errors.ts';

/**
 * How long before the caller's deadline its signal is aborted, so that the answer (the lease as it then stands) still
 * reaches it: one read-back in flight, the encoding and a loaded event loop fit several times.
 */
export const ANSWER_MARGIN_MS = 50;
/** Share of a short deadline that is kept for the answer instead. */
const ANSWER_MARGIN_FRACTION_MAX = 0.5;
/** Longest delay of a timer: Node's timers overflow beyond a signed 32-bit integer and would fire at once. */
export const TIMER_MS_MAX = 2 ** 31 - 1;

/** What a server's call tells of its caller. */
export interface CallSurface {
  readonly cancelled: boolean;
  getDeadline(): Deadline;
  once(event: 'cancelled', listener: () => void): unknown;
}

/** Who waits for one call. The signal is made when first asked for: most calls never need it. */
export class Caller implements CallContext {
  /** True when the call goes on until one side ends it. */
  readonly isStream: boolean;
  readonly #call: CallSurface;
  #abort: AbortController | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(call: CallSurface, isStream: boolean) {
    this.#call = call;
    this.isStream = isStream;
  }

  get signal(): AbortSignal {
    this.#abort ??= this.#watch(new AbortController());
    return this.#abort.signal;
  }

  /** Why the signal aborted; undefined while it has not, or has never been asked for. */
  get abortReason(): unknown {
    return this.#abort?.signal.reason;
  }

  /** End the call from our side; the handler sees its signal abort. */
  abort(reason: unknown): void {
    this.#abort ??= this.#watch(new AbortController());
    this.#abort.abort(reason);
  }

  /** Forget the deadline; the call has been answered. */
  settle(): void {
    clearTimeout(this.#timer);
  }

  #watch(abort: AbortController): AbortController {
    const gone = (): void => abort.abort(new AllocatorError('DEADLINE_EXCEEDED', 'The caller has hung up.'));
    if (this.#call.cancelled) gone();
    else this.#call.once('cancelled', gone);
    const remainingMs = Number(this.#call.getDeadline()) - Date.now();
    if (remainingMs <= TIMER_MS_MAX) {
      const marginMs = Math.min(ANSWER_MARGIN_MS, remainingMs * ANSWER_MARGIN_FRACTION_MAX);
      this.#timer = setTimeout(() => abort.abort(deadlineReached()), remainingMs - marginMs);
    }
    return abort;
  }
}

function deadlineReached(): AllocatorError {
  return new AllocatorError('DEADLINE_EXCEEDED', "The caller's deadline passed before the answer was ready.");
}
