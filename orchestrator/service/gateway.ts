import { EventEmitter } from 'node:events';
import type { StatusObject } from '@grpc/grpc-js';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { AllocatorError } from '../core/errors.ts';
import { TIMER_MS_MAX } from './caller.ts';
import type { Contract } from './contract.ts';
import { HTTP_STATUS, JsonCodec, jsonFailure } from './json-codec.ts';
import { openApi } from './openapi.ts';
import type { Door, Route, UnaryCall } from './route.ts';
import { statusOf, statusOfFault } from './status.ts';

const JSON_TYPE = 'application/json';
/** Longest wait for an answer, in gRPC's own form: at most eight digits and a unit. */
const TIMEOUT_HEADER = 'grpc-timeout';
const TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const UNIT_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};
/** Names by which a client on this host reaches it. Another one was resolved to loopback by somebody else's DNS. */
const OWN_HOST = /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/i;

/** What the gateway serves. */
export interface Api {
  readonly routes: readonly Route[];
  readonly contract: Contract;
  readonly door: Door;
  readonly version: string;
  /** Longest body. */
  readonly bodyBytesMax: number;
}

/** A request that HTTP itself refuses, before any method is asked. */
class HttpRefusal extends AllocatorError {
  readonly httpStatus: number;

  constructor(httpStatus: number, field: string, rule: string) {
    super('INVALID_REQUEST', `${field} ${rule}.`, { field, rule });
    this.httpStatus = httpStatus;
  }
}

/**
 * Every unary method of the contract as JSON over HTTP/1.1, and /openapi.json that describes them. A method's path is the
 * one it has in gRPC, `POST /foreshade.v1.AllocationService/Allocate`: it follows from the contract, and a method has one
 * name in every log. Errors are google.rpc.Status.
 *
 * @param isTcp a browser may reach it: requests on behalf of web pages are refused
 */
export function addGateway(server: FastifyInstance, api: Api, isTcp: boolean): void {
  const { routes, contract, door } = api;
  const paths = new Set(routes.map(({ path }) => path));
  const fail = (reply: FastifyReply, failure: StatusObject, httpStatus = HTTP_STATUS[failure.code]) => {
    const { body, retryAfterS } = jsonFailure(failure, contract);
    if (retryAfterS !== undefined) reply.header('retry-after', retryAfterS);
    return reply.code(httpStatus).type(JSON_TYPE).send(body);
  };

  server.setNotFoundHandler((request, reply) => {
    const isKnown = paths.has(request.url);
    if (isKnown) reply.header('allow', 'POST');
    const refusal = isKnown
      ? new HttpRefusal(405, 'method', 'must be POST')
      : new HttpRefusal(404, 'path', 'must be a method of the contract: /openapi.json lists them');
    return fail(reply, statusOf(refusal), refusal.httpStatus);
  });
  server.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser(JSON_TYPE, { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
    if (isTcp) scope.addHook('onRequest', async (request) => refuseWebPages(request));
    scope.setErrorHandler((error: FastifyError, request, reply) => {
      if (error instanceof HttpRefusal) return fail(reply, statusOf(error), error.httpStatus);
      if (error instanceof AllocatorError) return fail(reply, statusOf(error));
      const refusal = refusalOf(error, api.bodyBytesMax);
      if (refusal !== undefined) return fail(reply, statusOf(refusal), refusal.httpStatus);
      const log = (cause: unknown, errorId: string): void => door.logFault(cause, errorId, request.url);
      return fail(reply, statusOfFault(error, log));
    });

    const description = JSON.stringify(openApi(contract, routes, api.version));
    scope.get('/openapi.json', async (_request, reply) => reply.type(JSON_TYPE).send(description));
    for (const route of routes) {
      const codec = new JsonCodec(route, contract);
      scope.post(route.path, { bodyLimit: api.bodyBytesMax }, async (request, reply) => {
        if (route.serve === undefined) throw new HttpRefusal(501, 'path', 'streams: only gRPC serves it');
        const call = new HttpCall(codec.request(textOf(request)), remainingMs(request));
        reply.raw.once('close', () => call.cancel());
        const outcome = await answered(route.serve, call, codec);
        return typeof outcome === 'string' ? reply.type(JSON_TYPE).send(outcome) : fail(reply, outcome);
      });
    }
  });
}

/** One HTTP request as a call: cancelled when its connection is gone, or its time is up, before the answer. */
class HttpCall extends EventEmitter implements UnaryCall {
  readonly request: unknown;
  readonly remainingMs: number;
  readonly #deadlineMs: number;
  cancelled = false;

  /** @param remainingMs Infinity: the caller waits for as long as it takes */
  constructor(request: unknown, remainingMs: number) {
    super();
    this.request = request;
    this.remainingMs = remainingMs;
    this.#deadlineMs = Date.now() + remainingMs;
  }

  getDeadline(): number {
    return this.#deadlineMs;
  }

  cancel(): void {
    if (this.cancelled) return;
    this.cancelled = true;
    this.emit('cancelled');
  }
}

/** The method's answer as JSON, or what came instead; at the deadline that it passed, whatever the method still does. */
function answered(
  serve: NonNullable<Route['serve']>,
  call: HttpCall,
  codec: JsonCodec,
): Promise<string | StatusObject> {
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout | undefined;
    if (call.remainingMs <= TIMER_MS_MAX) {
      timer = setTimeout(() => {
        resolve(statusOf(new AllocatorError('DEADLINE_EXCEEDED', `The ${TIMEOUT_HEADER} has passed.`)));
        call.cancel();
      }, call.remainingMs);
    }
    void serve(call, (failure, response) => {
      resolve(failure ?? codec.response(response));
      clearTimeout(timer);
    });
  });
}

/** @throws {HttpRefusal} */
function refuseWebPages({ headers }: FastifyRequest): void {
  if (!OWN_HOST.test(headers.host ?? ''))
    throw new HttpRefusal(403, 'Host', 'must be 127.0.0.1, localhost or [::1]');
  if (headers.origin !== undefined)
    throw new HttpRefusal(403, 'Origin', 'must be absent: web pages are not served');
}

/** @throws {HttpRefusal} */
function textOf(request: FastifyRequest): string {
  if (!(request.body instanceof Buffer)) throw notJson();
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(request.body);
  } catch {
    throw new HttpRefusal(400, 'body', 'must be UTF-8');
  }
}

/** @throws {HttpRefusal} */
function remainingMs({ headers }: FastifyRequest): number {
  const text = headers[TIMEOUT_HEADER];
  if (text === undefined) return Number.POSITIVE_INFINITY;
  const [, digits, unit = ''] = TIMEOUT.exec(String(text)) ?? [];
  const unitMs = UNIT_MS[unit];
  if (unitMs === undefined)
    throw new HttpRefusal(
      400,
      TIMEOUT_HEADER,
      'must be 1 to 8 digits and a unit of H, M, S, m, u, n: 200m is 200 ms',
    );
  return Number(digits) * unitMs;
}

/** What fastify refused by itself. */
function refusalOf({ statusCode }: FastifyError, bodyBytesMax: number): HttpRefusal | undefined {
  if (statusCode === 413) return new HttpRefusal(413, 'body', `must have at most ${bodyBytesMax} bytes`);
  if (statusCode === 415) return notJson();
  if (statusCode === 400) return new HttpRefusal(400, 'body', 'must be as long as Content-Length says');
  return undefined;
}

function notJson(): HttpRefusal {
  return new HttpRefusal(415, 'Content-Type', `must be ${JSON_TYPE}`);
}
