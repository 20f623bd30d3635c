import {
  type Server,
  type ServerWritableStream,
  type ServiceDefinition,
  type StatusObject,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { AllocatorError } from '../core/errors.ts';
import { ShadowError } from '../core/shadow.ts';
import { Caller, type CallSurface } from './caller.ts';
import type { MethodMetrics, RpcMetrics } from './metrics.ts';
import { statusOf, statusOfFault } from './status.ts';

/** A generated service definition, narrowed to what routing reads. */
type Definition = Readonly<Record<string, MethodDefinition>>;
interface MethodDefinition {
  readonly path: string;
  readonly responseStream: boolean;
  readonly requestDeserialize: (bytes: Buffer) => unknown;
  readonly responseSerialize: (response: unknown) => Buffer;
}

/** One function for each method of a service: a value or a promise for a unary call, an iterable for a stream. */
export type Handlers<S> = {
  readonly [M in keyof S]: S[M] extends {
    responseStream: infer Stream;
    requestDeserialize: (bytes: Buffer) => infer Request;
    responseDeserialize: (bytes: Buffer) => infer Response;
  }
    ? Stream extends true
      ? (request: Request, caller: Caller) => AsyncIterable<Response>
      : (request: Request, caller: Caller) => Response | Promise<Response>
    : never;
};

/** What every call passes through. */
export interface Door {
  readonly metrics: RpcMetrics;
  /** @throws {AllocatorError} DRAINING when no new call is taken */
  enter(caller: Caller): void;
  leave(caller: Caller): void;
  /** Called once for each error that is not in the table. */
  logFault(error: unknown, errorId: string, method: string): void;
}

/** One unary call, whatever carried it here. */
export interface UnaryCall extends CallSurface {
  readonly request: unknown;
}

/** Takes a call's answer, once: a failure, or null and the response. */
export type UnaryAnswer = (failure: StatusObject | null, response?: unknown) => void;

/** A method as every transport serves it. */
export interface Route {
  /** `/foreshade.v1.AllocationService/Allocate` */
  readonly path: string;
  /** Never throws: what is no message is answered by `serve`. */
  readonly decode: (bytes: Buffer) => unknown;
  readonly encode: (response: unknown) => Buffer;
  /** Absent: the method streams, which only gRPC can. */
  readonly serve?: (call: UnaryCall, answer: UnaryAnswer) => Promise<void>;
}

/** A message that is not what its method takes. Kept until the handler, where an error gets its details. */
class Undecodable {
  readonly cause: unknown;
  constructor(cause: unknown) {
    this.cause = cause;
  }
}

type Unary = (request: unknown, caller: Caller) => unknown;
type Streaming = (request: unknown, caller: Caller) => AsyncIterable<unknown>;

/**
 * Add a service to the server: decoding, errors, deadlines and metrics around its handlers.
 * @returns its methods, for other transports than gRPC
 */
export function addRoutes<S>(server: Server, definition: S, handlers: Handlers<S>, door: Door): Route[] {
  const guarded: Record<string, MethodDefinition> = {};
  const implementation: UntypedServiceImplementation = {};
  const routes: Route[] = [];
  for (const [name, method] of Object.entries(definition as Definition)) {
    const decode = tolerant(method.requestDeserialize);
    guarded[name] = { ...method, requestDeserialize: decode };
    const handler = handlers[name as keyof S] as unknown;
    const metrics = door.metrics.method(method.path.slice(1));
    const route = { path: method.path, decode, encode: method.responseSerialize };
    if (method.responseStream) {
      implementation[name] = streamRoute(handler as Streaming, metrics, door);
      routes.push(route);
    } else {
      const serve = unaryRoute(handler as Unary, metrics, door);
      implementation[name] = serve;
      routes.push({ ...route, serve });
    }
  }
  server.addService(guarded as unknown as ServiceDefinition, implementation);
  return routes;
}

function tolerant(decode: (bytes: Buffer) => unknown): (bytes: Buffer) => unknown {
  return (bytes) => {
    try {
      return decode(bytes);
    } catch (cause) {
      return new Undecodable(cause);
    }
  };
}

function unaryRoute(handler: Unary, metrics: MethodMetrics, door: Door) {
  return async (call: UnaryCall, answer: UnaryAnswer): Promise<void> => {
    const startedAt = metrics.start();
    const caller = new Caller(call, false);
    let entered = false;
    try {
      door.enter(caller);
      entered = true;
      answer(null, await handler(decoded(call.request), caller));
      metrics.finish(startedAt, call.cancelled ? status.CANCELLED : status.OK);
    } catch (error) {
      const failure = failureOf(error, caller, metrics, door);
      answer(failure);
      metrics.finish(startedAt, call.cancelled ? status.CANCELLED : failure.code);
    } finally {
      caller.settle();
      if (entered) door.leave(caller);
    }
  };
}

function streamRoute(handler: Streaming, metrics: MethodMetrics, door: Door) {
  return async (call: ServerWritableStream<unknown, unknown>): Promise<void> => {
    const startedAt = metrics.start();
    const caller = new Caller(call, true);
    let entered = false;
    try {
      door.enter(caller);
      entered = true;
      for await (const message of handler(decoded(call.request), caller)) {
        if (call.cancelled) break;
        if (!call.write(message)) await drained(call, caller.signal);
      }
      if (caller.abortReason !== undefined) throw caller.abortReason;
      call.end();
      metrics.finish(startedAt, call.cancelled ? status.CANCELLED : status.OK);
    } catch (error) {
      const failure = failureOf(error, caller, metrics, door);
      if (!call.cancelled) call.emit('error', failure);
      metrics.finish(startedAt, call.cancelled ? status.CANCELLED : failure.code);
    } finally {
      caller.settle();
      if (entered) door.leave(caller);
    }
  };
}

/** Wait until a slow reader has taken what was written, or is gone. */
function drained(call: ServerWritableStream<unknown, unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const proceed = (): void => {
      call.off('drain', proceed);
      signal.removeEventListener('abort', proceed);
      resolve();
    };
    call.on('drain', proceed);
    signal.addEventListener('abort', proceed);
    if (signal.aborted) proceed();
  });
}

function decoded(request: unknown): unknown {
  if (!(request instanceof Undecodable)) return request;
  const because = request.cause instanceof Error ? request.cause.message : 'it is not a message';
  throw new AllocatorError(
    'INVALID_REQUEST',
    `The request must be a message of this method's type with integers below 2^53: ${because}.`,
    { field: '', rule: `must decode: ${because}` },
    { cause: request.cause },
  );
}

function failureOf(error: unknown, caller: Caller, metrics: MethodMetrics, door: Door): StatusObject {
  if (error instanceof AllocatorError || error instanceof ShadowError) return statusOf(error);
  // Platform calls that were given the signal throw their own AbortError; the signal's reason says why.
  const isAbort = error instanceof Error && error.name === 'AbortError';
  if (isAbort && caller.abortReason instanceof AllocatorError) return statusOf(caller.abortReason);
  return statusOfFault(error, (cause, errorId) => door.logFault(cause, errorId, metrics.name));
}
