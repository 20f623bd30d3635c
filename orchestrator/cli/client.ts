import { existsSync } from 'node:fs';
import {
  type CallOptions,
  type Client,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { AdminServiceClient } from '../../proto/gen/foreshade/v1/admin.ts';
import { AllocationServiceClient } from '../../proto/gen/foreshade/v1/allocation.ts';
import { ShadowServiceClient } from '../../proto/gen/foreshade/v1/shadow.ts';
import { BadRequest, ErrorInfo, RetryInfo, Status } from '../../proto/gen/google/rpc/error.ts';
import { DETAILS_TRAILER } from '../service/status.ts';

/** Reason of an error that no server sent. */
export const UNREACHABLE = 'SERVICE_UNREACHABLE';

/** A call that failed, in the server's words. */
export class ClientError extends Error {
  override readonly name = 'ClientError';
  /** A code of the error table, INTERNAL, SERVICE_UNREACHABLE, or the gRPC status' name. */
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly { readonly field: string; readonly rule: string }[];
  /** Absent: the server does not advise a retry. */
  readonly retryAfterMs?: number;

  constructor(error: ServiceError, socket: string) {
    const details = decodeDetails(error);
    const isUnreachable = details.reason === undefined && error.code === status.UNAVAILABLE;
    super(isUnreachable ? unreachable(socket) : error.details, { cause: error });
    this.reason = details.reason ?? (isUnreachable ? UNREACHABLE : (status[error.code] ?? 'UNKNOWN'));
    this.metadata = details.metadata;
    this.violations = details.violations;
    if (details.retryAfterMs !== undefined) this.retryAfterMs = details.retryAfterMs;
  }
}

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;
type StreamMethod<Request, Response> = (
  request: Request,
  options?: Partial<CallOptions>,
) => ClientReadableStream<Response>;

/** The service's three faces over one unix socket. */
export class ForeshadeClient {
  readonly allocation: AllocationServiceClient;
  readonly admin: AdminServiceClient;
  readonly shadow: ShadowServiceClient;
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
    const address = `unix:${socket}`;
    const insecure = credentials.createInsecure();
    this.allocation = new AllocationServiceClient(address, insecure);
    this.admin = new AdminServiceClient(address, insecure);
    this.shadow = new ShadowServiceClient(address, insecure);
  }

  /**
   * Call a unary method: `client.ask(client.admin, client.admin.getStatus, {}, { timeoutMs: 1000 })`.
   * @throws {ClientError}
   */
  ask<Request, Response>(
    face: Client,
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      const { signal } = options;
      const deadline = Date.now() + options.timeoutMs;
      const call = method.call(face, request, new Metadata(), { deadline }, (error, response) => {
        signal?.removeEventListener('abort', cancel);
        if (error) reject(new ClientError(error, this.#socket));
        else resolve(response);
      });
      const cancel = (): void => call.cancel();
      signal?.addEventListener('abort', cancel);
    });
  }

  /** Messages of a stream until it ends or the signal aborts. @throws {ClientError} */
  async *follow<Request, Response>(
    face: Client,
    method: StreamMethod<Request, Response>,
    request: Request,
    signal: AbortSignal,
  ): AsyncGenerator<Response> {
    const stream = method.call(face, request);
    const cancel = (): void => stream.cancel();
    signal.addEventListener('abort', cancel);
    try {
      for await (const message of stream) yield message as Response;
    } catch (error) {
      if (!signal.aborted) throw new ClientError(error as ServiceError, this.#socket);
    } finally {
      signal.removeEventListener('abort', cancel);
      stream.cancel();
    }
  }

  close(): void {
    for (const face of [this.allocation, this.admin, this.shadow]) face.close();
  }
}

function unreachable(socket: string): string {
  return existsSync(socket)
    ? `No server answers on ${socket}.`
    : `No server answers on ${socket}: there is no such socket.`;
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
