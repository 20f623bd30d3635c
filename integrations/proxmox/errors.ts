import { AllocatorError, type ErrorCode } from '../../orchestrator/core/errors.ts';

/**
 * How far a call came: `unsent` never left this process, `unanswered` may have been carried out or not, `answered` was
 * refused by Proxmox VE, `unreadable` was carried out as far as its status says, but its answer makes no sense.
 */
export type CallPhase = 'unsent' | 'unanswered' | 'answered' | 'unreadable';

/** A call that failed. Its message is what Proxmox VE said, without the parameters that were sent. */
export class ProxmoxError extends Error {
  override readonly name = 'ProxmoxError';
  readonly call: string;
  readonly phase: CallPhase;
  /** HTTP status; 0 where there was no answer, and for a task that failed. */
  readonly status: number;

  constructor(call: string, phase: CallPhase, status: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.call = call;
    this.phase = phase;
    this.status = status;
  }
}

/** What was being done when a call failed: names for the error's detail. */
export type FailureContext = Readonly<Record<string, string | number>>;

/** Statuses of pveproxy itself: it could not reach the node that should have answered. Also those of whoever stands before it. */
const UNREACHABLE: ReadonlySet<number> = new Set([401, 429, 502, 503, 504, 595, 596, 597, 598, 599]);

/** Proxmox VE answers nearly every failure with status 500; only its sentences tell them apart. First match counts. */
const MEANINGS: readonly (readonly [RegExp, ErrorCode])[] = [
  [/can't lock file|got timeout|VM is locked|CT is locked/i, 'GUEST_BUSY'],
  [/detected modified configuration|checksum miss?match/i, 'STATE_CONFLICT'],
  [
    /Configuration file '[^']*' does not exist|no such VM|unable to find configuration file/i,
    'GUEST_NOT_FOUND',
  ],
  [/guest agent is not running|No QEMU guest agent configured/i, 'NOT_SUPPORTED'],
  [/VM \d+ not running|not running/i, 'GUEST_NOT_RUNNING'],
];

/** Whether the guest's configuration is held by somebody else at this moment: nothing was changed, and asking again is safe. */
export function isBusy(cause: unknown): boolean {
  return cause instanceof ProxmoxError && cause.phase === 'answered' && meaningOf(cause) === 'GUEST_BUSY';
}

/** Whether somebody else changed the configuration since it was read: nothing was changed by the call. */
export function isConflict(cause: unknown): boolean {
  return cause instanceof ProxmoxError && cause.phase === 'answered' && meaningOf(cause) === 'STATE_CONFLICT';
}

/** Whether the task of a change failed: it may have brought a part of the change into force, or nothing. */
export function isTaskFailure(cause: unknown): boolean {
  return cause instanceof ProxmoxError && cause.phase === 'answered' && cause.status === 0;
}

/** Whether nobody knows what became of a change: it may have been carried out, now or later. */
export function isUnanswered(cause: unknown): boolean {
  if (!(cause instanceof ProxmoxError)) return false;
  return cause.phase === 'answered' ? UNREACHABLE.has(cause.status) : cause.phase !== 'unsent';
}

/** Whether Proxmox VE knows no such guest, or shows it to nobody with our privileges. */
export function isMissing(cause: unknown): boolean {
  if (!(cause instanceof ProxmoxError) || cause.phase !== 'answered') return false;
  return cause.status === 403 || meaningOf(cause) === 'GUEST_NOT_FOUND';
}

function meaningOf({ phase, status, message }: ProxmoxError): ErrorCode {
  if (phase !== 'answered' || UNREACHABLE.has(status)) return 'HYPERVISOR_UNAVAILABLE';
  if (status === 501) return 'NOT_SUPPORTED';
  return MEANINGS.find(([pattern]) => pattern.test(message))?.[1] ?? 'ACTUATION_REFUSED';
}

/** The core's error for a failed call. Anything that is not a ProxmoxError is returned unchanged, to be thrown on. */
export function translate(cause: unknown, context: FailureContext): unknown {
  if (!(cause instanceof ProxmoxError)) return cause;
  const detail = { ...context, call: cause.call, status: cause.status };
  return new AllocatorError(meaningOf(cause), cause.message, detail, { cause });
}

/** Await `work`; a failed call becomes the core's error. */
export async function translated<T>(work: Promise<T>, context: FailureContext): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    throw translate(cause, context);
  }
}
