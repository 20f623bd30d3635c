import { randomBytes } from 'node:crypto';
import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import type { Any } from '../../proto/gen/google/protobuf/any.ts';
import {
  BadRequest,
  ErrorInfo,
  PreconditionFailure,
  QuotaFailure,
  RetryInfo,
  Status,
} from '../../proto/gen/google/rpc/error.ts';
import { AllocatorError, type ErrorCode } from '../core/errors.ts';
import type { ShadowError, ShadowErrorCode } from '../core/shadow.ts';
import { ValidationError } from './validation.ts';

/** `ErrorInfo.domain` of every error. */
export const ERROR_DOMAIN = 'foreshade';
/** Trailer that carries the serialised google.rpc.Status. */
export const DETAILS_TRAILER = 'grpc-status-details-bin';
/** `ErrorInfo.reason` of an error that is not in the table: a fault of ours. */
export const INTERNAL_REASON = 'INTERNAL';

const TYPE_PREFIX = 'type.googleapis.com/google.rpc.';
/** Longest message sent: all trailers together, details in base64, must stay under the 8 KiB that clients accept. */
const TEXT_CHARS_MAX = 512;
/** Facts sent with one error, their longest name or value, and the longest rule of a field, for the same reason. */
const METADATA_MAX = 8;
const METADATA_CHARS_MAX = 128;
const RULE_CHARS_MAX = 256;

/** The gRPC status of each code; a new code does not compile until it is here. */
export const GRPC_STATUS: Readonly<Record<ErrorCode | ShadowErrorCode, status>> = {
  INVALID_REQUEST: status.INVALID_ARGUMENT,
  GUEST_NOT_FOUND: status.NOT_FOUND,
  GUEST_NOT_ADOPTED: status.FAILED_PRECONDITION,
  GUEST_NOT_RUNNING: status.FAILED_PRECONDITION,
  GUEST_BUSY: status.ABORTED,
  CEILING_TOO_LOW: status.FAILED_PRECONDITION,
  LEASE_NOT_FOUND: status.NOT_FOUND,
  LEASE_ENDED: status.FAILED_PRECONDITION,
  REQUEST_ID_REUSED: status.ALREADY_EXISTS,
  CAPACITY_EXHAUSTED: status.RESOURCE_EXHAUSTED,
  QUOTA_EXHAUSTED: status.RESOURCE_EXHAUSTED,
  QUEUE_FULL: status.RESOURCE_EXHAUSTED,
  DIRECTORY_FULL: status.RESOURCE_EXHAUSTED,
  NOT_SUPPORTED: status.FAILED_PRECONDITION,
  ACTUATION_REFUSED: status.FAILED_PRECONDITION,
  HYPERVISOR_UNAVAILABLE: status.UNAVAILABLE,
  STATE_CONFLICT: status.ABORTED,
  LEDGER_UNAVAILABLE: status.UNAVAILABLE,
  DEADLINE_EXCEEDED: status.DEADLINE_EXCEEDED,
  DRAINING: status.UNAVAILABLE,
  STORE_UNAVAILABLE: status.UNAVAILABLE,
  STORE_IN_USE: status.FAILED_PRECONDITION,
  STORE_TOO_NEW: status.FAILED_PRECONDITION,
  POINT_REFUSED: status.INVALID_ARGUMENT,
  QUERY_REFUSED: status.INVALID_ARGUMENT,
  QUERY_TOO_LARGE: status.RESOURCE_EXHAUSTED,
  QUERY_LOST: status.UNAVAILABLE,
  SET_REFUSED: status.INVALID_ARGUMENT,
};

/** Pause before the next try when the error names none (`detail.retryAfterMs`), by code. Only retryable codes have one. */
const RETRY_DELAY_MS: Readonly<Partial<Record<ErrorCode | ShadowErrorCode, number>>> = {
  GUEST_BUSY: 500, //              about one actuation
  CAPACITY_EXHAUSTED: 5_000, //    a lease must end first
  QUOTA_EXHAUSTED: 5_000, //       likewise
  QUEUE_FULL: 5_000, //            likewise
  DIRECTORY_FULL: 15_000, //       by then a host that is gone has fallen silent
  HYPERVISOR_UNAVAILABLE: 2_000, // a daemon's restart
  STATE_CONFLICT: 100, //          read again and repeat
  LEDGER_UNAVAILABLE: 2_000, //    a disk that may recover
  DRAINING: 2_000, //              a restart of the service
  STORE_UNAVAILABLE: 2_000, //     a disk that may recover
  QUERY_LOST: 500, //              a new process
};

/** A failure that is in the table. */
export type Expected = AllocatorError | ShadowError;

function factsOf(error: Expected): AllocatorError['detail'] {
  return error instanceof AllocatorError ? error.detail : {};
}

/** One error as it leaves the server, with exactly one ErrorInfo and each other detail at most once. */
export function statusOf(error: Expected): StatusObject {
  const code = GRPC_STATUS[error.code];
  const details = [errorInfo(error.code, factsOf(error)), ...specificDetails(error, code)];
  return answer(code, clipped(error.message), details);
}

/**
 * The answer to a fault of ours. The client gets an id and no internals; the log has the rest under the same id.
 * @param log called once, with the id
 */
export function statusOfFault(error: unknown, log: (error: unknown, errorId: string) => void): StatusObject {
  const errorId = randomBytes(6).toString('hex');
  log(error, errorId);
  const message = `Internal error ${errorId}: the service's log has the cause under this id.`;
  return answer(status.INTERNAL, message, [errorInfo(INTERNAL_REASON, { errorId })]);
}

function answer(code: status, message: string, details: Any[]): StatusObject {
  const metadata = new Metadata();
  metadata.set(DETAILS_TRAILER, Buffer.from(Status.encode({ code, message, details }).finish()));
  return { code, details: message, metadata };
}

function specificDetails(error: Expected, code: status): Any[] {
  const { message } = error;
  const detail = factsOf(error);
  const details: Any[] = [];
  if (code === status.INVALID_ARGUMENT) {
    const fieldViolations = violationsOf(error).map(({ field, rule }) => ({
      field: clipped(field, METADATA_CHARS_MAX),
      description: clipped(rule, RULE_CHARS_MAX),
    }));
    if (fieldViolations.length > 0) {
      details.push(any('BadRequest', BadRequest.encode({ fieldViolations }).finish()));
    }
  }
  if (code === status.FAILED_PRECONDITION) {
    const violation = { type: error.code, subject: subjectOf(detail), description: clipped(message) };
    details.push(
      any('PreconditionFailure', PreconditionFailure.encode({ violations: [violation] }).finish()),
    );
  }
  if (code === status.RESOURCE_EXHAUSTED) {
    const violation = { subject: subjectOf(detail), description: clipped(message) };
    details.push(any('QuotaFailure', QuotaFailure.encode({ violations: [violation] }).finish()));
  }
  const delayMs = error.retryable ? Number(detail.retryAfterMs ?? RETRY_DELAY_MS[error.code] ?? 0) : 0;
  if (delayMs > 0) {
    const retryDelay = { seconds: Math.floor(delayMs / 1000), nanos: Math.round((delayMs % 1000) * 1e6) };
    details.push(any('RetryInfo', RetryInfo.encode({ retryDelay }).finish()));
  }
  return details;
}

function violationsOf(error: Expected): readonly { field: string; rule: string }[] {
  if (error instanceof ValidationError) return error.violations;
  const { field, rule } = factsOf(error);
  return typeof field === 'string' ? [{ field, rule: String(rule ?? error.message) }] : [];
}

/** What a failed precondition or quota is about, as `kind:name`. */
function subjectOf(detail: AllocatorError['detail']): string {
  for (const kind of ['lease', 'leaseId', 'guest', 'tenant', 'resource']) {
    const value = detail[kind];
    if (value !== undefined)
      return clipped(`${kind === 'leaseId' ? 'lease' : kind}:${value}`, METADATA_CHARS_MAX);
  }
  return 'host';
}

function errorInfo(reason: string, detail: Readonly<Record<string, string | number>>): Any {
  const fact = (text: string | number): string => clipped(String(text), METADATA_CHARS_MAX);
  const entries = Object.entries(detail).slice(0, METADATA_MAX);
  const metadata = Object.fromEntries(entries.map(([name, value]) => [fact(name), fact(value)]));
  return any('ErrorInfo', ErrorInfo.encode({ reason, domain: ERROR_DOMAIN, metadata }).finish());
}

function any(type: string, value: Uint8Array): Any {
  return { typeUrl: TYPE_PREFIX + type, value: Buffer.from(value) };
}

function clipped(text: string, charsMax = TEXT_CHARS_MAX): string {
  return text.length > charsMax ? `${text.slice(0, charsMax - 1)}…` : text;
}
