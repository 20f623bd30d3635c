import { existsSync } from 'node:fs';
import {
  type Client,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  type CallOptions as GrpcCallOptions,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { AdminServiceClient } from '../../proto/gen/foreshade/v1/admin.ts';
import { type AllocateRequest, AllocationServiceClient } from '../../proto/gen/foreshade/v1/allocation.ts';
import { PlacementServiceClient } from '../../proto/gen/foreshade/v1/placement.ts';
import { ShadowServiceClient } from '../../proto/gen/foreshade/v1/shadow.ts';
import { ClientError } from './client-error.ts';
import { HeldLease, type HoldOptions } from './held-lease.ts';

/** Longest wait for an answer unless a call says otherwise: several actuations of a slow guest. */
export const TIMEOUT_MS_DEFAULT = 30_000;
/**
 * How calls are repeated: after UNAVAILABLE alone, with growing pauses, each drawn from up to its length, within the call's
 * deadline. A record of samples is not: part of it may have been taken. Source: AIP-194; gRFC A6.
 */
const SERVICE_CONFIG = {
  methodConfig: [
    { name: [{ service: 'foreshade.v1.ShadowService', method: 'Record' }] },
    {
      name: [{}],
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: '0.1s',
        maxBackoff: '2s',
        backoffMultiplier: 2,
        retryableStatusCodes: ['UNAVAILABLE'],
      },
    },
  ],
};
/** A service on this host that restarts is found again within this. */
const RECONNECT_MS_MAX = 2000;

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<GrpcCallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;
type StreamMethod<Request, Response> = (
  request: Request,
  options?: Partial<GrpcCallOptions>,
) => ClientReadableStream<Response>;

/** How long one call may take, and how it is given up. */
export interface CallOptions {
  /** Absent: 30 s. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Wait for a service that does not answer, until the time is up, rather than fail. */
  readonly waitForReady?: boolean;
}

/** The service's faces over one connection. */
export class ForeshadeClient {
  readonly allocation: AllocationServiceClient;
  readonly admin: AdminServiceClient;
  readonly placement: PlacementServiceClient;
  readonly shadow: ShadowServiceClient;
  readonly #address: string;

  /** @param address path of the unix socket, or `host:port` */
  constructor(address: string) {
    this.#address = address;
    const target = address.startsWith('/') ? `unix:${address}` : address;
    const insecure = credentials.createInsecure();
    const options = {
      'grpc.service_config': JSON.stringify(SERVICE_CONFIG),
      'grpc.initial_reconnect_backoff_ms': RECONNECT_MS_MAX / 20,
      'grpc.max_reconnect_backoff_ms': RECONNECT_MS_MAX,
    };
    this.allocation = new AllocationServiceClient(target, insecure, options);
    this.admin = new AdminServiceClient(target, insecure, options);
    this.placement = new PlacementServiceClient(target, insecure, options);
    this.shadow = new ShadowServiceClient(target, insecure, options);
  }

  /**
   * Allocate, and keep the lease until it is released: `await using held = await client.hold({ … })`.
   * @throws {ClientError}
   */
  hold(request: Partial<AllocateRequest>, options?: HoldOptions): Promise<HeldLease> {
    return HeldLease.take(this, request, options);
  }

  /**
   * Call a unary method: `client.ask(client.admin, client.admin.getStatus, {}, { timeoutMs: 1000 })`.
   * @throws {ClientError}
   */
  ask<Request, Response>(
    face: Client,
    method: UnaryMethod<Request, Response>,
    request: Request,
    { timeoutMs = TIMEOUT_MS_DEFAULT, signal, waitForReady = false }: CallOptions = {},
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      const deadline = Date.now() + timeoutMs;
      const call = method.call(
        face,
        request,
        new Metadata({ waitForReady }),
        { deadline },
        (error, response) => {
          signal?.removeEventListener('abort', cancel);
          if (error) reject(new ClientError(error, unreachable(this.#address)));
          else resolve(response);
        },
      );
      const cancel = (): void => call.cancel();
      if (signal?.aborted) cancel();
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
    if (signal.aborted) cancel();
    signal.addEventListener('abort', cancel);
    try {
      for await (const message of stream) yield message as Response;
    } catch (error) {
      if (!signal.aborted) throw new ClientError(error as ServiceError, unreachable(this.#address));
    } finally {
      signal.removeEventListener('abort', cancel);
      stream.cancel();
    }
  }

  close(): void {
    for (const face of [this.allocation, this.admin, this.placement, this.shadow]) face.close();
  }
}

function unreachable(address: string): string {
  const isMissing = address.startsWith('/') && !existsSync(address);
  return `No server answers on ${address}${isMissing ? ': there is no such socket' : ''}.`;
}
