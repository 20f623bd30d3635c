import { type ServiceError, status } from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RetryInfo, Status } from '../../proto/gen/google/rpc/error.ts';

/** Reason of an error that no server sent. */
export const UNREACHABLE = 'SERVICE_UNREACHABLE';
/** Trailer that carries the serialised google.rpc.Status. */
const DETAILS_TRAILER = 'grpc-status-details-bin';

/** A call that failed, in the server's words. */
export class ClientError extends Error {
  override readonly name = 'ClientError';
  /** A code of the error table, INTERNAL, SERVICE_UNREACHABLE, or the gRPC status' name. */
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly { readonly field: string; readonly rule: string }[];
  /** Absent: the server does not advise a retry. */
  readonly retryAfterMs?: number;

  /** @param unreachable what to say when no server answered */
  constructor(error: ServiceError, unreachable: string) {
    const details = decodeDetails(error);
    const isUnreachable = details.reason === undefined && error.code === status.UNAVAILABLE;
    super(isUnreachable ? unreachable : error.details, { cause: error });
    this.reason = details.reason ?? (isUnreachable ? UNREACHABLE : (status[error.code] ?? 'UNKNOWN'));
    this.metadata = details.metadata;
    this.violations = details.violations;
    if (details.retryAfterMs !== undefined) this.retryAfterMs = details.retryAfterMs;
  }
}

interface Details {
  reason?: string;
  metadata: Record<string, string>;
  violations: { field: string; rule: string }[];
  retryAfterMs?: number;
}

function decodeDetails(error: ServiceError): Details {
  const details: Details = { metadata: {}, violations: [] };
  const [bytes] = error.metadata?.get(DETAILS_TRAILER) ?? [];
  if (!(bytes instanceof Buffer)) return details;
  for (const { typeUrl = '', value = Buffer.alloc(0) } of Status.decode(bytes).details) {
    if (typeUrl.endsWith('.ErrorInfo')) {
      const info = ErrorInfo.decode(value);
      if (info.reason !== undefined) details.reason = info.reason;
      details.metadata = info.metadata;
    } else if (typeUrl.endsWith('.BadRequest')) {
      details.violations = BadRequest.decode(value).fieldViolations.map(
        ({ field = '', description = '' }) => ({
          field,
          rule: description,
        }),
      );
    } else if (typeUrl.endsWith('.RetryInfo')) {
      const { seconds = 0, nanos = 0 } = RetryInfo.decode(value).retryDelay ?? {};
      details.retryAfterMs = seconds * 1000 + nanos / 1e6;
    }
  }
  return details;
}
