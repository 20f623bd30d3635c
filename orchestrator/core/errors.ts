/** Every expected way an operation can fail. One table, so that each code has exactly one gRPC status and one exit text. */
export const ERROR_CODES = [
  'INVALID_REQUEST', //          the request breaks a stated rule; the detail names the field and the rule
  'GUEST_NOT_FOUND', //          no such guest on this host
  'GUEST_NOT_ADOPTED', //        the guest exists, but Foreshade has not been asked to manage it
  'GUEST_NOT_RUNNING', //        the guest exists but is shut off, crashed or paused
  'GUEST_BUSY', //               another change of this guest is in flight
  'CEILING_TOO_LOW', //          the guest has no room to grow into, whatever the host holds
  'LEASE_NOT_FOUND', //          no lease of that id
  'LEASE_ENDED', //              the lease is RELEASED, EXPIRED or REJECTED; it cannot be renewed
  'REQUEST_ID_REUSED', //        the same request_id came with another body
  'CAPACITY_EXHAUSTED', //       the host has no room within its overcommit ratio, and the caller would not wait
  'QUOTA_EXHAUSTED', //          the tenant's quota has no room, and the caller would not wait or waiting would not help
  'QUEUE_FULL', //               the queue is at its bound
  'DIRECTORY_FULL', //           the directory of hosts is at its bound
  'NOT_SUPPORTED', //            this guest or host cannot do it (no agent, no tap, unplug unsafe)
  'ACTUATION_REFUSED', //        the hypervisor or the guest said no
  'HYPERVISOR_UNAVAILABLE', //   the hypervisor did not answer or went away; worth retrying
  'STATE_CONFLICT', //           a stored value changed since it was read
  'LEDGER_UNAVAILABLE', //       the ledger cannot write durably: no promise can be made
  'DEADLINE_EXCEEDED', //        the caller's deadline passed before the answer was ready
  'DRAINING', //                 the service is shutting down and takes no new work
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

const RETRYABLE: ReadonlySet<ErrorCode> = new Set([
  'GUEST_BUSY',
  'CAPACITY_EXHAUSTED',
  'QUOTA_EXHAUSTED',
  'QUEUE_FULL',
  'DIRECTORY_FULL',
  'HYPERVISOR_UNAVAILABLE',
  'STATE_CONFLICT',
  'LEDGER_UNAVAILABLE',
  'DRAINING',
]);

/** An expected operating failure. Programmer errors are assertions, never this. */
export class AllocatorError extends Error {
  override readonly name = 'AllocatorError';
  readonly code: ErrorCode;
  readonly detail: Readonly<Record<string, string | number>>;

  /**
   * @param message one sentence that states the rule that was broken or what did not answer
   * @param detail  the facts of the message, by name; never a secret
   */
  constructor(
    code: ErrorCode,
    message: string,
    detail: Record<string, string | number> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.code = code;
    this.detail = Object.freeze({ ...detail });
  }

  /** True when the same call may succeed later with no change by the caller. */
  get retryable(): boolean {
    return RETRYABLE.has(this.code);
  }
}
